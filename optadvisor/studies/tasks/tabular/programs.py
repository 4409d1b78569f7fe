"""Dense networks of any depth (none: a linear model) on rows of numbers, for three kinds of target.

reals: penalty, then the features of every sample, then its target. integers: the classes, where there are more than
two. dims: the ends of the training, validation and test samples, then the sizes of the layers, inputs first.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Layout, Problem, Program
from optadvisor.studies.tasks.layers.dense import gather
from optadvisor.studies.tasks.layers.losses import correct, logistic_loss, softmax_cross_entropy
from optadvisor.studies.tasks.layers.ranking import area_under_curve
from optadvisor.studies.tasks.layers.stack import stack_backward, stack_forward, stack_input, stack_output, stack_width
from optadvisor.studies.tasks.layers.start import dense_counts, dense_start

BLOCK = 64  # rows that evaluation computes at once


def _data(reals, dims):
    """Features (samples, inputs) and targets of all samples."""
    n, inputs = dims[2], dims[3]
    end = 1 + n * inputs
    return reals[1:end].reshape(n, inputs), reals[end:]


def _weights(theta, sizes):
    """Matrices and biases of a parameter vector."""
    cut = theta.size - sizes[1:].sum()
    return theta[:cut], theta[cut:]


def _forward(theta, reals, dims, rows, work):
    """Activations of a mini-batch, a buffer for their gradients, and what is left of work."""
    sizes, n = dims[3:], rows.size
    elements = n * stack_width(sizes)
    activations, deltas = work[:elements], work[elements : 2 * elements]
    features, _ = _data(reals, dims)
    weights, biases = _weights(theta, sizes)
    gather(features, rows, stack_input(sizes, n, activations))
    stack_forward(sizes, weights, biases, n, activations, False)
    return activations, deltas, work[2 * elements :]


def _backward(theta, dims, n, activations, deltas, grad):
    sizes = dims[3:]
    weights, _ = _weights(theta, sizes)
    gw, gb = _weights(grad, sizes)
    stack_backward(sizes, weights, n, activations, deltas, gw, gb, False, False)


def _outputs(theta, reals, dims, first, last, work, out):
    """out[i] = the network's outputs for sample first + i, 2-d."""
    sizes = dims[3:]
    features, _ = _data(reals, dims)
    weights, biases = _weights(theta, sizes)
    for begin in range(first, last, BLOCK):
        end = min(begin + BLOCK, last)
        stack_input(sizes, end - begin, work)[:] = features[begin:end]
        stack_forward(sizes, weights, biases, end - begin, work, False)
        out[begin - first : end - first] = stack_output(sizes, end - begin, work)


def regression_gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean squared error and penalty / 2 * the squared norm of the weights without the biases."""
    sizes, n = dims[3:], rows.size
    activations, deltas, _ = _forward(theta, reals, dims, rows, work)
    _, targets = _data(reals, dims)
    z, delta = stack_output(sizes, n, activations), stack_output(sizes, n, deltas)
    scale = theta.dtype.type(2.0 / n)
    loss = 0.0
    for i in range(n):
        error = z[i, 0] - targets[rows[i]]
        loss += error * error
        delta[i, 0] = scale * error
    _backward(theta, dims, n, activations, deltas, grad)
    penalty, squares = reals[0], 0.0
    if penalty > 0:
        for i in range(theta.size - sizes[1:].sum()):
            squares += theta[i] * theta[i]
            grad[i] += penalty * theta[i]
    return loss / n + 0.5 * penalty * squares


def regression_evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Mean squared error without the penalty, and the share of the variance that is explained."""
    first, last = dims[part], dims[part + 1]
    n = last - first
    _, targets = _data(reals, dims)
    z, wanted = work[:n].reshape(n, 1), targets[first:last]
    _outputs(theta, reals, dims, first, last, work[n:], z)
    mean, loss, spread = wanted.mean(), 0.0, 0.0
    for i in range(n):
        loss += (z[i, 0] - wanted[i]) ** 2
        spread += (wanted[i] - mean) ** 2
    scores[0], scores[1] = loss / n, 1.0 - loss / spread


def binary_gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean logistic loss."""
    sizes, n = dims[3:], rows.size
    activations, deltas, rest = _forward(theta, reals, dims, rows, work)
    _, targets = _data(reals, dims)
    wanted = rest[:n]
    for i in range(n):
        wanted[i] = targets[rows[i]]
    z, delta = stack_output(sizes, n, activations), stack_output(sizes, n, deltas)
    loss = logistic_loss(z.reshape(n), wanted, delta.reshape(n))
    _backward(theta, dims, n, activations, deltas, grad)
    return loss


def binary_evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Logistic loss, accuracy and area under the curve."""
    first, last = dims[part], dims[part + 1]
    n = last - first
    _, targets = _data(reals, dims)
    z, wanted = work[:n], targets[first:last]
    _outputs(theta, reals, dims, first, last, work[2 * n :], z.reshape(n, 1))
    right = 0
    for i in range(n):
        right += (z[i] > 0) == (wanted[i] > 0.5)
    scores[0] = logistic_loss(z, wanted, work[n : 2 * n])
    scores[1], scores[2] = right / n, area_under_curve(z, wanted)


def classes_gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean cross-entropy."""
    sizes, n = dims[3:], rows.size
    activations, deltas, _ = _forward(theta, reals, dims, rows, work)
    z, delta = stack_output(sizes, n, activations), stack_output(sizes, n, deltas)
    loss = softmax_cross_entropy(z, rows, integers, delta)
    _backward(theta, dims, n, activations, deltas, grad)
    return loss


def classes_evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Cross-entropy and accuracy."""
    first, last, classes = dims[part], dims[part + 1], dims[dims.size - 1]
    n = last - first
    z = work[: n * classes].reshape(n, classes)
    _outputs(theta, reals, dims, first, last, work[n * classes :], z)
    rows = np.arange(first, last)
    scores[1] = correct(z, rows, integers) / n
    scores[0] = softmax_cross_entropy(z, rows, integers, z)


REGRESSION = Program("tabular_regression", regression_gradient, regression_evaluate)
BINARY = Program("tabular_binary", binary_gradient, binary_evaluate)
CLASSES = Program("tabular_classes", classes_gradient, classes_evaluate)


def layout(sizes: tuple[int, ...]) -> Layout:
    return Layout(0, *dense_counts(sizes))


def initial(sizes: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.concatenate(dense_start(rng, sizes))


def problem(
    x: NDArray[np.float64],
    targets: NDArray[np.float64],
    classes: NDArray[np.int64],
    ends: tuple[int, int, int],
    sizes: tuple[int, ...],
    samples: int,
    batch: int,
    penalty: float = 0.0,
) -> Problem:
    """The problem of these samples, training, validation and test ones up to `ends`; the first `samples` are trained."""
    part = max(ends[1] - ends[0], ends[2] - ends[1])
    return Problem(
        layout(sizes),
        functools.partial(initial, sizes),
        reals=np.concatenate([[penalty], x.reshape(-1), targets]).astype(np.float32),
        integers=np.asarray(classes, dtype=np.int64),
        dims=np.array([*ends, *sizes]),
        samples=samples,
        batch=batch,
        work=max(batch * (2 * sum(sizes) + 1), 2 * part * sizes[-1] + BLOCK * sum(sizes)),
    )
