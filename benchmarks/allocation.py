"""One study a rule in one budget, moved to the rules that earn it, against one conditional study over all rules.

Both sides: TPE, the same spaces, trainings and waves of 8, no advised starts. Conditional: one Optuna study whose first
parameter is the rule and whose other parameters are that rule's. Each side's best trial is trained again on 3 fresh
seeds. Regret: 0 is the best of all confirmed configs of the task, 1 the median of 64 random trials.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable

import numpy as np
import optuna

from optadvisor.config import OptimizerConfig
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies import seeds
from optadvisor.studies.plan import WAVE, waves
from optadvisor.studies.space import Space
from optadvisor.studies.tasks import get
from optadvisor.studies.tasks.builtin import BuiltinTask

RULES = ("sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamw")
TASKS = (
    "digits-mlp:steps=250",
    "digits-mlp:width=8,batch=8,samples=150,steps=250",
    "diabetes-mlp",
    "friedman-mlp",
    "ratings-factorisation:steps=250",
    "text-ngram:steps=100",
    "quadratic",
    "drifting-minimum",
)
CONFIRM = 3
Found = tuple[float, OptimizerConfig]


def train(task: BuiltinTask, rule: str, point: dict[str, float], seed: int, number: int) -> Found:
    config = Space.of(rule).decode(point, Schedule("constant", 0), {})
    return task.train(config, seeds.derive(seed, seeds.TRIAL, number)).value, config


def separate(task: BuiltinTask, trials: int, seed: int) -> Found:
    """What `optadvisor tune` does, without its advised starts."""
    studies = {rule: optuna.create_study() for rule in RULES}
    best: dict[str, Found] = {}
    number = 0
    for wave in waves(trials, RULES, lambda rule: best[rule][0] if rule in best else math.inf):
        asked = []
        for rule, count in wave:
            studies[rule].sampler = optuna.samplers.TPESampler(seed=seeds.derive(seed, seeds.SAMPLER, number))
            asked += [(rule, studies[rule].ask(Space.of(rule).distributions())) for _ in range(count)]
            number += count
        for i, (rule, trial) in enumerate(asked, number - len(asked)):
            found = train(task, rule, trial.params, seed, i)
            studies[rule].tell(trial, found[0])
            best[rule] = min(best.get(rule, found), found, key=lambda item: item[0])
    return min(best.values(), key=lambda item: item[0])


def conditional(task: BuiltinTask, trials: int, seed: int) -> Found:
    """One study: the rule is a parameter, the rest depends on it."""
    study = optuna.create_study()
    best: Found | None = None
    for first in range(0, trials, WAVE):
        study.sampler = optuna.samplers.TPESampler(seed=seeds.derive(seed, seeds.SAMPLER, first), group=True)
        asked = []
        for _ in range(min(WAVE, trials - first)):
            trial = study.ask()
            rule = trial.suggest_categorical("rule", RULES)
            point = {
                name: trial.suggest_float(f"{rule}.{name}", axis.low, axis.high, log=axis.log)
                for name, _, _, axis in Space.of(rule).axes()
            }
            asked.append((rule, point, trial))
        for i, (rule, point, trial) in enumerate(asked, first):
            found = train(task, rule, point, seed, i)
            study.tell(trial, found[0])
            best = min(best or found, found, key=lambda item: item[0])
    assert best is not None
    return best


def random_median(task: BuiltinTask, count: int = 64) -> float:
    rng = np.random.default_rng(0)
    values = []
    for i in range(count):
        space = Space.of(RULES[i % len(RULES)])
        point = {
            name: math.exp(rng.uniform(math.log(axis.low), math.log(axis.high))) for name, _, _, axis in space.axes()
        }
        values.append(train(task, space.optimizer, point, 999, i)[0])
    return statistics.median(values)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=64, help="of each study (64)")
    parser.add_argument("--seeds", type=int, default=6, help="studies of each side on each task (6)")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    import warnings

    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sides: dict[str, Callable[[BuiltinTask, int, int], Found]] = {"separate": separate, "conditional": conditional}
    gaps = []
    print(f"mean regret of {arguments.seeds} studies of {arguments.trials} trials")
    for name in TASKS:
        task = get(name)
        fresh = [seeds.derive(7, seeds.CONFIRMATION, i) for i in range(CONFIRM)]
        values: dict[str, list[float]] = {side: [] for side in sides}
        for seed in range(arguments.seeds):
            for side, search in sides.items():
                config = search(task, arguments.trials, seed)[1]
                values[side].append(statistics.fmean(task.train(config, s).value for s in fresh))
        best = min(value for side in values.values() for value in side)
        scale = random_median(task) - best
        regrets = {side: [min((value - best) / scale, 1.0) for value in found] for side, found in values.items()}
        means = {side: statistics.fmean(found) for side, found in regrets.items()}
        gaps.append(means["conditional"] - means["separate"])
        print(f"{name:<52} separate {means['separate']:.3f}  conditional {means['conditional']:.3f}", flush=True)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(gaps) - 1)) * statistics.stdev(gaps) / math.sqrt(len(gaps))
    mean = statistics.fmean(gaps)
    print(f"conditional - separate: {mean:+.3f} (95% interval over tasks {mean - half:+.3f} to {mean + half:+.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
