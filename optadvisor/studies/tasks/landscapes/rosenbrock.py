"""rosenbrock: a curved valley, f = sum_i (s (x[i+1] - x[i]**2)**2 + (1 - x[i])**2) / (10 s + 2), minimum at ones.

Rosenbrock 1960 for two dimensions and s = 100, chained for more. Divided by about the curvature at the minimum in two
dimensions, so that step sizes of about 1 are as far as any rule can go.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.landscapes.surface import ILL_CONDITIONED, METRIC, add_noise, known, log_ratio, packed

STARTS = {"classic": (-1.2, 1.0), "origin": (0.0, 0.0), "wall": (0.5, -0.5)}


def _excess(x, reals):
    steep, scale = reals[2], reals[3]
    loss = 0.0
    for i in range(x.size - 1):
        above, short = x[i + 1] - x[i] * x[i], x.dtype.type(1.0) - x[i]
        loss += steep * above * above + short * short
    return loss * scale


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """f and its gradient, plus a random slope."""
    steep, scale = reals[2], reals[3]
    two = theta.dtype.type(2.0)
    for i in range(theta.size):
        grad[i] = 0
    for i in range(theta.size - 1):
        above = two * scale * steep * (theta[i + 1] - theta[i] * theta[i])
        grad[i] -= two * above * theta[i] + two * scale * (theta.dtype.type(1.0) - theta[i])
        grad[i + 1] += above
    return _excess(theta, reals) + add_noise(theta, reals[0], 0.0, key, work, grad)


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """f, without noise, relative to the start's, and the root mean square distance from the minimum at ones."""
    scores[0] = log_ratio(_excess(theta, reals), float(reals[1]))
    away = 0.0
    for i in range(theta.size):
        away += (theta[i] - 1.0) ** 2
    scores[1] = np.sqrt(away / theta.size)


def _start(values: Values) -> NDArray[np.float64]:
    return np.resize(STARTS[values["start"]], values["dimensions"])


def _initial(start: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return start + 0.05 * rng.standard_normal(start.size)


def _scale(steepness: float) -> float:
    return 1 / (10 * steepness + 2)


def build(values: Values) -> Problem:
    start, steep, scale = _start(values), values["steepness"], _scale(values["steepness"])
    above = start[1:] - start[:-1] ** 2
    excess = scale * float((steep * above**2 + (1 - start[:-1]) ** 2).sum())
    return Problem(
        Layout(0, start.size, 0),
        functools.partial(_initial, start),
        # A slope of the valley's floor is 2 scale at the origin.
        reals=packed(values["noise"] * 2 * scale, excess, steep, scale),
        work=start.size,
    )


def condition(values: Values) -> float:
    """Of the Hessian at the minimum, a tridiagonal matrix."""
    size, steep = values["dimensions"], values["steepness"]
    diagonal = np.full(size, 10 * steep + 2)
    diagonal[0], diagonal[-1] = 8 * steep + 2, 2 * steep
    beside = np.diag(np.full(size - 1, -4 * steep), 1)
    found = np.linalg.eigvalsh(np.diag(diagonal) + beside + beside.T)
    return float(found[-1] / found[0])


def profile(values: Values) -> dict[str, Any]:
    return known(values["dimensions"], convex=False, ill_conditioned=condition(values) >= ILL_CONDITIONED)


ROSENBROCK = Family(
    name="rosenbrock",
    title="Rosenbrock's valley, two-dimensional and chained",
    program=Program("rosenbrock", gradient, evaluate),
    metric=METRIC,
    scores=("log_excess", "distance"),
    axes={
        "dimensions": Axis(2, (2, 3, 10, 30, 100), "parameters"),
        "steepness": Axis(100.0, (1.0, 10.0, 100.0), "of the valley's walls"),
        "start": Axis("classic", tuple(STARTS), "(-1.2, 1), the origin, or a foot of the wall (0.5, -0.5); repeated"),
        "noise": Axis(0.1, (0.0, 0.1, 1.0, 10.0), "of the gradient, over the slope of the floor at the origin"),
        "steps": Axis(1000, (250, 500, 1000, 2000, 4000), "updates"),
    },
    build=build,
    profile=profile,
    held_out=False,
)
FAMILIES = (ROSENBROCK,)
