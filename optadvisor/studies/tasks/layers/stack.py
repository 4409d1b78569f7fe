<<<<<<< HEAD
"""Dense layers one after the other, as many as `sizes` says: relu or tanh between them, nothing behind the last.

sizes: int64, (inputs, hidden units ..., outputs). weights: 1-d, the matrices (inputs, outputs) one after the other.
biases: 1-d likewise. activations: 1-d buffer of stack_width(sizes) * rows elements, the input in front, then every
layer's output; the last one is the stack's. deltas: a buffer of the same size for their gradients.
=======
"""Several dense layers with ReLU between them, of any depth: sizes[0] -> ... -> sizes[-1], the last one linear.

weights: the matrices (sizes[i], sizes[i+1]), one after the other, 1-d; biases likewise. hidden, deltas: 1-d buffers of
n * sum(sizes[1:]) elements for the outputs of the layers and for the gradients with respect to them. One layer alone
is a linear model.
>>>>>>> ffb06a6258068216a012401592f056f7423d1335
"""

from __future__ import annotations

import numpy as np

<<<<<<< HEAD
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
=======
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
>>>>>>> ffb06a6258068216a012401592f056f7423d1335
