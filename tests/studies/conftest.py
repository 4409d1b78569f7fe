"""Every test has a data folder of its own; some have a database server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .postgresql import Server, binaries, private_server


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of the test; not there until something is written."""
    folder = tmp_path / "home"
    monkeypatch.setenv("OPTADVISOR_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server; the test is skipped where there is none to start."""
    pytest.importorskip("psycopg")
    programs = binaries()
    if programs is None:
        pytest.skip("needs the programs of PostgreSQL: apt-get install postgresql")
    with private_server(programs) as server:
        yield server


@pytest.fixture
def database(postgresql: Server) -> str:
    """The URL of an empty PostgreSQL database."""
    return postgresql.create_database()
