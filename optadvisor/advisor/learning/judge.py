"""What a list of configs is worth on a task of the table: the regret of its best of k, picked on one seed and scored on
the others; means over families, with intervals from resampling families."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optadvisor.advisor.learning.dataset import Dataset, Floats, placed, scale
from optadvisor.config import OptimizerConfig
from optadvisor.studies import seeds as seeding
from optadvisor.studies.tasks import registry

RESAMPLES = 2000


class Estimate(NamedTuple):
    """A mean over families, and its 95% interval over families drawn again."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


class Judge:
    """Regrets of any config on the tasks of a dataset: read where the table has it, trained where it has not."""

    def __init__(self, data: Dataset, values: Mapping[str, Sequence[float]] | None = None) -> None:
        self.data = data
        self._scales = [scale(one, data.sheet) for one in data.values]
        self._known = {
            _key(config): (r, c)
            for r, rule in enumerate(data.rules)
            for c, config in enumerate(data.sheet.configs_of(rule))
        }
        self.trained: dict[str, list[float]] = {name: list(found) for name, found in (values or {}).items()}

    def regrets(self, i: int, config: OptimizerConfig) -> Floats:
        """(seeds,): the config's regret on task i."""
        place = self._known.get(_key(config))
        if place is not None:
            found: Floats = self.data.regrets[i][place]
            return found
        name = f"{self.data.names[i]} {_key(config)}"
        if name not in self.trained:
            task = registry.get(self.data.names[i])
            sheet = self.data.sheet
            origins = [seeding.derive(sheet.seed, seeding.TRIAL, s) for s in range(sheet.seeds)]
            self.trained[name] = [task.train(config, origin).value for origin in origins]
        return placed(np.array(self.trained[name]), self._scales[i])

    def scale(self, i: int) -> Floats:
        """(2, seeds): the best value and the median random one of task i."""
        return self._scales[i]

    def best_of(self, i: int, configs: Sequence[OptimizerConfig], ks: Sequence[int]) -> list[float]:
        """The regret of the best of the first k configs for each k, picked on one seed and scored on the others."""
        return best_of(np.array([self.regrets(i, config) for config in configs]).reshape(len(configs), -1), ks)


def best_of(regrets: Floats, ks: Sequence[int]) -> list[float]:
    """(configs, seeds) -> for each k the regret of the best of the first k, 1 where there is none.

    Of one seed alone the lowest: luck counts as skill then.
    """
    if regrets.shape[1] == 1:
        return [float(regrets[:k].min(initial=1.0)) for k in ks]
    found = []
    for k in ks:
        first = regrets[:k]
        scores = [
            float(np.delete(first[first[:, s].argmin()], s).mean()) if len(first) else 1.0
            for s in range(regrets.shape[1])
        ]
        found.append(float(np.mean(scores)))
    return found


def _key(config: OptimizerConfig) -> str:
    """A config as the table knows it: what is trained, without the counts that follow from the steps.

    Rounded as the candidates of the knowledge are (fit.candidates): what they advise is read and not trained again.
    """
    schedule = {k: v for k, v in config.schedule.items() if k in ("name", "warmup_fraction", "floor")}
    fraction = schedule.get("warmup_fraction")
    total, warm = config.schedule.get("total_steps"), config.schedule.get("warmup_steps")
    if fraction is None and total and warm:
        schedule["warmup_fraction"] = round(warm / total, 2)
    schedule["warmup_fraction"] = schedule.get("warmup_fraction") or 0.0
    return json.dumps([_rounded(config.roles()), schedule, config.batch], sort_keys=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_beta(item) if isinstance(item, float) else _rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _beta(value: float) -> float:
    """A number of a pair, 1 - beta to four digits."""
    return round(1.0 - float(f"{1.0 - value:.4g}"), 9)


def over_families(values: Floats, families: Sequence[str], seed: int = 0) -> Estimate:
    """The mean over families of the mean over a family's tasks, and its interval over families drawn again."""
    names = sorted(set(families))
    labels = np.array(families)
    means = np.array([np.nanmean(values[labels == name]) for name in names])
    rng = np.random.default_rng(seed)
    draws: NDArray[np.int64] = rng.integers(len(names), size=(RESAMPLES, len(names)))
    low, high = np.quantile(means[draws].mean(axis=1), [0.025, 0.975])
    return Estimate(float(means.mean()), float(low), float(high))
