"""ravine: a long narrow valley with steep walls and a gentle slope, straight or winding.

With u = Q theta, x = u[0] the place along the valley, L its length, and s = 1/steepness the slope of its floor:

    f = s (sqrt(1 + (x - L)**2) - 1) + sum_i (u[i] - floor_i(x))**2 / 2
    floor_i(x) = b sin(x) for odd i, b (cos(x) - 1) for even i > 0, b = bend / sqrt(n - 1)

The walls limit the step size, the slope asks for many steps: the home ground of momentum (Polyak 1964).
"""

from __future__ import annotations

import functools
import math
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


def _along_and_across(theta, reals, dims, u):
    """The two parts of f; leaves in u the place along the valley and the heights above its floor."""
    slope, bend, length = reals[2], reals[3], reals[4]
    for i in range(theta.size):
        u[i] = theta[i]
    if dims[0]:
        rotate(u, reals[5:])
    far = u[0] - length
    # (sqrt(1 + far^2) - 1) without cancellation.
    along = slope * far * far / (1.0 + math.sqrt(1.0 + far * far))
    odd = u.dtype.type(bend * math.sin(u[0]))
    even = u.dtype.type(bend * (math.cos(u[0]) - 1.0))
    across = 0.0
    for i in range(1, theta.size):
        u[i] -= odd if i % 2 else even
        across += 0.5 * u[i] * u[i]
    return along, across


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """f and its gradient, plus a random slope."""
    slope, bend, length = reals[2], reals[3], reals[4]
    along, across = _along_and_across(theta, reals, dims, grad)
    far = grad[0] - length
    odd, even = bend * math.cos(grad[0]), -bend * math.sin(grad[0])
    ahead = slope * far / math.sqrt(1.0 + far * far)
    for i in range(1, theta.size):
        ahead -= grad[i] * (odd if i % 2 else even)
    grad[0] = ahead
    if dims[0]:
        rotate_back(grad, reals[5:])
    return along + across + add_noise(theta, reals[0], 0.0, key, work[: theta.size], grad)


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """f, without noise, relative to the start's, and the way that is left as a share of the valley's length."""
    u = work[theta.size : 2 * theta.size]
    along, across = _along_and_across(theta, reals, dims, u)
    scores[0] = log_ratio(along + across, float(reals[1]))
    scores[1] = abs(u[0] - reals[4]) / reals[4]


def _initial(size: int, height: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return height * rng.standard_normal(size)


def build(values: Values) -> Problem:
    """The start is the other end of the valley, as high above its floor as the floor there is above the minimum."""
    size, slope = values["dimensions"], 1 / values["steepness"]
    drop = slope * (math.sqrt(1 + values["length"] ** 2) - 1)
    return Problem(
        Layout(0, size, 0),
        functools.partial(_initial, size, math.sqrt(2 * drop / size)),
        reals=packed(
            *(values["noise"] * slope / math.sqrt(size), 2 * drop, slope, values["bend"] / math.sqrt(size - 1)),
            *(values["length"], signs(np.random.default_rng(size), size)),
        ),
        dims=np.array([values["rotated"]], dtype=np.int64),
        work=2 * size,
    )


def condition(values: Values) -> float:
    """Of the Hessian at the minimum, 1 across but for the plane of the valley's direction and its bend."""
    size, share = values["dimensions"], values["bend"] / math.sqrt(values["dimensions"] - 1)
    odd, even = size // 2, (size - 1) // 2
    turn = share * math.sqrt(odd * math.cos(values["length"]) ** 2 + even * math.sin(values["length"]) ** 2)
    found = np.linalg.eigvalsh([[1 / values["steepness"] + turn**2, -turn], [-turn, 1.0]])
    return float(found[1] / found[0])


def profile(values: Values) -> dict[str, Any]:
    convex = values["bend"] == 0
    return known(values["dimensions"], convex=convex, ill_conditioned=condition(values) >= ILL_CONDITIONED)


RAVINE = Family(
    name="ravine",
    title="Long narrow valley, straight or winding, in two and more dimensions",
    program=Program("ravine", gradient, evaluate),
    metric=METRIC,
    scores=("log_excess", "way_left"),
    axes={
        "dimensions": Axis(8, SIZES, "parameters"),
        "steepness": Axis(100.0, (10.0, 100.0, 1e3, 1e4), "curvature of the walls over the slope of the floor"),
        "bend": Axis(0.5, (0.0, 0.5, 1.5), "how far the valley swings to the sides; 0: straight"),
        "length": Axis(5.0, (2.0, 5.0, 20.0), "way to the minimum"),
        "rotated": Axis(False, (False, True), "whether the valley is turned against the parameters"),
        "noise": Axis(1.0, (0.0, 1.0, 10.0), "of the gradient, over the slope of the floor"),
        "steps": Axis(500, (100, 250, 500, 1000, 2000), "updates"),
    },
    build=build,
    profile=profile,
    held_out=False,
)
FAMILIES = (RAVINE,)
