"""Rotations and heavy-tailed numbers of the landscapes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import hadamard
from scipy.stats import kstest, t

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks.layers.numbers import fill_student
from optadvisor.studies.tasks.layers.rotation import rotate, rotate_back, walsh_hadamard

SIZES = (1, 2, 8, 64)


def matrix(signs: np.ndarray) -> np.ndarray:
    """H D3 H D2 H D1, with orthogonal H."""
    n = signs.size // 3
    found = np.eye(n)
    for part in signs.reshape(3, n):
        found = hadamard(n) @ np.diag(part) @ found / np.sqrt(n)
    return found


@pytest.mark.parametrize("size", SIZES)
def test_the_transform_is_hadamards_matrix(size: int):
    x = np.random.default_rng(0).standard_normal(size)
    found = x.copy()
    walsh_hadamard(found)
    np.testing.assert_allclose(found, hadamard(size) @ x, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_rotate_is_orthogonal_and_rotate_back_undoes_it(size: int, dtype: type):
    rng = np.random.default_rng(1)
    x, signs = rng.standard_normal(size).astype(dtype), rng.choice([-1.0, 1.0], 3 * size).astype(dtype)
    forth, back = specialise(rotate, "test"), specialise(rotate_back, "test")
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    found = x.copy()
    forth(found, signs)
    q = matrix(signs)
    np.testing.assert_allclose(q @ q.T, np.eye(size), atol=1e-12)
    np.testing.assert_allclose(found, q @ x, atol=tolerance)
    back(found, signs)
    np.testing.assert_allclose(found, x, atol=tolerance)


def test_a_rotation_mixes_every_direction_into_all():
    signs = np.random.default_rng(2).choice([-1.0, 1.0], 3 * 64)
    q = matrix(signs)
    assert np.abs(q).max() < 0.6  # a random rotation's largest of 64 * 64 elements is about 4 / sqrt(64)
    assert (np.abs(q) > 0.01).mean() > 0.8


@pytest.mark.parametrize("degrees", [1.1, 2.0, 5.0])
def test_student_numbers_have_the_distribution(degrees: float):
    out = np.empty(20_000)
    specialise(fill_student, "test")(7, degrees, out)
    assert kstest(out, t(degrees).cdf).pvalue > 0.01
    other = np.empty(20_000)
    specialise(fill_student, "test")(8, degrees, other)
    assert abs(np.mean(np.sign(out * other))) < 0.03
