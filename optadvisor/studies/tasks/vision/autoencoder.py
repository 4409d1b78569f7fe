"""digits-autoencoder: a denoising autoencoder on scikit-learn's handwritten digits.

Vincent et al. 2008, Extracting and composing robust features with denoising autoencoders: a random share of the pixels
is set to 0 (section 2.3), other ones at every step; the network is to return the whole image. Dense layers narrow down
to a code and widen again; the loss is the mean squared error of a pixel.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks import datasets
from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.layers.dense import gather
from optadvisor.studies.tasks.layers.losses import squared_error
from optadvisor.studies.tasks.layers.numbers import mix, uniform
from optadvisor.studies.tasks.layers.stack import (
    stack_backward,
    stack_forward,
    stack_input,
    stack_output,
    stack_weights,
    stack_width,
)
from optadvisor.studies.tasks.layers.start import dense_counts, dense_start
from optadvisor.studies.tasks.vision.images import PARTS, PIXELS, TRAINING

# dims: batch, ends of the training, validation and test part, tanh or relu; then the sizes of the layers
BATCH, END, SMOOTH, HEAD = 0, 1, 4, 5
SHARE, IMAGES = 0, 1  # reals


def destroy(x, share, key, out):
    """out = x with about this share of its elements set to 0, which ones follows from the key."""
    width = x.shape[1]
    for i in range(x.shape[0]):
        for j in range(width):
            out[i, j] = x[i, j] if uniform(key, i * width + j) >= share else x.dtype.type(0)


def _weights(theta, sizes):
    cut = stack_weights(sizes)
    return theta[:cut], theta[cut:]


def _forward(theta, reals, dims, rows, key, work):
    """Loss of some images destroyed under this key; leaves in work the gradient of the output, and the layers."""
    n, sizes = rows.size, dims[HEAD:]
    width = n * stack_width(sizes)
    clean = work[: n * PIXELS].reshape(n, PIXELS)
    layers, deltas = work[n * PIXELS :][:width], work[n * PIXELS + width :][:width]
    weights, biases = _weights(theta, sizes)
    gather(reals[IMAGES:].reshape((reals.size - IMAGES) // PIXELS, PIXELS), rows, clean)
    destroy(clean, reals[SHARE], key, stack_input(sizes, n, layers))
    stack_forward(sizes, weights, biases, n, layers, dims[SMOOTH] == 1)
    loss = squared_error(stack_output(sizes, n, layers), clean, stack_output(sizes, n, deltas))
    return loss, layers, deltas


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean squared error of a mini-batch, and its gradient."""
    n, sizes = rows.size, dims[HEAD:]
    loss, layers, deltas = _forward(theta, reals, dims, rows, key, work)
    weights, _ = _weights(theta, sizes)
    gw, gb = _weights(grad, sizes)
    stack_backward(sizes, weights, n, layers, deltas, gw, gb, dims[SMOOTH] == 1, False)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Mean squared error on the validation (part 0) or test (part 1) images, the same pixels destroyed each time."""
    batch, begin, end = dims[BATCH], dims[END + part], dims[END + part + 1]
    total = 0.0
    for first in range(begin, end, batch):
        rows = np.arange(first, min(first + batch, end))
        total += _forward(theta, reals, dims, rows, mix(key, first), work)[0] * rows.size
    scores[0] = total / (end - begin)


def _sizes(values: Values) -> list[int]:
    hidden = [values["width"]] * values["depth"]
    return [PIXELS, *hidden, values["code"], *hidden, PIXELS]


def _layout(values: Values) -> Layout:
    return Layout(0, *dense_counts(_sizes(values)))


def _initial(sizes: list[int], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    return np.concatenate(dense_start(rng, sizes))


def build(values: Values) -> Problem:
    """The first values["samples"] training images; validation and test are the same for all."""
    x, _ = datasets.digits()
    sizes, batch = _sizes(values), values["batch"]
    return Problem(
        _layout(values),
        functools.partial(_initial, sizes),
        reals=np.concatenate([[values["noise"]], x.reshape(-1)]).astype(np.float32),
        dims=np.array([batch, *PARTS, int(values["activation"] == "tanh"), *sizes]),
        samples=values["samples"],
        batch=batch,
        work=batch * (PIXELS + 2 * sum(sizes)),
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "vision",
        "architecture": "mlp",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


DIGITS_AUTOENCODER = Family(
    name="digits-autoencoder",
    title="Denoising autoencoder on scikit-learn's handwritten digits",
    program=Program("digits_autoencoder", gradient, evaluate),
    metric="validation squared error of a pixel",
    scores=("squared_error",),
    axes={
        "width": Axis(64, (32, 64, 96), "units of each hidden layer", (256, 640)),
        "depth": Axis(1, (1, 2), "hidden layers on each side of the code"),
        "code": Axis(16, (4, 16, 32), "units of the code"),
        "activation": Axis("relu", ("relu", "tanh"), "between the layers"),
        "noise": Axis(0.3, (0.0, 0.3, 0.6), "share of the pixels set to 0"),
        "batch": Axis(32, (8, 32, 64), "images a step"),
        "samples": Axis(TRAINING, (150, 400, TRAINING), "training images"),
        "steps": Axis(500, (100, 250, 500, 1000), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (DIGITS_AUTOENCODER,)
