"""Search spaces: what a study searches, and the way between a point and a config."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optadvisor.kernels import RULES
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies import space

CONSTANT = Schedule("constant", 0, 500)


@st.composite
def points(draw: st.DrawFn) -> tuple[str, dict[str, float]]:
    """A rule and a point of its space, its corners among them."""
    rule = draw(st.sampled_from(sorted(RULES)))
    axes = space.distributions(rule)
    return rule, {name: draw(st.floats(axis.low, axis.high)) for name, axis in axes.items()}


@pytest.mark.parametrize("rule", RULES)
def test_every_axis_is_on_a_log_scale_and_the_lr_among_them(rule: str):
    axes = space.distributions(rule)
    assert "lr" in axes
    for name, axis in axes.items():
        assert 0 <= axis.low < axis.high, name
        assert axis.log == (axis.low > 0), name


@pytest.mark.parametrize("rule", RULES)
def test_the_defaults_lie_in_the_space_or_at_its_edge(rule: str):
    config = space.decode(rule, space.encode(space.OptimizerConfig.of(rule)), CONSTANT, {})
    for name, value in RULES[rule].defaults.items():
        if value:
            np.testing.assert_allclose(config.hyperparameters[name], value, rtol=1e-9, err_msg=name)


@given(points())
def test_decode_and_encode_are_inverse(drawn: tuple[str, dict[str, float]]):
    rule, point = drawn
    config = space.decode(rule, point, CONSTANT, {"source": "trial"})
    assert config.optimizer == rule
    assert config.schedule == CONSTANT.to_dict()
    assert config.provenance == {"source": "trial"}
    again = space.encode(config)
    assert set(again) == set(point)
    for name, value in point.items():
        assert math.isclose(again[name], value, rel_tol=1e-9, abs_tol=1e-12), name


@given(points())
def test_weight_decay_leaves_biases_alone(drawn: tuple[str, dict[str, float]]):
    rule, point = drawn
    config = space.decode(rule, point, CONSTANT, {})
    decays = bool(config.hyperparameters.get("weight_decay"))
    assert [group["role"] for group in config.groups] == (["no_decay"] if decays else [])


@pytest.mark.parametrize("rule", RULES)
def test_encode_moves_a_config_from_outside_to_the_edge(rule: str):
    axes = space.distributions(rule)
    for lr, edge in ((1e-9, axes["lr"].low), (1e30, axes["lr"].high)):
        assert space.encode(space.OptimizerConfig.of(rule, {"lr": lr}))["lr"] == edge


def test_a_rule_whose_state_is_in_units_of_the_lr_keeps_it_constant():
    point = space.encode(space.OptimizerConfig.of("ftrl"))
    config = space.decode("ftrl", point, Schedule("cosine", 0, 500), {})
    assert config.schedule["name"] == "constant"
