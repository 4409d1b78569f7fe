"""Reading a learning-rate range test: where the values of a ladder of rates are lowest. Plain Python, for the advisor too."""

from __future__ import annotations

import math
from collections.abc import Sequence

SHARPNESS = 20.0  # a place that is a twentieth of the whole gain behind the best counts 1/e of it


def lowest(rates: Sequence[float], values: Sequence[float]) -> float | None:
    """The rate at which the values are lowest, smoothed: nearby rates that do nearly as well pull it towards them.

    rates: ascending. values: after a short training each, lower is better; one that is not finite diverged. The gain
    over the lowest rate, as a share of the largest gain, is interpolated in the logarithm of the rate, and the answer
    is the mean there, weighted by exp(SHARPNESS * gain). None where every rate diverges.
    """
    gains = _gains(values)
    if gains is None:
        return None
    if len(rates) == 1:
        return rates[0]
    total = weights = 0.0
    for i in range(1, len(rates)):
        low, wide = math.log(rates[i - 1]), math.log(rates[i] / rates[i - 1])
        scale, rise = math.exp(SHARPNESS * (gains[i - 1] - 1.0)), SHARPNESS * (gains[i] - gains[i - 1])
        weight, first = _integrals(rise)
        total += wide * scale * (low * weight + wide * first)
        weights += wide * scale * weight
    return math.exp(total / weights)


def _integrals(rise: float) -> tuple[float, float]:
    """Of exp(rise * x) and of x * exp(rise * x), x from 0 to 1."""
    if abs(rise) < 1e-4:
        return 1.0 + rise / 2, 0.5 + rise / 3
    weight = math.expm1(rise) / rise
    return weight, (math.exp(rise) - weight) / rise


def _gains(values: Sequence[float]) -> list[float] | None:
    """1 for the best value, 0 for that of the lowest rate, -1 for what is twice as far off, worse, or diverged."""
    halves = [value / 2 for value in values if math.isfinite(value)]  # half, so that no difference overflows
    if not halves:
        return None
    best, base = min(halves), halves[0]
    if base <= best:  # the lowest rate is the best: the median takes its place, or, where all are level, anything above
        base = sorted(halves)[len(halves) // 2]
        if base <= best:
            return [1.0 if math.isfinite(value) else -1.0 for value in values]
    return [max((base - value / 2) / (base - best), -1.0) if math.isfinite(value) else -1.0 for value in values]
