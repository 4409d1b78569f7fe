"""Dense layers one after the other, as many as `sizes` says: relu or tanh between them, nothing behind the last.

sizes: int64, (inputs, hidden units ..., outputs). weights: 1-d, the matrices (inputs, outputs) one after the other.
biases: 1-d likewise. activations: 1-d buffer of stack_width(sizes) * rows elements, the input in front, then every
layer's output; the last one is the stack's. deltas: a buffer of the same size for their gradients.
"""

from __future__ import annotations

import numpy as np

from optadvisor.studies.tasks.layers.dense import dense, dense_backward, relu, relu_backward, tanh, tanh_backward


def stack_width(sizes):
    """Elements of activations for each row."""
    width = 0
    for size in sizes:
        width += size
    return width


def stack_weights(sizes):
    """How many weights the stack has."""
    count = 0
    for layer in range(sizes.size - 1):
        count += sizes[layer] * sizes[layer + 1]
    return count


def stack_input(sizes, rows, activations):
    """The part of activations that the caller fills: (rows, inputs)."""
    return activations[: rows * sizes[0]].reshape(rows, sizes[0])


def stack_output(sizes, rows, activations):
    """What stack_forward leaves: (rows, outputs); of deltas, what stack_backward is given."""
    outputs = sizes[-1]
    last = rows * (stack_width(sizes) - outputs)
    return activations[last : last + rows * outputs].reshape(rows, outputs)


def stack_forward(sizes, weights, biases, rows, activations, smooth):
    """Fill activations behind the input. smooth: tanh instead of relu."""
    w, b, a = 0, 0, 0
    layers = sizes.size - 1
    for layer in range(layers):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        x = activations[a : a + rows * inputs].reshape(rows, inputs)
        a += rows * inputs
        y = activations[a : a + rows * outputs].reshape(rows, outputs)
        dense(x, weights[w : w + inputs * outputs].reshape(inputs, outputs), biases[b : b + outputs], y)
        if layer < layers - 1:
            if smooth:
                tanh(y)
            else:
                relu(y)
        w += inputs * outputs
        b += outputs


def stack_backward(sizes, weights, rows, activations, deltas, gw, gb, smooth, to_input):
    """From the gradient of the output, in its part of deltas, those of the weights and biases in gw and gb.

    to_input: whether the gradient of the input is wanted too, in its part of deltas.
    """
    w, b, a = gw.size, gb.size, rows * (stack_width(sizes) - sizes[-1])
    for layer in range(sizes.size - 2, -1, -1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        w -= inputs * outputs
        b -= outputs
        before = a - rows * inputs
        x = activations[before:a].reshape(rows, inputs)
        delta = deltas[a : a + rows * outputs].reshape(rows, outputs)
        dense_backward(x, delta, gw[w : w + inputs * outputs].reshape(inputs, outputs), gb[b : b + outputs])
        if layer > 0 or to_input:
            matrix = weights[w : w + inputs * outputs].reshape(inputs, outputs)
            _below(delta, matrix, x, layer > 0, smooth, deltas[before:a].reshape(rows, inputs))
        a = before


def stack_to_input(sizes, weights, rows, stride, activations, deltas, smooth):
    """The gradient of the input alone, for the first `rows` of the `stride` rows in activations and in deltas.

    The first `rows` of the output's part of deltas have the gradients of the outputs; those of the inputs come in the
    input's part.
    """
    w, a = stack_weights(sizes), stride * (stack_width(sizes) - sizes[-1])
    for layer in range(sizes.size - 2, -1, -1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        w -= inputs * outputs
        before = a - stride * inputs
        x = activations[before : before + rows * inputs].reshape(rows, inputs)
        delta = deltas[a : a + rows * outputs].reshape(rows, outputs)
        matrix = weights[w : w + inputs * outputs].reshape(inputs, outputs)
        _below(delta, matrix, x, layer > 0, smooth, deltas[before : before + rows * inputs].reshape(rows, inputs))
        a = before


def _below(delta, matrix, x, hidden, smooth, out):
    """out = the gradient of a layer's input x: delta @ matrix.T, and through the activation where x is hidden units."""
    np.dot(delta, matrix.T, out)
    if hidden:
        if smooth:
            tanh_backward(x, out)
        else:
            relu_backward(x, out)
