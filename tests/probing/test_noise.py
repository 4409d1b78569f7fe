"""Noise scale, tail index and agreement where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from optadvisor.probing import noise as noises
from tests.probing.analytic import stable


def gram_of(gradients: np.ndarray) -> np.ndarray:
    return gradients @ gradients.T


def test_both_estimates_are_unbiased_and_the_interval_covers():
    """G of norm 1, noise of trace 40 an example: batches of 10 have 4 and the noise scale is 40 examples."""
    size, batch, n, rng = 50, 10, 32, np.random.default_rng(0)
    true = np.zeros(size)
    true[0] = 1.0
    deviations = np.sqrt(rng.uniform(0, 2, size))
    trace = float((deviations**2).sum())
    found = []
    for _ in range(400):
        batches = true + rng.standard_normal((n, size)) * deviations / np.sqrt(batch)
        found.append(noises.noise(gram_of(batches), batch))
    for values, wanted in (([f.norm2 for f in found], 1.0), ([f.trace for f in found], trace)):
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - wanted) < 3.5 * error
        assert error < 0.02 * wanted
    scales = np.array([f.scale for f in found])
    assert np.median(scales) == pytest.approx(trace, rel=0.1)
    inside = np.mean([f.low <= trace and (f.high is None or trace <= f.high) for f in found])
    assert 0.74 < inside < 0.86, inside


def test_two_batch_sizes_as_in_the_paper():
    """The estimators of appendix A.1, written with the norms at the sizes B and n B."""
    rng, n, batch = np.random.default_rng(1), 16, 8
    batches = 0.3 + rng.standard_normal((n, 20))
    found = noises.noise(gram_of(batches), batch)
    small, big = (batches**2).sum(axis=1).mean(), (batches.mean(axis=0) ** 2).sum()
    assert found.norm2 == pytest.approx((n * batch * big - batch * small) / (n * batch - batch))
    assert found.trace == pytest.approx((small - big) / (1 / batch - 1 / (n * batch)))
    assert found.scale == pytest.approx(found.trace / found.norm2)


def test_a_gradient_lost_in_noise_has_no_scale():
    rng, scales = np.random.default_rng(2), []
    for _ in range(50):
        found = noises.noise(gram_of(rng.standard_normal((32, 40))), 4)
        scales.append(found.scale)
        assert found.unit == "examples"
        if found.norm2 <= 0:
            assert found.scale is None
            assert found.high is None
            assert found.low is None or found.low > 0
    assert sum(scale is None for scale in scales) > 40


def test_without_a_batch_size_it_counts_mini_batches():
    batches = 1.0 + np.random.default_rng(3).standard_normal((32, 10))
    known, unknown = noises.noise(gram_of(batches), 8), noises.noise(gram_of(batches), None)
    assert unknown.unit == "mini-batches"
    assert known.scale == pytest.approx(8 * unknown.scale)


@pytest.mark.parametrize(("alpha", "tolerance"), [(2.0, 0.08), (1.7, 0.08), (1.5, 0.08), (1.0, 0.08), (0.7, 0.08)])
def test_the_tail_index_of_stable_noise(alpha: float, tolerance: float):
    """Around gradients of any size, of parameters with noise of any scale."""
    rng = np.random.default_rng(4)
    scales = 10.0 ** rng.uniform(-6, 0, 500)
    gradients = (rng.standard_normal(500) + stable(alpha, rng, (32, 500)) * scales).astype(np.float64)
    found = noises.tail(gradients, rng)
    assert found.alpha == pytest.approx(alpha, abs=tolerance)
    assert (found.entries, found.share) == (500, 1.0)


def test_the_tail_index_of_gaussian_noise_does_not_depend_on_the_scales():
    """Pooled over parameters of unlike scale the same estimator reads far less than 2."""
    rng = np.random.default_rng(5)
    scales = 10.0 ** rng.uniform(-3, 0, 400)
    noise = rng.standard_normal((32, 400)) * scales
    assert noises.tail(noise, rng).alpha == pytest.approx(2.0, abs=0.1)
    flat = rng.permutation((noise[::2] - noise[1::2]).ravel())
    single = np.log(np.abs(flat)).mean()
    pooled = np.log(4) / (np.log(np.abs(flat.reshape(-1, 4).sum(axis=1))).mean() - single)
    assert pooled < 1.5


def test_the_tail_index_leaves_out_parameters_without_noise():
    rng = np.random.default_rng(6)
    gradients = np.where(np.arange(40) < 10, 1.0, rng.standard_normal((32, 40)))
    found = noises.tail(gradients, rng)
    assert (found.entries, found.share) == (30, 0.75)
    assert noises.tail(np.ones((32, 5)), rng) == noises.Tail(None, 0, 0.0)
    assert noises.tail(gradients[:6], rng) == noises.Tail(None, 0, 0.0), "too few to add four differences up"


def test_agreement_is_the_mean_cosine_of_neighbours():
    vectors = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, -3.0], [3.0, -3.0]])
    assert noises.agreement(gram_of(vectors)) == pytest.approx((0.0 - 1.0 + np.sqrt(0.5)) / 3)
    assert noises.agreement(gram_of(np.array([[1.0, 0.0], [0.0, 0.0]]))) is None
    assert noises.cosine(np.float32([1, 1]), np.float32([2, 0])) == pytest.approx(np.sqrt(0.5))
    assert noises.cosine(np.float32([0, 0]), np.float32([2, 0])) == 0.0


def test_equal_gradients_have_no_noise():
    found = noises.noise(gram_of(np.tile([0.1, 0.7, -0.3], (8, 1))), 4)
    assert found.scale == pytest.approx(0.0, abs=1e-12)
    assert found.trace >= 0.0
    nothing = noises.noise(np.zeros((8, 8)), 4)
    assert (nothing.scale, nothing.low, nothing.high) == (None, None, None)
