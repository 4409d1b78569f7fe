"""Trainings on a Dask cluster. Dask runs again what a dead worker had."""

from __future__ import annotations

import functools
import importlib.util
import logging
import uuid
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

from optadvisor.kernels.errors import InputError
from optadvisor.studies.executors.job import Job, TrialError, attempt, explained
from optadvisor.studies.tasks.task import Task, TrialRecord

PATIENCE = 10  # seconds for the scheduler's answer to the first call


class Dask:
    """The workers of a scheduler. Each needs this package, and the file of a person's own task at the same path.

    task: its name; None where every job names its own.
    """

    def __init__(self, task: str | None, address: str) -> None:
        if importlib.util.find_spec("distributed") is None:
            raise InputError("--executor dask needs the package distributed: pip install 'optadvisor[dask]'")
        import distributed

        self._task = task
        # Dask gives tasks of one key one result: two studies of one name, in two storages, must not share it.
        self._run = uuid.uuid4().hex[:12]
        # A connection that is lost would be a traceback on the screen; it ends in the message below.
        self._levels = {name: logging.getLogger(name).level for name in ("distributed", "distributed.client")}
        self._set_levels(dict.fromkeys(self._levels, logging.CRITICAL))
        try:
            self._client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            self._set_levels(self._levels)
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"no Dask scheduler answers at {address!r} ({reason}): give its address, as tcp://HOST:8786"
            ) from None

    def submit(self, job: Job) -> Future[TrialRecord]:
        assert job.report is None, "a report would have to cross machines"
        found: Future[TrialRecord] = Future()
        key = f"optadvisor-{self._run}-{job.key}"
        asked = self._client.submit(train, self._task, job.to_dict(), key=key, pure=False)
        asked.add_done_callback(functools.partial(_hand_over, job, found))
        return found

    def close(self) -> None:
        self._client.close(timeout=PATIENCE)
        self._set_levels(self._levels)

    def _set_levels(self, levels: Mapping[str, int]) -> None:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def train(name: str | None, job: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a job as JSON data; runs in a worker of Dask."""
    return attempt(_task(name) if name else None, Job.from_dict(job)).to_dict()


@functools.lru_cache(maxsize=8)
def _task(name: str) -> Task:
    from optadvisor.tuning import resolve  # which imports this module

    return resolve(name)


def _closed() -> type[OSError]:
    """What Dask raises where a connection ends in the middle of an answer."""
    from distributed.comm.core import CommClosedError

    found: type[OSError] = CommClosedError
    return found


def _hand_over(job: Job, found: Future[TrialRecord], asked: Any) -> None:
    try:
        found.set_result(job.record(asked.result()))
    except (CancelledError, _closed()):  # which of them depends on when the scheduler went
        found.set_exception(TrialError("the Dask scheduler has gone"))
    except Exception as error:  # noqa: BLE001  # of any kind, and from another machine
        found.set_exception(TrialError(explained(error)))
