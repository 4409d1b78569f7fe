"""Trainings in this process: in threads, for compiled trainings, which hold no lock of the interpreter; or in turn."""

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
    """`jobs` trainings at once, by default one a core; without a task, of the tasks that the jobs name."""

    def __init__(self, task: Task | None, jobs: int | None = None) -> None:
        self._task = task
        self._pool = ThreadPoolExecutor(jobs or cores(), thread_name_prefix="trial")

    def submit(self, job: Job) -> Future[TrialRecord]:
        return self._pool.submit(attempt, self._task, job)

    def close(self) -> None:
        # Not to wait: what has not begun must not hold up Ctrl-C or an error.
        self._pool.shutdown(wait=False, cancel_futures=True)


class InTurn:
    """One training after another, in the thread that asks: Ctrl-C reaches it, and a debugger."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def submit(self, job: Job) -> Future[TrialRecord]:
        future: Future[TrialRecord] = Future()
        future.set_result(attempt(self._task, job))
        return future

    def close(self) -> None:
        pass
