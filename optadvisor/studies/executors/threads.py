"""Trainings in threads of this process: for compiled trainings, which hold no lock of the interpreter."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

from optadvisor.studies.executors.job import Job, attempt
from optadvisor.studies.tasks.task import Task, TrialRecord


def cores() -> int:
    """The cores that this process may use; a batch system may have given it some of the machine's."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Threads:
    """`jobs` trainings at once, by default one a core."""

    def __init__(self, task: Task, jobs: int | None = None) -> None:
        self._task = task
        self._pool = ThreadPoolExecutor(jobs or cores(), thread_name_prefix="trial")

    def submit(self, job: Job) -> Future[TrialRecord]:
        return self._pool.submit(attempt, self._task, job)

    def close(self) -> None:
        # Not to wait: what has not begun must not hold up Ctrl-C or an error.
        self._pool.shutdown(wait=False, cancel_futures=True)
