"""Commands in processes of their own, and what to compare of their results."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

# The command with a signal or a limit set first: a test run in the background may itself ignore Ctrl-C.
WITH_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
WITH_LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"
COMMAND = "; import sys; from optadvisor.cli.main import main; sys.exit(main(sys.argv[1:]))"


def begin(*arguments: str, before: str | None = None) -> subprocess.Popen[str]:
    """A command of optadvisor, begun; before: Python that its process runs first."""
    head = ["-m", "optadvisor"] if before is None else ["-c", before + COMMAND]
    return subprocess.Popen(
        [sys.executable, *head, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code, stdout and stderr."""
    with process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def log(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The trials of a result, but for what differs between two runs of one study: seconds and the study's name."""
    found = []
    for trial in data["trials_log"]:
        config = {key: value for key, value in trial["config"].items() if key != "provenance"}
        found.append({**{key: value for key, value in trial.items() if key != "seconds"}, "config": config})
    return found
