"""Scaling laws: their exponents, their ranges, and momentum's equal steps, each computed by hand."""

from __future__ import annotations

import pytest

from optadvisor.advisor import laws
from optadvisor.kernels.rules import RULES


@pytest.mark.parametrize(
    ("law", "before", "after", "factor"),
    [
        (laws.LINEAR, 256, 1024, 4.0),
        (laws.LINEAR, 1024, 256, 0.25),
        (laws.LINEAR, 256, 10**6, 32.0),  # held at 8192
        (laws.LINEAR, 256, 1, 0.25),  # held at 64
        (laws.LINEAR, 1, 128, 2.0),  # published outside the range: from its end
        (laws.LINEAR, 1, 2, 1.0),
        (laws.SQRT, 256, 1024, 2.0),
        (laws.SQRT, 4096, 64, 0.125),
        (laws.SQRT, 256, 10**6, 32**0.5),
        (laws.WIDTH, 10**8, 4 * 10**8, 0.5),  # twice the width
        (laws.WIDTH, 4 * 10**8, 10**8, 2.0),
        (laws.WIDTH, 10**8, 10**12, 0.25),  # four times the width at most
        (laws.WIDTH, 10**8, 10**3, 4.0),
    ],
)
def test_factors_within_the_range_and_at_its_ends(law, before, after, factor):
    assert law.factor(before, after) == pytest.approx(factor)


def test_another_range_replaces_the_laws():
    assert laws.LINEAR.factor(256, 32, (32, 8192)) == pytest.approx(0.125)
    assert laws.SQRT.factor(512, 32768, (512, 32768)) == pytest.approx(8.0)


def test_every_law_has_a_source_and_says_what_is_assumed():
    for law in (laws.LINEAR, laws.SQRT, laws.WIDTH):
        assert law.source
        assert law.assumed
        assert set(law.rules) <= set(RULES)
        assert law.low < law.high


def test_the_law_of_a_rule():
    assert laws.batch_law("nag") is laws.LINEAR
    assert laws.batch_law("adamw") is laws.SQRT
    assert laws.batch_law("lion") is None
    for rule in laws.SQRT.rules:
        assert RULES[rule].adaptive
    for rule in laws.LINEAR.rules:
        assert not RULES[rule].adaptive


def test_equal_steps_at_another_momentum():
    assert laws.at_momentum(0.01, 0.99, 0.9) == pytest.approx(0.1)
    assert laws.at_momentum(0.1, 0.9, 0.99) == pytest.approx(0.01)
    assert laws.at_momentum(0.1, 0.9, 0.0) == pytest.approx(1.0)
    # a constant gradient moves the parameter as fast under both
    speeds = []
    for lr, momentum in ((0.01, 0.99), (laws.at_momentum(0.01, 0.99, 0.9), 0.9)):
        velocity = 0.0
        for _ in range(5000):
            velocity = momentum * velocity + 1.0
        speeds.append(lr * velocity)
    assert speeds[0] == pytest.approx(speeds[1])
