"""Convolution, pooling and batch norm: against finite differences in float64, and against PyTorch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks.layers import batch_norm, convolution, pooling, products

Array = NDArray[Any]
SIDE, N, CHANNELS, FILTERS = 4, 3, 2, 3


@functools.cache
def ready(function: Callable[..., Any]) -> Callable[..., Any]:
    return specialise(function, "test")


def inside(images: Array) -> Array:
    """(n, channels, height, width) to the layers' (height, channels, width * n)."""
    n, channels, height, width = images.shape
    return np.ascontiguousarray(images.transpose(2, 1, 3, 0)).reshape(height, channels, width * n)


def outside(x: Array, n: int) -> Array:
    height, channels, size = x.shape
    return x.reshape(height, channels, size // n, n).transpose(3, 1, 0, 2)


def numeric(function: Callable[[], float], at: Array, step: float = 1e-6) -> Array:
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


def convolve(x: Array, w: Array) -> Array:
    out = np.full((x.shape[0], w.shape[0], x.shape[2]), np.nan)
    ready(convolution.convolution)(x, w, N, np.full(w.shape[1] * x.shape[2], np.nan), out)
    return out


def test_columns_are_the_image_shifted(draw: np.random.Generator):
    images = draw.normal(size=(N, CHANNELS, SIDE, SIDE))
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.full((9 * CHANNELS, SIDE * N), np.nan)
    for y in range(SIDE):
        ready(convolution.columns)(inside(images), y, N, out)
        for k, line in enumerate(out):
            c, i, j = k // 9, k % 9 // 3, k % 3
            np.testing.assert_array_equal(line.reshape(SIDE, N).T, padded[:, c, y + i, j : j + SIDE])


def test_images_are_gathered_and_laid_out(draw: np.random.Generator):
    x, rows = draw.normal(size=(6, SIDE * SIDE)), np.array([5, 0, 2])
    out = np.full((SIDE, 1, SIDE * N), np.nan)
    ready(convolution.gather_images)(x, rows, out)
    np.testing.assert_array_equal(outside(out, N)[:, 0].reshape(N, -1), x[rows])


def test_convolution_s_gradients_are_its_derivatives(draw: np.random.Generator):
    x, w = draw.normal(size=(SIDE, CHANNELS, SIDE * N)), draw.normal(size=(FILTERS, 9 * CHANNELS))
    delta = draw.normal(size=(SIDE, FILTERS, SIDE * N))
    gw, dx = np.full_like(w, np.nan), np.full_like(x, np.nan)
    tile, part = np.full(9 * FILTERS * SIDE * N, np.nan), np.full(w.size, np.nan)
    ready(convolution.convolution_weights)(x, delta, N, tile, part, gw)
    ready(convolution.convolution_inputs)(delta, w, N, tile, part, dx)
    np.testing.assert_allclose(gw, numeric(lambda: float((convolve(x, w) * delta).sum()), w), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dx, numeric(lambda: float((convolve(x, w) * delta).sum()), x), rtol=1e-6, atol=1e-8)


def test_bias(draw: np.random.Generator):
    x, b, gb = draw.normal(size=(SIDE, FILTERS, SIDE * N)), draw.normal(size=FILTERS), np.full(FILTERS, np.nan)
    ready(convolution.bias_gradient)(x, gb)
    np.testing.assert_allclose(gb, x.sum(axis=(0, 2)), rtol=1e-12)
    expected = x + b[:, None]
    ready(convolution.add_bias)(x, b)
    np.testing.assert_array_equal(x, expected)


def test_max_pool_and_its_derivative(draw: np.random.Generator):
    x, delta = draw.normal(size=(SIDE, CHANNELS, SIDE * N)), draw.normal(size=(SIDE // 2, CHANNELS, SIDE // 2 * N))
    out, dx = np.full_like(delta, np.nan), np.full_like(x, np.nan)
    pool = ready(pooling.max_pool)

    def scalar() -> float:
        pool(x, N, out)
        return float((out * delta).sum())

    expected = numeric(scalar, x)
    scalar()
    blocks = outside(x, N).reshape(N, CHANNELS, SIDE // 2, 2, SIDE // 2, 2)
    np.testing.assert_array_equal(outside(out, N), blocks.max(axis=(3, 5)))
    ready(pooling.max_pool_backward)(x, out, delta, N, dx)
    np.testing.assert_allclose(dx, expected, rtol=1e-6, atol=1e-8)


def test_of_equal_pixels_the_first_gets_the_gradient():
    x, dx = np.ones((2, 1, 2)), np.full((2, 1, 2), np.nan)
    one = np.ones((1, 1, 1))
    ready(pooling.max_pool_backward)(x, one, one, 1, dx)
    np.testing.assert_array_equal(dx.reshape(-1), [1, 0, 0, 0])


def test_mean_pool_and_its_derivative(draw: np.random.Generator):
    x, delta = draw.normal(size=(SIDE, CHANNELS, SIDE * N)), draw.normal(size=(CHANNELS, N))
    out, dx = np.full_like(delta, np.nan), np.full_like(x, np.nan)
    ready(pooling.mean_pool)(x, N, out)
    np.testing.assert_allclose(out, outside(x, N).mean(axis=(2, 3)).T, rtol=1e-12)
    ready(pooling.mean_pool_backward)(delta, N, dx)
    np.testing.assert_allclose(
        outside(dx, N), np.broadcast_to(delta.T[:, :, None, None], (N, CHANNELS, SIDE, SIDE)) / 16
    )


def normed(x: Array, gain: Array, shift: Array) -> tuple[Array, Array, Array]:
    """Output, normalised input and variance."""
    normal, out = x.copy(), np.full_like(x, np.nan)
    mean, variance = np.full(gain.size, np.nan), np.full(gain.size, np.nan)
    ready(batch_norm.batch_statistics)(normal, mean, variance)
    ready(batch_norm.normalise)(normal, mean, variance)
    ready(batch_norm.scale_shift)(normal, gain, shift, out)
    return out, normal, variance


def test_batch_norm_and_its_derivative(draw: np.random.Generator):
    x, delta = 3 + 2 * draw.normal(size=(2, SIDE, CHANNELS, SIDE * N))
    gain, shift = draw.normal(size=(2, CHANNELS))

    def scalar() -> float:
        return float((normed(x, gain, shift)[0] * delta).sum())

    out, normal, variance = normed(x, gain, shift)
    np.testing.assert_allclose(normal.mean(axis=(0, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(variance, x.var(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(out, normal * gain[:, None] + shift[:, None], rtol=1e-12)
    ggain, gshift, dx = np.full_like(gain, np.nan), np.full_like(shift, np.nan), delta.copy()
    ready(batch_norm.batch_norm_backward)(normal, variance, gain, dx, ggain, gshift)
    for found, at in ((dx, x), (ggain, gain), (gshift, shift)):
        np.testing.assert_allclose(found, numeric(scalar, at), rtol=1e-5, atol=1e-7)


def test_a_nan_is_not_lost():
    x = np.full((2, 1, 2), np.nan)
    out, _, _ = normed(x, np.ones(1), np.zeros(1))
    assert np.isnan(out).all()
    pooled = np.zeros((1, 1, 1))
    ready(pooling.max_pool)(x, 1, pooled)
    assert np.isnan(pooled).all()


@pytest.mark.parametrize("shape", [(5, 4, 3), (7, 300, 900), (100, 64, 128)])
def test_products_in_pieces_are_the_product(draw: np.random.Generator, shape: tuple[int, int, int]):
    m, k, n = shape
    a, b, out = draw.normal(size=(m, k)), draw.normal(size=(n, k)), np.full((m, n), np.nan)
    ready(products.product)(a, np.ascontiguousarray(b.T), out)
    np.testing.assert_allclose(out, a @ b.T, rtol=1e-10, atol=1e-10)
    turned = np.full((k, m), np.nan)
    ready(products.transpose)(a, turned)
    np.testing.assert_array_equal(turned, a.T)


@pytest.mark.parity
def test_the_same_as_pytorch(draw: np.random.Generator):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    images, w = draw.normal(size=(N, CHANNELS, SIDE, SIDE)), draw.normal(size=(FILTERS, CHANNELS, 3, 3))
    gain, shift = draw.normal(size=(2, FILTERS))
    mine = convolve(inside(images), w.reshape(FILTERS, -1))
    tensors = [torch.tensor(a, requires_grad=True) for a in (images, w, gain, shift)]
    x, weight, g, s = tensors
    convolved = functional.conv2d(x, weight, padding=1)
    np.testing.assert_allclose(outside(mine, N), convolved.detach().numpy(), rtol=1e-10)
    twin = functional.max_pool2d(functional.batch_norm(convolved, None, None, g, s, training=True), 2)
    out, normal, variance = normed(mine, gain, shift)
    pooled = np.full((SIDE // 2, FILTERS, SIDE // 2 * N), np.nan)
    ready(pooling.max_pool)(out, N, pooled)
    np.testing.assert_allclose(outside(pooled, N), twin.detach().numpy(), rtol=1e-10, atol=1e-12)
    delta = draw.normal(size=twin.shape)
    twin.backward(torch.tensor(delta))
    dx, ggain, gshift = np.full_like(out, np.nan), np.full_like(gain, np.nan), np.full_like(shift, np.nan)
    ready(pooling.max_pool_backward)(out, pooled, inside(delta), N, dx)
    ready(batch_norm.batch_norm_backward)(normal, variance, gain, dx, ggain, gshift)
    tile, part = np.empty(9 * FILTERS * SIDE * N), np.empty(w.size)
    gw, source = np.full((FILTERS, 9 * CHANNELS), np.nan), np.full((SIDE, CHANNELS, SIDE * N), np.nan)
    ready(convolution.convolution_weights)(inside(images), dx, N, tile, part, gw)
    ready(convolution.convolution_inputs)(dx, w.reshape(FILTERS, -1), N, tile, part, source)
    for found, tensor in zip((outside(source, N), gw.reshape(w.shape), ggain, gshift), tensors, strict=True):
        np.testing.assert_allclose(found, tensor.grad.numpy(), rtol=1e-8, atol=1e-10)
