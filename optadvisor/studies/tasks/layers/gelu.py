"""GELU (Hendrycks & Gimpel 2016, section 2) in its tanh form, which is x * logistic(2c(x + a x**3))."""

from __future__ import annotations

import math

from optadvisor.studies.tasks.layers.smooth import logistic

TWO_C = 2.0 * math.sqrt(2.0 / math.pi)
A = 0.044715


def gelu(x, out):
    """out = gelu(x)"""
    n, width = x.shape
    c, a = x.dtype.type(TWO_C), x.dtype.type(A)
    for i in range(n):
        for j in range(width):
            u = x[i, j]
            out[i, j] = u * logistic(c * u * (x.dtype.type(1.0) + a * u * u))


def gelu_backward(x, delta):
    """delta *= the derivative of gelu at x, in place"""
    n, width = x.shape
    one, c, a = x.dtype.type(1.0), x.dtype.type(TWO_C), x.dtype.type(A)
    three_a = x.dtype.type(3 * A)
    for i in range(n):
        for j in range(width):
            u = x[i, j]
            s = logistic(c * u * (one + a * u * u))
            delta[i, j] *= s + u * s * (one - s) * c * (one + three_a * u * u)
