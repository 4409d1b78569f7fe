"""`work`: train for a study that another process runs, over their common database."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optuna.storages import BaseStorage

import optadvisor
from optadvisor.kernels.errors import InputError
from optadvisor.quantities import parse_count
from optadvisor.studies import outcomes
from optadvisor.studies import storage as storages
from optadvisor.studies.database import Patience, is_database
from optadvisor.studies.executors.jobqueue import RUNNING, Opened, Queue, opened
from optadvisor.studies.executors.worker import Worker, own_name
from optadvisor.studies.tasks.function import task_name
from optadvisor.tuning import default_jobs, local_executor, resolve

LOOK = 1.0  # seconds between two looks for a study that is not there yet


@dataclass(frozen=True)
class Work:
    """What a worker did. study: the one it worked for last; None where none appeared. jobs: trainings done."""

    study: str | None
    jobs: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `optadvisor worker`."""
        return vars(self)


def work(
    storage: str,
    study: str,
    *,
    jobs: int | None = None,
    idle: float | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Work:
    """Take trainings of a study from its storage, do them and put their records there, until the study ends.

    storage: the URL that tune was given. study: its name (digits-mlp#3), which may have ended or not be there yet; the
    name of a task, for its newest study that runs; or outcomes, for the table that runs. jobs: trainings at once, by
    default one a core, of a person's function one. idle: seconds without a training after which to stop; by default
    only the end of the study counts. progress: called with the name of the study and the trainings done. What runs when
    this is interrupted is left to other workers.

    Errors: InputError where the storage cannot be opened; once it was, it is waited for.
    """
    if not is_database(storage):
        raise InputError(f"a worker takes its trainings from a database, and {storage!r} is no URL of one")
    given = None if jobs is None else parse_count(jobs, "jobs", 1)
    study = task_name(study)
    began, done, name = time.monotonic(), 0, None
    with storages.quiet_optuna(), contextlib.ExitStack() as stack:
        kept = _wait_for(storage, study, idle)
        patience = Patience()
        if kept is not None:
            stack.callback(storages.close, kept)
        while kept is not None and (now := patience(lambda: _running(kept, study))) is not None:
            if now.study == name:
                break  # nothing to do in it for too long
            name, before = now.study, done
            _refuse_other_versions(now)
            task = None if now.task == outcomes.NAME else resolve(now.task)
            slots = given or default_jobs(task)
            executor = local_executor(task, slots, now.options.get("timeout"))
            queue = patience(functools.partial(Queue, kept, name))
            worker = Worker(queue, executor, slots, own_name())
            stack.callback(worker.close)

            def moved(name: str = name) -> bool:
                there = patience(lambda: _running(kept, study))
                return there is None or there.study != name

            def told(name: str = name, before: int = before, worker: Worker = worker) -> None:
                if progress:
                    progress(name, before + worker.done)

            worker.run(moved, idle, told)
            done += worker.done
    return Work(name, done, time.monotonic() - began)


def _wait_for(url: str, study: str, idle: float | None) -> BaseStorage | None:
    """The storage as soon as it has a study of that name, or one that runs of that task; None after `idle` seconds."""
    began, kept, patience = time.monotonic(), None, None
    while True:
        look = functools.partial(storages.open_existing, url)
        kept = kept or (patience(look) if patience else look())
        patience = patience or Patience()  # the first look finds out whether the URL is right
        queues = patience(functools.partial(opened, kept)) if kept else []
        if any(study == queue.study or (study == queue.task and queue.state == RUNNING) for queue in queues):
            return kept
        if idle is not None and time.monotonic() - began > idle:
            return None
        time.sleep(LOOK)


def _running(storage: BaseStorage, study: str) -> Opened | None:
    """The study of that name, or the newest of that task, if it runs."""
    found = [queue for queue in opened(storage) if study in (queue.study, queue.task) and queue.state == RUNNING]
    return found[-1] if found else None


def _refuse_other_versions(queue: Opened) -> None:
    if queue.version != optadvisor.__version__:
        raise InputError(
            f"study {queue.study} is run by optadvisor {queue.version}, and this is {optadvisor.__version__}: "
            "install the same version on every machine"
        )
