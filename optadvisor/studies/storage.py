"""Where studies are kept: Optuna's journal file in the data folder, or any Optuna storage URL."""

from __future__ import annotations

import contextlib
import hashlib
import os
import urllib.parse
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial

from optadvisor.files import HOME_REMEDY, file_name, home, writable_folder
from optadvisor.kernels.errors import InputError
from optadvisor.studies import database

POSTGRESQL = "pip install 'optadvisor[postgresql]' and begin the URL with postgresql+psycopg://"

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class FileLock(JournalFileOpenLock):
    """A lock that the system releases when its process dies.

    Optuna's own lock files outlive a kill -9, and the next command waits 30 seconds for them. They stay in use where
    the system has no flock.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._handle: int | None = None

    def acquire(self, wait: bool = True) -> bool:
        if fcntl is None:
            return super().acquire()
        handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        if fcntl is None:
            super().release()
        elif self._handle is not None:
            os.close(self._handle)
            self._handle = None


def open_storage(url: str | None, task: str) -> BaseStorage:
    """The storage of a URL, or the journal file of that path, or the task's journal in the data folder."""
    if url is None or "://" not in url:
        path = _place(url, task)
        writable_folder(path.parent, "choose another --storage" if url else HOME_REMEDY)
        return _journal(path)
    with _explained(url):
        return database.open_database(url)


def open_existing(url: str) -> BaseStorage | None:
    """The database of a URL; None where nobody has made a study in it. Makes no tables."""
    with _explained(url):
        return database.open_database(url) if database.has_studies(url) else None


def close(storage: BaseStorage) -> None:
    """Let go of the connections to a database."""
    backend = getattr(storage, "_backend", None)
    if isinstance(backend, RDBStorage):
        backend.engine.dispose()


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """InputError in place of whatever SQLAlchemy and the driver raise."""
    try:
        yield
    except ImportError as error:
        remedy = f"; {POSTGRESQL}" if url.startswith("postgres") else ""
        raise InputError(f"storage {without_password(url)!r} needs a database driver: {error}{remedy}") from None
    except Exception as error:
        reason = " ".join(str(error).split()).replace(url, without_password(url))[:200]
        raise InputError(f"cannot open the storage {without_password(url)!r}: {reason}") from error


def _place(url: str | None, task: str) -> Path:
    """The journal file; for a database, a name in the data folder that stands for it."""
    if url is None:
        return home() / "studies" / f"{file_name(task)}.journal"
    if "://" not in url:
        return Path(url).expanduser().resolve()
    return home() / "studies" / hashlib.sha256(url.encode()).hexdigest()[:16]


def without_password(url: str) -> str:
    """A storage URL that may be shown: "..." for the password, whether before the host or in the query."""
    head, at, tail = url.rpartition("@")
    scheme, _, user = head.partition("://")
    name, colon, _ = user.partition(":")
    shown = f"{scheme}://{name}{colon and ':...'}@{tail}" if at else url
    start, mark, query = shown.partition("?")
    hidden = [
        f"{key}=..." if "pass" in key.lower() else f"{key}={value}" for key, value in urllib.parse.parse_qsl(query)
    ]
    return start + mark + "&".join(hidden)


def _journal(path: Path) -> BaseStorage:
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        _refuse_other_files(path)
        lock.acquire()
        try:
            _cut_torn_line(path)
        finally:
            lock.release()
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except OSError as error:
        raise InputError(
            f"cannot open the journal {path} ({error.strerror or error}): choose another --storage"
        ) from None
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} is not a journal of studies ({error}): choose another --storage") from None


def _refuse_other_files(path: Path) -> None:
    """ValueError for a file that is no journal: cutting its last line would destroy it."""
    begin = b'{"op_code":'
    if path.exists():
        with path.open("rb") as stream:
            found = stream.read(len(begin))
        if not begin.startswith(found):
            raise ValueError(f"it begins with {found!r}, a journal with {begin!r}")


def _cut_torn_line(path: Path) -> None:
    """Drop a last line without its end: a writer was killed in it, and the next record would be glued to it."""
    if not path.exists():
        return
    with path.open("rb+") as stream:
        size = stream.seek(0, os.SEEK_END)
        keep = size
        while keep > 0:
            stream.seek(keep - 1)
            if stream.read(1) == b"\n":
                break
            keep -= 1
        if keep < size:
            stream.truncate(keep)


@contextlib.contextmanager
def exclusive(
    name: str,
    url: str | None,
    task: str,
    storage: BaseStorage | None = None,
    remedy: str = "start one without --resume",
) -> Iterator[None]:
    """Hold a study of a storage for this process; InputError where another one runs it.

    In PostgreSQL, which the `storage` is then open at, over all machines; elsewhere on this machine.
    """
    if url is not None and storage is not None and url.startswith("postgresql"):
        with database.held(storage, url, name) as held:
            _refuse_second(held, name, remedy)
            yield
        return
    place = _place(url, task)
    lock = FileLock(writable_folder(place.parent) / f"{place.name}.{file_name(name)}.lock")
    _refuse_second(lock.acquire(wait=False), name, remedy)
    try:
        yield
    finally:
        lock.release()


def _refuse_second(held: bool, name: str, remedy: str) -> None:
    if not held:
        raise InputError(f"study {name} is being run by another process: wait for it, or {remedy}")


def keep_trial(study: optuna.Study, trial: FrozenTrial, number: int, patience: database.Patience) -> None:
    """Add a finished trial, once: a database that is away is waited for."""
    tried = False

    def add() -> None:
        nonlocal tried
        if tried and any(t.user_attrs.get("number") == number for t in study.get_trials(deepcopy=False)):
            return  # the server had it before it went away
        tried = True
        study.add_trial(trial)

    patience(add)


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna without its line a study and its notes on experimental features; the caller's settings are put back."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def study_names(storage: BaseStorage) -> dict[str, dict[str, Any]]:
    """Names of the studies in a storage, with what was noted on each."""
    return {study.study_name: storage.get_study_user_attrs(study._study_id) for study in storage.get_all_studies()}
