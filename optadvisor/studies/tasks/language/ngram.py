"""text-ngram and words-ngram: the next token from the few before it (Bengio et al. 2003, section 2).

Their embeddings side by side, a tanh layer, a softmax over the vocabulary; no direct connections.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values, views
from optadvisor.studies.tasks.language import corpus
from optadvisor.studies.tasks.layers.dense import dense, dense_backward, tanh, tanh_backward
from optadvisor.studies.tasks.layers.embedding import embed, embed_backward
from optadvisor.studies.tasks.layers.next_token import next_token_loss

EVALUATED = 4096  # tokens
CHARACTERS = 64


def _weights(theta, vocabulary, context, size, hidden):
    """The parts of a parameter vector: embeddings, w1, w2, b1, b2."""
    a = vocabulary * size
    b = a + context * size * hidden
    c = b + hidden * vocabulary
    w1, w2 = theta[a:b].reshape(context * size, hidden), theta[b:c].reshape(hidden, vocabulary)
    return theta[:a].reshape(vocabulary, size), w1, w2, theta[c : c + hidden], theta[c + hidden :]


def _buffers(work, n, vocabulary, inputs, hidden):
    """Rows of embeddings, of hidden units, of logits."""
    a, b = n * inputs, n * hidden
    x, h = work[:a].reshape(n, inputs), work[a : a + b].reshape(n, hidden)
    return x, h, work[a + b : a + b + n * vocabulary].reshape(n, vocabulary)


def _forward(theta, tokens, dims, rows, work):
    """Loss and hits of the tokens that follow the contexts at `rows`; the logits' gradient is in their buffer."""
    vocabulary, context, size, hidden = dims[0], dims[1], dims[2], dims[3]
    table, w1, w2, b1, b2 = _weights(theta, vocabulary, context, size, hidden)
    x, h, z = _buffers(work, rows.size, vocabulary, context * size, hidden)
    embed(table, tokens, rows, 1, context, context, 1, x.reshape(rows.size * context, size))
    dense(x, w1, b1, h)
    tanh(h)
    dense(h, w2, b2, z)
    return next_token_loss(z, tokens[context:], rows, 1, 1, 1, 1)


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean cross-entropy of the next token, and its gradient."""
    vocabulary, context, size, hidden = dims[0], dims[1], dims[2], dims[3]
    loss, _ = _forward(theta, integers, dims, rows, work)
    _, w1, w2, _, _ = _weights(theta, vocabulary, context, size, hidden)
    gtable, gw1, gw2, gb1, gb2 = _weights(grad, vocabulary, context, size, hidden)
    x, h, z = _buffers(work, rows.size, vocabulary, context * size, hidden)
    used = x.size + h.size + z.size
    delta = work[used : used + h.size].reshape(h.shape)
    dense_backward(h, z, gw2, gb2)
    np.dot(z, w2.T, delta)
    tanh_backward(h, delta)
    dense_backward(x, delta, gw1, gb1)
    np.dot(delta, w1.T, x)
    embed_backward(integers, rows, 1, context, context, 1, x.reshape(rows.size * context, size), gtable)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Cross-entropy and share of right guesses on the first tokens of the validation (0) or test (1) text."""
    batch, begin = dims[4], dims[5 + part]
    loss, right = 0.0, 0
    for first in range(begin, begin + EVALUATED, batch):
        rows = np.arange(first, min(first + batch, begin + EVALUATED))
        mean, hits = _forward(theta, integers, dims, rows, work)
        loss += mean * rows.size
        right += hits
    scores[0], scores[1] = loss / EVALUATED, right / EVALUATED


def _sizes(values: Values) -> tuple[int, int, int, int]:
    """Vocabulary, tokens of context, size of an embedding, hidden units."""
    return values.get("vocabulary", CHARACTERS), values["context"], values["embedding"], values["width"]


def _layout(values: Values) -> Layout:
    vocabulary, context, size, hidden = _sizes(values)
    return Layout(vocabulary * size, hidden * (context * size + vocabulary), hidden + vocabulary)


def _initial(values: Values, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """Embeddings normal, the rest uniform in +-1/sqrt(inputs), as PyTorch's Embedding and Linear."""
    vocabulary, context, size, hidden = _sizes(values)
    theta = np.empty(_layout(values).total)
    inputs = context * size
    table, *rest = views(((vocabulary, size), (inputs, hidden), (hidden, vocabulary), (hidden,), (vocabulary,)), theta)
    table[...] = rng.standard_normal(table.shape)
    for part, fan in zip(rest, (inputs, hidden, inputs, hidden), strict=True):
        part[...] = rng.uniform(-1, 1, part.shape) / np.sqrt(fan)
    return theta


def build(values: Values) -> Problem:
    """The first values["samples"] places of the training text."""
    vocabulary, context, size, hidden = _sizes(values)
    text = corpus.words() if "vocabulary" in values else corpus.characters()
    batch = values["batch"]
    return Problem(
        _layout(values),
        functools.partial(_initial, values),
        integers=text.limited(vocabulary),
        dims=np.array([vocabulary, context, size, hidden, batch, *text.ends[:2]]),
        samples=values["samples"],
        batch=batch,
        work=batch * (context * size + 2 * hidden + vocabulary),
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "language",
        "architecture": "mlp",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


PROGRAM = Program("ngram", gradient, evaluate)
TEXT_NGRAM = Family(
    name="text-ngram",
    title="the next character from the few before it: embeddings and one hidden layer, on Python's documentation",
    program=PROGRAM,
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes={
        "context": Axis(4, (2, 4, 8), "characters seen"),
        "embedding": Axis(8, (4, 8, 16), "size of a character's embedding"),
        "width": Axis(32, (8, 16, 32, 64), "hidden units"),
        "batch": Axis(64, (16, 32, 64, 128), "places a step"),
        "samples": Axis(32000, (2000, 8000, 32000), "places of the training text"),
        "steps": Axis(400, (50, 100, 200, 400, 800), "updates"),
    },
    build=build,
    profile=profile,
)
WORDS_NGRAM = Family(
    name="words-ngram",
    title="the next word from the few before it: embeddings and one hidden layer, on Python's documentation",
    program=PROGRAM,
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes={
        "vocabulary": Axis(250, (125, 250, 500), "words, the rarer ones as one"),
        "context": Axis(3, (1, 2, 3, 5), "words seen"),
        "embedding": Axis(16, (8, 16, 32), "size of a word's embedding"),
        "width": Axis(32, (16, 32, 64), "hidden units"),
        "batch": Axis(64, (16, 32, 64, 128), "places a step"),
        "samples": Axis(32000, (2000, 8000, 32000), "places of the training text"),
        "steps": Axis(300, (50, 100, 200, 300, 600), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (TEXT_NGRAM, WORDS_NGRAM)
