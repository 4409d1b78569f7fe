"""Layers of language models: each derivative against finite differences in float64, each formula against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks.layers import attention as attention_layer
from optadvisor.studies.tasks.layers import embedding, gelu, layer_norm, next_token, patches, recurrent, transformer

Array = NDArray[np.float64]
BATCH, LENGTH, HEADS, WIDTH, HIDDEN, VOCABULARY = 3, 4, 2, 6, 5, 7
ROWS = BATCH * LENGTH


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return specialise(function, function.__name__, cache=False)


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


def close(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def empty(*shape: int) -> Array:
    """A layer has to write every element of what it gives."""
    return np.full(shape, np.nan)


@pytest.mark.parametrize("in_time_order", [True, False])
def test_embedding(draw: np.random.Generator, in_time_order: bool):
    table, tokens = draw.normal(size=(VOCABULARY, WIDTH)), draw.integers(0, VOCABULARY - 1, 20)
    rows, stride = np.array([2, 0, 5]), 3
    places = (1, BATCH) if in_time_order else (LENGTH, 1)
    out, gtable = empty(ROWS, WIDTH), empty(VOCABULARY, WIDTH)
    compiled(embedding.embed)(table, tokens, rows, stride, LENGTH, *places, out)
    windows = tokens[rows[:, None] * stride + np.arange(LENGTH)]
    order = windows.T if in_time_order else windows
    np.testing.assert_array_equal(out, table[order.reshape(-1)])

    delta = draw.normal(size=out.shape)
    compiled(embedding.embed_backward)(tokens, rows, stride, LENGTH, *places, delta, gtable)
    wanted = np.zeros_like(gtable)
    np.add.at(wanted, order.reshape(-1), delta)
    close(gtable, wanted)
    assert not gtable[VOCABULARY - 1].any(), "a token that does not occur has a gradient of zero"


def test_positions(draw: np.random.Generator):
    positions, x = draw.normal(size=(LENGTH, WIDTH)), draw.normal(size=(ROWS, WIDTH))
    out, found = x.copy(), empty(LENGTH, WIDTH)
    compiled(embedding.add_positions)(positions, BATCH, out)
    close(out, x + np.repeat(positions, BATCH, axis=0))
    compiled(embedding.positions_backward)(BATCH, x, found)
    close(found, x.reshape(LENGTH, BATCH, WIDTH).sum(axis=1))


def test_layer_norm(draw: np.random.Generator):
    x, gain, bias = 3 + draw.normal(size=(BATCH, WIDTH)), draw.normal(size=WIDTH), draw.normal(size=WIDTH)
    hat, scale, out, delta = empty(BATCH, WIDTH), empty(BATCH), empty(BATCH, WIDTH), draw.normal(size=(BATCH, WIDTH))
    forward, backward = compiled(layer_norm.layer_norm), compiled(layer_norm.layer_norm_backward)

    def scalar() -> float:
        forward(x, gain, bias, hat, scale, out)
        return float((out * delta).sum())

    scalar()
    centred = x - x.mean(axis=1, keepdims=True)
    close(out, gain * centred / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) + bias)
    into, ggain, gbias = np.ones_like(x), empty(WIDTH), empty(WIDTH)
    backward(delta, gain, hat, scale, ggain, gbias, into)
    close(into - 1, numeric(scalar, x))
    close(ggain, numeric(scalar, gain))
    close(gbias, numeric(scalar, bias))


@pytest.mark.parametrize("causal", [True, False])
def test_attention(draw: np.random.Generator, causal: bool):
    size = WIDTH // HEADS
    qkv, delta = draw.normal(size=(ROWS, 3 * WIDTH)), draw.normal(size=(ROWS, WIDTH))
    split, p, out = empty(BATCH * HEADS, 3, LENGTH, size), empty(BATCH * HEADS, LENGTH, LENGTH), empty(ROWS, WIDTH)
    forward, backward = compiled(attention_layer.attention), compiled(attention_layer.attention_backward)

    def scalar() -> float:
        forward(qkv, BATCH, causal, split, p, empty(LENGTH, size), out)
        return float((out * delta).sum())

    scalar()
    q, k, v = (part.reshape(LENGTH, BATCH, HEADS, size) for part in np.split(qkv, 3, axis=1))
    scores = np.einsum("tbhs,ubhs->bhtu", q, k) / np.sqrt(size)
    if causal:
        scores = np.where(np.tri(LENGTH, dtype=bool), scores, -np.inf)
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    close(p.reshape(weights.shape), weights)
    close(out, np.einsum("bhtu,ubhs->tbhs", weights, v).reshape(ROWS, WIDTH))
    found = empty(ROWS, 3 * WIDTH)
    backward(delta, BATCH, split, p, empty(2, LENGTH, size), empty(LENGTH, LENGTH), found)
    close(found, numeric(scalar, qkv))


def test_attention_with_huge_scores_is_finite(draw: np.random.Generator):
    """Also where the largest score is one that a causal place does not see: the exponential of it overflows."""
    size = WIDTH // HEADS
    qkv = (1e4 * draw.normal(size=(ROWS, 3 * WIDTH))).astype(np.float32)
    split = np.empty((BATCH * HEADS, 3, LENGTH, size), np.float32)
    p, out = np.empty((BATCH * HEADS, LENGTH, LENGTH), np.float32), np.empty((ROWS, WIDTH), np.float32)
    compiled(attention_layer.attention)(qkv, BATCH, True, split, p, np.empty((LENGTH, size), np.float32), out)
    np.testing.assert_allclose(p.sum(axis=2), 1, rtol=1e-6)
    assert (p[:, ~np.tri(LENGTH, dtype=bool)] == 0).all()
    assert np.isfinite(out).all()


def test_a_nan_goes_through_attention_to_the_places_that_see_it():
    qkv = np.ones((LENGTH, 3 * WIDTH), np.float32)
    qkv[1, 0] = np.nan  # a query
    size = WIDTH // HEADS
    split, p = np.empty((HEADS, 3, LENGTH, size), np.float32), np.empty((HEADS, LENGTH, LENGTH), np.float32)
    out = np.empty((LENGTH, WIDTH), np.float32)
    compiled(attention_layer.attention)(qkv, 1, True, split, p, np.empty((LENGTH, size), np.float32), out)
    assert np.isnan(out).any(axis=1).tolist() == [False, True, False, False]


def test_gelu(draw: np.random.Generator):
    x, delta, out = 2 * draw.normal(size=(BATCH, WIDTH)), draw.normal(size=(BATCH, WIDTH)), empty(BATCH, WIDTH)
    forward = compiled(gelu.gelu)

    def scalar() -> float:
        forward(x, out)
        return float((out * delta).sum())

    scalar()
    close(out, 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    found = delta.copy()
    compiled(gelu.gelu_backward)(x, found)
    close(found, numeric(scalar, x))


@pytest.mark.parametrize("in_time_order", [True, False])
def test_next_token_loss(draw: np.random.Generator, in_time_order: bool):
    z, tokens = draw.normal(size=(ROWS, VOCABULARY)), draw.integers(0, VOCABULARY, 20)
    rows, stride = np.array([2, 0, 5]), 3
    places = (1, BATCH) if in_time_order else (LENGTH, 1)
    function = compiled(next_token.next_token_loss)
    labels = tokens[rows[:, None] * stride + np.arange(LENGTH)]
    labels = (labels.T if in_time_order else labels).reshape(-1)
    found = z.copy()
    loss, right = function(found, tokens, rows, stride, LENGTH, *places)
    log_probability = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    assert loss == pytest.approx(-log_probability[np.arange(ROWS), labels].mean(), rel=1e-12)
    assert right == (z.argmax(axis=1) == labels).sum() > 0
    close(found, numeric(lambda: function(z.copy(), tokens, rows, stride, LENGTH, *places)[0], z))


def test_next_token_loss_of_a_nan_is_nan_and_of_huge_logits_finite():
    function = compiled(next_token.next_token_loss)
    z = np.array([[np.nan, -1.0, 2.0]], dtype=np.float32)
    assert np.isnan(function(z, np.array([1]), np.array([0]), 1, 1, 1, 1)[0])
    z = np.array([[1000.0, -1000.0, 0.0]], dtype=np.float32)
    assert function(z, np.array([0, 1]), np.array([1]), 1, 1, 1, 1) == (2000.0, 0)


def test_tanh_steps(draw: np.random.Generator):
    inputs, u = draw.normal(size=(ROWS, HIDDEN)), draw.normal(size=(HIDDEN, HIDDEN))
    states, delta = empty(ROWS + BATCH, HIDDEN), draw.normal(size=(ROWS, HIDDEN))
    forward = compiled(recurrent.tanh_steps)

    def scalar() -> float:
        forward(inputs, u, BATCH, states)
        return float((states[BATCH:] * delta).sum())

    scalar()
    h = np.zeros((BATCH, HIDDEN))
    for t, x in enumerate(inputs.reshape(LENGTH, BATCH, HIDDEN)):
        h = np.tanh(x + h @ u)
        close(states[(t + 1) * BATCH : (t + 2) * BATCH], h)
    found, gu = delta.copy(), empty(HIDDEN, HIDDEN)
    compiled(recurrent.tanh_steps_backward)(states, u, BATCH, found, empty(BATCH, HIDDEN), gu)
    close(found, numeric(scalar, inputs))
    close(gu, numeric(scalar, u))


def test_gated_steps(draw: np.random.Generator):
    inputs, u = draw.normal(size=(ROWS, 3 * HIDDEN)), draw.normal(size=(HIDDEN, 3 * HIDDEN))
    b, delta = draw.normal(size=HIDDEN), draw.normal(size=(ROWS, HIDDEN))
    turn, gates, states = empty(BATCH, 3 * HIDDEN), empty(ROWS, 4 * HIDDEN), empty(ROWS + BATCH, HIDDEN)
    forward = compiled(recurrent.gated_steps)

    def scalar() -> float:
        forward(inputs, u, b, BATCH, turn, gates, states)
        return float((states[BATCH:] * delta).sum())

    scalar()
    h = np.zeros((BATCH, HIDDEN))
    for t, x in enumerate(inputs.reshape(LENGTH, BATCH, 3 * HIDDEN)):
        (xr, xz, xn), (mr, mz, mn) = np.split(x, 3, axis=1), np.split(h @ u, 3, axis=1)
        r, z = 1 / (1 + np.exp(-xr - mr)), 1 / (1 + np.exp(-xz - mz))
        n = np.tanh(xn + r * (mn + b))
        h = n + z * (h - n)
        close(states[(t + 1) * BATCH : (t + 2) * BATCH], h)
    ginputs, gu, gb = empty(ROWS, 3 * HIDDEN), empty(HIDDEN, 3 * HIDDEN), empty(HIDDEN)
    gturn, back = empty(ROWS, 3 * HIDDEN), empty(BATCH, HIDDEN)
    compiled(recurrent.gated_steps_backward)(states, gates, u, BATCH, delta.copy(), back, ginputs, gturn, gu, gb)
    close(ginputs, numeric(scalar, inputs))
    close(gu, numeric(scalar, u))
    close(gb, numeric(scalar, b))


@pytest.mark.parametrize("causal", [True, False])
def test_transformer_block(draw: np.random.Generator, causal: bool):
    x, delta = draw.normal(size=(ROWS, WIDTH)), draw.normal(size=(ROWS, WIDTH))
    weights = 0.3 * draw.normal(size=transformer.MATRICES * WIDTH**2)
    others = 0.3 * draw.normal(size=transformer.VECTORS * WIDTH)
    sizes = (BATCH, LENGTH, WIDTH, HEADS)
    work, scratch = empty(transformer.kept_size(*sizes)), empty(transformer.scratch_size(*sizes))
    forward = compiled(transformer.block)

    def scalar() -> float:
        out = x.copy()
        forward(out, weights, others, BATCH, HEADS, causal, work, scratch)
        return float((out * delta).sum())

    scalar()
    found, gweights, gothers = delta.copy(), np.full_like(weights, np.nan), np.full_like(others, np.nan)
    compiled(transformer.block_backward)(found, weights, others, gweights, gothers, BATCH, HEADS, work, scratch)
    close(found, numeric(scalar, x))
    close(gweights, numeric(scalar, weights))
    close(gothers, numeric(scalar, others))
    assert np.isfinite(work).all(), "no more room is asked for than is used"
    assert np.isfinite(scratch).all()


def test_a_causal_block_does_not_look_ahead(draw: np.random.Generator):
    sizes = (BATCH, LENGTH, WIDTH, HEADS)
    weights, others = draw.normal(size=transformer.MATRICES * WIDTH**2), draw.normal(size=transformer.VECTORS * WIDTH)
    x = draw.normal(size=(ROWS, WIDTH))
    changed = x.copy()
    changed[-BATCH:] += 1  # the last place of every sequence
    for each in (x, changed):
        work, scratch = empty(transformer.kept_size(*sizes)), empty(transformer.scratch_size(*sizes))
        compiled(transformer.block)(each, weights, others, BATCH, HEADS, True, work, scratch)
    np.testing.assert_array_equal(x[:-BATCH], changed[:-BATCH])
    assert (x[-BATCH:] != changed[-BATCH:]).all()


def test_patches_and_their_mean(draw: np.random.Generator):
    side, across = 2, 3
    images, rows = draw.normal(size=(5, 6, 6)), np.array([4, 0, 2])
    found = empty(across**2 * BATCH, side * side)
    compiled(patches.patches)(images, rows, side, found)
    for place in range(across**2):
        top, left = place // across * side, place % across * side
        for i, row in enumerate(rows):
            wanted = images[row, top : top + side, left : left + side]
            np.testing.assert_array_equal(found[place * BATCH + i].reshape(side, side), wanted)

    mean, delta, gx = empty(BATCH, side * side), draw.normal(size=(BATCH, side * side)), empty(*found.shape)
    compiled(patches.mean_of_places)(found, mean)
    close(mean, found.reshape(across**2, BATCH, -1).mean(axis=0))
    compiled(patches.mean_of_places_backward)(delta, gx)
    close(gx.reshape(across**2, BATCH, -1), np.broadcast_to(delta / across**2, (across**2, *delta.shape)))
