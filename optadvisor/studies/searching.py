"""Samplers and pruners of Optuna by name."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from optadvisor.kernels.errors import InputError

SAMPLERS = {
    "tpe": "tree-structured Parzen estimator",
    "gp": "Gaussian process",
    "cmaes": "CMA-ES",
    "qmc": "quasi-random (Sobol)",
    "random": "random search",
}
PRUNERS = {
    "none": "every training runs to its end",
    "median": "ends a training whose best value is worse than the median at that step",
    "hyperband": "successive halving in several brackets",
}
_NEEDS = {"gp": ("torch", "pip install torch"), "cmaes": ("cmaes", "pip install cmaes")}


def sampler(name: str, seed: int) -> BaseSampler:
    """The sampler, drawing from a seed. InputError where a package that it needs is missing."""
    make: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed),
        "qmc": lambda: optuna.samplers.QMCSampler(seed=seed),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    return make[name]()


def check(name: str) -> None:
    """InputError, before any work starts, where a sampler's package is missing."""
    import importlib.util

    if name in _NEEDS:
        package, remedy = _NEEDS[name]
        if importlib.util.find_spec(package) is None:
            raise InputError(f"sampler {name!r} needs the package {package}: {remedy}, or use --sampler tpe")


def fixed_seed(name: str) -> bool:
    """Whether the sampler is a sequence, which must go on from wave to wave: it keeps one seed for the whole study."""
    return name == "qmc"


def pruner(name: str, steps: int | None) -> BasePruner:
    """The pruner for trainings of that many steps."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4)
    if name == "hyperband":
        most: Any = steps or "auto"
        return optuna.pruners.HyperbandPruner(
            min_resource=max(1, (steps or 5) // 5), max_resource=most, reduction_factor=3
        )
    return optuna.pruners.NopPruner()


class Judge:
    """Reports of one trial to the pruner, which sees the trials told before this wave and this trial alone.

    So the same trials are pruned with any number of jobs. `before` is a copy of the study from before the wave, which
    the wave's trials may share; Hyperband compares with running trials, and gets a copy for each.
    """

    def __init__(self, trial: optuna.Trial, before: optuna.Study) -> None:
        compares = isinstance(before.pruner, optuna.pruners.HyperbandPruner)
        study = copy.deepcopy(before) if compares else before
        running = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions
        )
        study.add_trial(running)
        self._trial = optuna.Trial(study, study.get_trials(deepcopy=False)[-1]._trial_id)

    def __call__(self, step: int, value: float) -> None:
        self._trial.report(value, step)
        if self._trial.should_prune():
            raise optuna.TrialPruned

    @property
    def reports(self) -> dict[int, float]:
        """What was reported, by step."""
        return dict(self._trial.storage.get_trial(self._trial._trial_id).intermediate_values)

    def replay(self, reports: Mapping[int, float]) -> None:
        """Report what a stored trial reported."""
        for step, value in sorted(reports.items()):
            with contextlib.suppress(optuna.TrialPruned):
                self(step, value)

    def pass_on(self, trial: optuna.Trial) -> None:
        """Note on the study's own trial what the pruner will want to know of it."""
        judged = self._trial.storage.get_trial(self._trial._trial_id)
        for step, value in judged.intermediate_values.items():
            trial.report(value, step)
        for key, note in judged.system_attrs.items():
            trial.storage.set_trial_system_attr(trial._trial_id, key, note)
