"""Our path and another library's, side by side under the same gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optadvisor.kernels import Optimizer, Schedule

from .cases import Case, noise, start

SHAPES = [(), (17,), (8, 5), (2, 3, 4, 5)]
STEPS = 100
BOUND = {np.float32: 1e-6, np.float64: 1e-12}
WARM, FLOOR = 10, 0.1

# Takes the first parameters; returns a step: gradients -> the parameters after it.
Begin = Callable[[Sequence[np.ndarray]], Callable[[Sequence[np.ndarray]], Sequence[Any]]]


def warmup_cosine() -> Schedule:
    return Schedule("warmup_cosine", WARM, STEPS, floor=FLOOR)


def gap(case: Case, dtype: Any, begin: Begin, schedule: Schedule | None = None) -> float:
    """Largest distance of the two paths over all steps, relative to the largest number of that tensor so far."""
    ours = [start(shape, dtype, seed) for seed, shape in enumerate(SHAPES)]
    gradients = [noise(shape, STEPS, dtype, seed) for seed, shape in enumerate(SHAPES)]
    largest = [np.max(np.abs(array)) for array in ours]
    step = begin([array.copy() for array in ours])
    optimizer = Optimizer(case.rule, ours, convention=case.convention, **case.hyperparameters)
    found = 0.0
    for t in range(STEPS):
        now = [g[t] for g in gradients]
        optimizer.step(now, lr=case.complete["lr"] * schedule.factor(t) if schedule else None)
        for i, other in enumerate(step(now)):
            array = np.asarray(other)
            assert array.dtype == dtype
            largest[i] = max(largest[i], np.max(np.abs(array)))
            found = max(found, float(np.max(np.abs(ours[i] - array)) / largest[i]))
    return found
