"""Convention "keras", step by step, against Keras itself on its JAX backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import RULES

from .cases import CASES, Case
from .paths import BOUND, FLOOR, STEPS, WARM, gap, warmup_cosine

os.environ.setdefault("KERAS_BACKEND", "jax")
jax = pytest.importorskip("jax")
keras = pytest.importorskip("keras")
pytestmark = pytest.mark.parity

jax.config.update("jax_enable_x64", True)


def sgd(lr: Any, h: dict[str, Any], **extra: Any) -> Any:
    return keras.optimizers.SGD(lr, momentum=h.get("momentum", 0.0), weight_decay=h["weight_decay"], **extra)


def adagrad(lr: Any, h: dict[str, Any]) -> Any:
    if h["lr_decay"]:
        lr = keras.optimizers.schedules.InverseTimeDecay(lr, decay_steps=1, decay_rate=h["lr_decay"])
    return keras.optimizers.Adagrad(
        lr, h["initial_accumulator_value"], epsilon=h["eps"], weight_decay=h["weight_decay"]
    )


def adam(kind: str, lr: Any, h: dict[str, Any]) -> Any:
    b1, b2 = h["betas"]
    keywords = {"amsgrad": h["amsgrad"], "weight_decay": h["weight_decay"]}
    return getattr(keras.optimizers, kind)(lr, beta_1=b1, beta_2=b2, epsilon=h["eps"], **keywords)


# Rule -> the optimizer for a learning rate (a number or a schedule) and our hyperparameters.
TWINS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "sgd": sgd,
    "momentum": sgd,
    "nag": lambda lr, h: sgd(lr, h, nesterov=True),
    "adagrad": adagrad,
    "rmsprop": lambda lr, h: keras.optimizers.RMSprop(
        lr,
        rho=h["alpha"],
        momentum=h["momentum"],
        epsilon=h["eps"],
        centered=h["centered"],
        weight_decay=h["weight_decay"],
    ),
    "adam": lambda lr, h: adam("Adam", lr, h),
    "adamw": lambda lr, h: adam("AdamW", lr, h),
    "ftrl": lambda lr, h: keras.optimizers.Ftrl(
        lr,
        learning_rate_power=-0.5,
        initial_accumulator_value=0.0,
        l1_regularization_strength=h["l1"],
        l2_regularization_strength=h["l2"],
        beta=h["beta"],
    ),
}
TWIN_CASES = [case for case in CASES if case.convention == "keras"]


@pytest.fixture(params=BOUND)
def dtype(request: pytest.FixtureRequest) -> Iterator[type]:
    """Keras keeps the learning rate in its own default precision."""
    before = keras.config.floatx()
    keras.config.set_floatx(np.dtype(request.param).name)
    yield request.param
    keras.config.set_floatx(before)


def begin(make: Callable[[], Any], params: Sequence[np.ndarray]) -> Callable[[Sequence[np.ndarray]], Sequence[Any]]:
    optimizer = make()
    variables = [keras.Variable(array, dtype=array.dtype.name) for array in params]
    optimizer.build(variables)
    update = jax.jit(optimizer.stateless_apply)
    state, values = [v.value for v in optimizer.variables], [v.value for v in variables]

    def step(gradients: Sequence[np.ndarray]) -> Sequence[Any]:
        nonlocal state, values
        values, state = update(state, [jax.numpy.asarray(g) for g in gradients], values)
        return values

    return step


def test_every_rule_of_the_convention_has_a_twin():
    assert set(TWINS) == {rule.id for rule in RULES.values() if "keras" in rule.conventions}


@pytest.mark.parametrize("case", TWIN_CASES, ids=str)
def test_path_equals_keras(case: Case, dtype: type):
    make = lambda: TWINS[case.rule](case.complete["lr"], case.complete)  # noqa: E731
    assert gap(case, dtype, lambda params: begin(make, params)) < BOUND[dtype]


class Table(keras.optimizers.schedules.LearningRateSchedule):
    """Our schedule, in float64: Keras computes its own ones in float32."""

    def __init__(self, lr: float) -> None:
        self.rates = jax.numpy.asarray([lr * warmup_cosine().factor(t) for t in range(STEPS)])

    def __call__(self, step: Any) -> Any:
        return self.rates[keras.ops.convert_to_tensor(step)]


@pytest.mark.parametrize("name", [name for name in TWINS if not RULES[name].constant_lr])
def test_path_under_a_schedule_equals_keras(name: str, dtype: type):
    """Keras' velocities hold the rates of the past."""
    case = Case(name, {"weight_decay": 0.05, **({"momentum": 0.9} if name == "rmsprop" else {})}, "keras")
    make = lambda: TWINS[name](Table(case.complete["lr"]), case.complete)  # noqa: E731
    assert gap(case, dtype, lambda params: begin(make, params), warmup_cosine()) < BOUND[dtype]


def test_cosine_with_warm_up_equals_keras():
    theirs = keras.optimizers.schedules.CosineDecay(
        0.0, STEPS - WARM, alpha=FLOOR, warmup_target=1.0, warmup_steps=WARM
    )
    for t in range(0, STEPS + 10, 10):
        assert warmup_cosine().factor(t) == pytest.approx(float(theirs(t)), abs=1e-6), t
