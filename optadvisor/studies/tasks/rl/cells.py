"""A network whose input is the number of a cell, computed for all cells at once: one hidden layer of tanh units.

h = tanh(w1[cell] + b1), z = h @ w2 + b2. theta: w1 (cells, hidden), w2 (hidden, outputs), b1, b2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Layout
from optadvisor.studies.tasks.layers.dense import dense, dense_backward, tanh, tanh_backward


def cell_weights(theta, cells, hidden, outputs):
    """w1, w2, b1, b2 of a parameter vector."""
    a = cells * hidden
    b = a + hidden * outputs
    w1, w2 = theta[:a].reshape(cells, hidden), theta[a:b].reshape(hidden, outputs)
    return w1, w2, theta[b : b + hidden], theta[b + hidden :]


def cell_forward(theta, h, z):
    """h (cells, hidden) and z (cells, outputs)."""
    w1, w2, b1, b2 = cell_weights(theta, h.shape[0], h.shape[1], z.shape[1])
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            h[i, j] = w1[i, j] + b1[j]
    tanh(h)
    dense(h, w2, b2, z)


def cell_backward(theta, h, dz, grad):
    """grad from the gradient of z in dz."""
    _, w2, _, _ = cell_weights(theta, h.shape[0], h.shape[1], dz.shape[1])
    gw1, gw2, gb1, gb2 = cell_weights(grad, h.shape[0], h.shape[1], dz.shape[1])
    dense_backward(h, dz, gw2, gb2)
    np.dot(dz, w2.T, gw1)  # the inputs are the unit matrix: w1's gradient is the hidden layer's
    tanh_backward(h, gw1)
    gb1[:] = 0
    for i in range(gw1.shape[0]):
        for j in range(gb1.size):
            gb1[j] += gw1[i, j]


def cell_layout(cells: int, hidden: int, outputs: int) -> Layout:
    return Layout(0, cells * hidden + hidden * outputs, hidden + outputs)


def cell_initial(cells: int, hidden: int, outputs: int, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """w1 as wide as tanh bears, w2 a tenth of 1/sqrt(hidden): a policy that begins near taking all actions alike."""
    theta = np.zeros(cell_layout(cells, hidden, outputs).total)
    w1, w2, _, _ = cell_weights(theta, cells, hidden, outputs)
    w1[...] = rng.standard_normal(w1.shape)
    w2[...] = 0.1 * rng.standard_normal(w2.shape) / np.sqrt(hidden)
    return theta
