"""Several dense layers with ReLU between them, of any depth: sizes[0] -> ... -> sizes[-1], the last one linear.

weights: the matrices (sizes[i], sizes[i+1]), one after the other, 1-d; biases likewise. hidden, deltas: 1-d buffers of
n * sum(sizes[1:]) elements for the outputs of the layers and for the gradients with respect to them. One layer alone
is a linear model.
"""

from __future__ import annotations

import numpy as np

from optadvisor.studies.tasks.layers.dense import dense, dense_backward, relu, relu_backward


def stack(x, sizes, weights, biases, hidden):
    """Outputs (n, sizes[-1]) for inputs x (n, sizes[0]), as a view of `hidden`'s end, with what backward needs before."""
    n, w, b = x.shape[0], 0, 0
    for i in range(1, sizes.size):
        inputs, outputs = sizes[i - 1], sizes[i]
        out = hidden[n * b : n * (b + outputs)].reshape(n, outputs)
        dense(x, weights[w : w + inputs * outputs].reshape(inputs, outputs), biases[b : b + outputs], out)
        if i + 1 < sizes.size:
            relu(out)
        x = out
        w += inputs * outputs
        b += outputs
    return x


def last_layer(n, sizes, buffer):
    """The part of `hidden` or `deltas` that belongs to the outputs: (n, sizes[-1])."""
    end = n * sizes[1:].sum()
    return buffer[end - n * sizes[-1] : end].reshape(n, sizes[-1])


def stack_backward(x, sizes, weights, hidden, deltas, gw, gb):
    """Gradients of weights and biases, from x and `hidden` of `stack` and the outputs' gradient in `last_layer` of deltas.

    Fills the rest of deltas.
    """
    n, w, b = x.shape[0], weights.size, sizes[1:].sum()
    for i in range(sizes.size - 1, 0, -1):
        inputs, outputs = sizes[i - 1], sizes[i]
        w -= inputs * outputs
        b -= outputs
        delta = deltas[n * b : n * (b + outputs)].reshape(n, outputs)
        gradient = gw[w : w + inputs * outputs].reshape(inputs, outputs)
        if i == 1:
            dense_backward(x, delta, gradient, gb[b : b + outputs])
        else:
            before = hidden[n * (b - inputs) : n * b].reshape(n, inputs)
            below = deltas[n * (b - inputs) : n * b].reshape(n, inputs)
            dense_backward(before, delta, gradient, gb[b : b + outputs])
            np.dot(delta, weights[w : w + inputs * outputs].reshape(inputs, outputs).T, below)
            relu_backward(before, below)


def stack_inputs_backward(sizes, weights, deltas, dx):
    """dx = the gradient with respect to x, after `stack_backward`; sizes.size > 1."""
    n, inputs, outputs = dx.shape[0], sizes[0], sizes[1]
    np.dot(deltas[: n * outputs].reshape(n, outputs), weights[: inputs * outputs].reshape(inputs, outputs).T, dx)
