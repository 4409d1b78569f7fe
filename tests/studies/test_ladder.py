"""Reading a range test: where the values are lowest, on any grid, whatever diverges."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from optadvisor.studies import ladder

GRIDS = [np.geomspace(1e-4, 1, 8), np.geomspace(1e-4, 1, 33), np.array([1e-4, 1e-3, 3e-3, 1e-2, 2e-2, 5e-2, 0.1, 1])]


def bowl(rate: float) -> float:
    return (math.log10(rate) + 2) ** 2


@pytest.mark.parametrize("grid", GRIDS)
def test_the_lowest_point_is_found_between_the_rates(grid: np.ndarray):
    found = ladder.lowest(grid.tolist(), [bowl(rate) for rate in grid])
    assert found == pytest.approx(1e-2, rel=0.35)


@pytest.mark.parametrize("change", [lambda v: 3 * v - 7, lambda v: v * 1e300, lambda v: v * 1e-300])
def test_only_the_shape_counts(change: Callable[[float], float]):
    rates = GRIDS[0].tolist()
    values = [bowl(rate) for rate in rates]
    assert ladder.lowest(rates, [change(v) for v in values]) == pytest.approx(ladder.lowest(rates, values), rel=1e-6)


@pytest.mark.parametrize("bad", [math.inf, math.nan, -math.inf, 1e308])
def test_what_diverges_is_far_off(bad: float):
    rates = GRIDS[0].tolist()
    values = [bad if rate > 1e-2 else 1 - math.log10(rate / 1e-4) for rate in rates]
    found = ladder.lowest(rates, values)
    assert found is not None
    last = max(rate for rate in rates if rate <= 1e-2)
    assert last / 2 < found < last * 1.2


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([math.inf, math.nan, math.inf], None),
        ([math.inf, 3.0, math.inf], 1e-2),
        ([1.0, 1.0, 1.0], 1e-2),
        ([1.0, 2.0, 3.0], 1e-3),
        ([-1e308, 1e308, math.inf], 1e-3),
        ([3.0, 2.0, -4.0], 1e-1),
    ],
)
def test_ends_and_level_ladders(values: list[float], wanted: float | None):
    found = ladder.lowest([1e-3, 1e-2, 1e-1], values)
    assert found == (wanted if wanted is None else pytest.approx(wanted, rel=0.35))


def test_one_rate():
    assert ladder.lowest([0.1], [1.0]) == 0.1
    assert ladder.lowest([0.1], [math.inf]) is None
