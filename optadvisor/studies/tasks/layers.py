"""Layers and losses for compiled training loops: plain functions on float32 arrays, outputs given by the caller.

np.dot is measured 4x faster here than hand-written loops; everything else is loops. Products stay below the size at
which the BLAS starts threads of its own, so trainings can run side by side on the cores.
"""

from __future__ import annotations

import math

import numpy as np


def gather(x, rows, out):
    """out[i] = x[rows[i]]"""
    # Row and width in variables: 8x, since the compiler must else expect the write to change them.
    width = x.shape[1]
    for i in range(rows.size):
        row = rows[i]
        for j in range(width):
            out[i, j] = x[row, j]


def dense(x, w, b, out):
    """out = x @ w + b"""
    np.dot(x, w, out)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] += b[j]


def dense_backward(x, delta, gw, gb):
    """gw = x.T @ delta, gb = the sum of delta's rows"""
    np.dot(x.T, delta, gw)
    for j in range(gb.size):
        gb[j] = 0
    for i in range(delta.shape[0]):
        for j in range(gb.size):
            gb[j] += delta[i, j]


def relu(x):
    """x = max(x, 0), in place"""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] = max(x[i, j], x.dtype.type(0))


def relu_backward(output, delta):
    """delta = 0 where the output of relu is 0, in place"""
    for i in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            if output[i, j] <= 0:
                delta[i, j] = 0


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
        total = z.dtype.type(0)
        for j in range(classes):
            delta[i, j] = math.exp(z[i, j] - top)
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
