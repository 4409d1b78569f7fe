"""Seeds that follow from a study's seed, so that the same command gives the same trials on any number of workers."""

from __future__ import annotations

import numpy as np

TRIAL, CONFIRMATION, SAMPLER, WEIGHTS, BATCHES, TASKS, RANGE = 0, 1, 2, 3, 4, 5, 6


def derive(seed: int, purpose: int, *numbers: int) -> int:
    """An independent 32-bit seed for each (seed, purpose, numbers)."""
    return int(np.random.SeedSequence([seed, purpose, *numbers]).generate_state(1)[0])
