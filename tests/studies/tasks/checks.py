"""What the tests of tasks share: a family's functions in float64, and finite differences."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.kernels.compiling import Compiled, specialise
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.family import Program


@functools.cache
def compiled(program: Program) -> tuple[Compiled, Compiled]:
    """gradient and evaluate, to be called with arrays of either float dtype."""
    return specialise(program.gradient, program.name), specialise(program.evaluate, program.name)


class Point:
    """A task at weights of its own in float64, to ask for loss and gradient of one mini-batch."""

    def __init__(self, task: BuiltinTask, seed: int = 0, step: int = 0, key: int = 12345, scale: float = 1.0) -> None:
        self.task, self.problem = task, task.problem
        self.gradient, self.evaluate = compiled(task.family.program)
        rng = np.random.default_rng(seed)
        # Beside the start, where some gradients vanish (zero biases, a residual branch that begins at zero).
        start = task.start(seed).astype(np.float64)
        self.theta = start + scale * 0.05 * rng.standard_normal(start.size)
        self.rows = rng.permutation(self.problem.samples)[: self.problem.batch]
        self.step, self.key = step, key
        self._reals = self.problem.reals.astype(np.float64)

    def loss_and_gradient(self, theta: NDArray[np.float64] | None = None) -> tuple[float, NDArray[np.float64]]:
        theta = self.theta if theta is None else theta
        grad = np.full_like(theta, np.nan)  # every element has to be written
        work = np.zeros(max(self.problem.work, 1))
        problem = self.problem
        loss = self.gradient(
            theta, self._reals, problem.integers, problem.dims, self.rows, self.step, self.key, grad, work
        )
        return float(loss), grad

    def loss(self, theta: NDArray[np.float64]) -> float:
        return self.loss_and_gradient(theta)[0]

    def scores(self, part: int = 0, work: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        found = np.full(len(self.task.family.scores), np.nan)
        work = np.zeros(max(self.problem.work, 1)) if work is None else work
        problem = self.problem
        self.evaluate(self.theta, self._reals, problem.integers, problem.dims, part, self.step, self.key, work, found)
        return found


def slope(function: Any, theta: NDArray[np.float64], direction: NDArray[np.float64], width: float = 1e-5) -> float:
    """Central difference of fourth order along a direction."""
    f = [function(theta + k * width * direction) for k in (-2, -1, 1, 2)]
    return float((f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * width))


def check_gradient(point: Point, directions: int = 6, tolerance: float = 2e-6) -> None:
    """The gradient against finite differences along random directions and along single parameters of every part."""
    _, grad = point.loss_and_gradient()
    assert np.isfinite(grad).all()
    rng = np.random.default_rng(7)
    layout = point.problem.layout
    ends = np.cumsum([0, *layout])
    chosen = [rng.standard_normal(point.theta.size) for _ in range(directions)]
    for first, last in itertools.pairwise(ends):
        if last > first:
            part = np.zeros(point.theta.size)
            part[first:last] = rng.standard_normal(last - first)
            one = np.zeros(point.theta.size)
            one[first + np.argmax(np.abs(grad[first:last]))] = 1.0
            chosen += [part, one]
    for direction in chosen:
        direction /= np.linalg.norm(direction)
        found, wanted = slope(point.loss, point.theta, direction), float(grad @ direction)
        assert abs(found - wanted) <= tolerance * max(1.0, np.linalg.norm(grad)), (found, wanted)
