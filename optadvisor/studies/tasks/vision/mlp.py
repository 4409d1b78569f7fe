"""digits-mlp: a network with one hidden layer on scikit-learn's handwritten digits (1,797 images of 8 x 8)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks import datasets
from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values, views
from optadvisor.studies.tasks.layers.dense import dense, dense_backward, gather, relu, relu_backward
from optadvisor.studies.tasks.layers.losses import correct, softmax_cross_entropy

INPUTS, CLASSES = 64, 10
TRAINING, VALIDATION = 1200, 297  # the 300 that are left are the test part, which no study looks at


def _weights(theta, hidden):
    """The parts of a parameter vector: w1, w2, b1, b2."""
    first = INPUTS * hidden
    cut = first + hidden * CLASSES
    w1 = theta[:first].reshape(INPUTS, hidden)
    w2 = theta[first:cut].reshape(hidden, CLASSES)
    return w1, w2, theta[cut : cut + hidden], theta[cut + hidden :]


def _buffers(work, n, hidden):
    """Rows of pixels, of hidden units, of logits, and of the hidden layer's gradient."""
    a, b = n * INPUTS, n * hidden
    c = n * CLASSES
    x = work[:a].reshape(n, INPUTS)
    h = work[a : a + b].reshape(n, hidden)
    z = work[a + b : a + b + c].reshape(n, CLASSES)
    return x, h, z, work[a + b + c : a + b + c + b].reshape(n, hidden)


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean cross-entropy on a mini-batch, and its gradient."""
    hidden = dims[0]
    images = reals.reshape(reals.size // INPUTS, INPUTS)
    x, h, z, delta = _buffers(work, rows.size, hidden)
    w1, w2, b1, b2 = _weights(theta, hidden)
    gw1, gw2, gb1, gb2 = _weights(grad, hidden)
    gather(images, rows, x)
    dense(x, w1, b1, h)
    relu(h)
    dense(h, w2, b2, z)
    loss = softmax_cross_entropy(z, rows, integers, z)
    dense_backward(h, z, gw2, gb2)
    np.dot(z, w2.T, delta)
    relu_backward(h, delta)
    dense_backward(x, delta, gw1, gb1)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Cross-entropy and accuracy on the validation (part 0) or test (part 1) images."""
    hidden, batch, begin, end = dims[0], dims[1], dims[2 + part], dims[3 + part]
    images = reals.reshape(reals.size // INPUTS, INPUTS)
    w1, w2, b1, b2 = _weights(theta, hidden)
    loss, right = 0.0, 0
    for first in range(begin, end, batch):
        rows = np.arange(first, min(first + batch, end))
        x, h, z, _ = _buffers(work, rows.size, hidden)
        gather(images, rows, x)
        dense(x, w1, b1, h)
        relu(h)
        dense(h, w2, b2, z)
        right += correct(z, rows, integers)
        loss += softmax_cross_entropy(z, rows, integers, z) * rows.size
    scores[0], scores[1] = loss / (end - begin), right / (end - begin)


def _layout(values: Values) -> Layout:
    hidden = values["width"]
    return Layout(0, INPUTS * hidden + hidden * CLASSES, hidden + CLASSES)


def _initial(hidden: int, layout: Layout, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """Uniform in +-1/sqrt(inputs), as PyTorch's Linear."""
    theta = np.empty(layout.total)
    shapes = ((INPUTS, hidden), (hidden, CLASSES), (hidden,), (CLASSES,))
    for part, inputs in zip(views(shapes, theta), (INPUTS, hidden, INPUTS, hidden), strict=True):
        part[...] = rng.uniform(-1, 1, part.shape) / np.sqrt(inputs)
    return theta


def build(values: Values) -> Problem:
    """The first values["samples"] training images; validation and test are the same for all."""
    x, labels = datasets.digits()
    hidden, batch, layout = values["width"], values["batch"], _layout(values)
    return Problem(
        layout,
        functools.partial(_initial, hidden, layout),
        reals=x.reshape(-1),
        integers=labels,
        dims=np.array([hidden, batch, TRAINING, TRAINING + VALIDATION, len(x)]),
        samples=values["samples"],
        batch=batch,
        work=batch * (INPUTS + 2 * hidden + CLASSES),
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "vision",
        "architecture": "mlp",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


DIGITS_MLP = Family(
    name="digits-mlp",
    title="MLP with one hidden layer on scikit-learn's handwritten digits",
    program=Program("digits_mlp", gradient, evaluate),
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes={
        "width": Axis(32, (8, 16, 32, 64, 128), "hidden units"),
        "batch": Axis(32, (8, 16, 32, 64, 128), "images a step"),
        "samples": Axis(1200, (150, 400, 1200), "training images"),
        "steps": Axis(500, (100, 250, 500, 1000, 2000), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (DIGITS_MLP,)
