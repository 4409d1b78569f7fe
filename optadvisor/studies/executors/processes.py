"""A person's function in worker processes, which load its file once and do one training after another.

A training that takes too long is stopped, one whose process dies has failed: both are results, and the study goes on
with a new process. A worker has a process group of its own, so that what the person's code has started ends with it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from optadvisor.kernels.errors import InputError
from optadvisor.studies.executors.child import GRACE
from optadvisor.studies.executors.job import Job, TrialError
from optadvisor.studies.executors.threads import cores
from optadvisor.studies.tasks.function import Facts, FunctionTask, is_pruning, task_name
from optadvisor.studies.tasks.task import TrialRecord

POLL = 1.0  # seconds between looks at a worker that says nothing

# What the person's libraries size their thread pools by.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class WorkerDeathError(RuntimeError):
    """A worker process ended before its answer. Says how."""


class RemoteTraceback(Exception):  # noqa: N818  # as concurrent.futures calls its own
    """The traceback of a worker, to be shown where the person asks for one."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Processes:
    """`jobs` trainings of a function in a file at once, each in a process, for at most `timeout` seconds."""

    def __init__(self, task: FunctionTask, jobs: int | None = None, timeout: float | None = None) -> None:
        self._target, self._timeout = task.name, timeout
        jobs = jobs or 1
        self._environment = dict(os.environ)
        if jobs > 1:
            for name in _THREADS:
                self._environment.setdefault(name, str(max(1, cores() // jobs)))
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="trial")
        self._lock = threading.Lock()
        self._closed = False
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []

    def submit(self, job: Job) -> Future[TrialRecord]:
        return self._pool.submit(self._train, job)

    def close(self) -> None:
        """Stop what runs, drop what has not begun, and end the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closed = True
            workers, idle = list(self._workers), list(self._idle)
        for worker in workers:
            if worker not in idle:
                worker.kill()
        for worker in idle:
            worker.finish()
        for worker in idle:
            worker.end()
        self._pool.shutdown()

    def _train(self, job: Job) -> TrialRecord:
        worker = self._take(job)
        began, curve = time.perf_counter(), []
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        try:
            worker.send(job=job.to_dict(), judged=job.report is not None)
            while "report" in (message := worker.receive(deadline)):
                step, value = message["report"]
                curve.append((step, math.inf if value is None else value))
                if job.report is not None:
                    worker.send(prune=_prunes(job, step, value))
        except (TimeoutError, WorkerDeathError) as error:
            self._drop(worker)
            if self._closed:
                raise CancelledError from None
            what = f"stopped after {self._timeout:g} seconds" if isinstance(error, TimeoutError) else str(error)
            seconds = time.perf_counter() - began
            return TrialRecord(job.config, job.seed, math.inf, seconds, curve, message=what, failed=True)
        except BaseException:
            self._drop(worker)
            raise
        with self._lock:
            self._idle.append(worker)
        if "error" in message:
            raise TrialError(message["error"]) from RemoteTraceback(message["traceback"])
        return TrialRecord.from_dict(job.config, message["record"])

    def _take(self, job: Job) -> Worker:
        """A worker that has loaded the function: an idle one, or a new one."""
        with self._lock:
            if self._closed:
                raise CancelledError
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
                self._workers.discard(worker)
                worker.kill()
            worker = Worker(self._target, self._environment)
            self._workers.add(worker)
        try:
            worker.ready()
        except InputError as error:
            self._drop(worker)
            if self._closed:
                raise CancelledError from None
            raise TrialError(f"{job}: no worker process for it: {error}") from error.__cause__
        return worker

    def _drop(self, worker: Worker) -> None:
        with self._lock:
            self._workers.discard(worker)
        worker.kill()


class Worker:
    """One worker process, and what it says. `ready` comes first."""

    def __init__(self, target: str, environment: Mapping[str, str] | None = None) -> None:
        self._target = target
        # -P: a json.py in the current folder is not to be taken for Python's own.
        command = [sys.executable, "-P", "-m", "optadvisor.studies.executors.child", target]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ready(self) -> Facts:
        """What the process found in the file; InputError where it cannot be used."""
        try:
            message = self.receive()
        except WorkerDeathError as error:
            raise InputError(f"{self._target} cannot be loaded: {error}") from None
        if "refused" in message:
            raise InputError(message["refused"]) from RemoteTraceback(message["traceback"])
        return Facts(**message["ready"])

    def send(self, **message: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message, allow_nan=False).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # ValueError: closed by `kill` in another thread
            raise WorkerDeathError(self._death()) from None

    def receive(self, deadline: float | None = None) -> dict[str, Any]:
        """The next message. WorkerDeathError where none will come, TimeoutError at the deadline (time.monotonic)."""
        while True:
            left = POLL if deadline is None else min(POLL, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError
            ended = not self.alive  # a child of the dead may hold its pipe open: what it said has come by now
            try:
                message: dict[str, Any] | None = self._messages.get(timeout=left)
            except queue.Empty:
                if not ended:
                    continue
                message = None
            if message is None:
                raise WorkerDeathError(self._death())
            return message

    def finish(self) -> None:
        """Tell an idle process that there is nothing more to do."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()

    def end(self) -> None:
        """Wait a little for the end of an idle process, then kill it and all that it has started."""
        self.finish()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self.kill()

    def kill(self) -> None:
        """End the process, at once, with all that it has started."""
        with contextlib.suppress(OSError):  # gone already
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        self.finish()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream, contextlib.suppress(ValueError):
            for line in stream:
                self._messages.put(json.loads(line))
        self._messages.put(None)

    def _death(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(POLL)  # its pipe ends before it does
        self.kill()
        code = self._process.returncode
        if code >= 0:
            return f"its process ended with exit status {code}"
        why = ", perhaps because memory ran out" if -code == getattr(signal, "SIGKILL", 9) else ""
        return f"its process died of signal {-code} ({signal.strsignal(-code)}{why})"


def find(target: str) -> FunctionTask:
    """The task of FILE.py:FUNCTION, looked at in a process that ends again: this one runs none of the file's code."""
    name = task_name(target)
    worker = Worker(name)
    try:
        facts = worker.ready()
    except BaseException:
        worker.kill()
        raise
    worker.end()
    return FunctionTask(name, facts)


def _prunes(job: Job, step: int, value: float) -> bool:
    assert job.report is not None
    try:
        job.report(step, value)
    except Exception as error:
        if is_pruning(error):
            return True
        raise
    return False
