"""Models of a rule's chance to be within noise of the best on a task of unseen kind, compared; the one that is shipped.

A model says by how much each chance is higher than on the mean task. What that is worth, a factor a budget, is measured
on families that the model has not seen, so that where there is no signal the base rates remain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsRegressor

from optadvisor.advisor import features
from optadvisor.advisor.classifier import LEAST, REACH
from optadvisor.advisor.learning.dataset import Dataset, Floats
from optadvisor.advisor.learning.judge import RESAMPLES, Estimate
from optadvisor.advisor.learning.ties import BUDGETS, after, base_rates, good_lists, ties
from optadvisor.kernels.errors import InputError
from optadvisor.profile import TaskProfile

BASE = "base rates"
COPIES = 4  # of each task: the first as it is, the others with fields hidden at random
INNER = 4  # groups of families, on which settings and shrinking are chosen
TREES = 64
FIELDS = ("domain", "architecture", *features.COUNTS, "sparse_fraction", *features.FLAGS)


def hidden(profile: TaskProfile, rng: np.random.Generator) -> TaskProfile:
    """The profile without some of its fields, as people leave them out: any share of them, none to all."""
    share = rng.random()
    return replace(profile, **{name: None for name in FIELDS if rng.random() < share})


def copies(profiles: Sequence[TaskProfile], seed: int) -> Floats:
    """(tasks, COPIES, features): each profile as it is, then with fields hidden."""
    rng = np.random.default_rng(seed)
    rows = [[one, *(hidden(one, rng) for _ in range(COPIES - 1))] for one in profiles]
    return np.array([[features.vector(one) for one in row] for row in rows])


@dataclass(frozen=True)
class Lessons:
    """What a model learns from: features (tasks, COPIES, features), ties (tasks, budgets, rules), the tasks' families."""

    x: Floats
    tied: Floats
    families: NDArray[np.str_]

    def take(self, tasks: NDArray[Any]) -> Lessons:
        return Lessons(self.x[tasks], self.tied[tasks], self.families[tasks])

    @property
    def base(self) -> Floats:
        return base_rates(self.tied)

    @property
    def rows(self) -> Floats:
        """(rows, features), a row a copy."""
        return self.x.reshape(-1, self.x.shape[-1])

    @property
    def targets(self) -> Floats:
        """(rows, outputs): the ties, nan where a rule does not fit."""
        return np.repeat(self.tied.reshape(len(self.tied), -1), COPIES, axis=0)

    @property
    def excess(self) -> Floats:
        """(rows, outputs): the ties less their mean, 0 where a rule does not fit."""
        known = ~np.isnan(self.targets)
        mean = np.nansum(self.targets, axis=0) / np.maximum(known.sum(axis=0), 1)
        return np.where(known, self.targets - mean, 0.0)

    def answer(self, learner: Learner, asked: Floats, setting: float) -> Floats:
        """(tasks asked for, COPIES, budgets, rules): by how much a model moves the chances."""
        found = learner(self, asked.reshape(-1, asked.shape[-1]), setting)
        return found.reshape(*asked.shape[:2], *self.tied.shape[1:])

    def tune(self, learner: Learner, settings: Sequence[float]) -> tuple[float, Floats]:
        """The setting that gains the most Brier score on unseen families, and what its answers are worth at each budget."""
        splits = GroupKFold(min(INNER, len(np.unique(self.families))), shuffle=True, random_state=0)
        left = np.full((len(self.tied), COPIES, *self.base.shape), np.nan)
        moved = {setting: np.zeros(left.shape) for setting in settings}
        for seen, unseen in splits.split(self.x, groups=self.families):
            part = self.take(seen)
            left[unseen] = (self.tied[unseen] - part.base)[:, None]
            for setting in settings:
                moved[setting][unseen] = part.answer(learner, self.x[unseen], setting)
        tried = [(setting, *_worth(answer, left)) for setting, answer in moved.items()]
        setting, worth, _ = max(tried, key=lambda one: one[2])
        return setting, worth


def _worth(moved: Floats, left: Floats) -> tuple[Floats, float]:
    """The factor on a model's answers that is best at each budget (0 or more), and by how much it lowers the squared error.

    moved, left: (tasks, COPIES, budgets, rules), the model's answers, and the distances of the truth from the base rates.
    """
    moved, left = np.where(np.isnan(left), 0.0, moved), np.nan_to_num(left)
    squares = (moved**2).sum(axis=(0, 1, 3))
    worth = np.maximum((moved * left).sum(axis=(0, 1, 3)) / np.maximum(squares, 1e-12), 0.0)
    return worth, float((worth**2 * squares).sum())


# A learner takes lessons, features (rows, features) and a setting; it gives by how much the chances are higher than on
# the mean task (rows, outputs).
Learner = Callable[[Lessons, Floats, float], Floats]


class _Scale:
    """Features as standard deviations from their mean, none farther out than REACH."""

    def __init__(self, x: Floats) -> None:
        spread = x.std(axis=0)
        self.centre, self.spread = x.mean(axis=0), np.where(spread > 0, spread, 1.0)

    def __call__(self, x: Floats) -> Floats:
        found: Floats = np.clip((x - self.centre) / self.spread, -REACH, REACH)
        return found


def _linear(lessons: Lessons, asked: Floats, setting: float) -> Floats:
    scale = _Scale(lessons.rows)
    found: Floats = scale(asked) @ _weights(scale(lessons.rows), lessons.excess, setting).T
    return found


def _weights(z: Floats, excess: Floats, setting: float) -> Floats:
    """(outputs, features) of a ridge regression, without an intercept as the excess has mean 0."""
    found: Floats = Ridge(setting * len(z), fit_intercept=False).fit(z, excess).coef_
    return found


def _logistic(lessons: Lessons, asked: Floats, setting: float) -> Floats:
    """A regression of the ties for each output; 0 where only one answer is known."""
    scale, base = _Scale(lessons.rows), lessons.base.ravel()
    z, wanted = scale(lessons.rows), scale(asked)
    found = np.zeros((len(asked), len(base)))
    for output, target in enumerate(lessons.targets.T):
        known = ~np.isnan(target)
        if len(np.unique(target[known])) == 2:
            model = LogisticRegression(C=setting / COPIES, solver="newton-cholesky").fit(z[known], target[known])
            found[:, output] = model.predict_proba(wanted)[:, 1] - base[output]
    return found


def _trees(lessons: Lessons, asked: Floats, setting: float) -> Floats:
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=int(setting) * COPIES, max_features=0.33, random_state=0)
    found: Floats = forest.fit(lessons.rows, lessons.excess).predict(asked)
    return found


def _boosting(lessons: Lessons, asked: Floats, setting: float) -> Floats:
    """One model of all outputs, which are features: the budget's number, and the rule's."""
    outputs = np.argwhere(np.ones(lessons.base.shape))

    def long(x: Floats) -> Floats:
        return np.concatenate([np.repeat(x, len(outputs), axis=0), np.tile(outputs, (len(x), 1))], axis=1)

    model = HistGradientBoostingRegressor(
        learning_rate=0.05,
        max_iter=int(setting),
        max_depth=3,
        min_samples_leaf=10 * COPIES,
        early_stopping=False,
        categorical_features=[lessons.x.shape[-1] + 1],
        random_state=0,
    )
    found: Floats = model.fit(long(lessons.rows), lessons.excess.ravel()).predict(long(asked))
    return found.reshape(len(asked), -1)


def _neighbours(lessons: Lessons, asked: Floats, setting: float) -> Floats:
    scale = _Scale(lessons.rows)
    model = KNeighborsRegressor(min(int(setting), len(lessons.rows)), weights="distance")
    found: Floats = model.fit(scale(lessons.rows), lessons.excess).predict(scale(asked))
    return found


MODELS: dict[str, tuple[Learner, tuple[float, ...]]] = {
    "linear regression": (_linear, (1, 5, 25)),
    "logistic regression": (_logistic, (0.03, 0.3)),
    "extra trees": (_trees, (3,)),
    "gradient boosting": (_boosting, (50,)),
    "nearest neighbours": (_neighbours, (16, 64, 128)),
}
SHIPPED = "linear regression"


def chances(base: Floats, worth: Floats, moved: Floats) -> Floats:
    """(..., budgets, rules): the base rates, moved by what a model's answers are worth."""
    found: Floats = np.clip(base + worth[:, None] * moved, LEAST, 1 - LEAST)
    return found


@dataclass(frozen=True)
class Comparison:
    """rows: the figures of each model, budget (or "all") and kind of profile ("whole", "fields hidden"), every family
    counting the same. predictions: of each model the chances for whole profiles of families left out, one entry a task,
    rule and budget."""

    rows: list[dict[str, Any]]
    predictions: dict[str, list[dict[str, Any]]]


def compare(dataset: Dataset, models: Sequence[str] = tuple(MODELS), seed: int = 0) -> Comparison:
    """The models, and the base rates: each family is predicted from all others, which also choose the settings, what is
    kept, and the configs that are each rule's first trials. InputError where there are fewer than three families."""
    families = np.asarray(dataset.families)
    everyone = np.unique(families)
    if len(everyone) < 3:
        raise InputError(f"the outcomes are of {len(everyone)} families of tasks; a comparison takes at least 3")
    x = copies(dataset.profiles, seed)
    tied, regrets = np.full((2, len(dataset), len(BUDGETS), len(dataset.rules)), np.nan)
    found = {name: np.full((len(dataset), COPIES, *tied.shape[1:]), np.nan) for name in (BASE, *models)}
    for family in everyone:
        out, rest = families == family, families != family
        reached = after(dataset.regrets, good_lists(dataset.regrets[rest]))
        every = ties(reached)
        tied[out], regrets[out] = every[out], reached[out].mean(axis=-1)
        lessons = Lessons(x[rest], every[rest], families[rest])
        found[BASE][out] = lessons.base
        for name in models:
            learner, settings = MODELS[name]
            setting, worth = lessons.tune(learner, settings)
            found[name][out] = chances(lessons.base, worth, lessons.answer(learner, x[out], setting))
    groups = (families[:, None] == everyone) / (families[:, None] == everyone).sum(axis=0)
    drawn = np.random.default_rng(seed).multinomial(len(everyone), np.full(len(everyone), 1 / len(everyone)), RESAMPLES)
    rows = []
    for name, given in found.items():
        for profile, of in (("whole", slice(1)), ("fields hidden", slice(1, None))):
            sums = _sums(given[:, of], found[BASE][:, of], tied, regrets)
            for budget, one in zip((*BUDGETS, "all"), (*sums, sums.sum(axis=0)), strict=True):
                by_family = groups.T @ one
                values, spread = _figures(by_family.sum(axis=0)), _figures(drawn @ by_family)
                limits = {key: np.quantile(each, (0.025, 0.975)).tolist() for key, each in spread.items()}
                figures = {key: Estimate(float(value), *limits[key]) for key, value in values.items()}
                rows.append({"model": name, "profile": profile, "budget": budget, **figures})
    return Comparison(rows, {name: _entries(dataset, given[:, 0], tied) for name, given in found.items()})


def _sums(given: Floats, base: Floats, tied: Floats, regrets: Floats) -> Floats:
    """(budgets, tasks, columns): of each task what `_figures` adds up, the mean over its copies."""
    known = np.broadcast_to(~np.isnan(tied)[:, None], given.shape)
    tie = np.broadcast_to(np.nan_to_num(tied)[:, None], given.shape)
    reached = np.broadcast_to(regrets[:, None], given.shape)

    def at_pick(chance: Floats) -> Floats:
        pick = np.where(known, chance, -1.0).argmax(axis=-1)[..., None]
        found: Floats = np.take_along_axis(reached, pick, axis=-1)[..., 0].mean(axis=1)
        return found

    terms = (np.ones(given.shape), (given - tie) ** 2, (base - tie) ** 2, given, tie, given * tie, given**2)
    over_rules = [np.where(known, term, 0.0).sum(axis=-1).mean(axis=1) for term in terms]
    columns = [np.ones(tied.shape[:2]), at_pick(given), at_pick(base), *over_rules]
    return np.stack(columns, axis=-1).swapaxes(0, 1)


def _figures(sums: Floats) -> dict[str, Floats]:
    """The figures of sums over tasks (..., columns).

    regret: of the rule with the highest chance. over base: the same less that of the base rates' rule, a gain below 0.
    brier; skill: how much lower than the base rates', a share. slope: ties gained a unit of chance; calibrated: 1.
    """
    tasks, regret, base_regret, rules, brier, base_brier, p, y, py, pp = np.moveaxis(sums, -1, 0)
    return {
        "regret": regret / tasks,
        "over base": (regret - base_regret) / tasks,
        "brier": brier / rules,
        "skill": 1 - brier / base_brier,
        "slope": (py - p * y / rules) / np.maximum(pp - p * p / rules, 1e-12),
    }


def _entries(dataset: Dataset, given: Floats, tied: Floats) -> list[dict[str, Any]]:
    return [
        {
            "task": dataset.names[t],
            "family": dataset.families[t],
            "rule": dataset.rules[r],
            "budget": BUDGETS[b],
            "chance": float(given[t, b, r]),
            "tie": bool(tied[t, b, r]),
        }
        for t, b, r in np.argwhere(~np.isnan(tied))
    ]


def fit(dataset: Dataset, seed: int = 0) -> dict[str, NDArray[Any]]:
    """The shipped model of all tasks, as the flat arrays of numbers that Classifier.from_arrays takes.

    Its weights are 0, and the base rates remain, at a budget where its skill on families left out is not clearly
    above 0: where the interval reaches below.
    """
    skills = [row["skill"] for row in compare(dataset, [SHIPPED], seed).rows if _concerns_fit(row)]
    clear = [skill.low > 0 for skill in skills]
    every = ties(after(dataset.regrets, good_lists(dataset.regrets)))
    lessons = Lessons(copies(dataset.profiles, seed), every, np.asarray(dataset.families))
    setting, worth = lessons.tune(*MODELS[SHIPPED])
    scale = _Scale(lessons.rows)
    weights = _weights(scale(lessons.rows), lessons.excess, setting)
    factors = np.repeat(np.where(clear, worth, 0.0), len(dataset.rules))
    return {
        "names": np.frombuffer(json.dumps([dataset.rules, features.NAMES]).encode(), dtype=np.uint8),
        "budgets": np.array(BUDGETS, dtype=float),
        "base": lessons.base.ravel(),
        "centre": scale.centre,
        "spread": scale.spread,
        "weights": (factors[:, None] * weights).ravel(),
    }


def _concerns_fit(row: dict[str, Any]) -> bool:
    return row["model"] == SHIPPED and row["profile"] == "whole" and row["budget"] in BUDGETS
