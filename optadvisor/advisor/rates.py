"""Learned learning rates: from the profile alone, and after a range test, each with an interval.

A law is linear in logarithms: constant + weights . what the profile says. One gives log10 lr; the other, after a range
test, what is added to the log10 of the rate where the short trainings did best. `learning/rates.py` fits both to the
table of outcomes. Pure Python, for `recommend`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optadvisor.kernels.rules import RULES
from optadvisor.profile import TaskProfile
from optadvisor.studies import ladder

NAMES = ("steps", "parameters", "batch_size", "samples")  # of the profile, as log10; what is unknown counts as typical
# Without a law: a study's fixed factors on the best rate of a range test, for rules that scale each parameter's step and
# for those that do not. Within 0.8 decades of that lies the best rate of 87% of 1,281 pairs of a task and a rule.
BACK_OFF = {True: 0.3, False: 0.6}
UNCERTAIN = 10.0**0.8
KEYS = ("rates.rules", "rates.profile", "rates.ladder", "rates.features")


class Numbers(Protocol):
    """An array of the knowledge, or one of NumPy's."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def flat(self) -> Any: ...


@dataclass(frozen=True)
class Rate:
    """A learning rate, and the interval that holds the best one in four cases of five."""

    lr: float
    low: float
    high: float


@dataclass(frozen=True)
class Law:
    """constant + weights . features, in log10; low, high: what the ends of the interval add to it."""

    constant: float
    weights: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Rates:
    """The laws of the rules that were studied: from the profile alone, and after a range test.

    centres, lows, highs: of each of NAMES the mean over the tasks that were studied, and the range that a profile is
    held to: outside it nothing is known, and nothing is extrapolated.
    """

    profile: Mapping[str, Law]
    ladder: Mapping[str, Law]
    centres: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Numbers]) -> Rates | None:
        """The laws among the arrays of the knowledge; None where there are none."""
        if not all(key in arrays for key in KEYS):
            return None
        rules = bytes(int(value) for value in arrays["rates.rules"].flat).decode().split()
        profile, after = (
            {
                rule: Law(row[0], tuple(row[1:-2]), *row[-2:])
                for rule, row in zip(rules, _rows(arrays[key]), strict=True)
            }
            for key in ("rates.profile", "rates.ladder")
        )
        centres, lows, highs = _rows(arrays["rates.features"])
        return cls(profile, after, centres, lows, highs)

    def predict(self, rule: str, profile: TaskProfile) -> Rate | None:
        """The learning rate that the profile alone suggests, of a hybrid its dense part's; None for other rules."""
        law = self.profile.get(rule)
        return _rate(law, self._known(law, profile)) if law else None

    def back_off(self, rule: str, profile: TaskProfile) -> float | None:
        """What multiplies the rate where a range test's values are lowest (`ladder.lowest`); None for other rules."""
        law = self.ladder.get(rule)
        return 10 ** self._known(law, profile) if law else None

    def after_range_test(
        self, rule: str, profile: TaskProfile, rates: Sequence[float], values: Sequence[float]
    ) -> Rate:
        """The learning rate for the whole training after short ones at these rates, everything else at its default.

        rates: ascending, any grid. values: what the short trainings came to, lower is better, not finite where they
        diverged. Where all did, what the profile suggests, but not above the lowest of the rates.
        """
        found, law = ladder.lowest(rates, values), self.ladder.get(rule)
        if found is None:
            below = rates[0] * _factor(rule)
            guess = self.predict(rule, profile)
            if guess is None or guess.lr > below:
                return Rate(below, below / UNCERTAIN, rates[0])
            return Rate(guess.lr, guess.low, min(guess.high, rates[0]))
        if law is None:
            lr = rates[_best(values)] * _factor(rule)
            return Rate(lr, lr / UNCERTAIN, lr * UNCERTAIN)
        return _rate(law, self._known(law, profile) + math.log10(found))

    def _known(self, law: Law, profile: TaskProfile) -> float:
        """The law at a profile, its features held to the range that was studied."""
        total = law.constant
        for name, weight, centre, low, high in zip(
            NAMES, law.weights, self.centres, self.lows, self.highs, strict=True
        ):
            value = getattr(profile, name)
            if value:
                total += weight * (min(max(math.log10(value), low), high) - centre)
        return total


def _rate(law: Law, place: float) -> Rate:
    return Rate(10**place, 10 ** (place + law.low), 10 ** (place + law.high))


def _rows(array: Numbers) -> list[list[float]]:
    width = array.shape[1]
    flat = [float(value) for value in array.flat]
    return [flat[first : first + width] for first in range(0, len(flat), width)]


def _factor(rule: str) -> float:
    return BACK_OFF[rule not in RULES or RULES[rule].adaptive]


def _best(values: Sequence[float]) -> int:
    return min(range(len(values)), key=lambda i: values[i] if math.isfinite(values[i]) else math.inf)
