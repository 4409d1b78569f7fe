"""What the landscapes share: their value, gradient noise, and the data of rotations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.layers.numbers import fill_normal, fill_student
from optadvisor.studies.tasks.layers.rotation import ROUNDS

METRIC = "log10 of the loss above the minimum, 0 at the start"
FLOOR = 1e-8  # a minimum found to this share of the start is found

ILL_CONDITIONED = 1e3
SIZES = (2, 8, 32, 128, 512)  # powers of two, for the rotation


def log_ratio(excess, start):
    """log10(excess / start), at least -8; nan stays nan."""
    ratio = excess / start
    if ratio < FLOOR:
        ratio = FLOOR
    return math.log10(ratio)


def add_noise(theta, scale, degrees, key, noise, grad):
    """Add a random slope to a gradient: of independent normal numbers, or Student's t for degrees > 0.

    Returns slope @ theta, by which the loss has to be more, so that what is returned is the gradient of a loss whose
    mean is the true one. noise: buffer as long as theta.
    """
    if scale == 0:
        return 0.0
    if degrees > 0:
        fill_student(key, degrees, noise)
    else:
        fill_normal(key, noise)
    more = 0.0
    for i in range(theta.size):
        slope = scale * noise[i]
        grad[i] += slope
        more += slope * theta[i]
    return more


def signs(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """What `rotate` needs for a random rotation."""
    return rng.choice([-1.0, 1.0], ROUNDS * size)


def packed(*parts: Any) -> NDArray[np.float32]:
    """Numbers and arrays, one after the other."""
    return np.concatenate([np.atleast_1d(part) for part in parts]).astype(np.float32)


def near_origin(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A start that differs a little from seed to seed."""
    return 0.1 * rng.standard_normal(size)


def known(parameters: int, **more: Any) -> dict[str, Any]:
    """The profile of a landscape; more: its flags."""
    return {"domain": "other", "architecture": "other", "parameters": parameters, "non_stationary": False, **more}
