"""`Job`, one training of a study that somebody is to do, and `Executor`, who does them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from optadvisor.config import OptimizerConfig
from optadvisor.studies.tasks.function import FunctionError, is_pruning
from optadvisor.studies.tasks.task import Report, Task, TrialRecord


@dataclass(frozen=True)
class Job:
    """One training. key: tells it from every other job of the study, and is the same when the study is resumed.

    report: called in the study's own process with (step, value); raises optuna.TrialPruned to end the training.
    """

    key: str
    config: OptimizerConfig
    seed: int
    steps: int | None
    report: Report | None = None

    def __str__(self) -> str:
        """trial 7 (adamw, lr 0.003)"""
        return f"{self.key} ({rates(self.config)})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON data for another process, without `report`."""
        return {"key": self.key, "config": self.config.to_dict(), "seed": self.seed, "steps": self.steps}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], report: Report | None = None) -> Job:
        return cls(data["key"], OptimizerConfig.from_dict(data["config"]), data["seed"], data["steps"], report)


class JobError(RuntimeError):
    """A job cannot be done. Of a job that somebody else had, the message is that of its own error."""


class TrialError(JobError):
    """A person's function failed in a trial, which ends the study: which trial, what it tried, what was raised, where."""


def message_of(error: BaseException) -> str:
    """An error for another machine's JobError."""
    return str(error) if isinstance(error, JobError) else f"{type(error).__name__}: {error}"


class Executor(Protocol):
    """Does jobs, several at a time. A job's exception comes out of its future, or of `submit`, and ends the study."""

    def submit(self, job: Job) -> Future[TrialRecord]: ...

    def close(self) -> None:
        """Wait for what runs, drop what has not begun."""


def attempt(task: Task, job: Job) -> TrialRecord:
    """The record of a job: of a training that was pruned, what it had reported. TrialError for a person's error."""
    curve: list[tuple[int, float]] = []
    ask = job.report

    def report(step: int, value: float) -> None:
        curve.append((step, value))
        if ask is not None:
            ask(step, value)

    began = time.perf_counter()
    try:
        return task.train(job.config, job.seed, job.steps, report if ask is not None else None)
    except FunctionError as error:
        raise TrialError(f"{job}: {error}") from error.__cause__
    except Exception as error:
        if not is_pruning(error):
            raise
        seconds = time.perf_counter() - began
        return TrialRecord(job.config, job.seed, curve[-1][1], seconds, curve, pruned=True)


def rates(config: OptimizerConfig) -> str:
    """An optimizer with its learning rates, in a few words."""
    found = {role: values["lr"] for role, (_, values) in config.roles().items() if role != "no_decay"}
    if len(found) == 1:
        return f"{config.optimizer}, lr {next(iter(found.values())):.2g}"
    return f"{config.optimizer}, " + ", ".join(f"{role} lr {lr:.2g}" for role, lr in found.items())
