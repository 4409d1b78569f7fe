"""What the builders make of every rule, keyword and convention takes the steps of our kernels, or is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import optadvisor as oa
from optadvisor.kernels import RULES, InputError, Optimizer

from ..kernels.cases import CASES, Case, noise, start

os.environ.setdefault("KERAS_BACKEND", "jax")
torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
keras = pytest.importorskip("keras")
pytestmark = pytest.mark.parity
torch.set_num_threads(1)

STEPS = 40
SHAPES = {"w": (6, 5), "b": (6,), "k": (2, 3, 4)}
WARM = {"name": "warmup_cosine", "warmup_steps": 8, "floor": 0.1}
STILL = {"name": "constant"}
# PyTorch keeps NAdam's product of momenta in float32; the average of clipped muon is a product of matrices.
BOUND = 1e-9

REFUSED = {
    "torch": {("nag", "paper")},
    "optax": {("nag", "paper"), ("muon", "pytorch"), ("schedule_free_adamw", "pytorch")},
    "keras": {("nag", "paper"), ("muon", "pytorch"), ("schedule_free_adamw", "pytorch"), ("lamb", "pytorch")},
}
# The last setting of a rule has the most keywords. PyTorch compiles nothing, so there all are tried.
LAST = list({(case.rule, case.convention): case for case in CASES}.values())


def config_of(case: Case, schedule: dict[str, Any]) -> oa.OptimizerConfig:
    decays = RULES[case.rule].decays
    groups = [{"role": "no_decay", "optimizer": case.rule, "hyperparameters": {"weight_decay": 0.0}}] if decays else []
    return oa.OptimizerConfig(case.rule, case.hyperparameters, schedule, groups, convention=case.convention)


Step = Callable[[Sequence[np.ndarray]], Sequence[Any]]


def with_torch(config: oa.OptimizerConfig, params: dict[str, np.ndarray]) -> Step:
    model = torch.nn.ParameterDict({name: torch.tensor(array) for name, array in params.items()})
    optimizer, scheduler = config.build_torch(model, STEPS)

    def step(gradients: Sequence[np.ndarray]) -> Sequence[Any]:
        for p, g in zip((model[name] for name in params), gradients, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        scheduler.step()
        return [model[name].detach().numpy() for name in params]

    return step


def with_optax(config: oa.OptimizerConfig, params: dict[str, np.ndarray]) -> Step:
    values = {name: jax.numpy.array(array) for name, array in params.items()}
    rule = config.build_optax(values, STEPS)
    state = rule.init(values)

    @jax.jit
    def update(values: Any, state: Any, gradients: Any) -> Any:
        updates, state = rule.update(gradients, state, values)
        return optax.apply_updates(values, updates), state

    def step(gradients: Sequence[np.ndarray]) -> Sequence[Any]:
        nonlocal values, state
        values, state = update(values, state, dict(zip(params, map(jax.numpy.array, gradients), strict=True)))
        return [values[name] for name in params]

    return step


def with_keras(config: oa.OptimizerConfig, params: dict[str, np.ndarray]) -> Step:
    variables = [keras.Variable(array, dtype="float64", name=name) for name, array in params.items()]
    optimizer = config.build_keras(total_steps=STEPS)
    optimizer.build(variables)
    update = jax.jit(optimizer.stateless_apply)
    state, values = [v.value for v in optimizer.variables], [v.value for v in variables]

    def step(gradients: Sequence[np.ndarray]) -> Sequence[Any]:
        nonlocal state, values
        values, state = update(state, [jax.numpy.array(g) for g in gradients], values)
        return values

    return step


@pytest.fixture
def _float64():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    with jax.enable_x64(True):
        yield
    keras.config.set_floatx(before)


def follow(case: Case, schedule: dict[str, Any], framework: str, begin: Callable[..., Step]) -> None:
    config = config_of(case, schedule)
    ours = {name: start(shape, seed=seed) for seed, (name, shape) in enumerate(SHAPES.items())}
    params = {name: array.copy() for name, array in ours.items()}
    if (case.rule, case.convention) in REFUSED[framework]:
        with pytest.raises(InputError, match=r"look-ahead point|another rule|evaluates at other weights"):
            begin(config, params)
        return
    step, optimizer = begin(config, params), Optimizer.from_config(config, ours, STEPS)
    gradients = [noise(shape, STEPS, seed=seed) for seed, shape in enumerate(SHAPES.values())]
    for t in range(STEPS):
        now = [path[t] for path in gradients]
        found = step(now)
        optimizer.step(dict(zip(ours, now, strict=True)))
        for (name, array), other in zip(ours.items(), found, strict=True):
            gap = np.linalg.norm(np.asarray(other) - array) / np.linalg.norm(array)
            assert gap < BOUND, f"{name} at step {t + 1}"


@pytest.mark.parametrize("schedule", [STILL, WARM], ids=["constant", "scheduled"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_torch(case: Case, schedule: dict[str, Any]):
    if RULES[case.rule].scheduled or schedule is STILL:
        follow(case, schedule, "torch", with_torch)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("case", LAST, ids=str)
def test_in_optax(case: Case):
    follow(case, WARM if RULES[case.rule].scheduled else STILL, "optax", with_optax)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("case", LAST, ids=str)
def test_in_keras(case: Case):
    follow(case, WARM if RULES[case.rule].scheduled else STILL, "keras", with_keras)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("rule", ["sgd", "momentum", "nag", "lion"])
def test_what_keras_has_while_the_rate_is_constant(rule: str):
    config = oa.OptimizerConfig(rule, {"weight_decay": 0.0} if rule == "lion" else {})
    assert type(config.build_keras()).__module__.startswith("keras.")
    follow(Case(rule, config.hyperparameters), STILL, "keras", with_keras)
