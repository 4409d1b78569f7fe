"""`Worker`: takes jobs from a queue, does them, tells their records."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future

from optadvisor.studies import database
from optadvisor.studies.executors.job import Executor, Job, message_of
from optadvisor.studies.executors.jobqueue import Queue
from optadvisor.studies.tasks.task import TrialRecord

SHORTEST, LONGEST = 0.02, 0.5  # seconds between two looks at a queue that has nothing to do
LEAVE = 5.0  # seconds to give jobs back in


def own_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


class Worker:
    """Does the jobs of a queue with an executor of this machine, `slots` at once.

    name: who it is, noted on every job. done: the number of jobs it has done. wake: set where there may be news in the
    queue. stop: set to end it.
    """

    def __init__(self, queue: Queue, executor: Executor, slots: int, name: str) -> None:
        self.done = 0
        self.stop, self.wake, self._gone = threading.Event(), threading.Event(), threading.Event()
        self._queue, self._executor, self._slots, self._name = queue, executor, slots, name
        self._running: dict[Future[TrialRecord], tuple[int, Job]] = {}

    def run(
        self,
        over: Callable[[], bool] = lambda: False,
        idle: float | None = None,
        told: Callable[[], object] = lambda: None,
    ) -> None:
        """Work until it is `over`, asked when there is nothing to do, or for `idle` seconds without a job.

        told: called after every job. Jobs that run when it is stopped or interrupted go back to the queue, for others.
        """
        threading.Thread(target=self._show_life, name="heartbeat", daemon=True).start()
        try:
            self._work(over, idle, told)
        finally:
            self.stop.set()
            self._queue.patience.stop.set()
            self._give_back()
            self._gone.set()

    def close(self) -> None:
        """Stop `run`, where it runs in another thread, and the executor."""
        self.stop.set()
        self.wake.set()
        self._queue.patience.stop.set()
        self._gone.wait(LEAVE)
        self._executor.close()

    def _work(self, over: Callable[[], bool], idle: float | None, told: Callable[[], object]) -> None:
        pause, busy = SHORTEST, time.monotonic()
        while not self.stop.is_set():
            ended = self._tell(told)
            taken = self._take()
            if self._running:
                busy = time.monotonic()
            elif over() or (idle is not None and time.monotonic() - busy > idle):
                return
            pause = SHORTEST if ended or taken else min(1.5 * pause, LONGEST)
            if self._running:
                futures.wait(self._running, pause, futures.FIRST_COMPLETED)
            else:
                self.wake.wait(pause)
                self.wake.clear()

    def _take(self) -> int:
        free = self._slots - len(self._running)
        taken = self._queue.take(free, self._name) if free else []
        for trial, job in taken:
            self._running[self._executor.submit(job)] = trial, job
        return len(taken)

    def _tell(self, told: Callable[[], object]) -> int:
        ended = [future for future in self._running if future.done()]
        for future in ended:
            trial, _ = self._running[future]
            error = future.exception()
            if error is None:
                self._queue.finish(trial, future.result())
            else:
                self._queue.fail(trial, message_of(error))
            del self._running[future]
            self.done += 1
            told()
        return len(ended)

    def _give_back(self) -> None:
        for future, (trial, _) in list(self._running.items()):
            with contextlib.suppress(Exception):  # the storage is away: the job will be given up as that of the dead
                if future.done() and future.exception() is None:
                    self._queue.finish(trial, future.result())
                else:
                    self._queue.give_back(trial)
        self._running.clear()

    def _show_life(self) -> None:
        while not self.stop.wait(database.HEARTBEAT):
            for trial, _ in list(self._running.values()):
                with contextlib.suppress(Exception):  # the worker itself waits for a storage that is away
                    self._queue.show_life(trial)
