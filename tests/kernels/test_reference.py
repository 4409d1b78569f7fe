"""Every registered rule, in every setting, follows an independent NumPy oracle."""

from __future__ import annotations

import numpy as np
import pytest

from optadvisor.kernels import RULES, Optimizer

from .cases import CASES, SETTINGS, Case, distance, noise, start
from .reference import ORACLES, run

SHAPE = (5, 7)
STEPS = 200
# float32 rounds 200 times over: measured 4.8e-6 at most, where AdamW's decay multiplies every step.
BOUND = {np.float64: 1e-12, np.float32: 1e-5}
VARYING = [0.05 * (1 + t % 7) for t in range(STEPS)]


def test_every_rule_has_an_oracle_for_each_convention():
    assert set(ORACLES) == {(rule.id, convention) for rule in RULES.values() for convention in rule.conventions}


@pytest.mark.parametrize("rule", RULES)
def test_settings_reach_every_keyword(rule: str):
    for name, default in RULES[rule].defaults.items():
        values = [setting.get(name, default) for setting in SETTINGS[rule]]
        assert any(value != default for value in values), f"no setting of {rule} varies {name}"


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel_equals_oracle(case: Case, dtype: type):
    check(case, dtype)


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("case", [c for c in CASES if not RULES[c.rule].constant_lr], ids=str)
def test_kernel_equals_oracle_while_lr_changes(case: Case, dtype: type):
    check(case, dtype, [rate * RULES[case.rule].defaults["lr"] for rate in VARYING])


def check(case: Case, dtype: type, rates: list[float] | None = None) -> None:
    p = start(SHAPE, dtype)
    gradients = noise(SHAPE, STEPS, dtype)
    expected, state = run(ORACLES[case.rule, case.convention], p, gradients, case.complete, rates or ())
    optimizer = Optimizer(case.rule, [p], convention=case.convention, **case.hyperparameters)
    for t, gradient in enumerate(gradients):
        optimizer.step([gradient], lr=rates[t] if rates else None)
    assert p.dtype == dtype
    assert distance(p, expected) < BOUND[dtype]
    kept = optimizer.state_dict()["groups"][0]["state"]
    assert set(kept) == set(state)
    for name, (array,) in kept.items():
        assert array.dtype == dtype
        assert distance(array, state[name]) < BOUND[dtype], name
