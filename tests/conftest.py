"""No test sees the data folder of whoever runs it: what they have learned there would change the advice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTADVISOR_HOME", str(tmp_path_factory.mktemp("empty")))
        yield
