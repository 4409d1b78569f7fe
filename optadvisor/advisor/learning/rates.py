"""Fits the laws of learning rates to the table of outcomes, and judges them on families that they have not seen.

What counts is regret, so regret is what is minimised: a law's constants are those whose learning rates have the lowest
mean regret on the tasks, each task's regret over its ladder smoothed a little. That beats least squares on the best
rates, which knows neither that too high costs more than too low nor how flat a task's best is. Kindred rules share
weights, and have constants of their own, drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize

from optadvisor.advisor.learning.dataset import Dataset, Floats
from optadvisor.advisor.learning.judge import Estimate, over_families
from optadvisor.advisor.rates import BACK_OFF, NAMES, Rates
from optadvisor.config import HYBRID
from optadvisor.kernels.rules import RULES
from optadvisor.profile import TaskProfile
from optadvisor.studies import ladder

KINDRED = (("sgd", "momentum", "nag"), ("adagrad", "rmsprop", "adam", "adamw", HYBRID), ("ftrl",))
STEP = 0.02  # of the grid that a task's regret is laid on, in log10 of the learning rate
SMOOTHING = 0.15  # of the regret over log10 of the learning rate, in decades
PULL = 20.0  # of weights to 0, in tasks
TOGETHER = 0.3  # of a rule's constant to its kin's, in tasks
COVERAGE = 0.8
# The range tests that a law is fitted to: every second rate of the ladder, the others, and all of them.
VIEWS = (slice(0, None, 2), slice(1, None, 2), slice(None))
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Cases:
    """A rule on a task, for every pair: one row each.

    rule: its number; centre, rates: log10 of the middle of its ladder and of the ladder. climbs: of its range test.
    curve: mean regret over the grid, which is laid about the centre; smooth: the same, smoothed. found: log10 of what a
    range test finds, in each view. features: log10 of NAMES, nan where unknown. best: log10 of the best rate. base:
    regret of the best rate of one seed on the others, both ways.
    """

    task: Integers
    rule: Integers
    centre: Floats
    rates: Floats
    climbs: Floats
    curve: Floats
    smooth: Floats
    found: Floats
    features: Floats
    best: Floats
    base: Floats

    def take(self, chosen: NDArray[np.bool_]) -> Cases:
        return Cases(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class Row:
    """A rule's excess regret on families held out, every family counting the same, with 95% intervals: what learning rates cost.

    The excess of a learning rate: its regret, between rates of the ladder interpolated in log lr and the mean over
    seeds, less that of the ladder's best rate, picked on one seed and scored on the others, the mean both ways.
    constant: the best one for the rule. back_off: a fixed factor on the best of a range test of 8 rates. profile, ladder,
    ladder_16: the laws, from the profile alone and after range tests of 8 and 16 rates. covers: of the intervals
    from the profile and after 8 rates, the share that hold the best rate; spread: their median width, as a factor.
    """

    rule: str
    tasks: int
    constant: Estimate
    back_off: Estimate
    profile: Estimate
    ladder: Estimate
    ladder_16: Estimate
    covers: tuple[float, float]
    spread: tuple[float, float]


def fit(data: Dataset) -> dict[str, NDArray[np.generic]]:
    """The arrays of the knowledge that `Rates.from_arrays` reads."""
    cases = _cases(data)
    held = _held_out(data, cases)
    spreads = {name: _spreads(cases, data, held[name]) for name in ("profile", "ladder")}
    return _arrays(cases, data.rules, spreads["profile"], spreads["ladder"])


def laws(data: Dataset) -> dict[str, NDArray[np.generic]]:
    """The same without the widths of the intervals, which need every family held out in turn."""
    return _arrays(_cases(data), data.rules)


def evaluate(data: Dataset) -> list[Row]:
    """A row for each rule, and one for all under the name "all"."""
    cases = _cases(data)
    held = _held_out(data, cases)
    family = np.array(data.families)[cases.task]
    excess = {name: _excess(cases, places) for name, places in held.items()}
    inside, width = {}, {}
    for name in ("profile", "ladder"):
        low, high = np.empty(len(cases.rule)), np.empty(len(cases.rule))
        for one in np.unique(family):  # the interval of a family comes from the others' errors
            others, own = family != one, family == one
            spread = _spreads(cases.take(others), data, held[name][others])
            low[own], high[own] = spread[cases.rule[own]].T
        error = cases.best - held[name]
        inside[name], width[name] = (low <= error) & (error <= high), 10 ** (high - low)
    found: list[Row] = []
    for number, rule in [*enumerate(data.rules), (-1, "all")]:
        own = cases.rule == number if number >= 0 else np.full(len(cases.rule), True)
        if not own.any():
            continue
        means = {name: over_families(values[own], family[own].tolist()) for name, values in excess.items()}
        found.append(
            Row(
                rule,
                int(own.sum()),
                covers=(float(inside["profile"][own].mean()), float(inside["ladder"][own].mean())),
                spread=(float(np.median(width["profile"][own])), float(np.median(width["ladder"][own]))),
                **means,
            )
        )
    return found


# The data -------------------------------------------------------------------------------------------------------------


def _cases(data: Dataset) -> Cases:
    sheet, rows = data.sheet, []
    features = np.array([_features(profile) for profile in data.profiles])
    for r, rule in enumerate(data.rules):
        rates = np.log10([config.lr for config in sheet.ladder(rule)])
        centre = float(rates.mean())
        grid = _grid(rates - centre)
        regrets = data.regrets[:, r, 1 : 1 + rates.size]
        for t in np.flatnonzero(~np.isnan(regrets).any(axis=(1, 2))):
            mean, climbs = regrets[t].mean(axis=1), data.climbs[t, r]
            found = [ladder.lowest((10 ** rates[view]).tolist(), climbs[view].tolist()) for view in VIEWS]
            places = [np.nan if f is None else np.log10(f) for f in found]
            curve = np.interp(grid, rates - centre, mean)
            best, base = rates[mean.argmin()], _honest(regrets[t])
            smooth = gaussian_filter1d(curve, SMOOTHING / STEP, mode="nearest")
            rows.append((t, r, centre, rates, climbs, curve, smooth, places, features[t], best, base))
    return Cases(*(np.array(column) for column in zip(*rows, strict=True)))


def _features(profile: TaskProfile) -> list[float]:
    values = (getattr(profile, name) for name in NAMES)
    return [float(np.log10(value)) if value else np.nan for value in values]


def _grid(rates: Floats) -> Floats:
    """Around 0, a decade further than the ladder on both sides: the regret there is that of its end."""
    count = int(np.ceil((rates[-1] + 1.0) / STEP))
    return np.linspace(-count * STEP, count * STEP, 2 * count + 1)


def _honest(regrets: Floats) -> float:
    seeds = regrets.shape[1]
    if seeds == 1:
        return float(regrets.min())
    return float(np.mean([np.delete(regrets[regrets[:, s].argmin()], s).mean() for s in range(seeds)]))


# The laws -------------------------------------------------------------------------------------------------------------


def _arrays(
    cases: Cases, rules: Sequence[str], profile_spread: Floats | None = None, ladder_spread: Floats | None = None
) -> dict[str, NDArray[np.generic]]:
    """The laws fitted to the cases; spreads: (rules, 2), what an interval adds to log10 lr."""
    _, first = np.unique(cases.task, return_index=True)
    known = cases.features[first]
    centres = np.array([np.nanmean(column) if np.isfinite(column).any() else 0.0 for column in known.T])
    sizes = np.array([np.nanstd(column) if np.isfinite(column).any() else 0.0 for column in known.T])
    sizes = np.where(sizes > 1e-6, sizes, 1.0)
    ends = [
        [end(column[np.isfinite(column)], initial=centre) for column, centre in zip(known.T, centres, strict=True)]
        for end in (np.min, np.max)
    ]
    inputs = np.nan_to_num((cases.features - centres) / sizes)
    made = []
    for views, spread in ((), profile_spread), (tuple(range(len(VIEWS))), ladder_spread):
        laws = np.zeros((len(rules), 1 + len(NAMES) + 2))
        for kin in KINDRED:
            numbers = [rules.index(rule) for rule in kin if rule in rules]
            own = np.isin(cases.rule, numbers)
            if not own.any():
                continue
            constants, weights = _solve(cases.take(own), inputs[own], numbers, views)
            laws[numbers, 0] = constants
            laws[numbers, 1:-2] = weights / sizes
        if spread is not None:
            laws[:, -2:] = spread
        made.append(laws)
    return {
        "rates.rules": np.frombuffer("\n".join(rules).encode(), dtype=np.uint8),
        "rates.profile": made[0],
        "rates.ladder": made[1],
        "rates.features": np.array([centres, *ends]),
    }


def _solve(cases: Cases, inputs: Floats, numbers: Sequence[int], views: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Constants of the rules, and weights: those of least mean regret, with the pulls.

    Places are from what a range test finds, in each of the views; without views, the constants are of log10 lr.
    """
    own = np.searchsorted(numbers, cases.rule)
    curve = cases.smooth
    found = cases.found[:, list(views)] - cases.centre[:, None] if views else np.zeros((len(own), 1))
    rows, view = np.nonzero(np.isfinite(found))
    count, half, kin = len(rows), curve.shape[1] // 2, len(numbers)
    # Columns: what kin share, a rule's own constant, the weights.
    matrix = np.column_stack([np.ones(count), np.eye(kin)[own[rows]], inputs[rows]])
    pull = np.r_[0.0, np.full(kin, TOGETHER), np.full(inputs.shape[1], PULL)] * max(len(views), 1)

    def cost(theta: Floats) -> tuple[float, Floats]:
        at = np.clip((found[rows, view] + matrix @ theta) / STEP + half, 0, curve.shape[1] - 1.001)
        left = at.astype(np.int64)
        low, high = curve[rows, left], curve[rows, left + 1]
        value = (low + (at - left) * (high - low)).sum() + (pull * theta**2).sum()
        return float(value / count), (matrix.T @ ((high - low) / STEP) + 2 * pull * theta) / count

    starts = [np.r_[shift, np.zeros(matrix.shape[1] - 1)] for shift in np.arange(-2.0, 2.01, 0.2)]
    theta = minimize(cost, min(starts, key=lambda theta: cost(theta)[0]), jac=True, method="L-BFGS-B").x
    centres = np.zeros(kin)
    centres[own] = 0.0 if views else cases.centre
    return centres + theta[0] + theta[1 : 1 + kin], theta[1 + kin :]


def _spreads(cases: Cases, data: Dataset, places: Floats) -> Floats:
    """(rules, 2): what the interval adds to log10 lr, from the errors of kindred rules on families held out."""
    error = cases.best - places
    families = len({data.families[t] for t in cases.task})
    outside = (1 - COVERAGE * (1 + 1 / families)) / 2  # conformal: one family more than were seen
    found = np.zeros((len(data.rules), 2))
    for kin in KINDRED:
        numbers = [data.rules.index(rule) for rule in kin if rule in data.rules]
        own = error[np.isin(cases.rule, numbers)]
        if own.size:
            low, high = np.quantile(own, [max(outside, 0.0), min(1 - outside, 1.0)])
            found[numbers] = min(low, 0.0), max(high, 0.0)
    return found


# Judging --------------------------------------------------------------------------------------------------------------


def _held_out(data: Dataset, cases: Cases) -> dict[str, Floats]:
    """log10 lr of every case by what was learned on the other families, by name of the method."""
    family = np.array(data.families)[cases.task]
    found = {name: np.zeros(len(cases.rule)) for name in ("constant", "back_off", "profile", "ladder", "ladder_16")}
    for one in np.unique(family):
        others = cases.take(family != one)
        if not len(others.rule):
            others = cases
        rates = Rates.from_arrays(_arrays(others, data.rules))
        assert rates is not None
        constants = _constants(others, len(data.rules))
        for i in np.flatnonzero(family == one):
            rule, profile = data.rules[cases.rule[i]], data.profiles[cases.task[i]]
            guess = rates.predict(rule, profile)
            assert guess is not None
            found["constant"][i] = cases.centre[i] + constants[cases.rule[i]]
            found["profile"][i] = np.log10(guess.lr)
            for name, view in (("ladder", VIEWS[0]), ("ladder_16", VIEWS[2])):
                steps, climbs = (10 ** cases.rates[i][view]).tolist(), cases.climbs[i][view].tolist()
                found[name][i] = np.log10(rates.after_range_test(rule, profile, steps, climbs).lr)
            short = np.where(np.isfinite(cases.climbs[i]), cases.climbs[i], np.inf)[VIEWS[0]]
            factor = BACK_OFF[rule == HYBRID or RULES[rule].adaptive]
            found["back_off"][i] = cases.rates[i][VIEWS[0]][short.argmin()] + np.log10(factor)
            if not np.isfinite(short).any():
                found["back_off"][i] = found["constant"][i]
    return found


def _constants(cases: Cases, rules: int) -> Floats:
    """The best learning rate of each rule for all tasks alike, as log10 from the rule's centre."""
    found = np.zeros(rules)
    half = cases.curve.shape[1] // 2
    for rule in np.unique(cases.rule):
        found[rule] = (cases.curve[cases.rule == rule].mean(axis=0).argmin() - half) * STEP
    return found


def _excess(cases: Cases, places: Floats) -> Floats:
    half = cases.curve.shape[1] // 2
    grid = (np.arange(cases.curve.shape[1]) - half) * STEP
    relative = places - cases.centre
    return np.array([np.interp(x, grid, curve) for x, curve in zip(relative, cases.curve, strict=True)]) - cases.base
