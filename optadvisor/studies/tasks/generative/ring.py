"""The ring: equal Gaussians whose centres lie on a circle of radius 1, in the plane; and how near samples are to it.

The usual test of adversarial training for lost modes (Metz et al. 2017, Unrolled generative adversarial networks,
section 3.3.1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

REFERENCE = 400  # points of the true distribution that generated ones are compared with


def points(n: int, modes: int, spread: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """n points (n, 2), as many of each mode as can be, in random order. spread: standard deviation of a mode."""
    angles = 2 * np.pi * (np.arange(n) % modes) / modes
    centres = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = centres + spread * rng.standard_normal((n, 2))
    return rng.permutation(found).astype(np.float32)


def inner_distance(a: NDArray[np.float32]) -> float:
    """Mean Euclidean distance of the pairs of rows of a, each with itself among them."""
    wide = a.astype(np.float64)
    return float(np.linalg.norm(wide[:, None] - wide[None], axis=2).mean())


def mean_distance(a, b):
    """Mean Euclidean distance of a row of a (n, 2) to a row of b (m, 2), in float64."""
    total = 0.0
    for i in range(a.shape[0]):
        x, y = a[i, 0], a[i, 1]
        part = a.dtype.type(0)
        for j in range(b.shape[0]):
            dx, dy = b[j, 0] - x, b[j, 1] - y
            part += math.sqrt(dx * dx + dy * dy)
        total += part
    return total / (a.shape[0] * b.shape[0])


def covered(samples, modes, spread):
    """Share of the modes that have a quarter of their due of the samples within 3 spreads, and share of samples there.

    A sample counts for the mode that is nearest to it.
    """
    n = samples.shape[0]
    due = n / (4.0 * modes)
    slope = math.tan(math.pi / modes) if modes > 2 else math.inf
    near, held = 0, 0
    for mode in range(modes):
        angle = 2.0 * math.pi * mode / modes
        x, y = math.cos(angle), math.sin(angle)
        count = 0
        for i in range(n):
            dx, dy = samples[i, 0] - x, samples[i, 1] - y
            # Nearest to this mode is the sector of pi / modes to either side.
            forward, sideways = samples[i, 0] * x + samples[i, 1] * y, abs(samples[i, 1] * x - samples[i, 0] * y)
            if dx * dx + dy * dy <= 9.0 * spread * spread and forward > 0 and sideways <= forward * slope:
                count += 1
        near += count
        held += count >= due
    return held / modes, near / n
