"""Stacks of dense layers, and the losses beside them: against finite differences and PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from optadvisor.kernels.compiling import specialise
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
    for layer, (m, n) in enumerate(itertools.pairwise(sizes)):
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
