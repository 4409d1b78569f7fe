"""Range tests of a subject, with the project's own reading of ladders."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optadvisor.advisor import knowledge
from optadvisor.config import OptimizerConfig
from optadvisor.probing import ranging
from optadvisor.profile import TaskProfile
from optadvisor.studies import ladder
from optadvisor.studies.study import LADDER, LADDER_STEPS
from tests.probing.analytic import Quadratic


def test_a_short_training_is_the_rule_s():
    """Plain descent on f = w'Dw / 2: w shrinks by 1 - lr * d a step."""
    curvatures, lr, steps = np.array([1.0, 0.5]), 0.3, 7
    value = ranging.by_gradients(Quadratic(np.diag(curvatures)), OptimizerConfig.of("sgd", {"lr": lr}), steps)
    left = (1 - lr * curvatures) ** steps
    assert value == pytest.approx(0.5 * (curvatures * left**2).sum(), rel=1e-5)


def test_a_short_training_that_overflows_diverged():
    subject = Quadratic(np.diag([1.0, 2.0]))
    assert ranging.by_gradients(subject, OptimizerConfig.of("sgd", {"lr": 1e3}), 50) == math.inf
    assert ranging.by_gradients(Quadratic(np.eye(2), breaks_at=0.5), OptimizerConfig.of("sgd"), 5) == math.inf


@pytest.mark.parametrize("rule", ranging.RULES)
def test_the_learned_law_is_asked(rule: str):
    subject, profile = Quadratic(np.diag(np.geomspace(0.1, 1, 8))), TaskProfile(parameters=8, steps=500)
    calls: list[int] = []
    found = ranging.range_test(subject, rule, profile, lambda: calls.append(1))
    assert len(found.rates) == len(found.values) == len(calls) == LADDER
    assert found.steps == LADDER_STEPS
    assert found.rates == sorted(found.rates)
    values = [math.inf if value is None else value for value in found.values]
    rates = knowledge.load().rates
    assert rates is not None
    wanted = rates.after_range_test(rule, profile, found.rates, values)
    assert (found.lr, found.low, found.high) == (wanted.lr, wanted.low, wanted.high)
    assert found.lowest == ladder.lowest(found.rates, values)
    assert found.low < found.lr < found.high
    best = found.rates[int(np.argmin(values))]
    assert best / 5 < found.lowest < best * 5


def test_a_range_test_is_no_longer_than_the_training():
    assert ranging.range_test(Quadratic(np.eye(2)), "adamw", TaskProfile(steps=9)).steps == 9


def test_where_every_rate_diverges_the_lr_is_below_them():
    found = ranging.range_test(Quadratic(np.eye(2), breaks_at=0.5), "momentum", TaskProfile())
    assert found.lowest is None
    assert found.values == [None] * LADDER
    assert found.lr < found.rates[0]


def test_without_a_range_test_the_profile_suggests():
    profile = TaskProfile(parameters=1000, steps=500, batch_size=32, samples=1000)
    rates = knowledge.load().rates
    assert rates is not None
    assert ranging.from_profile("adamw", profile) == rates.predict("adamw", profile)
