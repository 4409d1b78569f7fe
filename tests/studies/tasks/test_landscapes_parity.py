"""The landscapes' gradients against PyTorch autograd, written from their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.registry import FAMILIES, get
from tests.studies.tasks.checks import Point
from tests.studies.test_layers_rotation import matrix

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


def rotation(signs: np.ndarray, rotated: bool, size: int) -> Any:
    return torch.from_numpy(matrix(signs) if rotated else np.eye(size))


def quadratic(theta: Any, task: BuiltinTask, reals: np.ndarray) -> Any:
    n = theta.numel()
    q = rotation(reals[3 + 2 * n :], task.values["rotated"], n)
    z = q @ (theta - torch.from_numpy(reals[3 : 3 + n]))
    return 0.5 * (torch.from_numpy(reals[3 + n : 3 + 2 * n]) * z**2).sum()


def ravine(theta: Any, task: BuiltinTask, reals: np.ndarray) -> Any:
    n = theta.numel()
    slope, bend, length = reals[2:5]
    u = rotation(reals[5:], task.values["rotated"], n) @ theta
    floor = torch.where(torch.arange(1, n) % 2 == 1, bend * torch.sin(u[0]), bend * (torch.cos(u[0]) - 1))
    return slope * (torch.sqrt(1 + (u[0] - length) ** 2) - 1) + 0.5 * ((u[1:] - floor) ** 2).sum()


def saddle(theta: Any, task: BuiltinTask, reals: np.ndarray) -> Any:
    u = rotation(reals[3:], task.values["rotated"], theta.numel()) @ theta
    down = max(1, int(task.values["descending"] * theta.numel()))
    return 0.25 * reals[2] * ((u[:down] ** 2 - 1) ** 2).sum() + 0.5 * (u[down:] ** 2).sum()


def rosenbrock(theta: Any, task: BuiltinTask, reals: np.ndarray) -> Any:
    steep = task.values["steepness"]
    above, short = theta[1:] - theta[:-1] ** 2, 1 - theta[:-1]
    return (steep * above**2 + short**2).sum() * reals[3]


def deep_linear(theta: Any, task: BuiltinTask, reals: np.ndarray) -> Any:
    n, depth = task.values["width"], task.values["depth"]
    product = torch.eye(n, dtype=torch.float64)
    for w in theta.reshape(depth, n, n):
        product = w @ product
    return 0.5 * ((product - torch.from_numpy(reals[2:].reshape(n, n))) ** 2).sum()


def drifting(theta: Any, task: BuiltinTask, reals: np.ndarray) -> Any:
    """At step 3 of a walk with nothing before it: the minimum is where this step's move leads."""
    at = Point(task, step=3)
    work = np.zeros(at.problem.work)
    problem = at.problem
    at.gradient(at.theta, reals, problem.integers, problem.dims, at.rows, 3, at.key, np.empty(theta.numel()), work)
    away = theta - torch.from_numpy(work[: theta.numel()])
    return 0.5 * (torch.from_numpy(reals[2:]) * away**2).sum()


TWINS = {
    "quadratic": quadratic,
    "ravine": ravine,
    "saddle": saddle,
    "rosenbrock": rosenbrock,
    "deep-linear": deep_linear,
    "drifting-minimum": drifting,
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("variant", range(3))
def test_the_gradient_is_autograd_s(name: str, variant: int):
    axes = FAMILIES[name].axes
    choices = {n: axis.choices[variant % len(axis.choices)] for n, axis in axes.items() if n not in ("steps", "noise")}
    values = {"noise": 0.0, **({} if variant == 2 else choices)}
    task = BuiltinTask(FAMILIES[name], values)
    at = Point(task, seed=variant, step=3)
    loss, grad = at.loss_and_gradient()
    theta = torch.from_numpy(at.theta.copy()).requires_grad_()
    expected = TWINS[name](theta, task, at.problem.reals.astype(np.float64))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-10)
    np.testing.assert_allclose(grad, theta.grad.numpy(), rtol=1e-9, atol=1e-9 * float(theta.grad.abs().max()))


def test_heavy_tailed_noise_is_all_that_tells_the_two_quadratics_apart():
    """Its noise has no step size of zero, so what is compared is the program and the data."""
    one, other = get("quadratic"), get("quadratic-heavy-tail")
    assert one.family.program is other.family.program
    np.testing.assert_array_equal(one.problem.reals[2:], other.problem.reals[2:])
