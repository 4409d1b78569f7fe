"""The tuned config of each task, kept as a JSON file in the data folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from optadvisor.config import OptimizerConfig
from optadvisor.files import check_writable, file_name, home, read_json, write_whole
from optadvisor.kernels.errors import InputError, nearest
from optadvisor.studies.tasks.function import task_name

if TYPE_CHECKING:
    from optadvisor.studies.study import Result

SCHEMA = 1


def _file(task: str) -> Path:
    return home() / "tuned" / f"{file_name(task)}.json"


def check() -> None:
    """InputError where no tuned config could be written. Makes nothing."""
    check_writable(home() / "tuned")


def save(result: Result) -> Path:
    """Keep the best config of a finished study as the tuned config of its task."""
    path = _file(result.task)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = result.to_dict()
    del data["trials_log"]
    write_whole(path, json.dumps({"schema": SCHEMA, **data}, indent=2, allow_nan=False) + "\n")
    return path


def _tuned(folder: Path) -> Iterator[str]:
    """The names of the tasks with a tuned config."""
    for path in folder.glob("*.json"):
        with contextlib.suppress(InputError):
            yield str(read_json(path, "tuned config").get("task", path.stem))


def load_config(task: str) -> OptimizerConfig:
    """The tuned config of a task, by its name or as FILE.py:FUNCTION. InputError where no study of it has finished."""
    task = task_name(task)
    path = _file(task)
    if not path.exists():
        done = sorted(_tuned(path.parent))
        guess = nearest(task, done)
        hint = f"did you mean {guess!r}? " if guess else ""
        known = ", ".join(done) or "none"
        raise InputError(
            f"no tuned config of {task!r}: {hint}tuned so far: {known}; make one with: optadvisor tune TASK"
        )
    data = read_json(path, "tuned config")
    if data.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {data.get('schema')!r}; this version reads schema {SCHEMA}")
    best = data.get("best")
    if not isinstance(best, dict) or "config" not in best:
        raise InputError(f"{path} holds no best config: make it anew with optadvisor tune {task}")
    try:
        return OptimizerConfig.from_dict(best["config"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
