"""saddle: a start near a strict saddle, from which some directions lead down, slowly at first, to one of 2^k minima.

With u = Q theta, k descending directions and curvature c < 1 along them:

    f = sum_{i < k} c (u[i]**2 - 1)**2 / 4 + sum_{i >= k} u[i]**2 / 2

A gradient step leaves the saddle by the factor 1 + lr c at a time, so time to escape grows with the logarithm of how
near the start is (Du et al. 2017, Gradient descent can take exponential time to escape saddle points, section 3).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.landscapes.surface import (
    ILL_CONDITIONED,
    METRIC,
    SIZES,
    add_noise,
    known,
    log_ratio,
    packed,
    signs,
)
from optadvisor.studies.tasks.layers.rotation import rotate, rotate_back


def _excess(theta, reals, dims, u):
    """f; leaves Q theta in u."""
    curvature, down = reals[2], dims[1]
    for i in range(theta.size):
        u[i] = theta[i]
    if dims[0]:
        rotate(u, reals[3:])
    loss = 0.0
    for i in range(down):
        loss += 0.25 * curvature * (u[i] * u[i] - 1.0) ** 2
    for i in range(down, theta.size):
        loss += 0.5 * u[i] * u[i]
    return loss


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """f and its gradient, plus a random slope."""
    curvature, down = reals[2], dims[1]
    loss = _excess(theta, reals, dims, grad)
    one = grad.dtype.type(1.0)
    for i in range(down):
        grad[i] *= curvature * (grad[i] * grad[i] - one)
    if dims[0]:
        rotate_back(grad, reals[3:])
    return loss + add_noise(theta, reals[0], 0.0, key, work[: theta.size], grad)


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """f, without noise, relative to the saddle's, and the share of descending directions that are left to go."""
    u, down = work[theta.size : 2 * theta.size], dims[1]
    scores[0] = log_ratio(_excess(theta, reals, dims, u), float(reals[1]))
    left = 0
    for i in range(down):
        left += abs(u[i]) < 0.5
    scores[1] = left / down


def _initial(size: int, near: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return near * rng.standard_normal(size)


def descending(values: Values) -> int:
    size: int = values["dimensions"]
    return max(1, int(values["descending"] * size))


def build(values: Values) -> Problem:
    size, down, curvature = values["dimensions"], descending(values), values["curvature"]
    return Problem(
        Layout(0, size, 0),
        functools.partial(_initial, size, values["near"]),
        reals=packed(
            *(values["noise"] * curvature * np.sqrt(down / size), curvature * down / 4, curvature),
            signs(np.random.default_rng(size), size),
        ),
        dims=np.array([values["rotated"], down], dtype=np.int64),
        work=2 * size,
    )


def profile(values: Values) -> dict[str, Any]:
    # The curvatures at a minimum are 1 and twice that of the saddle's descending directions.
    ends = (1.0, 2 * values["curvature"])
    return known(values["dimensions"], convex=False, ill_conditioned=max(ends) / min(ends) >= ILL_CONDITIONED)


SADDLE = Family(
    name="saddle",
    title="Escape from a strict saddle in many dimensions",
    program=Program("saddle", gradient, evaluate),
    metric=METRIC,
    scores=("log_excess", "still_there"),
    axes={
        "dimensions": Axis(32, SIZES, "parameters"),
        "descending": Axis(0.125, (0.03125, 0.125, 0.5), "share of the directions that lead down"),
        "curvature": Axis(0.1, (1e-4, 0.001, 0.01, 0.1, 1.0), "downward, over that of the other directions"),
        "near": Axis(0.01, (1e-4, 0.01, 0.1), "distance of the start from the saddle, in each direction"),
        "rotated": Axis(True, (False, True), "whether the directions are turned against the parameters"),
        "noise": Axis(0.01, (0.0, 0.01, 0.1, 1.0), "of the gradient, over the steepest slopes on the way"),
        "steps": Axis(500, (100, 250, 500, 1000, 2000), "updates"),
    },
    build=build,
    profile=profile,
    held_out=False,
)
FAMILIES = (SADDLE,)
