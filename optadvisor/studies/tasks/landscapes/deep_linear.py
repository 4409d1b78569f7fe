"""deep-linear: fit a matrix by a product of matrices, f = |W_L ... W_1 - T|^2 / 2 (Frobenius).

No data and no activations, but a network's plateaus: at zero lies a saddle as flat as the product is deep, and T's
singular values are learned one after the other, the small ones last (Saxe, McClelland & Ganguli 2014, Exact solutions
to the nonlinear dynamics of learning in deep linear neural networks).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.landscapes.surface import METRIC, add_noise, known, log_ratio, packed


def _forward(theta, reals, n, depth, products):
    """f; the products W_1, W_2 W_1, ... in products[0], products[1], ..., the error in place of the last one."""
    weights = theta.reshape(depth, n, n)
    products[0, :, :] = weights[0]
    for k in range(1, depth):
        np.dot(weights[k], products[k - 1], products[k])
    error = products[depth - 1]
    loss = 0.0
    for i in range(n):
        for j in range(n):
            error[i, j] -= reals[2 + i * n + j]
            loss += 0.5 * error[i, j] * error[i, j]
    return loss


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """f and its gradient, plus a random slope."""
    n, depth = dims[0], dims[1]
    size = n * n
    weights, parts = theta.reshape(depth, n, n), grad.reshape(depth, n, n)
    products = work[: depth * size].reshape(depth, n, n)
    back = work[depth * size : (depth + 2) * size].reshape(2, n, n)
    loss = _forward(theta, reals, n, depth, products)
    back[0, :, :] = products[depth - 1]
    now = 0
    for k in range(depth - 1, 0, -1):
        np.dot(back[now], products[k - 1].T, parts[k])
        np.dot(weights[k].T, back[now], back[1 - now])
        now = 1 - now
    parts[0, :, :] = back[now]
    return loss + add_noise(theta, reals[0], 0.0, key, work[: theta.size], grad)


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """f, without noise, relative to that of a product of zero."""
    n, depth = dims[0], dims[1]
    scores[0] = log_ratio(_forward(theta, reals, n, depth, work[: depth * n * n].reshape(depth, n, n)), float(reals[1]))


def _initial(n: int, depth: int, gain: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(gain / np.sqrt(n) * rng.standard_normal(depth * n * n))


def _target(n: int, condition: float, rng: np.random.Generator) -> NDArray[np.float64]:
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    return np.asarray(left * np.geomspace(1, 1 / condition, n) @ right)


def build(values: Values) -> Problem:
    """T follows from values["data"]: singular values from 1 to 1/condition between random rotations."""
    n, depth = values["width"], values["depth"]
    target = _target(n, values["condition"], np.random.default_rng(values["data"]))
    slope = np.sqrt((target**2).mean())
    return Problem(
        Layout(0, depth * n * n, 0),
        functools.partial(_initial, n, depth, values["gain"]),
        reals=packed(values["noise"] * slope, (target**2).sum() / 2, target.reshape(-1)),
        dims=np.array([n, depth]),
        work=(depth + 2) * n * n,
    )


def profile(values: Values) -> dict[str, Any]:
    return known(values["depth"] * values["width"] ** 2, convex=False)


DEEP_LINEAR = Family(
    name="deep-linear",
    title="Product of matrices fitted to a matrix, a linear network's plateaus",
    program=Program("deep_linear", gradient, evaluate),
    metric=METRIC,
    scores=("log_excess",),
    axes={
        "width": Axis(8, (4, 8, 16, 32), "rows and columns of each matrix"),
        "depth": Axis(3, (2, 3, 4, 6), "matrices"),
        "gain": Axis(0.5, (0.1, 0.25, 0.5, 1.0), "size of the initial matrices: the smaller, the longer the plateau"),
        "condition": Axis(10.0, (1.0, 10.0, 100.0), "largest singular value of the target (1) over the smallest"),
        "noise": Axis(0.03, (0.0, 0.03, 0.3), "of the gradient, as a share of the target's elements"),
        "data": Axis(0, (0, 1, 2, 3), "seed of the target"),
        "steps": Axis(500, (100, 250, 500, 1000, 2000), "updates"),
    },
    build=build,
    profile=profile,
    held_out=False,
)
FAMILIES = (DEEP_LINEAR,)
