"""Layer normalisation (Ba, Kiros & Hinton 2016)."""

from __future__ import annotations

import math

from optadvisor.studies.tasks.layers.sums import plus

EPSILON = 1e-5


def layer_norm(x, gain, bias, hat, scale, out):
    """out = gain * hat + bias, hat = (x - mean) * scale, scale = 1 / sqrt(variance + 1e-5), over each row.

    x, hat, out: (n, width); scale: (n,). hat and scale are what the backward pass needs.
    """
    n, width = x.shape
    part = x.dtype.type(1.0 / width)
    for i in range(n):
        total = x.dtype.type(0)
        for j in range(width):
            total = plus(total, x[i, j])
        mean = total * part
        square = x.dtype.type(0)
        for j in range(width):
            square = plus(square, (x[i, j] - mean) * (x[i, j] - mean))
        s = x.dtype.type(1.0) / math.sqrt(square * part + x.dtype.type(EPSILON))
        scale[i] = s
        for j in range(width):
            h = (x[i, j] - mean) * s
            hat[i, j] = h
            out[i, j] = h * gain[j] + bias[j]


def layer_norm_backward(delta, gain, hat, scale, ggain, gbias, into):
    """Adds the gradient with respect to x to `into`; ggain, gbias are written. delta: the output's gradient."""
    n, width = delta.shape
    part = delta.dtype.type(1.0 / width)
    ggain[:] = 0
    gbias[:] = 0
    for i in range(n):
        mean, slope = delta.dtype.type(0), delta.dtype.type(0)
        for j in range(width):
            d = delta[i, j] * gain[j]
            mean = plus(mean, d)
            slope = plus(slope, d * hat[i, j])
        mean, slope, s = mean * part, slope * part, scale[i]
        for j in range(width):
            into[i, j] += s * (delta[i, j] * gain[j] - mean - hat[i, j] * slope)
        for j in range(width):
            ggain[j] += delta[i, j] * hat[i, j]
        for j in range(width):
            gbias[j] += delta[i, j]
