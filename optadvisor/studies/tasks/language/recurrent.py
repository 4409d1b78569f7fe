"""text-rnn and text-gru: a recurrent net reads characters and says the next one (Mikolov et al. 2010; Cho et al. 2014).

The gradient goes back to the start of a window, where the state is zero: truncated backpropagation through time.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values, views
from optadvisor.studies.tasks.language import corpus
from optadvisor.studies.tasks.layers.dense import dense, dense_backward
from optadvisor.studies.tasks.layers.embedding import embed, embed_backward
from optadvisor.studies.tasks.layers.next_token import next_token_loss
from optadvisor.studies.tasks.layers.recurrent import (
    gated_steps,
    gated_steps_backward,
    tanh_steps,
    tanh_steps_backward,
)

EVALUATED = 4096  # characters
VOCABULARY = 64
SIZE = 16  # of an embedding
STRIDE = 16  # characters from one window of the training text to the next
TANH, GATED = 1, 3  # pre-activations of a hidden unit


def _weights(theta, hidden, parts):
    """Embeddings, w (embedding to hidden), u (hidden to hidden), w_out, b, b_out, and what is left: the GRU's b_n."""
    wide = parts * hidden
    a = VOCABULARY * SIZE
    b = a + SIZE * wide
    c = b + hidden * wide
    d = c + hidden * VOCABULARY
    e = d + wide
    w, u, w_out = theta[a:b].reshape(SIZE, wide), theta[b:c].reshape(hidden, wide), theta[c:d]
    table = theta[:a].reshape(VOCABULARY, SIZE)
    return (
        table,
        w,
        u,
        w_out.reshape(hidden, VOCABULARY),
        theta[d:e],
        theta[e : e + VOCABULARY],
        theta[e + VOCABULARY :],
    )


def _buffers(work, n, batch, hidden, parts):
    """Rows of embeddings, of the inputs' part of the hidden units, states, logits, and the rest."""
    a = n * SIZE
    b = a + n * parts * hidden
    c = b + (n + batch) * hidden
    d = c + n * VOCABULARY
    x, inputs = work[:a].reshape(n, SIZE), work[a:b].reshape(n, parts * hidden)
    return x, inputs, work[b:c].reshape(n + batch, hidden), work[c:d].reshape(n, VOCABULARY), work[d:]


def _backward(tokens, rows, stride, length, theta, grad, hidden, parts, ginputs, x):
    """From the gradient of the inputs' part to that of w, b and the embeddings."""
    _, w, _, _, _, _, _ = _weights(theta, hidden, parts)
    gtable, gw, _, _, gb, _, _ = _weights(grad, hidden, parts)
    dense_backward(x, ginputs, gw, gb)
    np.dot(ginputs, w.T, x)
    embed_backward(tokens, rows, stride, length, 1, rows.size, x, gtable)


def _tanh_forward(theta, tokens, rows, stride, length, hidden, work):
    """Loss and hits of every next character of the windows; the logits' gradient is in their buffer."""
    batch = rows.size
    table, w, u, w_out, b, b_out, _ = _weights(theta, hidden, TANH)
    x, inputs, states, z, _ = _buffers(work, batch * length, batch, hidden, TANH)
    embed(table, tokens, rows, stride, length, 1, batch, x)
    dense(x, w, b, inputs)
    tanh_steps(inputs, u, batch, states)
    dense(states[batch:], w_out, b_out, z)
    return next_token_loss(z, tokens[1:], rows, stride, length, 1, batch)


def tanh_gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean cross-entropy of the next character over the windows, and its gradient."""
    hidden, length, batch = dims[0], dims[1], rows.size
    loss, _ = _tanh_forward(theta, integers, rows, STRIDE, length, hidden, work)
    _, _, u, w_out, _, _, _ = _weights(theta, hidden, TANH)
    _, _, gu, gw_out, _, gb_out, _ = _weights(grad, hidden, TANH)
    x, delta, states, z, rest = _buffers(work, batch * length, batch, hidden, TANH)
    back = rest[: batch * hidden].reshape(batch, hidden)
    dense_backward(states[batch:], z, gw_out, gb_out)
    np.dot(z, w_out.T, delta)
    tanh_steps_backward(states, u, batch, delta, back, gu)
    _backward(integers, rows, STRIDE, length, theta, grad, hidden, TANH, delta, x)
    return loss


def _gated_buffers(rest, n, batch, hidden):
    """Gates, one step's turn, and for the way back: pre-activations, states' gradient, one step's."""
    a = 4 * n * hidden
    b = a + 3 * batch * hidden
    c = b + 3 * n * hidden
    d = c + n * hidden
    gates, turn = rest[:a].reshape(n, 4 * hidden), rest[a:b].reshape(batch, 3 * hidden)
    delta = rest[c:d].reshape(n, hidden)
    return gates, turn, rest[b:c].reshape(n, 3 * hidden), delta, rest[d : d + batch * hidden].reshape(batch, hidden)


def _gated_forward(theta, tokens, rows, stride, length, hidden, work):
    """Loss and hits of every next character of the windows; the logits' gradient is in their buffer."""
    batch = rows.size
    table, w, u, w_out, b, b_out, b_n = _weights(theta, hidden, GATED)
    x, inputs, states, z, rest = _buffers(work, batch * length, batch, hidden, GATED)
    gates, turn, _, _, _ = _gated_buffers(rest, batch * length, batch, hidden)
    embed(table, tokens, rows, stride, length, 1, batch, x)
    dense(x, w, b, inputs)
    gated_steps(inputs, u, b_n, batch, turn, gates, states)
    dense(states[batch:], w_out, b_out, z)
    return next_token_loss(z, tokens[1:], rows, stride, length, 1, batch)


def gated_gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean cross-entropy of the next character over the windows, and its gradient."""
    hidden, length, batch = dims[0], dims[1], rows.size
    loss, _ = _gated_forward(theta, integers, rows, STRIDE, length, hidden, work)
    _, _, u, w_out, _, _, _ = _weights(theta, hidden, GATED)
    _, _, gu, gw_out, _, gb_out, gb_n = _weights(grad, hidden, GATED)
    x, ginputs, states, z, rest = _buffers(work, batch * length, batch, hidden, GATED)
    gates, _, gturn, delta, back = _gated_buffers(rest, batch * length, batch, hidden)
    dense_backward(states[batch:], z, gw_out, gb_out)
    np.dot(z, w_out.T, delta)
    gated_steps_backward(states, gates, u, batch, delta, back, ginputs, gturn, gu, gb_n)
    _backward(integers, rows, STRIDE, length, theta, grad, hidden, GATED, ginputs, x)
    return loss


def tanh_evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Cross-entropy and share of right guesses on the first characters of the validation (0) or test (1) text."""
    hidden, length, batch, begin = dims[0], dims[1], dims[2], dims[3 + part]
    windows = EVALUATED // length
    loss, right = 0.0, 0
    for first in range(0, windows, batch):
        rows = np.arange(first, min(first + batch, windows))
        mean, hits = _tanh_forward(theta, integers[begin:], rows, length, length, hidden, work)
        loss += mean * rows.size
        right += hits
    scores[0], scores[1] = loss / windows, right / (windows * length)


def gated_evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Cross-entropy and share of right guesses on the first characters of the validation (0) or test (1) text."""
    hidden, length, batch, begin = dims[0], dims[1], dims[2], dims[3 + part]
    windows = EVALUATED // length
    loss, right = 0.0, 0
    for first in range(0, windows, batch):
        rows = np.arange(first, min(first + batch, windows))
        mean, hits = _gated_forward(theta, integers[begin:], rows, length, length, hidden, work)
        loss += mean * rows.size
        right += hits
    scores[0], scores[1] = loss / windows, right / (windows * length)


def _shapes(hidden: int, parts: int) -> tuple[tuple[int, ...], ...]:
    """Of the parts of theta, in order."""
    wide = parts * hidden
    matrices = ((VOCABULARY, SIZE), (SIZE, wide), (hidden, wide), (hidden, VOCABULARY))
    return (*matrices, (wide,), (VOCABULARY,), (hidden if parts == GATED else 0,))


def _layout(parts: int, values: Values) -> Layout:
    sizes = [int(np.prod(shape)) for shape in _shapes(values["width"], parts)]
    return Layout(sizes[0], sum(sizes[1:4]), sum(sizes[4:]))


def _initial(parts: int, values: Values, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """Embeddings normal, the rest uniform in +-1/sqrt(hidden), as PyTorch's Embedding, RNN and Linear."""
    bound = 1 / np.sqrt(values["width"])
    theta = rng.uniform(-bound, bound, _layout(parts, values).total)
    table = views(_shapes(values["width"], parts)[:1], theta)[0]
    table[...] = rng.standard_normal(table.shape)
    return theta


def build(parts: int, values: Values) -> Problem:
    """The first values["samples"] windows of the training text, one every STRIDE characters."""
    text = corpus.characters()
    hidden, length, batch = values["width"], values["length"], values["batch"]
    n = batch * length
    kept = n * SIZE + (n * parts + n + batch) * hidden + n * VOCABULARY
    return Problem(
        _layout(parts, values),
        functools.partial(_initial, parts, values),
        integers=text.limited(VOCABULARY),
        dims=np.array([hidden, length, batch, *text.ends[:2]]),
        samples=values["samples"],
        batch=batch,
        work=kept + hidden * (8 * n + 4 * batch if parts == GATED else batch),
    )


def profile(parts: int, values: Values) -> dict[str, Any]:
    return {
        "domain": "language",
        "architecture": "rnn",
        "parameters": _layout(parts, values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


def _axes(widths: tuple[int, ...], width: int, steps: int) -> dict[str, Axis]:
    return {
        "width": Axis(width, widths, "hidden units"),
        "length": Axis(16, (8, 16, 32), "characters of a window"),
        "batch": Axis(8, (4, 8, 16), "windows a step"),
        "samples": Axis(8000, (500, 2000, 8000), "windows of the training text"),
        "steps": Axis(steps, (50, 100, 200, 300), "updates"),
    }


TEXT_RNN = Family(
    name="text-rnn",
    title="the next character by a tanh recurrent net, on Python's documentation",
    program=Program("text_rnn", tanh_gradient, tanh_evaluate),
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes=_axes((16, 32, 48, 64), 48, 300),
    build=functools.partial(build, TANH),
    profile=functools.partial(profile, TANH),
)
TEXT_GRU = Family(
    name="text-gru",
    title="the next character by a gated recurrent net (GRU), on Python's documentation",
    program=Program("text_gru", gated_gradient, gated_evaluate),
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes=_axes((16, 24, 32, 48), 32, 200),
    build=functools.partial(build, GATED),
    profile=functools.partial(profile, GATED),
)
FAMILIES = (TEXT_RNN, TEXT_GRU)
