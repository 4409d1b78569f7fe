"""The study loop: ask Optuna for points, train them side by side, tell, keep, confirm the best on fresh seeds.

One Optuna study a rule, under one budget (plan.py). Asking is done in memory, where it takes 2 ms instead of the 8 of
a journal or the 36 of sqlite; every finished trial is added to the storage before the next wave starts. A resumed
study runs the same loop again and takes the values it already has from the storage: same seed, same trials.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optadvisor.config import OptimizerConfig
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies import seeds, space
from optadvisor.studies.plan import waves
from optadvisor.studies.storage import study_names
from optadvisor.studies.tasks.task import Task, TrialRecord

FORMAT = 1
CANDIDATES = 3  # configs that are confirmed
CONFIRMATIONS = 5  # fresh seeds for each


class StudyError(RuntimeError):
    """A study ended without a config that trains. Its trials are in the storage."""


@dataclass(frozen=True)
class Plan:
    """What a study is to do. Two runs of one plan give the same trials."""

    task: str
    optimizers: tuple[str, ...]
    trials: int
    seed: int
    steps: int
    starts: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "optimizers": list(self.optimizers), "format": FORMAT}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        if data.get("format") != FORMAT:
            raise InputError(
                f"the stored study has format {data.get('format')!r}; this version resumes format {FORMAT}"
            )
        values = {name: value for name, value in data.items() if name != "format"}
        return cls(**{**values, "optimizers": tuple(data["optimizers"])})


@dataclass(frozen=True)
class Trial:
    """One search trial: its number in the study, and what came of it."""

    number: int
    optimizer: str
    record: TrialRecord

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "optimizer": self.optimizer,
            "value": None if self.record.diverged else self.record.value,
            "state": "diverged" if self.record.diverged else "complete",
            "seconds": self.record.seconds,
            "config": self.record.config.to_dict(),
        }


@dataclass(frozen=True)
class Result:
    """A finished study. best: the config whose mean over fresh seeds was lowest; runs: trials and confirmations."""

    study: str
    task: str
    best: OptimizerConfig
    value: float
    std: float
    seeds: list[int]
    metrics: dict[str, float]
    trials: list[Trial]
    runs: int
    seconds: float
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `optadvisor tune`."""
        return {
            "task": self.task,
            "best": {
                "config": self.best.to_dict(),
                "value": self.value,
                "std": self.std,
                "seeds": self.seeds,
                "metrics": self.metrics,
            },
            "trials": len(self.trials),
            "runs": self.runs,
            "seconds": self.seconds,
            "study": self.study,
            "seed": self.seed,
            "trials_log": [trial.to_dict() for trial in self.trials],
        }


# Called after every wave with the trials so far and the number planned.
Progress = Callable[[Sequence[Trial], int], None]


def create(storage: BaseStorage, plan: Plan) -> str:
    """Note a new study in the storage; its name is the task's with the next free number."""
    number = 1 + max((_number(name, plan.task) for name in study_names(storage)), default=0)
    while True:
        name = f"{plan.task}#{number}"
        try:
            header = optuna.create_study(storage=storage, study_name=name, direction="minimize")
        except optuna.exceptions.DuplicatedStudyError:  # another command was faster
            number += 1
            continue
        header.set_user_attr("plan", plan.to_dict())
        return name


def latest(storage: BaseStorage, task: str) -> tuple[str, Plan] | None:
    """The newest study of a task in the storage, with its plan."""
    found = [(name, attrs) for name, attrs in study_names(storage).items() if _number(name, task) and "plan" in attrs]
    if not found:
        return None
    name, attrs = max(found, key=lambda item: _number(item[0], task))
    return name, Plan.from_dict(attrs["plan"])


def _number(name: str, task: str) -> int:
    head, _, tail = name.rpartition("#")
    return int(tail) if head == task and tail.isdigit() else 0


def run(
    task: Task, plan: Plan, name: str, storage: BaseStorage, jobs: int | None = None, progress: Progress | None = None
) -> Result:
    """Run a study to its end, or what is left of it. The same plan gives the same trials with any number of jobs."""
    began = time.perf_counter()
    loop = _Loop(task, plan, name, storage)
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1, thread_name_prefix="trial") as pool:
        try:
            for wave in waves(plan.trials, plan.optimizers, loop.best_value):
                loop.run_wave(wave, pool)
                if progress:
                    progress(loop.trials, plan.trials)
            best, records = loop.confirm(pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what has not begun must not hold up Ctrl-C or an error
            raise
    values = [record.value for record in records]
    mean = sum(values) / len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    metrics = {m: sum(r.metrics[m] for r in records) / len(records) for m in records[0].metrics}
    chosen = [record.seed for record in records]
    origin = {"source": "study", "study": name, "task": task.name, "seed": plan.seed, "steps": plan.steps}
    config = OptimizerConfig.from_dict(
        {**best.record.config.to_dict(), "provenance": {**origin, "trial": best.number, "value": mean, "seeds": chosen}}
    )
    return Result(
        name,
        task.name,
        config,
        mean,
        std,
        chosen,
        metrics,
        loop.trials,
        len(loop.trials) + loop.confirmations,
        time.perf_counter() - began,
        plan.seed,
    )


class _Loop:
    """The state of a study while it runs."""

    def __init__(self, task: Task, plan: Plan, name: str, storage: BaseStorage) -> None:
        self.task, self.plan, self.name = task, plan, name
        self.trials: list[Trial] = []
        self.confirmations = 0
        self._schedule = Schedule("constant", 0, plan.steps)
        self._origin = {"source": "trial", "study": name, "task": task.name}
        self._studies: dict[str, optuna.Study] = {}
        self._kept: dict[str, optuna.Study] = {}
        self._done: dict[int, FrozenTrial] = {}
        for optimizer in plan.optimizers:
            kept = optuna.create_study(
                storage=storage, study_name=f"{name}/{optimizer}", direction="minimize", load_if_exists=True
            )
            self._kept[optimizer] = kept
            self._done.update({trial.user_attrs["number"]: trial for trial in kept.get_trials(deepcopy=False)})
            self._studies[optimizer] = optuna.create_study(direction="minimize")
            if optimizer in plan.starts:
                self._studies[optimizer].enqueue_trial(plan.starts[optimizer])

    def best_value(self, optimizer: str) -> float:
        return min((t.record.value for t in self.trials if t.optimizer == optimizer), default=math.inf)

    def run_wave(self, wave: list[tuple[str, int]], pool: ThreadPoolExecutor) -> None:
        """Ask for a wave of trials, run those that are not in the storage yet, tell and keep them in order."""
        running: list[tuple[int, str, optuna.Trial, Future[TrialRecord] | None]] = []
        number = len(self.trials)
        for optimizer, count in wave:
            study = self._studies[optimizer]
            # A sampler of its own for every wave: a resumed study draws what the first run drew.
            study.sampler = optuna.samplers.TPESampler(seed=seeds.derive(self.plan.seed, seeds.SAMPLER, number))
            for _ in range(count):
                trial = study.ask(space.distributions(optimizer))
                future = None if number in self._done else pool.submit(self._train, number, optimizer, trial.params)
                running.append((number, optimizer, trial, future))
                number += 1
        for number, optimizer, trial, future in running:
            record = self._stored(number, optimizer, trial) if future is None else future.result()
            self._tell(number, optimizer, trial, record, keep=future is not None)

    def _train(self, number: int, optimizer: str, params: dict[str, float]) -> TrialRecord:
        config = space.decode(optimizer, params, self._schedule, self._origin)
        return self.task.train(config, seeds.derive(self.plan.seed, seeds.TRIAL, number), self.plan.steps)

    def _stored(self, number: int, optimizer: str, trial: optuna.Trial) -> TrialRecord:
        """The record of a trial that an earlier run finished."""
        stored = self._done[number]
        if stored.params != trial.params:
            raise InputError(
                f"trial {number} of study {self.name} has other settings than this version would try: "
                "start a new study without --resume"
            )
        attrs = stored.user_attrs
        assert stored.value is not None
        return TrialRecord(
            space.decode(optimizer, trial.params, self._schedule, self._origin),
            attrs["seed"],
            stored.value,
            attrs["seconds"],
            [(step, math.inf if value is None else value) for step, value in attrs["curve"]],
            {name: math.nan if value is None else value for name, value in attrs["metrics"].items()},
        )

    def _tell(self, number: int, optimizer: str, trial: optuna.Trial, record: TrialRecord, keep: bool) -> None:
        trial.set_user_attr("number", number)
        for key, value in record.to_dict().items():
            trial.set_user_attr(key, value)
        frozen = self._studies[optimizer].tell(trial, record.value, state=TrialState.COMPLETE)
        if keep:
            self._kept[optimizer].add_trial(frozen)
        self.trials.append(Trial(number, optimizer, record))

    def confirm(self, pool: ThreadPoolExecutor) -> tuple[Trial, list[TrialRecord]]:
        """Train the best few on fresh seeds, the same for all; the lowest mean wins.

        Where each of them diverges on one of the seeds, the next few have their turn. StudyError where none is left.
        """
        ranked = sorted((t for t in self.trials if not t.record.diverged), key=lambda t: t.record.value)
        fresh = [seeds.derive(self.plan.seed, seeds.CONFIRMATION, i) for i in range(CONFIRMATIONS)]
        for first in range(0, len(ranked), CANDIDATES):
            candidates = ranked[first : first + CANDIDATES]
            futures = [
                [pool.submit(self.task.train, trial.record.config, seed, self.plan.steps) for seed in fresh]
                for trial in candidates
            ]
            records = [[future.result() for future in row] for row in futures]
            self.confirmations += sum(len(row) for row in records)
            totals = [sum(record.value for record in row) for row in records]
            best = min(range(len(candidates)), key=totals.__getitem__)
            if math.isfinite(totals[best]):
                return candidates[best], records[best]
        what = "on a fresh seed" if ranked else "in its trial"
        raise StudyError(
            f"study {self.name}: each of its {len(self.trials)} configs diverged {what}, so no config was kept: "
            "give it more --trials, or other rules with --optimizer"
        )
