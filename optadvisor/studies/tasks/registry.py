"""The built-in tasks by name."""

from __future__ import annotations

from optadvisor.kernels.errors import unknown
from optadvisor.studies.tasks.digits import DIGITS_MLP
from optadvisor.studies.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (DIGITS_MLP,)}


def get(name: str) -> Task:
    """The task of that name; InputError with the nearest name if there is none."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
