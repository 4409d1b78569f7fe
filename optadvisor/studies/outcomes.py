"""The table of outcomes: one list of configs for each rule, trained on many sampled tasks with the same seeds.

What the learned half of the advisor learns from. A folder holds `sheet.json`, which says what is run, and one .npz
file a task, written whole when all of its trainings are done: a table that was interrupted goes on at that task.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import optadvisor
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.files import file_name, read_json, writable_folder, write_whole, write_whole_bytes
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.schedules import Schedule
from optadvisor.quantities import parse_count
from optadvisor.studies import seeds as seeding
from optadvisor.studies import storage as storages
from optadvisor.studies.executors import Executor, Job, places
from optadvisor.studies.executors.dask import Dask
from optadvisor.studies.executors.threads import Threads, cores
from optadvisor.studies.executors.workers import shared
from optadvisor.studies.space import Space
from optadvisor.studies.study import LADDER_STEPS
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.registry import FAMILIES, get, sample
from optadvisor.studies.tasks.task import TrialRecord
from optadvisor.studies.training import CURVE_POINTS

NAME = "outcomes"  # of a table, for those who train for it
FORMAT = 2
# Trainings that go to another machine together: alone, most are shorter than their way there and back.
BUNDLE = 32
RULES = ("sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamw", "ftrl", HYBRID)
# Four decades of learning rates for every rule, so that no rule wins by the width of its range, around the rates that a
# first experiment on small tasks found good: well above the libraries' defaults for short trainings.
CENTRES = {
    "sgd": 0.2,
    "momentum": 0.03,
    "nag": 0.03,
    "adagrad": 0.1,
    "rmsprop": 0.006,
    "adam": 0.012,
    "adamw": 0.012,
    "ftrl": 0.5,
}
DECADES = 4.0
LADDER = 16  # learning rates with everything else at its default, and again with the learning rate annealed
ANNEALED = {rule: Schedule("cosine", 0) for rule in ("sgd", "momentum", "nag")} | {
    rule: Schedule("warmup_cosine", None, None, 0.0, 0.1) for rule in ("adagrad", "rmsprop", "adam", "adamw")
}
# What a sample leaves out because it takes long: up to a million parameters, and thousands of steps.
BEYOND = (
    "clicks-hashed-logistic:buckets=1048576,batch=16,steps=100",
    "clicks-hashed-logistic:buckets=131072,steps=250",
    "clicks-hashed-logistic:batch=16,steps=5000",
    "digits-autoencoder:width=256,depth=2,batch=8,steps=250",
    "digits-autoencoder:width=640,depth=2,batch=8,steps=100",
    "friedman-mlp:width=256,depth=3,batch=8,steps=250",
    "friedman-mlp:batch=8,steps=5000",
    "tabular-mlp:width=256,depth=2,batch=8,steps=250",
    "tabular-mlp:batch=8,steps=5000",
    "wine-softmax:noise=0.1,steps=5000",
)
SCHEDULES = (Schedule("constant", 0), Schedule("cosine", 0), Schedule("warmup_cosine", None, None, 0.0, 0.1))


@dataclass(frozen=True)
class Sheet:
    """What is run on every task: the configs of each rule, the seeds."""

    configs: int = 64
    seeds: int = 2
    seed: int = 0
    rules: tuple[str, ...] = RULES

    def space(self, rule: str) -> Space:
        """The rule's space, its learning rates within the shared width around the rule's centre."""
        space = Space.of(rule)
        rates = {
            name: CENTRES[space.parts[role]]
            for name, role, hyperparameter, _ in space.axes()
            if hyperparameter.name == "lr"
        }
        return space.centred(rates, 10 ** (DECADES / 2))

    def configs_of(self, rule: str) -> list[OptimizerConfig]:
        """The list of a rule: the library default, a ladder of learning rates, quasi-random points of its space, and the
        ladder with the learning rate annealed; a rule that is never annealed has more points of its space instead."""
        return _configs(self, rule)

    def ladder(self, rule: str) -> list[OptimizerConfig]:
        """The configs of the rule's learning-rate range test: the ladder, everything else at its default, no schedule."""
        return self.configs_of(rule)[1 : 1 + min(LADDER, self.configs - 1)]

    def drawn(self, rule: str) -> slice:
        """Which configs of a rule's list are quasi-random points of its whole space."""
        return slice(1 + LADDER, max(1 + LADDER, self.configs - (LADDER if rule in ANNEALED else 0)))

    def trainings(self, task: BuiltinTask) -> int:
        """Whole trainings of a task: the short ones of the range tests are not counted."""
        return sum(self.configs * self.seeds for rule in self.rules if task.refuses(rule) is None)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "rules": list(self.rules), "format": FORMAT}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sheet:
        if data.get("format") != FORMAT:
            raise InputError(f"the table has format {data.get('format')!r}; this version reads format {FORMAT}")
        values = {key: value for key, value in data.items() if key in ("configs", "seeds", "seed")}
        return cls(**values, rules=tuple(data["rules"]))


@functools.cache
def _configs(sheet: Sheet, rule: str) -> list[OptimizerConfig]:
    from scipy.stats import qmc

    space, provenance = sheet.space(rule), {"source": "table"}
    axes = [(name, axis) for name, _, _, axis in space.axes()]
    rates = [name for name, _ in axes if name.rpartition(".")[2] == "lr"]
    found = [Space.of(rule).decode({}, SCHEDULES[0], provenance)]
    for share in np.linspace(0, 1, min(LADDER, sheet.configs - 1)):
        point = {name: _at(axis, share) for name, axis in axes if name in rates}
        found.append(space.decode(point, SCHEDULES[0], provenance))
    ladder = found[1:] if rule in ANNEALED else []
    more = sheet.configs - len(found) - len(ladder)
    if more > 0:
        unit = qmc.Sobol(len(axes) + 1, seed=seeding.derive(sheet.seed, seeding.SAMPLER)).random(
            1 << (more - 1).bit_length()
        )
        for row in unit[:more]:
            point = {name: _at(axis, share) for (name, axis), share in zip(axes, row, strict=False)}
            schedule = SCHEDULES[min(int(row[-1] * len(SCHEDULES)), len(SCHEDULES) - 1)]
            found.append(space.decode(point, SCHEDULES[0] if rule == HYBRID else schedule, provenance))
    for config in ladder:
        found.append(replace(config, schedule=ANNEALED[rule].to_dict()))
    return found[: sheet.configs]


def chosen(n: int, seed: int = 0) -> list[BuiltinTask]:
    """n distinct tasks for a table: every family's default, the large and long ones, then variants of all families."""
    more = max(0, min(len(BEYOND), n - len(FAMILIES)))
    sampled = sample(n - more, seed)
    first = min(n, len(FAMILIES))
    return [*sampled[:first], *map(get, BEYOND[:more]), *sampled[first:]]


def _at(axis: Any, share: float) -> float:
    if axis.log:
        return float(axis.low * (axis.high / axis.low) ** share)
    return float(axis.low + share * (axis.high - axis.low))


# Where the value of a training goes: rule, config, seed in `values`; rule, config in `climbs`.
Spot = tuple[int, ...]
_Bundle = tuple[list[Spot], Future[TrialRecord]]


@dataclass(frozen=True)
class Progress:
    """How far a table is: tasks and trainings done of those asked for, trainings a second and seconds left."""

    tasks: int
    of_tasks: int
    trainings: int
    of_trainings: int
    rate: float
    left: float


class Table:
    """A folder of outcomes. Values are (rules, configs, seeds, marks): lower is better, inf where it diverged, nan
    where a rule does not fit the task; the marks are the fifths of the training. Climbs are (rules, ladder): the value
    of each learning rate of a rule's ladder after the few steps of a range test, from a seed of its own."""

    def __init__(self, folder: Path, sheet: Sheet) -> None:
        self.folder, self.sheet = folder, sheet

    @classmethod
    def open(cls, folder: Path, sheet: Sheet | None = None) -> Table:
        """The table in a folder, or a new one of the sheet; InputError where the folder holds another sheet."""
        path = folder / "sheet.json"
        if path.exists():
            kept = Sheet.from_dict(read_json(path, "sheet of the table"))
            if sheet is not None and sheet != kept:
                raise InputError(
                    f"{folder} holds a table of {kept.to_dict()}: go on with the same, or choose another --folder"
                )
            return cls(folder, kept)
        if sheet is None:
            raise InputError(f"there is no table in {folder}: make one with optadvisor learn build")
        writable_folder(folder)
        write_whole(path, json.dumps(sheet.to_dict(), indent=2) + "\n")
        return cls(folder, sheet)

    def path(self, task: BuiltinTask) -> Path:
        return self.folder / f"{file_name(task.name)}.npz"

    def has(self, task: BuiltinTask) -> bool:
        return self.path(task).exists()

    def values(self, task: BuiltinTask) -> NDArray[np.float64]:
        return self._array(task, "values")

    def climbs(self, task: BuiltinTask) -> NDArray[np.float64]:
        return self._array(task, "climbs")

    def _array(self, task: BuiltinTask, name: str) -> NDArray[np.float64]:
        with np.load(self.path(task), allow_pickle=False) as kept:
            found: NDArray[np.float64] = kept[name].astype(np.float64)
        return found

    def tasks(self) -> list[str]:
        """The names of the tasks that are done."""
        names = []
        for path in sorted(self.folder.glob("*.npz")):
            with np.load(path, allow_pickle=False) as kept:
                names.append(str(kept["task"]))
        return names

    def run(
        self,
        tasks: Sequence[BuiltinTask],
        jobs: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        storage: str | None = None,
        scheduler: str | None = None,
    ) -> None:
        """Train what is missing, with the same values wherever: in this process, `jobs` trainings at once; with whoever
        joins over the database `storage` (jobs=0 leaves all to them); or on the Dask cluster at `scheduler`."""
        of_trainings = sum(self.sheet.trainings(task) for task in tasks)
        done = sum(self.sheet.trainings(task) for task in tasks if self.has(task))
        missing, fresh = [task for task in tasks if not self.has(task)], 0
        with self._executor(jobs, storage, scheduler) as executor:
            began = last = time.perf_counter()
            handed_out: deque[tuple[BuiltinTask, list[_Bundle]]] = deque()
            for following in [*missing, None]:
                if following is not None:
                    bundles = self._bundles(following, BUNDLE if storage or scheduler else 1)
                    handed_out.append((following, [(spots, executor.submit(job)) for spots, job in bundles]))
                # One task is handed out ahead: nobody waits while the last trainings of another end.
                if len(handed_out) > (following is not None):
                    task, waited_for = handed_out.popleft()
                    last = self._keep(task, waited_for, last)
                    fresh += self.sheet.trainings(task)
                    if progress:
                        rate = fresh / (last - began)
                        left = (of_trainings - done - fresh) / rate
                        count = sum(map(self.has, tasks))
                        progress(Progress(count, len(tasks), done + fresh, of_trainings, rate, left))

    @contextlib.contextmanager
    def _executor(self, jobs: int | None, storage: str | None, scheduler: str | None) -> Iterator[Executor]:
        if storage is not None and scheduler is not None:
            raise InputError(
                "--storage leaves trainings to workers, --scheduler to a Dask cluster: give one of them, or neither"
            )
        where = places.DASK if scheduler is not None else places.LOCAL if storage is None else places.WORKERS
        places.choose(where, scheduler, storage, jobs)
        slots = cores() if jobs is None else parse_count(jobs, "jobs", 0 if where == places.WORKERS else 1)
        with contextlib.ExitStack() as stack:
            if scheduler is not None:
                far = Dask(None, scheduler)
                stack.callback(far.close)
                yield far
                return
            local = Threads(None, slots) if slots else None
            if storage is None:
                assert local is not None
                stack.callback(local.close)
                yield local
                return
            stack.enter_context(storages.quiet_optuna())
            kept = storages.open_storage(storage, NAME)
            stack.callback(storages.close, kept)
            name = f"{NAME}#{self._digest()}"
            stack.enter_context(storages.exclusive(name, storage, NAME, kept, "join it with optadvisor worker"))
            yield stack.enter_context(shared(kept, name, NAME, local, slots, {}))

    def _digest(self) -> str:
        """Tells the queue of this table from others': records of an earlier run are used for the very same trainings."""
        what = json.dumps([self.sheet.to_dict(), optadvisor.__version__])
        return hashlib.sha256(what.encode()).hexdigest()[:8]

    def _bundles(self, task: BuiltinTask, size: int) -> Iterator[tuple[list[Spot], Job]]:
        """The trainings of a task, `size` a job, with the spots of their values in `values` or `climbs`."""
        found = list(self._trainings(task))
        for first in range(0, len(found), size):
            spots, (job, *more) = zip(*found[first : first + size], strict=True)
            yield list(spots), replace(job, more=tuple(more)) if more else job

    def _trainings(self, task: BuiltinTask) -> Iterator[tuple[Spot, Job]]:
        sheet = self.sheet
        origins = [seeding.derive(sheet.seed, seeding.TRIAL, i) for i in range(sheet.seeds)]
        fitting = [(r, rule) for r, rule in enumerate(sheet.rules) if task.refuses(rule) is None]
        for r, rule in fitting:
            for c, config in enumerate(sheet.configs_of(rule)):
                for s, origin in enumerate(origins):
                    yield (r, c, s), Job(f"{task.name} {rule} {c} {s}", config, origin, None, task=task.name)
        origin, steps = seeding.derive(sheet.seed, seeding.RANGE), min(LADDER_STEPS, task.steps)
        for r, rule in fitting:
            for c, config in enumerate(sheet.ladder(rule)):
                yield (r, c), Job(f"{task.name} {rule} climb {c}", config, origin, steps, task=task.name)

    def _keep(self, task: BuiltinTask, bundles: Sequence[_Bundle], began: float) -> float:
        """Wait for the trainings of a task and write its file; the time at which they had ended."""
        sheet = self.sheet
        values = np.full((len(sheet.rules), sheet.configs, sheet.seeds, CURVE_POINTS), np.nan, dtype=np.float32)
        climbs = np.full((len(sheet.rules), len(sheet.ladder(sheet.rules[0]))), np.nan, dtype=np.float32)
        seconds = 0.0
        for spots, future in bundles:
            first = future.result()
            for spot, record in zip(spots, (first, *first.more), strict=True):
                seconds += record.seconds
                if len(spot) == climbs.ndim:
                    climbs[spot] = record.value
                else:
                    values[spot][CURVE_POINTS - len(record.curve) :] = [value for _, value in record.curve]
        ended = time.perf_counter()
        kept, spent = io.BytesIO(), np.array([seconds, ended - began])
        np.savez_compressed(kept, task=np.array(task.name), values=values, climbs=climbs, seconds=spent)
        write_whole_bytes(self.path(task), kept.getvalue())
        return ended
