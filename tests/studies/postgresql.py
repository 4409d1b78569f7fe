"""A private PostgreSQL server in a temporary folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path


def binaries() -> Path | None:
    """The folder of the server's programs; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)


class Server:
    """PostgreSQL on a free port of this machine, without passwords and without waiting for the disk."""

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        self._programs, self._data, self._user = programs, folder / "data", user
        self._databases = count()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._run("initdb", "-U", "postgres", "-A", "trust", "--no-sync", "-D", str(self._data))
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off"}
        with (self._data / "postgresql.conf").open("a") as stream:
            stream.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-o", f"-p {self._port}", "-l", f"{self._data}/log")

    def stop(self) -> None:
        """As a server that crashes: no goodbye to its clients."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._data))

    def create_database(self) -> str:
        """The URL of an empty database."""
        import psycopg

        name = f"studies{next(self._databases)}"
        address = f"postgres@127.0.0.1:{self._port}"
        with psycopg.connect(f"postgresql://{address}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{address}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            user=self._user,
            cwd="/",
            timeout=60,
        )


@contextmanager
def private_server(programs: Path) -> Iterator[Server]:
    """A server that runs, and is gone afterwards. It refuses root: then it belongs to another user."""
    user = None
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as name:
        if os.geteuid() == 0:
            import pwd

            known = {entry.pw_name for entry in pwd.getpwall()}
            user = "postgres" if "postgres" in known else "nobody"
            shutil.chown(name, user)
        server = Server(programs, Path(name), user)
        server.start()
        try:
            yield server
        finally:
            server.stop()
