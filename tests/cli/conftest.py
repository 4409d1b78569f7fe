"""Running the command line in this process, as `optadvisor ...` would."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from optadvisor.cli.main import main


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def refused(self, *words: str, code: int = 2) -> None:
        """Exit code 2, nothing on stdout, exactly one line on stderr, with the words in it."""
        assert self.code == code
        assert self.out == ""
        assert self.err.startswith("Error: ")
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1
        for word in words:
            assert word in self.err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """run("recommend", "--domain", "vision"): exit code, stdout, stderr."""

    def command(*args: str) -> Ran:
        code = main(list(args))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return command
