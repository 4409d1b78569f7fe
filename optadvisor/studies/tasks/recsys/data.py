"""Generated ratings and clicks: ids as popular as Zipf's law says, tastes of low rank, noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RANK = 4  # of the hidden truth
HELD_OUT = 1000  # validation samples, and as many test samples


def zipf(count: int, exponent: float, samples: int, rng: np.random.Generator) -> Integers:
    """Ids 0 to count - 1, id i with probability in proportion to 1 / (i + 1)**exponent."""
    cumulative = np.cumsum(1.0 / np.arange(1, count + 1) ** exponent)
    return np.asarray(np.searchsorted(cumulative, rng.random(samples) * cumulative[-1], side="right"), dtype=np.int64)


def clicks(
    draw: Callable[[int], tuple[NDArray[Any], ...]],
    samples: int,
    signal: float,
    base: float,
    rng: np.random.Generator,
) -> tuple[list[NDArray[Any]], Floats]:
    """Inputs of `samples` training samples and the held-out ones behind them, and their clicks 0 or 1.

    draw(count): arrays of inputs, one row a sample, and last the log odds, which are brought to mean `base` and
    standard deviation `signal`. The held-out samples are the same for any number of training samples.
    """
    parts, clicked = [], []
    centre = spread = None
    for count in (2 * HELD_OUT, samples):
        *inputs, odds = draw(count)
        if centre is None or spread is None:
            centre, spread = odds.mean(), odds.std()
        chance = 1 / (1 + np.exp(-((odds - centre) / spread * signal + base)))
        parts.append(inputs)
        clicked.append((rng.random(count) < chance).astype(np.float64))
    held, training = parts
    return [np.concatenate(pair) for pair in zip(training, held, strict=True)], np.concatenate(clicked[::-1])


def ends(samples: int) -> tuple[int, int, int]:
    """The ends of training, validation and test samples."""
    return samples, samples + HELD_OUT, samples + 2 * HELD_OUT
