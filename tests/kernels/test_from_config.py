"""`Optimizer.from_config`: schedule, groups by role, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optadvisor import OptimizerConfig
from optadvisor.kernels import RULES, InputError, Optimizer, Schedule

from .cases import CASES, Case, noise, start

HYBRID = OptimizerConfig(
    "hybrid",
    groups=[
        {"role": "embedding", "optimizer": "adagrad", "hyperparameters": {"lr": 0.05}},
        {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 0.01, "weight_decay": 0.1}},
        {"role": "no_decay", "optimizer": "adamw", "hyperparameters": {"weight_decay": 0.0}},
    ],
)


def rules_of(optimizer: Optimizer) -> dict[str, tuple[str, float]]:
    """Parameter -> rule and weight decay of its group."""
    return {
        str(leaf.path[-1]): (group.rule.id, float(group.hyperparameters.get("weight_decay", 0.0)))  # type: ignore[arg-type]
        for group in optimizer.groups
        for leaf in group.leaves
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_plain_config_is_the_optimizer_with_its_keywords(case: Case):
    config = OptimizerConfig(case.rule, case.hyperparameters, convention=case.convention)
    one, two = start((3, 2)), start((3, 2))
    configured = Optimizer.from_config(config, [one])
    direct = Optimizer(case.rule, [two], convention=case.convention, **case.hyperparameters)
    for gradient in noise((3, 2), 5):
        configured.step([gradient])
        direct.step([gradient])
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("rule", [rule for rule in RULES if RULES[rule].scheduled])
def test_schedule_sets_the_rate_of_each_step(rule: str):
    schedule = Schedule("warmup_cosine", warmup_fraction=0.2, floor=0.1)
    config = OptimizerConfig(rule, {"lr": 0.05}, schedule.to_dict())
    one, two = start((3,)), start((3,))
    scheduled, direct = Optimizer.from_config(config, [one], total_steps=20), Optimizer(rule, [two])
    for t, gradient in enumerate(noise((3,), 25)):  # five steps more than planned: it stays at the floor
        scheduled.step([gradient])
        direct.step([gradient], lr=0.05 * schedule.resolve(20).factor(t))
    np.testing.assert_array_equal(one, two)


def test_lr_of_a_step_replaces_the_schedule():
    p = np.zeros(1)
    config = OptimizerConfig("sgd", {"lr": 1.0}, Schedule("warmup", 10).to_dict())
    optimizer = Optimizer.from_config(config, [p])
    optimizer.step([np.ones(1)])
    assert p[0] == 0.0  # warm-up starts at 0
    optimizer.step([np.ones(1)], lr=0.5)
    assert p[0] == -0.5
    optimizer.step([np.ones(1)])
    assert p[0] == pytest.approx(-0.7)  # t = 2 of 10


def test_total_steps_of_the_config_are_used_and_can_be_replaced():
    config = OptimizerConfig("sgd", {"lr": 1.0}, Schedule("cosine", total_steps=10).to_dict())
    for total, expected in ((None, 0.5), (5, 0.0), (20, 0.8535533905932737)):
        p = np.zeros(1)
        optimizer = Optimizer.from_config(config, [p], total_steps=total)
        for _ in range(5):
            optimizer.step([np.zeros(1)])
        optimizer.step([np.ones(1)])
        assert -p[0] == pytest.approx(expected)


def test_schedule_without_a_length_is_refused():
    config = OptimizerConfig("sgd", {}, Schedule("cosine").to_dict())
    with pytest.raises(InputError, match="cosine needs the length of the training: pass total_steps"):
        Optimizer.from_config(config, [start((3,))])


def test_ftrl_keeps_its_rate():
    with pytest.raises(InputError, match=r"ftrl.*1/lr.*constant"):
        OptimizerConfig("ftrl", {}, Schedule("cosine").to_dict())
    hybrid = OptimizerConfig(
        "hybrid",
        {},
        Schedule("cosine").to_dict(),
        [{"role": "embedding", "optimizer": "ftrl"}, {"role": "dense", "optimizer": "adam"}],
    )
    optimizer = Optimizer.from_config(hybrid, {"e": start((3, 2)), "d": start((3, 2))}, 10, {"e": "embedding"})
    assert {g.rule.id: g.schedule.name for g in optimizer.groups} == {"ftrl": "constant", "adam": "cosine"}


def test_one_dimensional_arrays_do_not_decay():
    config = OptimizerConfig.of("adamw", {"weight_decay": 0.1})
    params = {"w": start((3, 2)), "b": start((3,)), "s": start(()), "k": start((2, 2, 2))}
    found = rules_of(Optimizer.from_config(config, params))
    assert found == {"w": ("adamw", 0.1), "b": ("adamw", 0.0), "s": ("adamw", 0.0), "k": ("adamw", 0.1)}


def test_hybrid_goes_by_shape_where_nothing_is_said():
    params = {"table": start((1000, 8)), "short": start((999, 8)), "square": start((1000, 126)), "bias": start((5000,))}
    found = rules_of(Optimizer.from_config(HYBRID, params))
    assert found == {
        "table": ("adagrad", 0.0),
        "short": ("adamw", 0.1),
        "square": ("adamw", 0.1),
        "bias": ("adamw", 0.0),
    }


def test_roles_name_parameters_of_a_dict_or_places_in_a_list():
    arrays = [start((4, 2)), start((4, 2)), start((4,))]
    by_name = Optimizer.from_config(
        HYBRID, dict(zip("ewb", arrays, strict=True)), roles={"e": "embedding", "w": "no_decay", "b": "dense"}
    )
    assert rules_of(by_name) == {"e": ("adagrad", 0.0), "w": ("adamw", 0.0), "b": ("adamw", 0.1)}
    by_place = Optimizer.from_config(HYBRID, arrays, roles={0: "embedding"})
    assert rules_of(by_place) == {"0": ("adagrad", 0.0), "1": ("adamw", 0.1), "2": ("adamw", 0.0)}


def test_hybrid_groups_take_their_own_paths():
    params = {"e": start((4, 2)), "w": start((4, 2)), "b": start((4,))}
    expected = {name: array.copy() for name, array in params.items()}
    gradients = {name: noise(array.shape, 5) for name, array in params.items()}
    optimizer = Optimizer.from_config(HYBRID, params, roles={"e": "embedding"})
    alone = {
        "e": Optimizer("adagrad", [expected["e"]], lr=0.05),
        "w": Optimizer("adamw", [expected["w"]], lr=0.01, weight_decay=0.1),
        "b": Optimizer("adamw", [expected["b"]], lr=0.01, weight_decay=0.0),
    }
    for t in range(5):
        optimizer.step({name: path[t] for name, path in gradients.items()})
        for name, single in alone.items():
            single.step([gradients[name][t]])
    for name in params:
        np.testing.assert_array_equal(params[name], expected[name])


def test_a_role_without_a_group_is_dense():
    """Groups are only those that differ: roles of a model fit every config."""
    roles = {"e": "embedding", "b": "no_decay"}
    params: dict[str, Any] = {"e": start((4, 2)), "b": start((4,))}
    for rule in RULES:
        config = OptimizerConfig(rule)
        found = rules_of(Optimizer.from_config(config, params, roles=roles))
        assert {rule for rule, _ in found.values()} == {rule}


def test_convention_is_that_of_the_configs_own_rule():
    config = OptimizerConfig(
        "nag",
        groups=[{"role": "embedding", "optimizer": "adagrad"}],
        convention="paper",
    )
    params = {"e": start((4, 2)), "w": start((4, 2))}
    optimizer = Optimizer.from_config(config, params, roles={"e": "embedding"})
    assert {g.rule.id: g.convention for g in optimizer.groups} == {"nag": "paper", "adagrad": "pytorch"}


def test_a_convention_is_that_of_every_rule_that_has_it():
    groups = [{"role": "embedding", "optimizer": "adagrad", "hyperparameters": {}}]
    params = {"e": start((4, 2)), "w": start((4, 2))}
    config = OptimizerConfig("adamw", groups=groups, convention="keras")
    optimizer = Optimizer.from_config(config, params, roles={"e": "embedding"})
    assert {g.rule.id: g.convention for g in optimizer.groups} == {"adamw": "keras", "adagrad": "keras"}

    groups.append({"role": "dense", "optimizer": "adamw", "hyperparameters": {}})
    hybrid = OptimizerConfig("hybrid", groups=groups, convention="optax")
    optimizer = Optimizer.from_config(hybrid, params, roles={"e": "embedding"})
    assert {g.rule.id: g.convention for g in optimizer.groups} == {"adamw": "optax", "adagrad": "optax"}


def test_the_papers_decay_follows_the_schedule_and_not_the_learning_rate():
    """Without a gradient p shrinks by weight_decay times the schedule's factor, whatever the peak."""
    decay, steps = 0.1, 8
    schedule = Schedule("cosine", total_steps=steps, floor=0.2)
    expected = np.prod([1 - decay * schedule.resolve().factor(t) for t in range(steps)])
    for lr in (1e-4, 1.0):
        p = np.ones(3)
        config = OptimizerConfig("adamw", {"lr": lr, "weight_decay": decay}, schedule.to_dict(), convention="paper")
        optimizer = Optimizer.from_config(config, [p])
        for _ in range(steps):
            optimizer.step([np.zeros(3)])
        np.testing.assert_allclose(p, expected, rtol=1e-13)


def test_unknown_names_in_roles_are_refused():
    params = {"table": start((4, 2)), "b": start((4,))}
    with pytest.raises(InputError, match=r"parameter in roles 'tabel': did you mean 'table'"):
        Optimizer.from_config(HYBRID, params, roles={"tabel": "embedding"})
    with pytest.raises(InputError, match=r"role of params\['table'\] 'embeding': did you mean 'embedding'"):
        Optimizer.from_config(HYBRID, params, roles={"table": "embeding"})


def test_on_nonfinite_is_passed_on():
    optimizer = Optimizer.from_config(OptimizerConfig("adam"), [start((2,))], on_nonfinite="skip")
    assert optimizer.step([np.full(2, np.nan)]) is False
