"""`Job`, one training of a study that somebody is to do, and `Executor`, who does them."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Protocol

from optadvisor.config import OptimizerConfig
from optadvisor.studies.tasks.function import FunctionError, is_pruning
from optadvisor.studies.tasks.task import Report, Task, TrialRecord


@dataclass(frozen=True)
class Job:
    """One training. key: tells it from every other job of the study, and is the same when the study is resumed.

    report: called in the study's own process with (step, value); raises optuna.TrialPruned to end the training.
    task: name of the built-in task, where it is not the one that the executor is for. more: further trainings, to be
    done after this one, whose records go into the `more` of its record: the way to another machine costs more than a
    short training.
    """

    key: str
    config: OptimizerConfig
    seed: int
    steps: int | None
    report: Report | None = None
    task: str | None = None
    more: tuple[Job, ...] = ()

    def __str__(self) -> str:
        """trial 7 (adamw, lr 0.003)"""
        return f"{self.key} ({rates(self.config)})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON data for another process, without `report`."""
        return {
            "key": self.key,
            "config": self.config.to_dict(),
            "seed": self.seed,
            "steps": self.steps,
            **({"task": self.task} if self.task else {}),
            **({"more": [job.to_dict() for job in self.more]} if self.more else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], report: Report | None = None) -> Job:
        config, more = OptimizerConfig.from_dict(data["config"]), tuple(map(cls.from_dict, data.get("more", ())))
        return cls(data["key"], config, data["seed"], data["steps"], report, data.get("task"), more)

    def record(self, data: Mapping[str, Any]) -> TrialRecord:
        """The record of this job that `TrialRecord.to_dict` wrote."""
        more = [job.record(each) for job, each in zip(self.more, data.get("more", ()), strict=True)]
        return replace(TrialRecord.from_dict(self.config, data), more=more)


class TrialError(RuntimeError):
    """A training failed, which ends the study: which trial, what it tried, what was raised, where."""


class Executor(Protocol):
    """Does jobs, several at a time. A job's exception comes out of its future, or of `submit`, and ends the study."""

    def submit(self, job: Job) -> Future[TrialRecord]: ...

    def close(self) -> None:
        """Wait for what runs, drop what has not begun."""


def attempt(task: Task | None, job: Job) -> TrialRecord:
    """The record of a job: of a training that was pruned, what it had reported. TrialError for a person's error.

    task: the one that the executor is for; None where every job names its own.
    """
    if job.more:
        first, *more = [attempt(task, each) for each in (replace(job, more=()), *job.more)]
        return replace(first, more=more)
    task = _builtin(job.task) if job.task else task
    assert task is not None, job
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


@functools.lru_cache(maxsize=8)
def _builtin(name: str) -> Task:
    from optadvisor.studies.tasks.registry import get  # which a process for a person's function does not need

    return get(name)


def explained(error: BaseException) -> str:
    """The error of a job as text that another process makes a TrialError of."""
    return str(error) if isinstance(error, TrialError) else f"{type(error).__name__}: {error}"


def rates(config: OptimizerConfig) -> str:
    """An optimizer with its learning rates, in a few words."""
    found = {role: values["lr"] for role, (_, values) in config.roles().items() if role != "no_decay"}
    if len(found) == 1:
        return f"{config.optimizer}, lr {next(iter(found.values())):.2g}"
    return f"{config.optimizer}, " + ", ".join(f"{role} lr {lr:.2g}" for role, lr in found.items())
