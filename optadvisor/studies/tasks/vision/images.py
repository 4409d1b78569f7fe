"""What the nets on images share: views of a buffer as images, the dense layer on top, the split of the digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks import datasets
from optadvisor.studies.tasks.family import Values
from optadvisor.studies.tasks.layers.products import product, transpose

SIZE, PIXELS, CLASSES = 8, 64, 10
TRAINING, VALIDATION = 1200, 297  # the 300 that are left are the test part, which no study looks at
PARTS = (TRAINING, TRAINING + VALIDATION, TRAINING + VALIDATION + 300)
LABEL_SEED = 1
STATISTICS = 256  # training images whose means and variances an evaluation with batch norm takes


def labelled_digits(wrong: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (n * 64,) and labels (n,); this share of the training labels is another class, drawn once for all."""
    x, labels = datasets.digits()
    rng = np.random.default_rng(LABEL_SEED)
    chosen, shift = rng.permutation(TRAINING), rng.integers(1, CLASSES, TRAINING)
    chosen = chosen[: round(wrong * TRAINING)]
    labels = labels.copy()
    labels[chosen] = (labels[chosen] + shift[chosen]) % CLASSES
    return x.reshape(-1), labels


def uniform_start(rng: np.random.Generator, count: int, inputs: int) -> NDArray[Any]:
    """Uniform in +-1/sqrt(inputs), as PyTorch starts weights and biases of Conv2d and Linear."""
    found: NDArray[Any] = rng.uniform(-1, 1, count) / np.sqrt(inputs)
    return found


def statistics_turns(values: Values) -> int:
    """Mini-batches of training images for the statistics of batch norm."""
    return int(max(1, min(STATISTICS, values["samples"]) // values["batch"]))


def image_view(buffer, at, n, side, channels):
    """n images as an array for convolution.py, where `at` elements an image are in front of it in the buffer."""
    return buffer[at * n : (at + side * side * channels) * n].reshape(side, channels, side * n)


def flat(x):
    """The same numbers as an array of two axes, for element-wise layers."""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])


def top_views(buffer, x_at, z_at, n, features):
    """The top layer's input (features, n), its output in columns (classes, n), and its output (n, classes)."""
    z = z_at * n
    x = buffer[x_at * n : (x_at + features) * n].reshape(features, n)
    across = buffer[z : z + CLASSES * n].reshape(CLASSES, n)
    return x, across, buffer[z + CLASSES * n : z + 2 * CLASSES * n].reshape(n, CLASSES)


def top(x, w, b, across, z):
    """z = (w @ x).T + b for features in columns: x (features, n), w (classes, features), across (classes, n)."""
    product(w, x, across)
    transpose(across, z)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] += b[j]


def top_backward(x, w, delta, across, part, gw, gb, dx):
    """Gradients of weights, biases and input, for that of z in delta. part: scratch of w.size elements."""
    transpose(delta, across)
    product(across, x.T, gw)
    gb[:] = 0
    for i in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            gb[j] += delta[i, j]
    turned = part[: w.size].reshape(w.shape[1], w.shape[0])
    transpose(w, turned)
    product(turned, across, dx)
