"""The learning-rate range test: short trainings at a ladder of rates, and what they say of the rate for a whole one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optadvisor.advisor import knowledge
from optadvisor.advisor.rates import UNCERTAIN, Rate
from optadvisor.config import OptimizerConfig
from optadvisor.kernels import Optimizer
from optadvisor.kernels.errors import NonFiniteGradient
from optadvisor.probing.subject import Subject
from optadvisor.profile import TaskProfile
from optadvisor.studies import ladder
from optadvisor.studies.outcomes import CENTRES, DECADES
from optadvisor.studies.study import LADDER, LADDER_STEPS

RULES = ("adamw", "momentum")
HELD = 4  # mini-batches, not trained on, whose mean loss is what a short training came to


@dataclass(frozen=True)
class RangeTest:
    """Of a rule, everything else at its default: the value after a short training at each rate, None where it diverged.

    lowest: the rate where the values are lowest, smoothed (`studies.ladder.lowest`); None where every rate diverged.
    lr: the learned law's rate for a whole training (`advisor.rates`); low, high hold the best one in four cases of five.
    """

    rule: str
    steps: int
    rates: list[float]
    values: list[float | None]
    lowest: float | None
    lr: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def grid(rule: str) -> list[float]:
    """The rates, ascending: four decades about the centre that the table of outcomes has for the rule."""
    half = DECADES / 2
    found: list[float] = np.geomspace(CENTRES[rule] / 10**half, CENTRES[rule] * 10**half, LADDER).tolist()
    return found


def range_test(subject: Subject, rule: str, profile: TaskProfile, done: Callable[[], None] | None = None) -> RangeTest:
    """A short training at each rate of the grid; `done` is called after each."""
    rates, values, steps = grid(rule), [], min(LADDER_STEPS, profile.steps or LADDER_STEPS)
    for rate in rates:
        values.append(subject.train(OptimizerConfig.of(rule, {"lr": rate}), steps))
        if done:
            done()
    found = suggested(rule, profile, rates, values)
    lowest = ladder.lowest(rates, values)
    kept = [value if math.isfinite(value) else None for value in values]
    return RangeTest(rule, steps, rates, kept, lowest, found.lr, found.low, found.high)


def suggested(rule: str, profile: TaskProfile, rates: list[float], values: list[float]) -> Rate:
    """The learning rate for a whole training after the range test."""
    laws = knowledge.load().rates
    assert laws is not None, "the shipped knowledge has the laws of learning rates"
    return laws.after_range_test(rule, profile, rates, values)


def from_profile(rule: str, profile: TaskProfile) -> Rate:
    """Without a range test: what the profile alone suggests."""
    laws = knowledge.load().rates
    found = laws.predict(rule, profile) if laws else None
    default = OptimizerConfig.of(rule).lr
    return found or Rate(default, default / UNCERTAIN, default * UNCERTAIN)


def by_gradients(subject: Subject, config: OptimizerConfig, steps: int) -> float:
    """A short training from a subject's start by our kernels; the mean loss of HELD mini-batches that come after it."""
    weights = subject.start()
    optimizer = Optimizer.from_config(config, [weights], steps)
    try:
        for number in range(steps):
            loss, grad = subject.advance(weights, number)
            if not math.isfinite(loss):
                return math.inf
            optimizer.step([grad])
        value = float(np.mean([subject.gradient(weights, steps + held)[0] for held in range(HELD)]))
    except NonFiniteGradient:
        return math.inf
    return value if math.isfinite(value) else math.inf
