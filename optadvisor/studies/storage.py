"""Where studies are kept: Optuna's journal file in the data folder, or any Optuna storage URL."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from optadvisor.files import file_name, home, writable_folder
from optadvisor.kernels.errors import InputError

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


def folder() -> Path:
    """The folder of journals and locks; InputError where nothing can be written in it."""
    return writable_folder(home() / "studies")


def open_storage(url: str | None, task: str) -> BaseStorage:
    """The storage of a URL, or the journal file of the task in the data folder."""
    if url is None:
        return _journal(folder() / f"{file_name(task)}.journal")
    if "://" not in url:
        path = Path(url).expanduser()
        writable_folder(path.parent)
        return _journal(path)
    try:
        return optuna.storages.get_storage(url)
    except ImportError as error:
        raise InputError(f"storage {_without_password(url)!r} needs a database driver: {error}") from None
    except Exception as error:  # noqa: BLE001  # whatever a driver raises, the person must hear which storage it was
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"cannot open the storage {_without_password(url)!r}: {reason}") from None


def _without_password(url: str) -> str:
    head, _, tail = url.rpartition("@")
    scheme, _, user = head.partition("://")
    return f"{scheme}://{user.partition(':')[0]}:...@{tail}" if head else url


def _journal(path: Path) -> BaseStorage:
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire()
        _cut_torn_line(path)
        lock.release()
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except OSError as error:
        raise InputError(f"cannot open the journal {path} ({error.strerror or error}): choose another --storage") from None
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} is not a journal of studies ({error}): choose another --storage") from None


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
def exclusive(name: str) -> Iterator[None]:
    """Hold a study for this process; InputError where another one runs it."""
    lock = FileLock(writable_folder(folder() / "running") / f"{file_name(name)}.lock")
    if not lock.acquire(wait=False):
        raise InputError(f"study {name} is being run by another process: wait for it, or start one without --resume")
    try:
        yield
    finally:
        lock.release()


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
