"""drifting-minimum: f_t = sum_i d[i] (theta[i] - m_t[i])**2 / 2, whose minimum m_t moves on.

What counts is the mean of f_t along the way, without the noise of the gradients: to follow takes large steps, to see
through the noise takes small ones.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.landscapes.quadratic import curvatures
from optadvisor.studies.tasks.landscapes.surface import (
    ILL_CONDITIONED,
    SIZES,
    add_noise,
    known,
    near_origin,
    packed,
)
from optadvisor.studies.tasks.layers.numbers import fill_normal, mix

MOTIONS = ("linear", "walk", "jumps")
PERIOD = 20  # steps between jumps: the last fifth of the shortest training has one


def _move(minimum, pace, speed, motion, step, key):
    """Where the minimum is at `step`; the way of a training follows from its keys. All motions go as far, on average."""
    if step == 0:
        fill_normal(mix(key, 1), minimum)
        fill_normal(mix(key, 2), pace)
        return
    if motion == 1 or (motion == 2 and step % PERIOD == 0):
        fill_normal(mix(key, 2), pace)
    if motion == 2:
        speed = speed * (PERIOD if step % PERIOD == 0 else 0)
    for i in range(minimum.size):
        minimum[i] += minimum.dtype.type(speed) * pace[i]


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """f_t, and its gradient plus a random slope: the loss is without noise, since its mean is the value."""
    n = theta.size
    minimum, pace = work[:n], work[n : 2 * n]
    _move(minimum, pace, float(reals[1]), dims[0], step, key)
    loss = 0.0
    for i in range(n):
        away = theta[i] - minimum[i]
        grad[i] = reals[2 + i] * away
        loss += 0.5 * grad[i] * away
    add_noise(theta, reals[0], 0.0, mix(key, 3), work[2 * n :], grad)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """f at this moment, and the root mean square distance from the minimum; the value is the mean along the way."""
    loss, near = 0.0, 0.0
    for i in range(theta.size):
        away = theta[i] - work[i]
        loss += 0.5 * reals[2 + i] * away * away
        near += away * away
    scores[0], scores[1] = loss, math.sqrt(near / theta.size)


def build(values: Values) -> Problem:
    size = values["dimensions"]
    return Problem(
        Layout(0, size, 0),
        functools.partial(near_origin, size),
        reals=packed(values["noise"], values["speed"], curvatures(size, values["condition"], "even")),
        dims=np.array([MOTIONS.index(values["motion"])], dtype=np.int64),
        work=3 * size,
    )


def profile(values: Values) -> dict[str, Any]:
    ill = values["condition"] >= ILL_CONDITIONED
    return {**known(values["dimensions"], convex=True, ill_conditioned=ill), "non_stationary": True}


DRIFTING_MINIMUM = Family(
    name="drifting-minimum",
    title="Quadratic whose minimum moves: steadily, at random, or in jumps",
    program=Program("drifting_minimum", gradient, evaluate),
    metric="mean loss above the moving minimum over the last fifth",
    scores=("loss", "distance"),
    axes={
        "dimensions": Axis(32, SIZES, "parameters"),
        "motion": Axis("walk", MOTIONS, "of the minimum"),
        "speed": Axis(0.03, (0.001, 0.01, 0.03, 0.1), "root mean square distance that each coordinate goes a step"),
        "condition": Axis(10.0, (1.0, 10.0, 100.0, 1e3), "largest curvature (1) over smallest"),
        "noise": Axis(0.3, (0.0, 0.1, 0.3, 1.0), "of the gradient"),
        "steps": Axis(500, (100, 250, 500, 1000, 2000), "updates"),
    },
    build=build,
    profile=profile,
    held_out=False,
    online=True,
)
FAMILIES = (DRIFTING_MINIMUM,)
