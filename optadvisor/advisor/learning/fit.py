"""From the table of outcomes to the knowledge that the package ships."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from optadvisor.advisor import published
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
from optadvisor.advisor.learning import deepobs
from optadvisor.advisor.learning.dataset import Dataset, Floats
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.kernels.rules import RULES
from optadvisor.studies import outcomes
from optadvisor.studies.outcomes import Sheet


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
                best[rule] = [round(honest(regrets), 3), float(f"{_lr(data.sheet.configs_of(rule)[chosen]):.3g}")]
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

    A candidate on a ladder has the regret of the published runs around its learning rate; what was not run is missing.
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
                regrets[n] = np.interp(math.log(candidate.lr), curve[:, 0], curve[:, 1])
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
                1,
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


def _lr(config: OptimizerConfig) -> float:
    return float(config.roles()["dense"][1]["lr"])  # type: ignore[arg-type]


def knowledge(data: Dataset, scales: Scales | None = None) -> Knowledge:
    """What a table of outcomes teaches."""
    notes = {
        "tasks": len(data),
        "families": len(set(data.families)),
        "sheet": data.sheet.to_dict(),
        "trainings": int(np.isfinite(data.regrets).sum()),
    }
    known = candidates(data.sheet)
    return Knowledge(known, [*rows(data), *published_rows(known)], scales or Scales(), notes=notes)
