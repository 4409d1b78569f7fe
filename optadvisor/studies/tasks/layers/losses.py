"""Losses with their gradients, and how many predictions are right."""

from __future__ import annotations

import math

from optadvisor.studies.tasks.layers.smooth import exponential, logistic


def softmax_cross_entropy(z, rows, labels, delta):
    """Mean cross-entropy of logits z against labels[rows], and its gradient with respect to z in delta.

    delta may be z itself. Returns the loss in float64; nan where a logit is.
    """
    n, classes = z.shape
    loss = 0.0
    for i in range(n):
        label = labels[rows[i]]
        top = z[i, 0]
        for j in range(1, classes):
            top = max(top, z[i, j])
        own = z[i, label] - top
        for j in range(classes):
            delta[i, j] = exponential(z[i, j] - top)
        total = z.dtype.type(0)
        for j in range(classes):
            total += delta[i, j]
        loss += math.log(total) - own
        scale = z.dtype.type(1.0) / (total * z.dtype.type(n))
        for j in range(classes):
            delta[i, j] *= scale
        delta[i, label] -= z.dtype.type(1.0 / n)
    return loss / n


def correct(z, rows, labels):
    """How many rows of logits have their largest value at labels[rows]."""
    right = 0
    for i in range(z.shape[0]):
        best = 0
        for j in range(1, z.shape[1]):
            if z[i, j] > z[i, best]:
                best = j
        right += best == labels[rows[i]]
    return right


def squared_error(z, target, delta):
    """Mean over all elements of (z - target)**2 of 2-d arrays, and its gradient with respect to z in delta."""
    count = z.shape[0] * z.shape[1]
    scale = z.dtype.type(2.0 / count)
    loss = 0.0
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            error = z[i, j] - target[i, j]
            loss += error * error
            delta[i, j] = scale * error
    return loss / count


def softplus(x):
    """log(1 + e**x), of a scalar, without overflow."""
    return max(x, x * 0) + math.log1p(math.exp(-abs(x)))


def logistic_loss(z, target, delta):
    """Mean binary cross-entropy of logits z against targets 0..1, 1-d, and its gradient with respect to z in delta.

    delta may be z itself.
    """
    n = z.size
    scale = z.dtype.type(1.0 / n)
    loss = 0.0
    for i in range(n):
        loss += max(z[i], z.dtype.type(0)) - z[i] * target[i] + math.log1p(math.exp(-abs(z[i])))
        delta[i] = (logistic(z[i]) - target[i]) * scale
    return loss / n


def bernoulli_loss(z, target, delta):
    """Binary cross-entropy of logits z against targets 0..1, 2-d, summed over columns (at most 100), mean over rows.

    Its gradient with respect to z comes in delta, another array.
    """
    n, width = z.shape
    one = z.dtype.type(1)
    scale = z.dtype.type(1.0 / n)
    loss = 0.0
    for i in range(n):
        for j in range(width):
            delta[i, j] = exponential(-abs(z[i, j]))
        # log(1 + a) + log(1 + b) = log((1 + a) (1 + b)): one logarithm a row, since log is no SIMD. Each is at most 2.
        product = one
        for j in range(width):
            product *= one + delta[i, j]
            loss += max(z[i, j], z.dtype.type(0)) - z[i, j] * target[i, j]
        loss += math.log(product)
        for j in range(width):
            probability = (one if z[i, j] >= 0 else delta[i, j]) / (one + delta[i, j])
            delta[i, j] = (probability - target[i, j]) * scale
    return loss / n
