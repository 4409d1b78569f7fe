"""The data folder, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from optadvisor.kernels.errors import InputError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def home() -> Path:
    """The data folder: OPTADVISOR_HOME, or the user's data folder of this system. Not created here."""
    chosen = os.environ.get("OPTADVISOR_HOME")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # only a command that reads or writes data pays for it

    return Path(platformdirs.user_data_dir("optadvisor"))


def file_name(task: str) -> str:
    """A task's name as part of a file name. Of a function in a file, the last part and a hash: no two are the same."""
    last = task.replace("\\", "/").rpartition("/")[2]
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in last)
    return plain if last == task else f"{plain[:80]}-{hashlib.sha256(task.encode()).hexdigest()[:12]}"


HOME_REMEDY = "set OPTADVISOR_HOME to a folder you may write in"


def writable_folder(folder: Path, remedy: str = HOME_REMEDY) -> Path:
    """`folder`, made if need be; InputError with the remedy where nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise _unwritable(folder, error, remedy) from None


def check_writable(folder: Path, remedy: str = HOME_REMEDY) -> None:
    """InputError where `folder` could not be made or written in. Makes nothing."""
    try:
        there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        raise _unwritable(folder, error, remedy) from None


def _unwritable(folder: Path, error: OSError, remedy: str) -> InputError:
    return InputError(f"cannot write in {folder} ({error.strerror or error}): {remedy}")


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves the old one or the new one: temporary file, fsync, rename."""
    write_whole_bytes(path, text.encode())


def write_whole_bytes(path: Path, data: bytes) -> None:
    """`write_whole` for bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file that is read, changed and written whole, so that two commands do not undo each other.

    The system releases the lock when its process dies. Where it has no flock, nothing is held.
    """
    if fcntl is None:
        yield
        return
    with path.with_name(f"{path.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def read_json(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """The object in a JSON file; InputError that names the file and what was expected in it."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the {what} {str(path)!r}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number or a nesting beyond all bounds
        raise InputError(f"the {what} {str(path)!r} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"the {what} {str(path)!r} holds {type(data).__name__}; it takes a JSON object")
    return data
