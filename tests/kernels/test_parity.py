"""Step by step equality with PyTorch itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from optadvisor import OptimizerConfig
from optadvisor.kernels import RULES, Optimizer, Schedule

from .cases import Case, distance, noise, start
from .torch_twin import TWIN_CASES, TWINS, WITHOUT_TWIN, twin

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

SHAPES = [(), (0,), (17,), (8, 5), (2, 3, 4, 5)]
STEPS = 100
BOUND = {np.float32: 1e-6, np.float64: 1e-12}


def test_every_rule_has_a_twin_or_is_known_to_have_none():
    known = {(rule.id, c) for rule in RULES.values() for c in rule.conventions if c not in ("keras", "optax")}
    assert known == set(TWINS) | WITHOUT_TWIN
    assert not set(TWINS) & WITHOUT_TWIN


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("case", TWIN_CASES, ids=str)
def test_path_equals_torch(case: Case, dtype: type):
    arrays = [start(shape, dtype, seed) for seed, shape in enumerate(SHAPES)]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    gradients = [noise(shape, STEPS, dtype, seed) for seed, shape in enumerate(SHAPES)]
    # A lone number may pass through 0, where no relative error holds: differences count against its largest so far.
    largest = [np.max(np.abs(array), initial=0.0) for array in arrays]
    ours, theirs = Optimizer(case.rule, arrays, **case.hyperparameters), twin(case, tensors)
    for t in range(STEPS):
        step_torch(theirs, tensors, [g[t] for g in gradients])
        ours.step([g[t] for g in gradients])
        for i, (array, tensor) in enumerate(zip(arrays, tensors, strict=True)):
            expected = tensor.detach().numpy()
            scale = largest[i] = max(largest[i], np.max(np.abs(expected), initial=0.0))
            if array.ndim:
                assert distance(array, expected) < BOUND[dtype], f"{array.shape} at step {t + 1}"
            else:
                assert abs(array - expected) < BOUND[dtype] * scale, f"step {t + 1}"


def step_torch(optimizer: Any, tensors: list[Any], gradients: list[np.ndarray]) -> None:
    for tensor, gradient in zip(tensors, gradients, strict=True):
        tensor.grad = torch.tensor(gradient)
    optimizer.step()


def warm(t: int) -> float:
    return t / WARM


def cosine(t: int) -> float:
    return 0.1 + 0.9 * (1 + math.cos(math.pi * (t - WARM) / (TOTAL - WARM))) / 2


TOTAL, WARM = 40, 8
LR = torch.optim.lr_scheduler
FACTORIES: dict[str, tuple[Schedule, Callable[[Any], Any]]] = {
    "constant": (Schedule("constant"), lambda o: LR.ConstantLR(o, factor=1.0)),
    "warmup": (Schedule("warmup", WARM), lambda o: LR.LambdaLR(o, lambda t: min(1.0, t / WARM))),
    "cosine": (Schedule("cosine"), lambda o: LR.CosineAnnealingLR(o, TOTAL)),
    "cosine to a floor": (
        Schedule("cosine", floor=0.1),
        lambda o: LR.CosineAnnealingLR(o, TOTAL, eta_min=0.1 * o.defaults["lr"]),
    ),
    "warmup_cosine": (
        Schedule("warmup_cosine", WARM, floor=0.1),
        lambda o: LR.LambdaLR(o, lambda t: warm(t) if t < WARM else cosine(t)),
    ),
    "warmup_cosine in sequence": (
        Schedule("warmup_cosine", WARM),
        lambda o: LR.SequentialLR(o, [LR.LambdaLR(o, warm), LR.CosineAnnealingLR(o, TOTAL - WARM)], milestones=[WARM]),
    ),
    "linear": (
        Schedule("linear", floor=0.2),
        lambda o: LR.LinearLR(o, start_factor=1.0, end_factor=0.2, total_iters=TOTAL),
    ),
    "linear after a warm-up": (
        Schedule("linear", WARM, floor=0.2),
        lambda o: LR.LambdaLR(o, lambda t: warm(t) if t < WARM else 1 - 0.8 * (t - WARM) / (TOTAL - WARM)),
    ),
    "step": (Schedule("step", step_size=7, gamma=0.5), lambda o: LR.StepLR(o, 7, 0.5)),
    "inverse_sqrt": (
        Schedule("inverse_sqrt", WARM),
        lambda o: LR.LambdaLR(o, lambda t: warm(t) if t < WARM else math.sqrt(WARM / t)),
    ),
    "wsd": (
        Schedule("wsd", WARM, decay_fraction=0.25),
        lambda o: LR.LambdaLR(o, lambda t: min(1.0, warm(t), (TOTAL - t) / (0.25 * TOTAL))),
    ),
}


def test_every_schedule_is_compared():
    from optadvisor.kernels.schedules import NAMES

    assert {schedule.name for schedule, _ in FACTORIES.values()} == set(NAMES)


@pytest.mark.parametrize("name", FACTORIES)
def test_schedule_equals_torch(name: str):
    schedule, factory = FACTORIES[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = factory(optimizer)
    resolved = schedule.resolve(TOTAL)
    for t in range(TOTAL):
        assert 0.3 * resolved.factor(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-15), t
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("rule", [rule for rule, convention in TWINS if convention == "pytorch"])
def test_config_with_schedule_and_no_decay_equals_torch_groups(rule: str, dtype: type):
    """warmup_cosine along a whole training, biases and normalisation without weight decay."""
    hyperparameters = {"weight_decay": 0.1}
    shapes = {"weight": (4, 3), "bias": (4,), "scale": ()}
    ours = {name: start(shape, dtype, seed) for seed, (name, shape) in enumerate(shapes.items())}
    gradients = {name: noise(shape, TOTAL, dtype, seed) for seed, (name, shape) in enumerate(shapes.items())}
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in ours.items()}

    config = OptimizerConfig.of(rule, hyperparameters, Schedule("warmup_cosine", WARM, floor=0.1))
    optimizer = Optimizer.from_config(config, ours, total_steps=TOTAL)
    theirs = twin(
        Case(rule, hyperparameters),
        [
            {"params": [tensors["weight"]]},
            {"params": [tensors["bias"], tensors["scale"]], "weight_decay": 0.0},
        ],
    )
    scheduler = LR.LambdaLR(theirs, lambda t: warm(t) if t < WARM else cosine(t))
    for t in range(TOTAL):
        now = {name: gradients[name][t] for name in shapes}
        optimizer.step(now)
        step_torch(theirs, list(tensors.values()), list(now.values()))
        scheduler.step()
        for name in shapes:
            assert distance(ours[name], tensors[name].detach().numpy()) < BOUND[dtype], f"{name} at step {t + 1}"
