"""Rows of a data set, dense layers, ReLU and tanh."""

from __future__ import annotations

import numpy as np

from optadvisor.studies.tasks.layers.smooth import hyperbolic_tangent


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


def tanh(x):
    """x = tanh(x), in place"""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] = hyperbolic_tangent(x[i, j])


def tanh_backward(output, delta):
    """delta *= 1 - tanh**2, in place, from the output of tanh"""
    for i in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            delta[i, j] -= delta[i, j] * output[i, j] * output[i, j]
