"""The study loop: ask Optuna for points, train them side by side, tell, keep, confirm the best on fresh seeds.

One Optuna study a rule, under one budget (plan.py). Asking is done in memory, where it takes 2 ms instead of the 8 of
a journal or the 36 of sqlite; every finished trial is added to the storage before the next wave starts. A resumed
study runs the same loop again and takes the values it already has from the storage: same seed, same trials.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optadvisor.config import OptimizerConfig
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies import ladder, searching, seeds
from optadvisor.studies import space as space_module
from optadvisor.studies.confirming import Standing, on_fresh_seeds
from optadvisor.studies.database import Patience
from optadvisor.studies.executors import Executor, Job
from optadvisor.studies.plan import EQUAL, HALVING, WAVE, waves
from optadvisor.studies.searching import Judge
from optadvisor.studies.space import Space
from optadvisor.studies.storage import keep_trial, study_names
from optadvisor.studies.tasks.task import MINIMIZE, Task, TrialRecord, shown

FORMAT = 3
READS = (2, FORMAT)  # a study of format 2 has no learned start: it goes on without
CANDIDATES = 3  # configs that are confirmed
OBJECTIVES = ("value", "steps", "memory")
NARROW = (
    0.5  # share of the trials after the learned list that are drawn from the learned ranges, before all of the space
)
SLOW = 1.0  # seconds of a training from which on its end is progress; faster ones are shown a wave at a time

# The learning-rate range test: so many rates over the whole range, so many steps each. The rate with the lowest value
# after a short training is too high for a long one. Where the plan brings no factor for it, these are used, which a first
# experiment on 92 small tasks found best for rules that scale each parameter's step and for those that do not.
LADDER, LADDER_STEPS = 8, 50
BACK_OFF = {True: 0.3, False: 0.6}


class StudyError(RuntimeError):
    """A study ended without a config that trains. Its trials are in the storage."""


@dataclass(frozen=True)
class Plan:
    """What a study is to do. Two runs of one plan give the same trials.

    first: the learned list, (optimizer, point) in the order in which they are tried, before all else. starts:
    optimizer -> the first point of its search, where none of the list is its. learned: optimizer -> axis -> the range
    that is searched first. schedules: optimizer -> the schedules that are searched, of the others constant alone.
    ranges, fixed: what the person narrowed, widened or fixed.
    hybrid: the rules of a hybrid's groups by role. objectives: what is minimised, the value first; target: the value
    that the objective "steps" counts the steps to. wave: trials of one rule asked for before any of them is told.
    allocation: "halving" moves the budget to the rules that earn it; "equal" races all of them to the end. direction:
    the person's; inside, and in the storage, lower is better, and `target` alone is as the person gave it. back_off:
    optimizer -> axis of its space -> what multiplies the rate where the range test's values are lowest.
    """

    task: str
    optimizers: tuple[str, ...]
    trials: int
    seed: int
    steps: int | None
    starts: dict[str, dict[str, Any]] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    hybrid: dict[str, str] = field(default_factory=dict)
    sampler: str = "tpe"
    pruner: str = "none"
    objectives: tuple[str, ...] = ("value",)
    target: float | None = None
    range_test: bool = False
    wave: int = WAVE
    allocation: str = HALVING
    direction: str = MINIMIZE
    back_off: dict[str, dict[str, float]] = field(default_factory=dict)
    first: tuple[tuple[str, dict[str, Any]], ...] = ()
    learned: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    schedules: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        lists: dict[str, Any] = {
            "optimizers": list(self.optimizers),
            "objectives": list(self.objectives),
            "first": [list(item) for item in self.first],
            "ranges": _lists(self.ranges),
            "learned": {optimizer: _lists(ranges) for optimizer, ranges in self.learned.items()},
            "schedules": _lists(self.schedules),
        }
        return {**vars(self), **lists, "format": FORMAT}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        if data.get("format") not in READS:
            raise InputError(
                f"the stored study has format {data.get('format')!r}; this version resumes formats "
                f"{' and '.join(map(str, READS))}: start a new study without --resume"
            )
        values = {name: value for name, value in data.items() if name != "format"}
        tuples: dict[str, Any] = {
            "optimizers": tuple(data["optimizers"]),
            "objectives": tuple(data["objectives"]),
            "first": tuple((optimizer, point) for optimizer, point in data.get("first", ())),
            "ranges": _tuples(data["ranges"]),
            "learned": {optimizer: _tuples(ranges) for optimizer, ranges in data.get("learned", {}).items()},
            "schedules": _tuples(data.get("schedules", {})),
        }
        return cls(**{**values, **tuples})

    @property
    def warm(self) -> bool:
        """Whether it starts with what was learned on other tasks."""
        return bool(self.first or self.learned)

    def spaces(self) -> dict[str, Space]:
        """All that is searched of each optimizer, wide enough for where it starts."""
        spaces = space_module.narrowed([Space.of(o, **self.hybrid) for o in self.optimizers], self.ranges, self.fixed)
        for optimizer, space in spaces.items():
            learned = self.learned.get(optimizer, {})
            ends = [{name: end[i] for name, end in learned.items()} for i in (0, 1)]
            schedules = self.schedules.get(optimizer, space_module.CONSTANT)
            spaces[optimizer] = replace(space, schedules=schedules).holding([*self.points(optimizer), *ends])
        return spaces

    def points(self, optimizer: str) -> list[dict[str, Any]]:
        """Where the search of an optimizer starts."""
        own = [point for name, point in self.first if name == optimizer]
        return [*own, *([self.starts[optimizer]] if optimizer in self.starts else [])]


def _lists(pairs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: list(values) for name, values in pairs.items()}


def _tuples(pairs: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(values) for name, values in pairs.items()}


@dataclass(frozen=True)
class Trial:
    """One search trial: its number in the study, and what came of it."""

    number: int
    optimizer: str
    record: TrialRecord
    direction: str = MINIMIZE

    @property
    def value(self) -> float:
        """The value as the person counts it; `record.value` is lower for the better."""
        return shown(self.record.value, self.direction)

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "optimizer": self.optimizer,
            "value": None if self.record.diverged else self.value,
            "state": self.record.state,
            "seconds": self.record.seconds,
            "config": self.record.config.to_dict(),
            **({"message": self.record.message} if self.record.message else {}),
        }


@dataclass(frozen=True)
class Result:
    """A finished study. best: the config whose mean over fresh seeds was best; runs: trials and all other runs.

    A race of given configs has no study and no trials. value, and the values in `pareto`, are as the person counts
    them: higher is better where direction is "maximize".
    pareto: with more than one objective, the trials that no other one beats in all of them, with their values.
    standings: of a race, each rule's best config, or each given config, on the same fresh seeds, the best first.
    """

    study: str | None
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
    objectives: tuple[str, ...] = ("value",)
    pareto: list[tuple[Trial, list[float]]] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)
    metric: str = "value"
    direction: str = MINIMIZE

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `optadvisor tune`."""
        found: dict[str, Any] = {
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
            "metric": self.metric,
            "direction": self.direction,
        }
        if len(self.objectives) > 1:
            found["objectives"] = list(self.objectives)
            found["pareto"] = [
                {
                    "number": trial.number,
                    "optimizer": trial.optimizer,
                    "values": [value if math.isfinite(value) else None for value in values],
                }
                for trial, values in self.pareto
            ]
        return {**found, "trials_log": [trial.to_dict() for trial in self.trials]}


# Called after every wave, and as slow trainings end, with the trials so far and the number planned.
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


def latest(storage: BaseStorage, task: str, allocation: str = HALVING) -> tuple[str, Plan] | None:
    """The newest study of a task in the storage that shares its budget that way, with its plan."""
    found = [
        (name, attrs)
        for name, attrs in study_names(storage).items()
        if _number(name, task)
        and attrs.get("plan", {}).get("allocation", HALVING if "plan" in attrs else None) == allocation
    ]
    if not found:
        return None
    name, attrs = max(found, key=lambda item: _number(item[0], task))
    return name, Plan.from_dict(attrs["plan"])


def _number(name: str, task: str) -> int:
    head, _, tail = name.rpartition("#")
    return int(tail) if head == task and tail.isdigit() else 0


def run(
    task: Task, plan: Plan, name: str, storage: BaseStorage, executor: Executor, progress: Progress | None = None
) -> Result:
    """Run a study to its end, or what is left of it. The same plan gives the same trials with any executor."""
    began = time.perf_counter()
    loop = _Loop(task, plan, name, storage, executor, progress)
    try:
        if plan.range_test:
            loop.centre()
        for wave, points in loop.waves():
            loop.run_wave(wave, points)
            if progress:
                progress(loop.trials, plan.trials)
        standings = loop.confirm_each() if plan.allocation == EQUAL else []
        best = standings[0] if standings else loop.confirm()
    finally:
        executor.close()
        loop.close()
    origin = {"source": "study", "study": name, "task": task.name, "seed": plan.seed, "steps": plan.steps}
    found = {"trial": best.number, "value": best.value, "direction": plan.direction, "seeds": best.seeds}
    config = OptimizerConfig.from_dict({**best.config.to_dict(), "provenance": {**origin, **found}})
    return Result(
        name,
        task.name,
        config,
        best.value,
        best.std,
        best.seeds,
        best.metrics,
        loop.trials,
        len(loop.trials) + loop.other_runs,
        time.perf_counter() - began,
        plan.seed,
        plan.objectives,
        loop.pareto() if len(plan.objectives) > 1 else [],
        standings,
        task.metric,
        plan.direction,
    )


# A trial that was asked for: its number, its optimizer, and Optuna's side of it.
Asked = tuple[int, str, optuna.Trial]


class _Loop:
    """The state of a study while it runs."""

    def __init__(
        self,
        task: Task,
        plan: Plan,
        name: str,
        storage: BaseStorage,
        executor: Executor,
        progress: Progress | None = None,
    ) -> None:
        self.task, self.plan, self.name, self.executor, self._progress = task, plan, name, executor, progress
        self.trials: list[Trial] = []
        self.other_runs = 0
        self._spaces = plan.spaces()
        self._starts = dict(plan.starts)
        self._schedule = Schedule("constant", 0, plan.steps)
        self._begun = {optimizer for optimizer, _ in plan.first}
        self._wide_from = len(plan.first) + round(NARROW * (plan.trials - len(plan.first)))
        self._origin = {"source": "trial", "study": name, "task": task.name}
        self._pruner = searching.pruner(plan.pruner, plan.steps)
        directions = [StudyDirection.MINIMIZE] * len(plan.objectives)
        self._studies: dict[str, optuna.Study] = {}
        self._kept: dict[str, optuna.Study] = {}
        self._done: dict[int, FrozenTrial] = {}
        self._judges: dict[int, Judge] = {}
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="storage")
        self._writing: list[Future[None]] = []
        self._patience = Patience()
        for optimizer in plan.optimizers:
            kept = optuna.create_study(
                storage=storage, study_name=f"{name}/{optimizer}", directions=directions, load_if_exists=True
            )
            self._kept[optimizer] = kept
            self._done.update({trial.user_attrs["number"]: trial for trial in kept.get_trials(deepcopy=False)})
            # A name, which Hyperband's brackets follow from.
            self._studies[optimizer] = optuna.create_study(
                study_name=optimizer, directions=directions, pruner=self._pruner
            )

    def close(self) -> None:
        """Wait until every trial that was told is in the storage."""
        self._writer.shutdown()

    def best_value(self, optimizer: str) -> float:
        done = (t.record for t in self.trials if t.optimizer == optimizer and not t.record.pruned)
        return min((record.value for record in done), default=math.inf)

    def waves(self) -> Iterator[tuple[list[tuple[str, int]], list[dict[str, Any]]]]:
        """Batches of (rule, number of trials), the first one with the points of the learned list."""
        plan = self.plan
        if plan.first:
            yield [(optimizer, 1) for optimizer, _ in plan.first], [point for _, point in plan.first]
        left = plan.trials - len(plan.first)
        rules = plan.optimizers
        if plan.first and plan.allocation == HALVING:  # what does not divide evenly goes to those that led in the list
            rules = tuple(sorted(rules, key=self.best_value))
        for wave in waves(left, rules, self.best_value, plan.wave, plan.allocation):
            yield wave, []

    def centre(self) -> None:
        """The learning-rate range test: a ladder of rates for each rule, the space centred on what it finds."""
        futures = {}
        for optimizer, space in self._spaces.items():
            start = self._starts.get(optimizer) or space.encode(space.decode({}, self._schedule, {}))
            for name, _, _, axis in space.axes():
                if name.rpartition(".")[2] != "lr":
                    continue
                rates = np.geomspace(axis.low, axis.high, LADDER).tolist()
                futures[optimizer, name] = rates, [self._climb(space, {**start, name: rate}, name) for rate in rates]
        for (optimizer, name), (rates, climbs) in futures.items():
            values = [climb.result().value for climb in climbs]
            self.other_runs += len(values)
            rate = self._centre_of(optimizer, name, rates, values)
            if rate is None:
                continue  # every rate diverges: the range says as much as the test
            self._spaces[optimizer] = self._spaces[optimizer].centred({name: rate})
            if optimizer in self._starts:
                self._starts[optimizer] = {**self._starts[optimizer], name: rate}

    def _centre_of(self, optimizer: str, name: str, rates: list[float], values: list[float]) -> float | None:
        """What a range test of one axis says of the learning rate for a whole training."""
        factor, found = self.plan.back_off.get(optimizer, {}).get(name), ladder.lowest(rates, values)
        if factor is not None and found is not None:
            return found * factor
        if not math.isfinite(min(values)):
            return None
        space = self._spaces[optimizer]
        rule = rules.get(next(space.parts[role] for axis, role, _, _ in space.axes() if axis == name))
        return rates[values.index(min(values))] * BACK_OFF[rule.adaptive]

    def _climb(self, space: Space, point: dict[str, Any], name: str) -> Future[TrialRecord]:
        steps = min(LADDER_STEPS, self.plan.steps or LADDER_STEPS)
        config = space.decode(point, Schedule("constant", 0, steps), self._origin)
        key = f"range {space.optimizer} {name} {point[name]!r}"
        return self.executor.submit(Job(key, config, seeds.derive(self.plan.seed, seeds.RANGE), steps))

    def _space(self, optimizer: str) -> Space:
        """What the next trials of a rule are drawn from: what was learned, then all of its space."""
        space, learned = self._spaces[optimizer], self.plan.learned.get(optimizer)
        if not learned or len(self.trials) >= self._wide_from:
            return space
        start = [self._starts[optimizer]] if optimizer in self._starts else []
        return space.ranged(learned).holding([*self.plan.points(optimizer), *start])

    def _study(self, optimizer: str, distributions: dict[str, BaseDistribution]) -> optuna.Study:
        """The rule's study in memory, its trials as if they had been drawn from these distributions: the sampler
        looks at the settings together only where every trial has the same."""
        study = self._studies[optimizer]
        told = study.get_trials(deepcopy=False)
        if told and told[-1].distributions != distributions:
            study = optuna.create_study(
                study_name=optimizer, directions=study.directions, pruner=self._pruner, sampler=study.sampler
            )
            for trial in told:
                again = copy.copy(trial)
                again.distributions = distributions
                study.add_trial(again)
            self._studies[optimizer] = study
        return study

    def run_wave(self, wave: list[tuple[str, int]], points: Sequence[dict[str, Any]] = ()) -> None:
        """Ask for a wave of trials and run those that are not in the storage yet; each is kept there as it ends.

        The samplers are told when all have ended, in order: who ends first changes nothing. points: where the trials
        start, one for each entry of the wave.
        """
        asked: list[Asked] = []
        running: dict[Future[TrialRecord], Asked] = {}
        done: dict[int, Trial] = {}
        number = len(self.trials)
        try:
            for place, (optimizer, count) in enumerate(wave):
                distributions = self._space(optimizer).distributions()
                study = self._study(optimizer, distributions)
                if points:
                    study.enqueue_trial(points[place])
                elif optimizer in self._starts and optimizer not in self._begun:
                    study.enqueue_trial(self._starts[optimizer])
                self._begun.add(optimizer)
                # A sampler of its own for every wave: a resumed study draws what the first run drew.
                origin = self.plan.optimizers.index(optimizer) if searching.fixed_seed(self.plan.sampler) else number
                seed = seeds.derive(self.plan.seed, seeds.SAMPLER, origin)
                study.sampler = searching.sampler(self.plan.sampler, seed)
                before = copy.deepcopy(study) if self.plan.pruner != "none" else study
                for _ in range(count):
                    trial = study.ask(distributions)
                    if self.plan.pruner != "none":
                        self._judges[number] = Judge(trial, before)
                    asked.append((number, optimizer, trial))
                    if number in self._done:
                        done[number] = self._stored(*asked[-1])
                    else:
                        running[self._submit(*asked[-1])] = asked[-1]
                        self._collect([future for future in running if future.done()], running, done)
                    number += 1
            while running:
                self._collect(wait(running, return_when=FIRST_COMPLETED).done, running, done)
        except BaseException:
            self._patience.stop.set()  # who interrupts a study does not wait for a storage that is away
            raise
        finally:
            self._written(to_the_end=True)
        for number, _, trial in asked:
            self._tell(trial, done[number])

    def _collect(
        self, ended: Iterable[Future[TrialRecord]], running: dict[Future[TrialRecord], Asked], done: dict[int, Trial]
    ) -> None:
        """Keep the trials that have ended; then raise what one of them raised, if any did."""
        failed = []
        for future in ended:
            number, optimizer, trial = running.pop(future)
            if future.exception() is not None:
                failed.append(future)
                continue
            done[number] = Trial(number, optimizer, future.result(), self.plan.direction)
            self._keep(trial, done[number])
            if self._progress and done[number].record.seconds >= SLOW:
                so_far = [*self.trials, *(done[n] for n in sorted(done))]
                if len(so_far) < self.plan.trials:  # the end is told with the wave
                    self._progress(so_far, self.plan.trials)
        for future in failed:
            future.result()
        self._written()

    def _written(self, to_the_end: bool = False) -> None:
        """Raise what went wrong in writing; with `to_the_end`, wait until all is written."""
        ended = [write for write in self._writing if to_the_end or write.done()]
        self._writing = [write for write in self._writing if write not in ended]
        for write in ended:
            write.result()

    def _config(self, optimizer: str, params: dict[str, Any]) -> OptimizerConfig:
        space = self._spaces[optimizer]
        return space.decode(params, space.schedule(params, self.plan.steps), self._origin)

    def _submit(self, number: int, optimizer: str, trial: optuna.Trial) -> Future[TrialRecord]:
        seed = seeds.derive(self.plan.seed, seeds.TRIAL, number)
        config = self._config(optimizer, trial.params)
        return self.executor.submit(Job(f"trial {number}", config, seed, self.plan.steps, self._judges.get(number)))

    def _stored(self, number: int, optimizer: str, trial: optuna.Trial) -> Trial:
        """A trial that an earlier run finished."""
        stored = self._done[number]
        if stored.params != trial.params:
            raise InputError(
                f"trial {number} of study {self.name} has other settings than this version would try: "
                "start a new study without --resume"
            )
        record = TrialRecord.from_dict(self._config(optimizer, trial.params), stored.user_attrs)
        if number in self._judges:
            self._judges[number].replay(stored.intermediate_values)
        return Trial(number, optimizer, record, self.plan.direction)

    def _keep(self, trial: optuna.Trial, done: Trial) -> None:
        """Add a trial that has ended to the storage, in a thread of its own: that waits for the disk."""
        number, record = done.number, done.record
        frozen = optuna.trial.create_trial(
            state=TrialState.PRUNED if record.pruned else TrialState.COMPLETE,
            values=None if record.pruned else self._values(record),
            params=trial.params,
            distributions=self._spaces[done.optimizer].distributions(),
            user_attrs={"number": number, **record.to_dict()},
            intermediate_values=self._judges[number].reports if number in self._judges else {},
        )
        frozen.datetime_start = trial.datetime_start
        self._writing.append(
            self._writer.submit(keep_trial, self._kept[done.optimizer], frozen, number, self._patience)
        )

    def _tell(self, trial: optuna.Trial, done: Trial) -> None:
        """Tell the sampler and the pruner of a trial."""
        if done.number in self._judges:
            self._judges.pop(done.number).pass_on(trial)
        study = self._studies[done.optimizer]
        if done.record.pruned:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, self._values(done.record), state=TrialState.COMPLETE)
        self.trials.append(done)

    def _values(self, record: TrialRecord) -> list[float]:
        """The record's objectives, lower is better."""
        found = {"value": record.value}
        if "steps" in self.plan.objectives:
            assert self.plan.target is not None
            found["steps"] = record.steps_to(shown(self.plan.target, self.plan.direction))
        if "memory" in self.plan.objectives:
            found["memory"] = float(self._memory(record.config))
        return [found[name] for name in self.plan.objectives]

    def _memory(self, config: OptimizerConfig) -> int:
        """Bytes of optimizer state in float32; of a hybrid, as if every parameter had the larger of its rules' states."""
        states = max(
            rules.get(rule).states(values, config.convention_of(rule)) for rule, values in config.roles().values()
        )
        return 4 * states * (self.task.profile.parameters or 0)

    def pareto(self) -> list[tuple[Trial, list[float]]]:
        """The trials that no other trial equals or beats in every objective, the best by their first one first."""
        rated = [(t, self._values(t.record)) for t in self.trials if t.record.state == "complete"]
        front = [
            (trial, values)
            for trial, values in rated
            if not any(
                other != values and all(a <= b for a, b in zip(other, values, strict=True)) for _, other in rated
            )
        ]
        front.sort(key=lambda item: item[1])
        return [(trial, [shown(values[0], self.plan.direction), *values[1:]]) for trial, values in front]

    def confirm_each(self) -> list[Standing]:
        """The best config of every rule on the same fresh seeds, the lowest mean first; StudyError where none trains."""
        best: dict[str, Trial] = {}
        for trial in self.trials:
            if trial.record.state == "complete":
                first = best.setdefault(trial.optimizer, trial)
                best[trial.optimizer] = min(first, trial, key=lambda t: t.record.value)
        found = sorted(self._again(best.values()), key=lambda standing: standing.mean)
        if not found or not math.isfinite(found[0].mean):
            raise self._hopeless(bool(found))
        return found

    def _again(self, trials: Iterable[Trial]) -> list[Standing]:
        """Train the configs of trials on the fresh seeds, the same for all."""
        configs = [(trial.number, trial.record.config) for trial in trials]
        found = on_fresh_seeds(self.executor, configs, self.plan.seed, self.plan.steps, self.plan.direction)
        self.other_runs += sum(len(standing.records) for standing in found)
        return found

    def _hopeless(self, trained: bool) -> StudyError:
        where = "on a fresh seed" if trained else "in its trial"
        what = "diverged or failed" if any(trial.record.failed for trial in self.trials) else "diverged"
        last = next((trial.record.message for trial in reversed(self.trials) if trial.record.message), "")
        return StudyError(
            f"study {self.name}: each of its {len(self.trials)} configs {what} {where}{last and f' ({last})'}, so no "
            "config was kept: give it more --trials, or other rules with --optimizer"
        )

    def confirm(self) -> Standing:
        """Train the best few on fresh seeds, the same for all; the lowest mean wins.

        Where each of them diverges on one of the seeds, the next few have their turn. StudyError where none is left.
        """
        ranked = sorted((t for t in self.trials if t.record.state == "complete"), key=lambda t: t.record.value)
        for first in range(0, len(ranked), CANDIDATES):
            best = min(self._again(ranked[first : first + CANDIDATES]), key=lambda standing: standing.mean)
            if math.isfinite(best.mean):
                return best
        raise self._hopeless(bool(ranked))
