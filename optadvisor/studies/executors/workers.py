"""Trainings by workers on any machine, which take them from a queue in the study's storage."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optadvisor.studies import database
from optadvisor.studies.executors.job import Executor, Job, TrialError
from optadvisor.studies.executors.jobqueue import FAILED, FINISHED, JOB, WORKER, Queue
from optadvisor.studies.executors.worker import SHORTEST, Worker, own_name
from optadvisor.studies.tasks.task import TrialRecord

LONGEST = 0.25  # seconds between two looks for results
RETRIES = 3  # workers that may die of one job
HOME = "the study's own process, "  # begins the name of the worker there


@contextlib.contextmanager
def shared(
    storage: BaseStorage, study: str, task: str, local: Executor | None, slots: int, options: Mapping[str, Any]
) -> Iterator[Workers]:
    """The executor of a study that this process holds. Its queue is open until the study ends.

    local: does this process's own share, `slots` jobs at once; None leaves all to others. options: what a worker needs
    to know beside the task. The end of the study sends the workers home, for better or worse; an interruption does not,
    because the study can be resumed.
    """
    workers = Workers(storage, study, task, local, slots, options)
    try:
        yield workers
    except (KeyboardInterrupt, StorageInternalError):
        raise
    except Exception:
        with contextlib.suppress(Exception):
            workers.end(FAILED)
        raise
    else:
        workers.end(FINISHED)
    finally:
        workers.close()


class Workers:
    """Puts jobs into the queue and watches for their records. One worker is in this process.

    A job that an earlier run of the study has put there is not put there again: its record is used, or waited for.
    """

    def __init__(
        self,
        storage: BaseStorage,
        study: str,
        task: str,
        local: Executor | None,
        slots: int,
        options: Mapping[str, Any],
    ) -> None:
        self._queue = Queue.create(storage, study, task, options)
        self._earlier = self._left_over()
        self._mutex = threading.Lock()
        self._pending: dict[int, tuple[Job, Future[TrialRecord]]] = {}
        self._deaths: dict[str, int] = {}
        self._error: BaseException | None = None
        self._stop, self._news = threading.Event(), threading.Event()
        self._worker: Worker | None = None
        if local is not None:
            self._worker = Worker(Queue(storage, study), local, slots, HOME + own_name())
            self._start("worker", functools.partial(self._worker.run, told=self._news.set))
        self._start("results", self._watch)

    def submit(self, job: Job) -> Future[TrialRecord]:
        assert job.report is None, "a report would have to cross machines"
        data = json.loads(json.dumps(job.to_dict()))
        future: Future[TrialRecord] = Future()
        earlier = self._earlier.pop(job.key, None)
        number = self._queue.put(data) if earlier is None or earlier.user_attrs[JOB] != data else earlier._trial_id
        with self._mutex:
            if self._error is not None:
                raise self._error
            self._pending[number] = job, future
        self._news.set()
        if self._worker is not None:
            self._worker.wake.set()
        return future

    def end(self, state: str) -> None:
        """Note on the queue that the study is over: its workers leave."""
        self._queue.patience.stop.clear()
        self._queue.set_state(state)

    def close(self) -> None:
        self._stop.set()
        self._news.set()
        self._queue.patience.stop.set()
        if self._worker is not None:
            self._worker.close()

    def _start(self, name: str, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  # the study waits for it in its own thread
                self._fail(error)

        threading.Thread(target=guarded, name=name, daemon=True).start()

    def _fail(self, error: Exception) -> None:
        """End the study with the error of a thread."""
        with self._mutex:
            self._error = self._error or error
            for _, future in self._pending.values():
                future.set_exception(error)
            self._pending.clear()

    def _left_over(self) -> dict[str, FrozenTrial]:
        """The jobs of an earlier run by key, but for those that were lost with it."""
        found: dict[str, FrozenTrial] = {}
        for trial in self._queue.trials():
            if trial.state == TrialState.RUNNING and str(trial.user_attrs.get(WORKER, "")).startswith(HOME):
                self._queue.give_up(trial._trial_id)  # that process is dead: it no longer holds the study
            elif trial.state != TrialState.FAIL:
                found[trial.user_attrs[JOB]["key"]] = trial
        return found

    def _watch(self) -> None:
        pause, cleaned = SHORTEST, time.monotonic()
        while not self._stop.is_set():
            if self._pending:
                if time.monotonic() - cleaned > database.HEARTBEAT:
                    self._queue.give_up_stale()
                    cleaned = time.monotonic()
                pause = SHORTEST if self._collect() else min(1.5 * pause, LONGEST)
                self._news.wait(pause)
            else:
                self._news.wait()
            self._news.clear()

    def _collect(self) -> int:
        """Hand over what has finished, and put again what was lost; how many jobs that were."""
        with self._mutex:
            waited_for = list(self._pending)
        ended = self._queue.ended(waited_for)
        for number, found in ended.items():
            with self._mutex:
                if number not in self._pending:
                    continue
                job, future = self._pending.pop(number)
            if found.record is not None:
                future.set_result(job.record(found.record))
            elif found.error is not None:
                future.set_exception(TrialError(found.error))
            else:
                self._retry(job, future)
        return len(ended)

    def _retry(self, job: Job, future: Future[TrialRecord]) -> None:
        deaths = self._deaths[job.key] = self._deaths.get(job.key, 0) + 1
        if deaths > RETRIES:
            future.set_exception(TrialError(f"{job.key}: {deaths} workers died of it, one after the other"))
            return
        again = self._queue.put(job.to_dict())
        with self._mutex:
            self._pending[again] = job, future
