"""A worker process of processes.py: loads FILE.py:FUNCTION, says what it found, does one job after another.

python -m optadvisor.studies.executors.child FILE.py:FUNCTION

Jobs come in and records go out as JSON lines over the pipes that the process got as its standard input and output.
Before any of the person's code runs they are moved to descriptors of their own: what that code prints goes to standard
error, and what it reads is empty. When the pipe ends, whatever happened to the other side, the process ends with all
that it has started.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import Any

from optadvisor.kernels.errors import InputError
from optadvisor.studies.executors.job import Job, TrialError, attempt
from optadvisor.studies.tasks import function

GRACE = 5.0  # seconds for the end of the interpreter: what the person's code registered for it


class Channel:
    """The messages of the other process, and to it."""

    def __init__(self) -> None:
        self._in = os.fdopen(os.dup(0), encoding="utf-8")
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._busy = threading.Event()
        self._busy.set()  # loading is work too
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._in:
            self._messages.put(json.loads(line))
        if not self._busy.is_set():
            self._messages.put(None)
            time.sleep(GRACE)
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():  # a group of its own: with its own children
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    def send(self, **message: Any) -> None:
        self._out.write(json.dumps(message, allow_nan=False) + "\n")
        self._out.flush()

    def job(self) -> Any:
        """The next job; None when there is none any more."""
        self._busy.clear()
        message = self._messages.get()
        self._busy.set()
        return message

    def report(self, step: int, value: float, judged: bool) -> None:
        """Pass a report on; where it is judged, wait for the verdict."""
        self.send(report=[step, value])
        if judged and self._messages.get()["prune"]:
            import optuna

            raise optuna.TrialPruned


def main(target: str) -> None:
    channel = Channel()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = [target.rpartition(":")[0]]
    try:
        task = function.load(target)
    except InputError as error:
        channel.send(refused=str(error), traceback=traceback.format_exc())
        return
    channel.send(ready=task.facts.to_dict())
    while (message := channel.job()) is not None:
        job = Job.from_dict(message["job"], functools.partial(channel.report, judged=message["judged"]))
        try:
            channel.send(record=attempt(task, job).to_dict())
        except TrialError as error:
            channel.send(error=str(error), traceback=traceback.format_exc())
        except BaseException as error:  # noqa: BLE001  # SystemExit too: the other process says what it was
            channel.send(error=f"{job}: {function.explained(error)}", traceback=traceback.format_exc())


if __name__ == "__main__":
    main(sys.argv[1])
