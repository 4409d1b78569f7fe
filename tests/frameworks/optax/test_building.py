"""config.build_optax: groups, schedules, dtypes, refusals. The paths are in test_round_trips.py and test_conventions.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optadvisor as oa
from optadvisor.kernels import RULES, InputError, Schedule
from optadvisor.kernels.schedules import NAMES, WARMS_UP

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
from optadvisor.frameworks.optax.running import RuleState, rate  # noqa: E402

pytestmark = pytest.mark.parity
jnp = jax.numpy


@pytest.fixture(autouse=True)
def _float32():
    with jax.enable_x64(False):
        yield


def params() -> Any:
    return {
        "Embed_0": {"embedding": jnp.ones((9, 4))},
        "Dense_0": {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)},
        "LayerNorm_0": {"scale": jnp.ones(3), "bias": jnp.zeros(3)},
    }


HYBRID = oa.OptimizerConfig(
    "hybrid",
    groups=[
        {"role": "embedding", "optimizer": "sgd", "hyperparameters": {"lr": 0.5}},
        {"role": "dense", "optimizer": "adagrad", "hyperparameters": {"lr": 0.1}},
        {"role": "no_decay", "optimizer": "adagrad", "hyperparameters": {"lr": 0.01}},
    ],
)


def moves(transformation: Any, p: Any) -> Any:
    updates, _ = transformation.update(jax.tree.map(jnp.ones_like, p), transformation.init(p), p)
    return jax.tree.map(lambda u: float(u.reshape(-1)[0]), updates)


def test_every_leaf_is_in_the_group_of_its_role():
    found = moves(HYBRID.build_optax(params()), params())
    assert found["Embed_0"]["embedding"] == pytest.approx(-0.5)
    assert found["Dense_0"] == {"kernel": pytest.approx(-0.1), "bias": pytest.approx(-0.01)}
    assert found["LayerNorm_0"] == {"scale": pytest.approx(-0.01), "bias": pytest.approx(-0.01)}


def test_declared_roles_win():
    found = moves(
        HYBRID.build_optax(params(), roles={"Dense_0/*": "dense", "LayerNorm_0/scale": "embedding"}), params()
    )
    assert found["Dense_0"]["bias"] == pytest.approx(-0.1)
    assert found["LayerNorm_0"]["scale"] == pytest.approx(-0.5)
    with pytest.raises(InputError, match=r"'Dens_0/\*' matches no parameter"):
        HYBRID.build_optax(params(), roles={"Dens_0/*": "dense"})


def test_weight_decay_leaves_norms_and_biases_alone():
    p = params()
    rule = oa.OptimizerConfig.of("adamw", {"lr": 0.1, "weight_decay": 0.5}).build_optax(p)
    zero = jax.tree.map(jnp.zeros_like, p)
    updates, _ = rule.update(zero, rule.init(p), p)
    assert float(updates["Dense_0"]["kernel"][0, 0]) == pytest.approx(-0.05)
    assert float(jnp.abs(updates["LayerNorm_0"]["scale"]).max()) == 0.0


def test_one_group_is_optaxs_own_and_integers_stay():
    config = oa.OptimizerConfig("adam")
    state = config.build_optax({"w": jnp.ones((2, 2))}).init({"w": jnp.ones((2, 2))})
    assert isinstance(state[0], optax.ScaleByAdamState)
    p = {"w": jnp.ones((2, 2)), "table": jnp.arange(3)}
    rule = config.build_optax(p)
    updates, _ = rule.update({"w": jnp.ones((2, 2)), "table": jnp.zeros(3, jnp.int32)}, rule.init(p), p)
    assert optax.apply_updates(p, updates)["table"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_under_jit(name: str):
    schedule = Schedule(name, 8 if name in WARMS_UP else 0, 50, 0.1).resolve()
    made = rate(0.3, schedule)
    if name == "constant":
        assert made == 0.3
        return
    at = jax.jit(made)
    for t in range(60):
        value = at(jnp.asarray(t))
        assert value.dtype == jnp.float32
        assert float(value) == pytest.approx(0.3 * schedule.factor(t), rel=1e-6, abs=1e-9), t


@pytest.mark.parametrize("rule", ["adagrad", "radam", "rowwise_adagrad", "ftrl"])
def test_our_rules_keep_dtype_and_structure_under_jit_and_scan(rule: str):
    config = oa.OptimizerConfig(rule, {"lr": 0.1})
    p = {"half": jnp.ones((3, 2), jnp.bfloat16), "single": jnp.ones(4), "one": jnp.ones(()), "none": jnp.ones((0, 2))}
    optimizer = config.build_optax(p)
    state = optimizer.init(p)
    own = next(
        s for s in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, RuleState)) if isinstance(s, RuleState)
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(own.states)} == {"float32"}

    def body(carry: Any, _: Any) -> Any:
        p, state = carry
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, p), state, p)
        return (optax.apply_updates(p, updates), state), None

    (after, _), _ = jax.lax.scan(jax.jit(body), (p, state), None, length=5)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), p)
    assert all(bool((after[name] < p[name]).all()) for name in p)


def test_the_first_step_of_a_bias_correction_is_exact_in_float32():
    """In float32 1 - 0.999 is wrong in its fifth digit."""
    p = {"w": jnp.zeros((2, 2))}
    rule = oa.OptimizerConfig("adam", {"lr": 1.0, "amsgrad": True}).build_optax(p)
    updates, _ = jax.jit(rule.update)({"w": jnp.full((2, 2), 3.0)}, rule.init(p), p)
    np.testing.assert_allclose(updates["w"], -1.0, rtol=3e-7)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            oa.OptimizerConfig("muon"),
            r"optax.contrib.muon corrects the bias .* use oa.kernels.Optimizer on NumPy arrays",
        ),
        (oa.OptimizerConfig("schedule_free_adamw"), "evaluates at other weights than it trains, which optax.contrib"),
        (oa.OptimizerConfig("nag", convention="paper"), "look-ahead point, and optax is given the gradient"),
        (oa.OptimizerConfig("adam", {}, {"name": "cosine"}), "schedule cosine needs the length of the training"),
    ],
    ids=str,
)
def test_what_is_refused(config: oa.OptimizerConfig, words: str):
    with pytest.raises(InputError, match=words):
        config.build_optax(params())


def test_wrong_arguments():
    with pytest.raises(InputError, match="has no arrays: pass the parameters"):
        oa.OptimizerConfig("adam").build_optax({})
    rule = oa.OptimizerConfig("radam").build_optax(params())
    with pytest.raises(InputError, match=r"radam needs the parameters: call update\(grads, state, params\)"):
        rule.update(params(), rule.init(params()))


def test_every_rule_is_built_or_refused():
    refused = set()
    for rule in RULES:
        try:
            oa.OptimizerConfig(rule).build_optax(params())
        except InputError:
            refused.add(rule)
    assert refused == {"muon", "schedule_free_adamw"}
