"""Embedding tables, products of their rows, and rankings: against finite differences and plain formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks.layers import tables
from optadvisor.studies.tasks.layers.ranking import area_under_curve

AUC = specialise(area_under_curve, "auc")


def numeric(function: Callable[[], float], at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of a function with respect to every element of `at`."""
    found = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        kept = at[index]
        at[index] = kept + step
        above = function()
        at[index] = kept - step
        below = function()
        at[index] = kept
        found[index] = (above - below) / (2 * step)
    return found


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_table_s_gradient_adds_up_over_the_rows_that_were_looked_up(draw: np.random.Generator):
    table, ids, rows = draw.normal(size=(6, 3)), draw.integers(6, size=(8, 2)), np.array([7, 0, 0, 3])
    out, weight = np.full((4, 5), -1.0), draw.normal(size=(4, 5))

    def scalar() -> float:
        tables.lookup(table, ids, rows, 1, out, 2)
        return float((out * weight)[:, 2:].sum())

    expected = numeric(scalar, table)
    np.testing.assert_array_equal(out[:, :2], -1)
    np.testing.assert_array_equal(out[:, 2:], table[ids[rows, 1]])
    found = np.zeros_like(table)
    tables.lookup_backward(weight, 2, ids, rows, 1, found)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_pairwise_dots_and_their_derivative(draw: np.random.Generator):
    x, out, weight = draw.normal(size=(4 * 2, 3)), np.full((6, 3), np.nan), draw.normal(size=(6, 3))

    def scalar() -> float:
        tables.pairwise_dots(x, 2, out)
        return float((out * weight).sum())

    expected = numeric(scalar, x)
    scalar()
    vectors = x.T.reshape(3, 4, 2)
    first, second = np.tril_indices(4, -1)
    np.testing.assert_allclose(out.T, (vectors @ vectors.transpose(0, 2, 1))[:, first, second], rtol=1e-12)
    found = np.ones_like(x)
    tables.pairwise_dots_backward(x, 2, weight, found)
    np.testing.assert_allclose(found - 1, expected, rtol=1e-6, atol=1e-8)


def test_row_dots_and_their_derivative(draw: np.random.Generator):
    x, y, out, weight = draw.normal(size=(3, 4)), draw.normal(size=(3, 4)), np.empty(3), draw.normal(size=3)

    def scalar() -> float:
        tables.row_dots(x, y, out)
        return float(out @ weight)

    expected = numeric(scalar, x), numeric(scalar, y)
    scalar()
    np.testing.assert_allclose(out, (x * y).sum(axis=1), rtol=1e-12)
    found = np.full_like(x, np.nan), np.full_like(y, np.nan)
    tables.row_dots_backward(x, y, weight, *found)
    for one, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("levels", [3, 10_000])
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(draw: np.random.Generator, levels: int):
    scores, labels = draw.integers(levels, size=200) / levels, (draw.random(200) < 0.3).astype(float)
    pairs = np.sign(scores[labels == 1][:, None] - scores[labels == 0][None, :])
    assert AUC(scores, labels) == pytest.approx((pairs.mean() + 1) / 2, rel=1e-12)
    assert AUC(labels, labels) == 1
    assert AUC(-labels, labels) == 0
    assert AUC(0 * labels, labels) == 0.5
    assert np.isnan(AUC(scores, 0 * labels))


def test_the_area_under_the_curve_survives_scores_that_are_nan():
    scores = np.array([0.1, np.nan, 0.3, np.nan], dtype=np.float32)
    assert 0 <= AUC(scores, np.array([0, 1, 1, 0], dtype=np.float32)) <= 1
