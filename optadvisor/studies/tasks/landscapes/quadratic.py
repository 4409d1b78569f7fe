"""quadratic, quadratic-heavy-tail: f = (theta - m)' Q' D Q (theta - m) / 2, with noise on the gradient.

D is diagonal, between 1/condition and 1 times the curvature; Q is a rotation or nothing: the rules that scale each
coordinate for itself can undo a D, and not a Q. The minimum m is one unit away in every direction, give or take.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.landscapes.surface import (
    ILL_CONDITIONED,
    METRIC,
    SIZES,
    add_noise,
    known,
    log_ratio,
    near_origin,
    packed,
    signs,
)
from optadvisor.studies.tasks.layers.rotation import rotate, rotate_back


def _parts(theta, reals):
    """The minimum, the curvatures, the signs of the rotation."""
    n = theta.size
    return reals[3 : 3 + n], reals[3 + n : 3 + 2 * n], reals[3 + 2 * n :]


def _excess(theta, reals, dims, z):
    """f; leaves Q (theta - m) in z."""
    minimum, curvatures, turns = _parts(theta, reals)
    for i in range(theta.size):
        z[i] = theta[i] - minimum[i]
    if dims[0]:
        rotate(z, turns)
    loss = 0.0
    for i in range(theta.size):
        loss += 0.5 * curvatures[i] * z[i] * z[i]
    return loss


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """f and its gradient, plus a random slope."""
    n = theta.size
    scale, degrees = reals[0], reals[1]
    _, curvatures, turns = _parts(theta, reals)
    loss = _excess(theta, reals, dims, grad)
    for i in range(n):
        grad[i] *= curvatures[i]
    if dims[0]:
        rotate_back(grad, turns)
    return loss + add_noise(theta, scale, degrees, key, work[:n], grad)


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """f, without noise, and the distance from the minimum, each relative to the origin's."""
    minimum, _, _ = _parts(theta, reals)
    scores[0] = log_ratio(_excess(theta, reals, dims, work[theta.size : 2 * theta.size]), float(reals[2]))
    near, far = 0.0, 0.0
    for i in range(theta.size):
        near += (theta[i] - minimum[i]) ** 2
        far += minimum[i] ** 2
    scores[1] = np.sqrt(near / far)


def curvatures(size: int, condition: float, spectrum: str) -> np.ndarray[Any, Any]:
    """From 1/condition to 1: evenly in the logarithm, or a few of the largest above a bulk of the smallest.

    The second is what Hessians of networks look like (Sagun et al. 2017, Empirical analysis of the Hessian).
    """
    if spectrum == "even":
        return np.geomspace(1 / condition, 1, size)
    return np.where(np.arange(size) < max(size // 16, 1), 1.0, 1 / condition)


def build(values: Values) -> Problem:
    """Minimum and rotation follow from values["data"]."""
    size = values["dimensions"]
    rng = np.random.default_rng(values["data"])
    minimum = rng.standard_normal(size)
    turns = signs(rng, size)
    scales = values.get("curvature", 1.0) * curvatures(size, values["condition"], values.get("spectrum", "even"))
    # Of a random direction, so that it does not depend on the rotation.
    start, slope = float(scales.sum() / 2), float(np.sqrt((scales**2).mean()))
    return Problem(
        Layout(0, size, 0),
        functools.partial(near_origin, size),
        reals=packed(values["noise"] * slope, values.get("tail", 0.0), start, minimum, scales, turns),
        dims=np.array([values["rotated"]], dtype=np.int64),
        work=2 * size,
    )


def profile(values: Values) -> dict[str, Any]:
    return known(values["dimensions"], convex=True, ill_conditioned=values["condition"] >= ILL_CONDITIONED)


_PROGRAM = Program("quadratic", gradient, evaluate)
_SHAPE = {
    "dimensions": Axis(32, SIZES, "parameters"),
    "condition": Axis(100.0, (1.0, 10.0, 100.0, 1e3, 1e5), "largest curvature over smallest"),
    "rotated": Axis(True, (False, True), "whether the axes of the ellipsoid are turned against the parameters"),
}
_STEPS = Axis(500, (100, 250, 500, 1000, 2000), "updates")
_DATA = Axis(0, (0, 1, 2, 3), "seed of the minimum and the rotation")

QUADRATIC = Family(
    name="quadratic",
    title="Quadratic of a chosen condition number with Gaussian gradient noise",
    program=_PROGRAM,
    metric=METRIC,
    scores=("log_excess", "distance"),
    axes={
        **_SHAPE,
        "spectrum": Axis("even", ("even", "outliers"), "how the curvatures lie between the smallest and the largest"),
        "curvature": Axis(1.0, (0.01, 0.1, 1.0, 10.0, 100.0), "largest curvature"),
        "noise": Axis(0.1, (0.0, 0.01, 0.1, 1.0), "of the gradient, as a share of the gradient at the start"),
        "data": _DATA,
        "steps": _STEPS,
    },
    build=build,
    profile=profile,
    held_out=False,
)
HEAVY_TAIL = Family(
    name="quadratic-heavy-tail",
    title="Quadratic with heavy-tailed gradient noise (Student's t)",
    program=_PROGRAM,
    metric=METRIC,
    scores=("log_excess", "distance"),
    axes={
        **_SHAPE,
        "tail": Axis(1.5, (1.1, 1.5, 2.0, 3.0, 5.0), "tail index of the noise: infinite variance up to 2"),
        "noise": Axis(0.1, (0.03, 0.1, 0.3, 1.0), "scale of the noise, as a share of the gradient at the start"),
        "data": _DATA,
        "steps": _STEPS,
    },
    build=build,
    profile=profile,
    held_out=False,
)
FAMILIES = (QUADRATIC, HEAVY_TAIL)
