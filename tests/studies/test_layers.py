"""Dense layers, losses and smooth functions: against finite differences in float64, and against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks.layers import dense, losses, numbers, smooth

BATCH, INPUTS, OUTPUTS = 5, 4, 3


class layers:  # noqa: N801  # compiled, under the names of their modules' functions
    gather, affine = specialise(dense.gather, "test"), specialise(dense.dense, "test")
    dense_backward = specialise(dense.dense_backward, "test")
    relu, relu_backward = specialise(dense.relu, "test"), specialise(dense.relu_backward, "test")
    tanh, tanh_backward = specialise(dense.tanh, "test"), specialise(dense.tanh_backward, "test")
    softmax_cross_entropy = specialise(losses.softmax_cross_entropy, "test")
    squared_error, logistic_loss = specialise(losses.squared_error, "test"), specialise(losses.logistic_loss, "test")
    correct = specialise(losses.correct, "test")
    mix, fill_normal = specialise(numbers.mix, "test"), specialise(numbers.fill_normal, "test")
    normal, uniform = specialise(numbers.normal, "test"), specialise(numbers.uniform, "test")
    shuffle = specialise(numbers.shuffle, "test")


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


def test_gather_copies_the_rows_asked_for(draw: np.random.Generator):
    x, out = draw.normal(size=(6, 3)), np.empty((4, 3))
    layers.gather(x, np.array([5, 0, 0, 2]), out)
    np.testing.assert_array_equal(out, x[[5, 0, 0, 2]])


def test_dense_backward_is_the_derivative_of_dense(draw: np.random.Generator):
    x, w, b = draw.normal(size=(BATCH, INPUTS)), draw.normal(size=(INPUTS, OUTPUTS)), draw.normal(size=OUTPUTS)
    delta, out = draw.normal(size=(BATCH, OUTPUTS)), np.empty((BATCH, OUTPUTS))

    def scalar() -> float:
        layers.affine(x, w, b, out)
        return float((out * delta).sum())

    gw, gb = np.full_like(w, np.nan), np.full_like(b, np.nan)
    layers.dense_backward(x, delta, gw, gb)
    scalar()
    np.testing.assert_allclose(out, x @ w + b, rtol=1e-12)
    np.testing.assert_allclose(gw, numeric(scalar, w), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(gb, numeric(scalar, b), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("function", "backward"), [(layers.relu, layers.relu_backward), (layers.tanh, layers.tanh_backward)]
)
def test_backward_is_the_derivative(
    function: Callable[..., None], backward: Callable[..., None], draw: np.random.Generator
):
    x, delta = draw.normal(size=(BATCH, OUTPUTS)), draw.normal(size=(BATCH, OUTPUTS))

    def scalar() -> float:
        out = x.copy()
        function(out)
        return float((out * delta).sum())

    expected = numeric(scalar, x)
    output, found = x.copy(), delta.copy()
    function(output)
    backward(output, found)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_softmax_cross_entropy_and_its_derivative(draw: np.random.Generator):
    z, labels, rows = draw.normal(size=(BATCH, OUTPUTS)), np.array([2, 0, 1, 1]), np.array([3, 0, 0, 1, 2])
    delta = np.empty_like(z)
    loss = layers.softmax_cross_entropy(z, rows, labels, delta)
    log_probability = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    assert loss == pytest.approx(-log_probability[np.arange(BATCH), labels[rows]].mean(), rel=1e-12)
    expected = numeric(lambda: layers.softmax_cross_entropy(z, rows, labels, np.empty_like(z)), z)
    np.testing.assert_allclose(delta, expected, rtol=1e-6, atol=1e-8)
    assert layers.softmax_cross_entropy(z, rows, labels, z) == loss
    np.testing.assert_array_equal(z, delta)


def test_softmax_cross_entropy_of_large_logits_is_finite():
    z = np.array([[1000.0, -1000.0], [-1000.0, 1000.0]])
    loss = layers.softmax_cross_entropy(z, np.array([0, 1]), np.array([0, 0]), z)
    assert loss == 1000.0
    np.testing.assert_array_equal(z, [[0, 0], [-0.5, 0.5]])


def test_a_nan_reaches_the_loss():
    """A diverged network must not look like a dead one."""
    x = np.array([[np.nan, -1.0, 2.0]], dtype=np.float32)
    layers.relu(x)
    np.testing.assert_array_equal(x, [[np.nan, 0, 2]])
    assert np.isnan(layers.softmax_cross_entropy(x, np.array([0]), np.array([1]), x))


def test_correct_counts_the_rows_with_their_label_on_top():
    z = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert layers.correct(z, np.array([1, 0, 0]), np.array([0, 1])) == 2


def test_squared_error_and_its_derivative(draw: np.random.Generator):
    z, target, delta = draw.normal(size=(4, 3)), draw.normal(size=(4, 3)), np.empty((4, 3))
    assert layers.squared_error(z, target, delta) == pytest.approx(np.mean((z - target) ** 2), rel=1e-12)
    expected = numeric(lambda: layers.squared_error(z, target, np.empty_like(z)), z)
    np.testing.assert_allclose(delta, expected, rtol=1e-6, atol=1e-9)


def test_logistic_loss_and_its_derivative(draw: np.random.Generator):
    z, target, delta = 3 * draw.normal(size=7), draw.integers(0, 2, 7).astype(float), np.empty(7)
    p = 1 / (1 + np.exp(-z))
    expected = -np.mean(target * np.log(p) + (1 - target) * np.log(1 - p))
    assert layers.logistic_loss(z, target, delta) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(
        delta, numeric(lambda: layers.logistic_loss(z, target, np.empty_like(z)), z), rtol=1e-6, atol=1e-9
    )


FUNCTION = None


def _over(x, out):
    for i in range(x.size):
        out[i] = FUNCTION(x[i])


@pytest.mark.parametrize(
    ("function", "exact", "width", "relative", "absolute"),
    [
        (smooth.exponential, np.exp, 86.0, 2e-7, 0.0),
        (smooth.hyperbolic_tangent, np.tanh, 20.0, 0.0, 3e-7),
        (smooth.logistic, lambda x: 1 / (1 + np.exp(-x)), 40.0, 0.0, 2e-7),
    ],
)
def test_smooth_functions(
    function: Callable[..., float],
    exact: Callable[[np.ndarray], np.ndarray],
    width: float,
    relative: float,
    absolute: float,
):
    over = specialise(_over, "test", FUNCTION=function)
    x = np.linspace(-width, width, 100_001, dtype=np.float32)
    out, wide = np.empty_like(x), np.empty(x.size)
    over(x, out)
    np.testing.assert_allclose(out, exact(x.astype(np.float64)), rtol=relative, atol=absolute)
    over(x.astype(np.float64), wide)
    np.testing.assert_allclose(wide, exact(x.astype(np.float64)), rtol=1e-14, atol=1e-15)
    ends = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], np.float32)
    found = np.empty_like(ends)
    over(ends, found)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, exact(ends))


def test_numbers_follow_from_key_and_counter():
    keys = {layers.mix(key, counter) for key in range(40) for counter in range(40)}
    assert len(keys) == 1600
    assert all(0 <= key < 2**63 for key in keys)
    assert layers.mix(5, 7) == layers.mix(5, 7)


def test_normal_numbers_are_normal():
    out = np.empty(200_001)
    layers.fill_normal(3, out)
    n = out.size
    assert abs(out.mean()) < 4 / np.sqrt(n)
    assert abs(out.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs((out**4).mean() - 3) < 4 * np.sqrt(96 / n)
    assert abs(np.corrcoef(out[:-1], out[1:])[0, 1]) < 4 / np.sqrt(n)
    other = np.empty_like(out)
    layers.fill_normal(4, other)
    assert abs(np.corrcoef(out, other)[0, 1]) < 4 / np.sqrt(n)
    single = np.array([layers.normal(9, i) for i in range(20_000)])
    assert abs(single.mean()) < 4 / np.sqrt(single.size)
    assert abs(single.var() - 1) < 4 * np.sqrt(2 / single.size)


def test_shuffling_gives_every_order_equally_often():
    counts: dict[tuple[int, ...], int] = {}
    for key in range(6000):
        order = np.arange(3)
        layers.shuffle(key, order)
        counts[tuple(order.tolist())] = counts.get(tuple(order.tolist()), 0) + 1
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts.values()) < 4 * np.sqrt(1000)
