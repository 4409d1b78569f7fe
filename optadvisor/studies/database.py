"""Studies in a database: opened by many commands at once, waited for while its server is away, held across machines."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage

from optadvisor.kernels.errors import InputError

OUTAGE = 300.0  # seconds for which a server that is away is waited for
HEARTBEAT, GRACE = 5, 20  # seconds between two signs of life of a running job, and without one until it is given up
TAKE_BACK = 60.0  # seconds in which a server notices that a connection is dead, and lets go of its lock

_log = logging.getLogger("optadvisor")
T = TypeVar("T")


def is_database(url: str | None) -> bool:
    return url is not None and "://" in url


def is_server(url: str | None) -> bool:
    """Whether other machines can reach the storage of that URL."""
    return url is not None and "://" in url and not url.startswith("sqlite")


def open_database(url: str) -> BaseStorage:
    """The storage of a URL, its tables made if need be. Whatever SQLAlchemy and the driver raise comes out."""
    with _opening(url):
        backend = RDBStorage(url, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
    return optuna.storages.get_storage(backend)


def has_studies(url: str) -> bool:
    """Whether somebody has made a study at that URL. Makes no tables."""
    import sqlalchemy
    from sqlalchemy.pool import NullPool

    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table("studies"):
            return False
        return connection.execute(sqlalchemy.text("SELECT 1 FROM studies")).first() is not None


class Patience:
    """Calls what needs the server, again and again while it is away, for OUTAGE seconds; then its error comes out.

    stop: once it is set, nothing is tried again.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._back = -float("inf")

    def __call__(self, action: Callable[[], T]) -> T:
        end, pause, back = None, 0.1, False
        try:
            while True:
                try:
                    found = action()
                except Exception as error:
                    if not is_away(error):
                        raise
                    if end is None:
                        end = time.monotonic() + OUTAGE
                        _outage.begin(error)
                    if time.monotonic() >= end or self.stop.wait(pause):
                        raise StorageInternalError(reason(error)) from _cause(error)
                    pause = min(2 * pause, 2.0)
                else:
                    back = True
                    return found
        finally:
            if end is not None:
                self._back = time.monotonic()
                _outage.end(back)

    def calm(self) -> bool:
        """Whether the server was there for long enough that every living job can have given a sign."""
        return time.monotonic() - self._back > GRACE


class _Outage:
    """Says once that the storage is away, however many threads wait for it, and once that it is back."""

    def __init__(self) -> None:
        self._waiting = 0
        self._mutex = threading.Lock()

    def begin(self, error: Exception) -> None:
        with self._mutex:
            self._waiting += 1
            if self._waiting == 1:
                _log.warning("the storage is away (%s): waiting for up to %.0f s", reason(error), OUTAGE)

    def end(self, back: bool) -> None:
        with self._mutex:
            self._waiting -= 1
            if self._waiting == 0 and back:
                _log.warning("the storage is back")


_outage = _Outage()


def reason(error: BaseException) -> str:
    """What the database said, in one line: Optuna's own words hide it."""
    cause = _cause(error)
    lines = str(cause).splitlines()
    return lines[0].strip() if lines else type(cause).__name__


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, StorageInternalError | InputError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def is_away(error: BaseException) -> bool:
    """Whether an error means that the server cannot be reached now, or that a database file is locked."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    cause = _cause(error)
    if not isinstance(cause, DBAPIError):
        return False
    if cause.connection_invalidated:
        return True
    if not isinstance(cause, OperationalError | InterfaceError):
        return False
    sqlite = getattr(cause.orig, "sqlite_errorname", None)
    if sqlite is not None:
        return bool(sqlite.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")))
    # None where no connection could be made; 08: connection; 57P: shut down, starting up; 53300: too many connections.
    # Another 53 is a full disk or memory, which does not pass by itself.
    state = getattr(cause.orig, "sqlstate", None)
    return state is None or state.startswith(("08", "57P")) or state == "53300"


class AdvisoryLock:
    """A lock of PostgreSQL, which the server releases when this process or its connection dies.

    It is one connection of its own. A server that restarts has forgotten its locks: `check` takes the lock back.
    """

    def __init__(self, url: str, name: str) -> None:
        import sqlalchemy
        from sqlalchemy.pool import NullPool

        self._name = name
        self._text = sqlalchemy.text
        self._engine = sqlalchemy.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        digest = hashlib.sha256(f"optadvisor {name}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)
        self._connection: Any = None
        self._held = False
        self._mutex = threading.Lock()

    def acquire(self, wait: bool = False) -> bool:
        connection = self._engine.connect()
        for setting in ("idle = 10", "interval = 5", "count = 3"):  # so that a machine that was cut off is noticed
            connection.execute(self._text(f"SET tcp_keepalives_{setting}"))
        function = "pg_advisory_lock" if wait else "pg_try_advisory_lock"
        if connection.execute(self._text(f"SELECT {function}(:key)"), {"key": self._key}).scalar() is False:
            connection.close()
            return False
        self._connection, self._held = connection, True
        return True

    def check(self) -> None:
        """Make sure that the lock is still held. InputError where somebody else has taken it in the meantime."""
        with self._mutex:
            end = time.monotonic() + TAKE_BACK
            while self._held and not self._alive() and not self.acquire():
                if time.monotonic() > end:
                    raise InputError(
                        f"study {self._name} was taken over by another process while the storage was away: "
                        "it goes on there"
                    )
                time.sleep(1.0)

    def close(self) -> None:
        self._held = False
        self._drop()

    def _alive(self) -> bool:
        import sqlalchemy.exc

        if self._connection is None:
            return False
        try:
            self._connection.execute(self._text("SELECT 1"))
            return True
        except sqlalchemy.exc.DBAPIError:
            self._drop()
            return False

    def _drop(self) -> None:
        import sqlalchemy.exc

        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                connection.close()


@contextlib.contextmanager
def _opening(url: str) -> Iterator[None]:
    """Two commands that make the tables of an empty database at once would get in each other's way."""
    if not url.startswith("postgresql"):
        yield
        return
    lock = AdvisoryLock(url, "opening")
    lock.acquire(wait=True)
    try:
        yield
    finally:
        lock.close()


@contextlib.contextmanager
def held(storage: BaseStorage, url: str, name: str) -> Iterator[bool]:
    """Hold a study for this process over all machines; False where another one holds it.

    Whenever the storage makes a new connection, as it does after its server was away, the lock is checked first: so
    nothing is written to a study that somebody else has taken over.
    """
    import sqlalchemy.event

    lock = AdvisoryLock(url, name)
    if not lock.acquire():
        yield False
        return
    engine = storage._backend.engine  # type: ignore[attr-defined]

    def check(*_: object) -> None:
        lock.check()

    sqlalchemy.event.listen(engine, "connect", check)
    try:
        yield True
    finally:
        sqlalchemy.event.remove(engine, "connect", check)
        lock.close()
