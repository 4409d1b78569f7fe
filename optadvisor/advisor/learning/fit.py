"""From the table of outcomes to the knowledge that the package ships."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.advisor import lists, published
from optadvisor.advisor.arrays import Array
from optadvisor.advisor.features import Scales
from optadvisor.advisor.knowledge import (
    ANNEALED,
    CONSTANT,
    DEFAULT,
    DRAWN,
    MISSING,
    STEPS,
    STUDIED,
    Candidate,
    Knowledge,
    Row,
)
from optadvisor.advisor.learning import classifiers, deepobs, rates
from optadvisor.advisor.learning.dataset import Dataset, Floats
from optadvisor.advisor.learning.judge import best_of
from optadvisor.advisor.own import MEAN_OF_ANNEALED
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.kernels.rules import RULES
from optadvisor.studies import outcomes
from optadvisor.studies.outcomes import Sheet

PUBLISHED_WORTH = 0.1


def candidates(sheet: Sheet) -> list[Candidate]:
    """The sheet's configs, rule by rule, in its order."""
    return [
        _candidate(config, _kind(sheet, rule, number))
        for rule in sheet.rules
        for number, config in enumerate(sheet.configs_of(rule))
    ]


def _kind(sheet: Sheet, rule: str, number: int) -> str:
    if number == 0:
        return DEFAULT
    if number <= outcomes.LADDER:
        return CONSTANT
    return DRAWN if number < sheet.drawn(rule).stop else ANNEALED


def _candidate(config: OptimizerConfig, kind: str) -> Candidate:
    schedule = config.schedule
    parts = {
        role: (rule, _changed(rule, values))
        for role, (rule, values) in config.roles().items()
        if config.optimizer == HYBRID and role != "no_decay"
    }
    values = {} if parts else _changed(config.optimizer, config.hyperparameters)
    return Candidate(config.optimizer, values, schedule["name"], schedule.get("warmup_fraction") or 0.0, kind, parts)


def _changed(rule: str, values: Any) -> dict[str, Any]:
    """lr, and what differs from the rule's defaults, to four digits."""
    defaults = RULES[rule].complete({})
    found = {}
    for name, value in values.items():
        plain = list(value) if isinstance(value, tuple) else value
        default = defaults[name]
        if name == "lr" or plain != (list(default) if isinstance(default, tuple) else default):
            found[name] = _digits(plain)
    return found


def _digits(value: Any) -> Any:
    if isinstance(value, list):
        # 1 - beta is what is searched: beta keeps as many digits as that needs.
        return [1.0 - float(f"{1.0 - v:.4g}") for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def quantised(regrets: Floats) -> bytes:
    """Regrets as the bytes of a row."""
    kept = np.where(np.isnan(regrets), MISSING, np.rint(np.clip(regrets, 0, 1) * STEPS))
    return kept.astype(np.uint8).tobytes()


def rows(data: Dataset) -> list[Row]:
    """A row for each task: the mean regret over the seeds, and each rule's best config judged on the other seed."""
    found = []
    for i, name in enumerate(data.names):
        best = {}
        for r, rule in enumerate(data.rules):
            regrets = data.regrets[i, r]
            if not np.isnan(regrets).any():
                chosen = int(regrets.mean(axis=1).argmin())
                best[rule] = [round(honest(regrets), 3), float(f"{data.sheet.configs_of(rule)[chosen].lr:.3g}")]
        mean = data.regrets[i].mean(axis=-1).reshape(-1)
        found.append(
            Row(
                name,
                data.families[i],
                STUDIED,
                data.profiles[i],
                quantised(mean),
                best,
                data.sheet.seeds,
            )
        )
    return found


def published_rows(known: Sequence[Candidate]) -> list[Row]:
    """A row for each published sweep over learning rates: DeepOBS. Regrets are of the rule that was run, or its kin.

    A candidate on a ladder has the regret of the published runs around its learning rate, annealed around half of it:
    DeepOBS trains at a constant rate, and a rate that falls to 0 is half of its peak in the mean. What was not run is
    missing. Each counts as PUBLISHED_WORTH tasks: one seed, momentum at 0.99 for ours at 0.9, and kin for half the rules.
    """
    found = []
    for sweep in deepobs.tasks():
        grids: dict[str, list[tuple[float, float]]] = {}
        for run in sweep.runs:
            regret = deepobs.regrets(sweep.task)[run.rule][run.lr]
            grids.setdefault(published.kin(run.rule), []).append((math.log(run.our_lr), regret))
        curves = {rule: np.array(sorted(points)) for rule, points in grids.items()}
        regrets = np.full(len(known), np.nan)
        for n, candidate in enumerate(known):
            curve = curves.get(published.kin(candidate.optimizer))
            if curve is not None and candidate.kind in (CONSTANT, ANNEALED):
                lr = candidate.lr * (MEAN_OF_ANNEALED if candidate.kind == ANNEALED else 1.0)
                regrets[n] = np.interp(math.log(lr), curve[:, 0], curve[:, 1])
        best = {}
        for rule, curve in curves.items():
            log_lr, regret = curve[curve[:, 1].argmin()].tolist()
            best[rule] = [round(regret, 3), float(f"{math.exp(log_lr):.3g}")]
        found.append(
            Row(
                sweep.task,
                sweep.family,
                sweep.source.id,
                sweep.profile,
                quantised(regrets),
                best,
                seeds=1,
                worth=PUBLISHED_WORTH,
                citation=sweep.source.text,
            )
        )
    return found


def honest(regrets: Floats) -> float:
    """(configs, seeds) -> the regret of the best config, picked on each seed and scored on the others."""
    seeds = regrets.shape[-1]
    if seeds == 1:
        return float(regrets.min())
    scores = []
    for s in range(seeds):
        others = np.delete(regrets[regrets[:, s].argmin()], s)
        scores.append(float(others.mean()))
    return float(np.mean(scores))


def rows_only(data: Dataset, scales: Scales) -> Knowledge:
    """The candidates and rows of a table, without the fitted models."""
    notes = {
        "tasks": len(data),
        "families": len(set(data.families)),
        "sheet": data.sheet.to_dict(),
        "trainings": int((~np.isnan(data.regrets)).sum()),
    }
    known = candidates(data.sheet)
    return Knowledge(known, [*rows(data), *published_rows(known)], scales, notes=notes)


def knowledge(data: Dataset) -> Knowledge:
    """Everything that a table of outcomes teaches: what the package ships."""
    plain = rows_only(data, Scales())
    arrays = {**rates.fit(data), **{f"classifier.{name}": made for name, made in classifiers.fit(data).items()}}
    return replace(plain, scales=best_scales(data, plain), models=models(arrays))


def models(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """Fitted arrays as the knowledge holds them."""
    return {name: Array(made.shape, _flat(made)) for name, made in arrays.items()}


def _flat(made: NDArray[Any]) -> Sequence[float]:
    flat = np.ascontiguousarray(made).ravel()
    return flat.tobytes() if flat.dtype == np.uint8 else flat.tolist()


# How to weigh -----------------------------------------------------------------------------------------------------------

# What is tried, one change from the first at a time: few, so that choosing among them on some 150 tasks is no fitting.
GRID = (
    Scales(),
    *(Scales(domain=x, architecture=x) for x in (0.5, 1.0, 3.0)),
    *(Scales(size=x) for x in (0.4, 1.0)),
    *(Scales(counts=x) for x in (0.0, 0.6)),
    *(Scales(floor=x) for x in (0.03, 0.3)),
    Scales(flag=1.0),
    Scales(sparse=4.0),
)
SCORED = (1, 2, 4, 8)


def grid_scores(data: Dataset, known: Knowledge) -> Floats:
    """(settings, tasks): the mean regret over SCORED trials of the list that the other families teach."""
    found = np.zeros((len(GRID), len(data)))
    views = {family: known.without(family) for family in set(data.families)}
    for i, family in enumerate(data.families):
        flat = data.regrets[i].reshape(-1, data.regrets.shape[-1])
        fitting = [rule for r, rule in enumerate(data.rules) if not np.isnan(data.regrets[i, r]).any()]
        for s, scales in enumerate(GRID):
            chosen = lists.ordered(replace(views[family], scales=scales), data.profiles[i], max(SCORED), fitting)
            found[s, i] = np.mean(best_of(flat[chosen], SCORED))
    return found


def scales_by_family(data: Dataset, known: Knowledge) -> dict[str, Scales]:
    """For each family the setting that the scores of all others choose."""
    means, names = _by_family(grid_scores(data, known), data.families)
    return {name: _chosen(np.delete(means, j, axis=1)) for j, name in enumerate(names)}


def best_scales(data: Dataset, known: Knowledge) -> Scales:
    """The setting that families held out choose: what ships."""
    return _chosen(_by_family(grid_scores(data, known), data.families)[0])


def _by_family(scores: Floats, families: Sequence[str]) -> tuple[Floats, list[str]]:
    """(settings, families): the mean over each family's tasks."""
    names = sorted(set(families))
    labels = np.array(families)
    return np.stack([scores[:, labels == name].mean(axis=1) for name in names], axis=1), names


def _chosen(means: Floats) -> Scales:
    """The best setting where it is better than the first by more than one standard error over families, else the first.

    Without that margin the choice is made by noise: settings differ by 0.01, the interval of each is 0.08 wide.
    """
    best = int(means.mean(axis=1).argmin())
    gain = means[0] - means[best]
    return GRID[best] if gain.mean() > gain.std(ddof=1) / math.sqrt(gain.size) else GRID[0]
