<<<<<<< HEAD
"""Stacks of dense layers, and the losses beside them: against finite differences and PyTorch."""

from __future__ import annotations

=======
"""Stacks of dense layers, embedding tables and rankings: against finite differences, and against plain formulas."""

from __future__ import annotations

import itertools
from collections.abc import Callable

>>>>>>> ffb06a6258068216a012401592f056f7423d1335
import numpy as np
import pytest

from optadvisor.kernels.compiling import specialise
<<<<<<< HEAD
from optadvisor.studies.tasks.layers import losses, stack
from optadvisor.studies.tasks.layers.start import dense_counts, dense_start

FORWARD, BACKWARD, TO_INPUT = (
    specialise(function, "stack") for function in (stack.stack_forward, stack.stack_backward, stack.stack_to_input)
)
SIZES = ([3, 2], [3, 5, 2], [2, 4, 6, 3])


class Stack:
    def __init__(self, sizes: list[int], rows: int, smooth: bool) -> None:
        rng = np.random.default_rng(0)
        self.sizes, self.rows, self.smooth = np.array(sizes), rows, smooth
        self.weights, self.biases = dense_start(rng, sizes)
        self.x = rng.standard_normal((rows, sizes[0]))
        self.delta = rng.standard_normal((rows, sizes[-1]))
        self.activations = np.full(rows * sum(sizes), np.nan)

    def loss(self, weights: np.ndarray, biases: np.ndarray, x: np.ndarray) -> float:
        stack.stack_input(self.sizes, self.rows, self.activations)[...] = x
        FORWARD(self.sizes, weights, biases, self.rows, self.activations, self.smooth)
        return float((stack.stack_output(self.sizes, self.rows, self.activations) * self.delta).sum())

    def deltas(self) -> np.ndarray:
        found = np.full_like(self.activations, np.nan)
        stack.stack_output(self.sizes, self.rows, found)[...] = self.delta
        return found


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_backward_is_the_derivative(sizes: list[int], smooth: bool):
    made = Stack(sizes, 7, smooth)
    point = [made.weights, made.biases, made.x]
    made.loss(*point)
    deltas = made.deltas()
    found = [np.full_like(made.weights, np.nan), np.full_like(made.biases, np.nan)]
    BACKWARD(made.sizes, made.weights, 7, made.activations, deltas, *found, smooth, True)
    found.append(stack.stack_input(made.sizes, 7, deltas))
    rng = np.random.default_rng(2)
    for k, part in enumerate(point):
        for _ in range(5):
            direction = rng.standard_normal(part.shape)
            sides = [
                made.loss(*[p + s * 1e-6 * direction if j == k else p for j, p in enumerate(point)]) for s in (1, -1)
            ]
            assert (found[k] * direction).sum() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_input_s_gradient_alone_of_the_rows_in_front(sizes: list[int], smooth: bool):
    made = Stack(sizes, 7, smooth)
    made.loss(made.weights, made.biases, made.x)
    whole, some = made.deltas(), made.deltas()
    BACKWARD(made.sizes, made.weights, 7, made.activations, whole, made.weights * 0, made.biases * 0, smooth, True)
    TO_INPUT(made.sizes, made.weights, 4, 7, made.activations, some, smooth)
    expected = stack.stack_input(made.sizes, 7, whole)[:4]
    np.testing.assert_allclose(stack.stack_input(made.sizes, 7, some)[:4], expected, rtol=1e-12)


def test_counts_are_those_of_the_arrays():
    for sizes in SIZES:
        weights, biases = dense_start(np.random.default_rng(0), sizes)
        assert dense_counts(sizes) == (weights.size, biases.size)
        assert stack.stack_weights(np.array(sizes)) == weights.size
        assert stack.stack_width(np.array(sizes)) == sum(sizes)


@pytest.mark.parity
@pytest.mark.parametrize("smooth", [False, True])
def test_a_stack_is_pytorch_s(smooth: bool):
    torch = pytest.importorskip("torch")
    sizes = SIZES[2]
    made = Stack(sizes, 7, smooth)
    value = made.loss(made.weights, made.biases, made.x)
    deltas, gw, gb = made.deltas(), np.empty_like(made.weights), np.empty_like(made.biases)
    BACKWARD(made.sizes, made.weights, 7, made.activations, deltas, gw, gb, smooth, True)
    weights, biases, x = (torch.tensor(a, requires_grad=True) for a in (made.weights, made.biases, made.x))
    h, w, b = x, 0, 0
    for layer, (m, n) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        h = torch.nn.functional.linear(h, weights[w : w + m * n].reshape(m, n).T, biases[b : b + n])
        w, b = w + m * n, b + n
        if layer < len(sizes) - 2:
            h = torch.tanh(h) if smooth else torch.relu(h)
    loss = (h * torch.tensor(made.delta)).sum()
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-12)
    for found, tensor in ((gw, weights), (gb, biases), (stack.stack_input(made.sizes, 7, deltas), x)):
        np.testing.assert_allclose(found, tensor.grad.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bernoulli_loss_is_the_binary_cross_entropy(dtype: type):
    rng = np.random.default_rng(0)
    z, target = (4 * rng.standard_normal((5, 64))).astype(dtype), rng.uniform(size=(5, 64)).astype(dtype)
    z[0, :2] = 200, -200
    delta = np.empty_like(z)
    wide = z.astype(np.float64)
    expected = (np.logaddexp(0, wide) - wide * target).sum(axis=1).mean()
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    assert specialise(losses.bernoulli_loss, "losses")(z, target, delta) == pytest.approx(expected, rel=tolerance)
    np.testing.assert_allclose(delta, (1 / (1 + np.exp(-wide)) - target) / 5, atol=tolerance)


def test_bernoulli_loss_of_nan_is_nan():
    z = np.array([[0.0, np.nan]], dtype=np.float32)
    assert np.isnan(specialise(losses.bernoulli_loss, "losses")(z, np.zeros_like(z), np.empty_like(z)))


@pytest.mark.parametrize("x", [-800.0, -1.5, 0.0, 3.0, 800.0])
def test_softplus(x: float):
    assert specialise(losses.softplus, "losses")(x) == pytest.approx(np.logaddexp(0, x), rel=1e-14)
=======
from optadvisor.studies.tasks.layers import embeddings
from optadvisor.studies.tasks.layers.ranking import area_under_curve
from optadvisor.studies.tasks.layers.stack import last_layer, stack, stack_backward, stack_inputs_backward

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


@pytest.mark.parametrize("sizes", [(4, 3), (4, 5, 2), (3, 6, 4, 1)])
def test_the_backward_of_a_stack_is_its_derivative(draw: np.random.Generator, sizes: tuple[int, ...]):
    n, units = 5, sum(sizes[1:])
    shape = np.array(sizes)
    x = draw.normal(size=(n, sizes[0]))
    weights = draw.normal(size=sum(a * b for a, b in itertools.pairwise(sizes)))
    biases = draw.normal(size=units)
    hidden, deltas = np.empty(n * units), np.full(n * units, np.nan)
    out = draw.normal(size=(n, sizes[-1]))

    def scalar() -> float:
        return float((stack(x, shape, weights, biases, hidden) * out).sum())

    expected = [numeric(scalar, at) for at in (weights, biases, x)]
    scalar()
    assert np.shares_memory(last_layer(n, shape, hidden), hidden)
    np.testing.assert_array_equal(last_layer(n, shape, hidden), stack(x, shape, weights, biases, hidden))
    last_layer(n, shape, deltas)[:] = out
    gw, gb, dx = (np.full_like(array, np.nan) for array in (weights, biases, x))
    stack_backward(x, shape, weights, hidden, deltas, gw, gb)
    stack_inputs_backward(shape, weights, deltas, dx)
    for found, wanted in zip((gw, gb, dx), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)


def test_a_table_s_gradient_adds_up_over_the_rows_that_were_looked_up(draw: np.random.Generator):
    table, ids, rows = draw.normal(size=(6, 3)), draw.integers(6, size=(8, 2)), np.array([7, 0, 0, 3])
    out, weight = np.full((4, 5), -1.0), draw.normal(size=(4, 5))

    def scalar() -> float:
        embeddings.lookup(table, ids, rows, 1, out, 2)
        return float((out * weight)[:, 2:].sum())

    expected = numeric(scalar, table)
    np.testing.assert_array_equal(out[:, :2], -1)
    np.testing.assert_array_equal(out[:, 2:], table[ids[rows, 1]])
    found = np.zeros_like(table)
    embeddings.lookup_backward(weight, 2, ids, rows, 1, found)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_pairwise_dots_and_their_derivative(draw: np.random.Generator):
    x, out = draw.normal(size=(3, 4 * 2)), np.full((3, 7), -1.0)
    weight = draw.normal(size=(3, 7))

    def scalar() -> float:
        embeddings.pairwise_dots(x, 2, out, 1)
        return float((out * weight)[:, 1:].sum())

    expected = numeric(scalar, x)
    scalar()
    vectors = x.reshape(3, 4, 2)
    below = np.tril_indices(4, -1)
    np.testing.assert_array_equal(out[:, 0], -1)
    np.testing.assert_allclose(out[:, 1:], (vectors @ vectors.transpose(0, 2, 1))[:, below[0], below[1]], rtol=1e-12)
    found = np.ones_like(x)
    embeddings.pairwise_dots_backward(x, 2, weight, 1, found)
    np.testing.assert_allclose(found - 1, expected, rtol=1e-6, atol=1e-8)


def test_row_dots_and_their_derivative(draw: np.random.Generator):
    x, y, out, weight = draw.normal(size=(3, 4)), draw.normal(size=(3, 4)), np.empty(3), draw.normal(size=3)

    def scalar() -> float:
        embeddings.row_dots(x, y, out)
        return float(out @ weight)

    expected = numeric(scalar, x), numeric(scalar, y)
    scalar()
    np.testing.assert_allclose(out, (x * y).sum(axis=1), rtol=1e-12)
    found = np.full_like(x, np.nan), np.full_like(y, np.nan)
    embeddings.row_dots_backward(x, y, weight, *found)
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
>>>>>>> ffb06a6258068216a012401592f056f7423d1335
