"""text-transformer and words-transformer: a causal pre-norm transformer (Radford et al. 2019, section 2.3) on windows.

Embeddings of tokens and places, blocks of layers/transformer.py, a last norm, a linear layer to the vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values, views
from optadvisor.studies.tasks.language import corpus
from optadvisor.studies.tasks.layers.dense import dense, dense_backward
from optadvisor.studies.tasks.layers.embedding import add_positions, embed, embed_backward, positions_backward
from optadvisor.studies.tasks.layers.layer_norm import layer_norm, layer_norm_backward
from optadvisor.studies.tasks.layers.next_token import next_token_loss
from optadvisor.studies.tasks.layers.transformer import (
    MATRICES,
    VECTORS,
    block,
    block_backward,
    initial_block,
    kept_size,
    scratch_size,
)

EVALUATED = 2048  # tokens
CHARACTERS = 64
STRIDE = 8  # tokens from one window of the training text to the next


def _weights(theta, vocabulary, length, width, depth):
    """Embeddings, positions, blocks' matrices, output; blocks' vectors, last norm's gain and bias, output's bias."""
    a = vocabulary * width
    b = a + length * width
    c = b + depth * MATRICES * width * width
    d = c + width * vocabulary
    e = d + depth * VECTORS * width
    table, positions = theta[:a].reshape(vocabulary, width), theta[a:b].reshape(length, width)
    inner, out = theta[b:c].reshape(depth, MATRICES * width * width), theta[c:d].reshape(width, vocabulary)
    others = theta[d:e].reshape(depth, VECTORS * width)
    return (
        table,
        positions,
        inner,
        out,
        others,
        theta[e : e + width],
        theta[e + width : e + 2 * width],
        theta[e + 2 * width :],
    )


def _buffers(work, n, vocabulary, width):
    """The stream; the last norm's hat, output and scale; logits; what the blocks need."""
    size = n * width
    x, hat, last = work[:size], work[size : 2 * size], work[2 * size : 3 * size]
    a = 3 * size + n
    b = a + n * vocabulary
    shape = (n, width)
    return (
        x.reshape(shape),
        hat.reshape(shape),
        last.reshape(shape),
        work[3 * size : a],
        work[a:b].reshape(n, vocabulary),
        work[b:],
    )


def _forward(theta, tokens, dims, rows, stride, work):
    """Loss and hits of every next token of the windows; the logits' gradient is in their buffer."""
    vocabulary, length, width, depth, heads = dims[0], dims[1], dims[2], dims[3], dims[4]
    batch = rows.size
    table, positions, inner, out, others, gain, bias, b_out = _weights(theta, vocabulary, length, width, depth)
    x, hat, last, scale, z, rest = _buffers(work, batch * length, vocabulary, width)
    kept, shared = kept_size(batch, length, width, heads), scratch_size(batch, length, width, heads)
    embed(table, tokens, rows, stride, length, 1, batch, x)
    add_positions(positions, batch, x)
    for i in range(depth):
        own = rest[shared + i * kept : shared + (i + 1) * kept]
        block(x, inner[i], others[i], batch, heads, True, own, rest)
    layer_norm(x, gain, bias, hat, scale, last)
    dense(last, out, b_out, z)
    return next_token_loss(z, tokens[1:], rows, stride, length, 1, batch)


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean cross-entropy of the next token over the windows, and its gradient."""
    vocabulary, length, width, depth, heads = dims[0], dims[1], dims[2], dims[3], dims[4]
    batch = rows.size
    loss, _ = _forward(theta, integers, dims, rows, STRIDE, work)
    _, _, inner, out, others, gain, _, _ = _weights(theta, vocabulary, length, width, depth)
    gtable, gpositions, ginner, gout, gothers, ggain, gbias, gb_out = _weights(grad, vocabulary, length, width, depth)
    delta, hat, last, scale, z, rest = _buffers(work, batch * length, vocabulary, width)
    kept, shared = kept_size(batch, length, width, heads), scratch_size(batch, length, width, heads)
    dense_backward(last, z, gout, gb_out)
    np.dot(z, out.T, last)
    delta[:] = 0
    layer_norm_backward(last, gain, hat, scale, ggain, gbias, delta)
    for i in range(depth - 1, -1, -1):
        own = rest[shared + i * kept : shared + (i + 1) * kept]
        block_backward(delta, inner[i], others[i], ginner[i], gothers[i], batch, heads, own, rest)
    positions_backward(batch, delta, gpositions)
    embed_backward(integers, rows, STRIDE, length, 1, batch, delta, gtable)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Cross-entropy and share of right guesses on the first windows of the validation (0) or test (1) text."""
    length, batch, begin = dims[1], dims[5], dims[6 + part]
    windows = EVALUATED // length
    loss, right = 0.0, 0
    for first in range(0, windows, batch):
        rows = np.arange(first, min(first + batch, windows))
        mean, hits = _forward(theta, integers[begin:], dims, rows, length, work)
        loss += mean * rows.size
        right += hits
    scores[0], scores[1] = loss / windows, right / (windows * length)


def _sizes(values: Values) -> tuple[int, int, int, int]:
    """Vocabulary, tokens of a window, width, blocks."""
    return values.get("vocabulary", CHARACTERS), values["length"], values["width"], values["depth"]


def _layout(values: Values) -> Layout:
    vocabulary, length, width, depth = _sizes(values)
    dense_part = width * (length + vocabulary + depth * MATRICES * width)
    return Layout(vocabulary * width, dense_part, width * (depth * VECTORS + 2) + vocabulary)


def _initial(values: Values, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """Embeddings normal with deviation 0.1, blocks as initial_block says, output uniform in +-1/sqrt(width)."""
    vocabulary, length, width, depth = _sizes(values)
    theta = np.zeros(_layout(values).total)
    embeddings, inner, out, others, gain, _ = views(
        (
            (vocabulary + length, width),
            (depth, MATRICES * width * width),
            (width, vocabulary),
            (depth, VECTORS * width),
            (width,),
            (width + vocabulary,),
        ),
        theta,
    )
    embeddings[...] = 0.1 * rng.standard_normal(embeddings.shape)
    for weights, vectors in zip(inner, others, strict=True):
        initial_block(weights, vectors, width, depth, rng)
    out[...] = rng.uniform(-1, 1, out.shape) / np.sqrt(width)
    gain[...] = 1
    return theta


def build(values: Values) -> Problem:
    """The first values["samples"] windows of the training text, one every STRIDE tokens."""
    vocabulary, length, width, depth = _sizes(values)
    text = corpus.words() if "vocabulary" in values else corpus.characters()
    batch, heads = values["batch"], values["heads"]
    n = batch * length
    blocks = depth * kept_size(batch, length, width, heads) + scratch_size(batch, length, width, heads)
    return Problem(
        _layout(values),
        functools.partial(_initial, values),
        integers=text.limited(vocabulary),
        dims=np.array([vocabulary, length, width, depth, heads, batch, *text.ends[:2]]),
        samples=values["samples"],
        batch=batch,
        work=n * (3 * width + 1 + vocabulary) + blocks,
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "language",
        "architecture": "transformer",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


PROGRAM = Program("language_transformer", gradient, evaluate)
TEXT_TRANSFORMER = Family(
    name="text-transformer",
    title="the next character by a small causal transformer, on Python's documentation",
    program=PROGRAM,
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes={
        "width": Axis(32, (16, 24, 32), "size of the stream"),
        "depth": Axis(1, (1, 2), "blocks"),
        "heads": Axis(2, (1, 2, 4), "heads of attention"),
        "length": Axis(16, (8, 16, 24), "characters of a window"),
        "batch": Axis(8, (4, 8, 12), "windows a step"),
        "samples": Axis(8000, (500, 2000, 8000, 32000), "windows of the training text"),
        "steps": Axis(200, (50, 100, 200, 300), "updates"),
    },
    build=build,
    profile=profile,
)
WORDS_TRANSFORMER = Family(
    name="words-transformer",
    title="the next word by a small causal transformer, on Python's documentation",
    program=PROGRAM,
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes={
        "vocabulary": Axis(250, (125, 250, 500), "words, the rarer ones as one"),
        "width": Axis(24, (16, 24, 32), "size of the stream"),
        "depth": Axis(1, (1, 2), "blocks"),
        "heads": Axis(2, (1, 2, 4), "heads of attention"),
        "length": Axis(8, (4, 8, 16), "words of a window"),
        "batch": Axis(8, (4, 8, 12), "windows a step"),
        "samples": Axis(8000, (500, 2000, 8000), "windows of the training text"),
        "steps": Axis(200, (50, 100, 200, 300), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (TEXT_TRANSFORMER, WORDS_TRANSFORMER)
