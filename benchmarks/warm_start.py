"""Trials until a warm-started study has what a cold one has after 64: at most 24, on tasks of families it has not seen.

Tasks are variants sampled with a seed of their own, one a family; the rows of the task's own family are taken out of the
knowledge. Sides, all over the dense rules (and ftrl or hybrid where the advice names them):

warm    `oa.tune`
cold    `oa.tune` with warm=False: the advised config of each rule, then TPE in all of its space, successive halving
tpe     TPE from scratch: one study whose first parameter is the rule and whose others are that rule's
random  random search in all of the space

After n trials each side has what `tune` would keep of them: the 3 lowest trials, each on one seed of its own, are
confirmed on 5 fresh seeds, and the lowest mean is taken; what it is worth is its mean over 8 further seeds, the same for all
sides. Regret: 0 is the best such mean of the task, 1 the median random trial. A side has reached a quality where the mean
regret of its studies (several seeds) has come down to it ("nearly": to within 0.02; "stays": and never leaves it again).
Intervals are bootstraps over tasks.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna

import optadvisor as oa
from optadvisor import tuning
from optadvisor.advisor import knowledge
from optadvisor.advisor.knowledge import Knowledge
from optadvisor.config import OptimizerConfig
from optadvisor.studies import seeds
from optadvisor.studies.confirming import CONFIRMATIONS
from optadvisor.studies.plan import WAVE
from optadvisor.studies.space import Space
from optadvisor.studies.study import CANDIDATES
from optadvisor.studies.tasks import registry
from optadvisor.studies.tasks.builtin import BuiltinTask

LIMIT, AIM = 24, 8
LEVEL = 0.02  # of regret: two configs nearer than this are not told apart by 8 seeds
JUDGES = 8
SHOWN = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
Trials = list[tuple[OptimizerConfig, float]]


def held_out(count: int) -> list[str]:
    """Sampled variants, one a family, of a seed that no table has."""
    families = len(registry.FAMILIES)
    return [task.name for task in registry.sample(families + count, seed=1)[families:]]


def tuned(task: BuiltinTask, trials: int, seed: int, warm: bool, known: Knowledge) -> Trials:
    learned = known.without(task.family.name)
    with (
        tempfile.TemporaryDirectory() as home,
        mock.patch.dict(os.environ, OPTADVISOR_HOME=home),
        mock.patch.object(knowledge, "load", return_value=learned),
    ):
        result = oa.tune(task, trials=trials, seed=seed, warm=None if warm else False, jobs=1)
    return [(trial.record.config, trial.record.value) for trial in result.trials]


def scratch(task: BuiltinTask, trials: int, seed: int, sampler: Callable[[int], Any]) -> Trials:
    """One study: the rule is a parameter, the rest depends on it."""
    study, found = optuna.create_study(), Trials()
    rules = tuning.contestants(task)
    for first in range(0, trials, WAVE):
        study.sampler = sampler(seeds.derive(seed, seeds.SAMPLER, first))
        asked = []
        for _ in range(min(WAVE, trials - first)):
            trial = study.ask()
            space = Space.of(trial.suggest_categorical("rule", rules))
            point = {
                name: trial.suggest_float(f"{space.optimizer}.{name}", axis.low, axis.high, log=axis.log)
                for name, _, _, axis in space.axes()
            }
            asked.append((trial, space.decode(point, space.schedule({}, task.steps), {})))
        for number, (trial, config) in enumerate(asked, first):
            value = task.train(config, seeds.derive(seed, seeds.TRIAL, number)).value
            study.tell(trial, value)
            found.append((config, value))
    return found


SIDES: dict[str, Callable[[BuiltinTask, int, int, Knowledge], Trials]] = {
    "warm": lambda task, trials, seed, known: tuned(task, trials, seed, True, known),
    "cold": lambda task, trials, seed, known: tuned(task, trials, seed, False, known),
    "tpe": lambda task, trials, seed, known: scratch(
        task, trials, seed, lambda s: optuna.samplers.TPESampler(seed=s, group=True)
    ),
    "random": lambda task, trials, seed, known: scratch(
        task, trials, seed, lambda s: optuna.samplers.RandomSampler(seed=s)
    ),
}


def curve(name: str, side: str, seed: int, trials: int, table: Path | None) -> tuple[list[float], list[float]]:
    """What is kept after each trial is worth, and the values of the trials."""
    import warnings

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    task = registry.get(name)
    found = SIDES[side](task, trials, seed, known(table))
    confirmed: dict[int, float] = {}
    worth: dict[int, float] = {}
    curve = []
    for count in range(1, len(found) + 1):
        lowest = sorted(range(count), key=lambda i: found[i][1])[:CANDIDATES]
        for i in lowest:
            if i not in confirmed:
                confirmed[i] = mean(task, found[i][0], seed, CONFIRMATIONS)
        best = min(lowest, key=confirmed.__getitem__)
        if best not in worth:
            worth[best] = mean(task, found[best][0], 10**6, JUDGES)
        curve.append(worth[best])
    return curve, [value for _, value in found]


def mean(task: BuiltinTask, config: OptimizerConfig, seed: int, count: int) -> float:
    """The mean value of a config over fresh seeds."""
    return statistics.fmean(task.train(config, seeds.derive(seed, seeds.CONFIRMATION, i)).value for i in range(count))


def known(table: Path | None) -> Knowledge:
    """What is shipped, or what a table of outcomes teaches."""
    if table is None:
        return knowledge.shipped()
    from optadvisor.advisor.learning import dataset, fit
    from optadvisor.studies.outcomes import Table

    if table not in _known:
        _known[table] = fit.knowledge(dataset.read(Table.open(table)))
    return _known[table]


_known: dict[Path, Knowledge] = {}


def regrets(curves: dict[str, Any], drawn: Sequence[float]) -> dict[str, Any]:
    """side -> (seeds, trials) as regret: 0 the best of the task, 1 the median random trial or worse."""
    best = min(float(np.min(values)) for values in curves.values())
    middle = statistics.median(drawn)
    if not math.isfinite(middle):
        middle = max(value for value in drawn if math.isfinite(value))
    return {
        side: np.clip(np.nan_to_num((np.array(values) - best) / (middle - best), nan=1.0), 0.0, 1.0)
        for side, values in curves.items()
    }


def reached(curve: Any, quality: float) -> int:
    """The first number of trials after which a mean curve is at or below a quality; one more than it has if never."""
    below = np.flatnonzero(curve <= quality + 1e-9)
    return int(below[0]) + 1 if len(below) else len(curve) + 1


def stays(curve: Any, quality: float) -> int:
    """Likewise, from where on it never leaves it again."""
    above = np.flatnonzero(curve > quality + 1e-9)
    return int(above[-1]) + 2 if len(above) else 1


def nearly(curve: Any, quality: float) -> int:
    """The first number of trials after which it is level with a quality."""
    return reached(curve, quality + LEVEL)


def interval(values: Sequence[float], what: Callable[..., Any]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    many = [float(what(rng.choice(values, len(values)))) for _ in range(4000)]
    low, high = np.percentile(many, [2.5, 97.5])
    return float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20, help="sampled tasks, each of another family (20)")
    parser.add_argument("--seeds", type=int, default=3, help="studies of each side on each task (3)")
    parser.add_argument("--trials", type=int, default=64, help="of each study (64)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="studies at once (one a core)")
    parser.add_argument("--table", type=Path, help="learn from this table of outcomes instead of what is shipped")
    parser.add_argument("--only", action="append", help="these tasks instead of sampled ones")
    parser.add_argument("--sides", default=",".join(SIDES), help="of " + ",".join(SIDES))
    parser.add_argument("--keep", type=Path, help="JSON file of curves: read where it has them, written")
    arguments = parser.parse_args()
    names, sides = arguments.only or held_out(arguments.tasks), arguments.sides.split(",")
    if not known(arguments.table).rows:
        print("there is no knowledge: fit one, or give a --table")
        return 1
    kept: dict[str, Any] = {}
    if arguments.keep and arguments.keep.exists():
        kept = json.loads(arguments.keep.read_text())
    began = time.perf_counter()
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        jobs = {
            (name, side, seed): pool.submit(curve, name, side, seed, arguments.trials, arguments.table)
            for name in names
            for side in sides
            for seed in range(arguments.seeds)
            if f"{name} {side} {seed}" not in kept
        }
        for (name, side, seed), future in jobs.items():
            kept[f"{name} {side} {seed}"] = future.result()
            if arguments.keep:
                arguments.keep.write_text(json.dumps(kept))
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        found = {s: [kept[f"{name} {s} {seed}"] for seed in range(arguments.seeds)] for s in sides}
        drawn = [value for _, values in found["random"] for value in values]
        rows[name] = regrets({side: [row[0] for row in several] for side, several in found.items()}, drawn)
    return report(rows, sides, arguments, time.perf_counter() - began)


def report(rows: dict[str, dict[str, Any]], sides: Sequence[str], arguments: Any, seconds: float) -> int:
    means = {name: {side: row[side].mean(axis=0) for side in sides} for name, row in rows.items()}
    print(f"{len(rows)} tasks, {arguments.seeds} studies of {arguments.trials} trials a side, {seconds:.0f} s")
    print(f"\nmean regret after n trials\n{'n':<8}" + "".join(f"{n:>7}" for n in SHOWN if n <= arguments.trials))
    for side in sides:
        values = [statistics.fmean(row[side][n - 1] for row in means.values()) for n in SHOWN if n <= arguments.trials]
        print(f"{side:<8}" + "".join(f"{value:7.3f}" for value in values))
    passed = True
    for other in ("cold", "tpe"):
        if other not in sides:
            continue
        print(f"\ntrials to what {other} has after {arguments.trials}: median over tasks (95% interval)")
        for side in sides:
            counts = {
                how.__name__: [how(row[side], row[other][-1]) for row in means.values()]
                for how in (reached, nearly, stays)
            }
            texts = []
            for how, values in counts.items():
                low, high = interval(values, np.median)
                texts.append(f"{how} {np.median(values):g} ({low:g} to {high:g})")
                if side == "warm" and how == "reached":
                    passed &= bool(np.median(values) <= LIMIT)
            print(f"  {side:<8}" + ", ".join(texts))
        gap = [row["warm"][-1] - row[other][-1] for row in means.values()]
        low, high = interval(gap, np.mean)
        print(f"  regret of warm - {other} after {arguments.trials}: {np.mean(gap):+.3f} ({low:+.3f} to {high:+.3f})")
    print(f"\n{'PASS' if passed else 'FAIL'}: at most {LIMIT} trials, {AIM} aimed at")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
