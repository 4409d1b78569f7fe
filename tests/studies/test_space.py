"""Search spaces: what a study searches, and the way between a point and a config."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optadvisor.config import OptimizerConfig
from optadvisor.kernels import RULES
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies.space import Space, narrowed

CONSTANT = Schedule("constant", 0, 500)


@st.composite
def points(draw: st.DrawFn) -> tuple[str, dict[str, float]]:
    """A rule and a point of its space, its corners among them."""
    rule = draw(st.sampled_from(sorted(RULES)))
    axes = Space.of(rule).distributions()
    return rule, {name: draw(st.floats(axis.low, axis.high)) for name, axis in axes.items()}


@pytest.mark.parametrize("rule", RULES)
def test_every_axis_is_on_a_log_scale_and_the_lr_among_them(rule: str):
    axes = Space.of(rule).distributions()
    assert "lr" in axes
    for name, axis in axes.items():
        assert 0 <= axis.low < axis.high, name
        assert axis.log == (axis.low > 0), name


@pytest.mark.parametrize("rule", RULES)
def test_the_defaults_lie_in_the_space_or_at_its_edge(rule: str):
    config = Space.of(rule).decode(Space.of(rule).encode(OptimizerConfig.of(rule)), CONSTANT, {})
    for name, value in RULES[rule].defaults.items():
        if value:
            np.testing.assert_allclose(config.hyperparameters[name], value, rtol=1e-9, err_msg=name)


@given(points())
def test_decode_and_encode_are_inverse(drawn: tuple[str, dict[str, float]]):
    rule, point = drawn
    config = Space.of(rule).decode(point, CONSTANT, {"source": "trial"})
    assert config.optimizer == rule
    assert config.schedule == CONSTANT.to_dict()
    assert config.provenance == {"source": "trial"}
    again = Space.of(config.optimizer).encode(config)
    assert set(again) == set(point)
    for name, value in point.items():
        assert math.isclose(again[name], value, rel_tol=1e-9, abs_tol=1e-12), name


@given(points())
def test_weight_decay_leaves_biases_alone(drawn: tuple[str, dict[str, float]]):
    rule, point = drawn
    config = Space.of(rule).decode(point, CONSTANT, {})
    decays = bool(config.hyperparameters.get("weight_decay"))
    assert [group["role"] for group in config.groups] == (["no_decay"] if decays else [])


@pytest.mark.parametrize("rule", RULES)
def test_encode_moves_a_config_from_outside_to_the_edge(rule: str):
    axes = Space.of(rule).distributions()
    for lr, edge in ((1e-9, axes["lr"].low), (1e30, axes["lr"].high)):
        assert Space.of(rule).encode(OptimizerConfig.of(rule, {"lr": lr}))["lr"] == edge


def test_a_rule_whose_state_is_in_units_of_the_lr_keeps_it_constant():
    point = Space.of("ftrl").encode(OptimizerConfig.of("ftrl"))
    config = Space.of("ftrl").decode(point, Schedule("cosine", 0, 500), {})
    assert config.schedule["name"] == "constant"


def test_a_hybrid_has_the_axes_of_its_parts():
    both = Space.of("hybrid", "ftrl", "adamw")
    axes = both.distributions()
    assert {name.partition(".")[0] for name in axes} == {"embedding", "dense"}
    point = {name: axis.low for name, axis in axes.items()}
    config = both.decode(point, CONSTANT, {})
    assert config.optimizer == "hybrid"
    assert config.roles()["embedding"] == (
        "ftrl",
        {**RULES["ftrl"].defaults, **{n: axes[f"embedding.{n}"].low for n in ("lr", "beta", "l1", "l2")}},
    )
    assert config.roles()["no_decay"][1]["weight_decay"] == 0
    assert both.encode(config) == pytest.approx(point)


def test_ranges_and_fixed_values_of_a_hybrid():
    made = narrowed(
        [Space.of("hybrid"), Space.of("adamw")], {"dense.lr": (1e-4, 1e-3), "lr": (1e-3, 1e-2)}, {"embedding.eps": 1e-8}
    )
    axes = made["hybrid"].distributions()
    assert (axes["dense.lr"].low, axes["dense.lr"].high) == (1e-4, 1e-3)
    assert "embedding.eps" not in axes
    assert made["adamw"].distributions()["lr"].low == 1e-3
    config = made["hybrid"].decode(made["hybrid"].encode(made["hybrid"].decode({}, CONSTANT, {})), CONSTANT, {})
    assert config.roles()["embedding"][1]["eps"] == 1e-8


def test_a_range_in_the_hyperparameter_s_own_numbers():
    made = narrowed([Space.of("momentum")], {"momentum": (0.8, 0.95)}, {})["momentum"]
    axis = made.distributions()["one_minus_momentum"]
    assert (axis.low, axis.high) == pytest.approx((0.05, 0.2))
    config = made.decode({"lr": 0.1, "one_minus_momentum": 0.05, "weight_decay": 1e-4}, CONSTANT, {})
    assert config.hyperparameters["momentum"] == pytest.approx(0.95)


def test_a_range_from_zero_is_linear():
    axis = narrowed([Space.of("ftrl")], {"l1": (0.0, 1.0)}, {})["ftrl"].distributions()["l1"]
    assert (axis.low, axis.high, axis.log) == (0.0, 1.0, False)
