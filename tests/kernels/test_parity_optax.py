"""Convention "optax", step by step, against optax itself; schedules against its schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import RULES, Schedule
from optadvisor.kernels.schedules import NAMES

from .cases import CASES, Case
from .paths import BOUND, STEPS, gap, warmup_cosine

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
pytestmark = pytest.mark.parity

jax.config.update("jax_enable_x64", True)


def l2(h: dict[str, Any], rule: Any) -> Any:
    return optax.chain(optax.add_decayed_weights(h["weight_decay"]), rule)


def adagrad(lr: Any, h: dict[str, Any]) -> Any:
    rate = (lambda count: lr / (1 + count * h["lr_decay"])) if h["lr_decay"] else lr
    return optax.adagrad(rate, h["initial_accumulator_value"], h["eps"])


def adamw(lr: Any, h: dict[str, Any]) -> Any:
    if not h["amsgrad"]:
        return optax.adamw(lr, *h["betas"], h["eps"], weight_decay=h["weight_decay"])
    return optax.chain(
        optax.scale_by_amsgrad(*h["betas"], h["eps"]),
        optax.add_decayed_weights(h["weight_decay"]),
        optax.scale_by_learning_rate(lr),
    )


# Rule -> the transformation for a learning rate (a number or a schedule) and our hyperparameters.
TWINS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "sgd": lambda lr, h: l2(h, optax.sgd(lr)),
    "momentum": lambda lr, h: l2(h, optax.sgd(lr, h["momentum"])),
    "nag": lambda lr, h: l2(h, optax.sgd(lr, h["momentum"], nesterov=True)),
    "adagrad": lambda lr, h: l2(h, adagrad(lr, h)),
    "rmsprop": lambda lr, h: l2(
        h, optax.rmsprop(lr, h["alpha"], h["eps"], centered=h["centered"], momentum=h["momentum"] or None)
    ),
    "adam": lambda lr, h: l2(h, (optax.amsgrad if h["amsgrad"] else optax.adam)(lr, *h["betas"], h["eps"])),
    "adamw": adamw,
}
TWIN_CASES = [case for case in CASES if case.convention == "optax"]


def begin(rule: Any, params: Sequence[np.ndarray]) -> Callable[[Sequence[np.ndarray]], Sequence[Any]]:
    values = [jax.numpy.asarray(array) for array in params]
    state = rule.init(values)

    @jax.jit
    def update(values: Any, state: Any, gradients: Any) -> Any:
        updates, state = rule.update(gradients, state, values)
        return optax.apply_updates(values, updates), state

    def step(gradients: Sequence[np.ndarray]) -> Sequence[Any]:
        nonlocal values, state
        values, state = update(values, state, list(gradients))
        return values

    return step


def test_every_rule_of_the_convention_has_a_twin():
    assert set(TWINS) == {rule.id for rule in RULES.values() if "optax" in rule.conventions}


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("case", TWIN_CASES, ids=str)
def test_path_equals_optax(case: Case, dtype: type):
    rule = TWINS[case.rule](case.complete["lr"], case.complete)
    assert gap(case, dtype, lambda params: begin(rule, params)) < BOUND[dtype]


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("name", TWINS)
def test_path_under_a_schedule_equals_optax(name: str, dtype: type):
    case = Case(name, {"weight_decay": 0.05, **({"momentum": 0.9} if name == "rmsprop" else {})}, "optax")
    lr = case.complete["lr"]
    # In float64 from a table: optax computes schedules of its int32 step count in float32.
    rates = jax.numpy.asarray([lr * warmup_cosine().factor(t) for t in range(STEPS)])
    rule = TWINS[name](lambda count: rates[count], case.complete)
    assert gap(case, dtype, lambda params: begin(rule, params), warmup_cosine()) < BOUND[dtype]


TOTAL, PEAK = 40, 0.3
SCHEDULES: dict[str, tuple[Schedule, Callable[[], Any]]] = {
    "constant": (Schedule("constant"), lambda: optax.constant_schedule(PEAK)),
    "warmup": (Schedule("warmup", 8), lambda: optax.warmup_constant_schedule(0.0, PEAK, 8)),
    "cosine": (Schedule("cosine"), lambda: optax.cosine_decay_schedule(PEAK, TOTAL)),
    "cosine to a floor": (Schedule("cosine", floor=0.1), lambda: optax.cosine_decay_schedule(PEAK, TOTAL, 0.1)),
    "warmup_cosine": (
        Schedule("warmup_cosine", 8, floor=0.1),
        lambda: optax.warmup_cosine_decay_schedule(0.0, PEAK, 8, TOTAL, 0.1 * PEAK),
    ),
    "linear": (Schedule("linear", floor=0.2), lambda: optax.linear_schedule(PEAK, 0.2 * PEAK, TOTAL)),
    "linear after a warm-up": (
        Schedule("linear", 8, floor=0.2),
        lambda: optax.join_schedules(
            [optax.linear_schedule(0.0, PEAK, 8), optax.linear_schedule(PEAK, 0.2 * PEAK, TOTAL - 8)], [8]
        ),
    ),
    "step": (
        Schedule("step", step_size=7, gamma=0.5),
        lambda: optax.piecewise_constant_schedule(PEAK, {7 * k: 0.5 for k in range(1, 10)}),
    ),
    "step as a staircase": (
        Schedule("step", step_size=7, gamma=0.5, floor=0.1),
        lambda: optax.exponential_decay(PEAK, 7, 0.5, staircase=True, end_value=0.1 * PEAK),
    ),
    "inverse_sqrt": (
        Schedule("inverse_sqrt", 8),
        lambda: optax.join_schedules([optax.linear_schedule(0.0, PEAK, 8), lambda t: PEAK * (8 / (t + 8)) ** 0.5], [8]),
    ),
    "wsd": (
        Schedule("wsd", 8, decay_fraction=0.25, floor=0.2),
        lambda: optax.join_schedules(
            [
                optax.linear_schedule(0.0, PEAK, 8),
                optax.constant_schedule(PEAK),
                optax.linear_schedule(PEAK, 0.2 * PEAK, 10),
            ],
            [8, 30],
        ),
    ),
}


def test_every_schedule_is_compared():
    assert {schedule.name for schedule, _ in SCHEDULES.values()} == set(NAMES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_equals_optax(name: str):
    schedule, make = SCHEDULES[name]
    ours, theirs = schedule.resolve(TOTAL), make()
    for t in range(TOTAL + 20):
        expected = float(theirs(jax.numpy.asarray(t, dtype=jax.numpy.int64)))
        assert PEAK * ours.factor(t) == pytest.approx(expected, rel=1e-12, abs=1e-15), t
