"""The table of outcomes as arrays of regret, which everything is learned from and judged by."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optadvisor.kernels.errors import InputError
from optadvisor.profile import TaskProfile
from optadvisor.studies.outcomes import LADDER, Sheet, Table
from optadvisor.studies.tasks import registry

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Dataset:
    """Tasks that were trained with every config of the sheet.

    values: (tasks, rules, configs, seeds), lower is better, inf where it diverged, nan where the rule does not fit.
    regrets: the same shape, on the scale of `placed`. climbs: (tasks, rules, ladder), values after a range test's few steps.
    """

    sheet: Sheet
    names: list[str]
    families: list[str]
    profiles: list[TaskProfile]
    values: Floats
    regrets: Floats
    climbs: Floats

    @property
    def rules(self) -> tuple[str, ...]:
        return self.sheet.rules

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]) -> Dataset:
        """Some of the tasks."""
        chosen = np.arange(len(self))[np.asarray(rows)]
        return Dataset(
            self.sheet,
            [self.names[i] for i in chosen],
            [self.families[i] for i in chosen],
            [self.profiles[i] for i in chosen],
            self.values[chosen],
            self.regrets[chosen],
            self.climbs[chosen],
        )

    def without(self, family: str) -> Dataset:
        """The tasks of all other families."""
        return self.take([i for i, name in enumerate(self.families) if name != family])


def read(table: Table) -> Dataset:
    """The tasks of a table that are done; InputError where none is, and where there is no scale for regrets."""
    names = [name for name in table.tasks() if name]
    if not names:
        raise InputError(f"{table.folder} has no task that is done: optadvisor learn build makes them")
    if not all(range(*table.sheet.drawn(rule).indices(table.sheet.configs)) for rule in table.sheet.rules):
        raise InputError(
            f"{table.folder} has {table.sheet.configs} configs of each rule: regrets are measured against random ones, "
            f"which a table has from learn build --configs {2 * LADDER + 2} on"
        )
    tasks = [registry.get(name) for name in names]
    values = np.stack([table.values(task)[..., -1] for task in tasks])
    kept = [i for i in range(len(tasks)) if np.isfinite(scale(values[i], table.sheet)).all()]
    if not kept:
        raise InputError(f"all configs do the same on every task of {table.folder}: there is nothing to learn from it")
    tasks, values = [tasks[i] for i in kept], values[kept]
    return Dataset(
        table.sheet,
        [task.name for task in tasks],
        [task.family.name for task in tasks],
        [task.profile for task in tasks],
        values,
        np.stack([placed(one, scale(one, table.sheet)) for one in values]),
        np.stack([table.climbs(task) for task in tasks]),
    )


def scale(values: Floats, sheet: Sheet) -> Floats:
    """(2, seeds): the value of the best known config on each seed, and that of the median config drawn at random.

    The best known config is the one with the lowest mean over the seeds of its place between the best value of a seed
    and the median random one. The best value of each seed by itself would be no config's: the luckiest of hundreds.
    Where half of the random configs diverge, the worst that trained takes the median's place. nan where all are level.
    """
    drawn = np.concatenate([values[r][sheet.drawn(rule)] for r, rule in enumerate(sheet.rules)])
    drawn = drawn[~np.isnan(drawn).all(axis=1)]
    every = values.reshape(-1, values.shape[-1])
    every = every[~np.isnan(every).any(axis=1)]
    middle = np.median(drawn, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        worst = np.nanmax(np.where(np.isfinite(drawn), drawn, np.nan), axis=0)
    middle = np.where(np.isfinite(middle), middle, worst)
    lowest = every.min(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        places = np.minimum((every - lowest) / (middle - lowest), 1.0)
    best = every[np.where(np.isnan(places), 1.0, places).mean(axis=1).argmin()]
    return np.stack([best, np.where(middle > best, middle, np.nan)])


def placed(values: Floats, ends: Floats) -> Floats:
    """Values, seeds last, on the scale of a task: 0 its best known config, 1 the median random one or worse.

    The luck of a seed can put a config below 0; -1 at most. What diverged is 1, what did not run nan.
    """
    best, middle = ends
    with np.errstate(invalid="ignore"):
        found: Floats = np.clip((values - best) / (middle - best), -1.0, 1.0)
    return np.where(np.isnan(values), np.nan, np.where(np.isfinite(values), found, 1.0))
