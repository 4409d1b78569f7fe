"""Recurrent layers over whole windows: plain tanh (Elman 1990) and gated (Cho et al. 2014).

Rows are in time order: step t of sequence i is row t * batch + i. states has one step more: its first `batch` rows
are the state before the window, zero.
"""

from __future__ import annotations

import numpy as np

from optadvisor.studies.tasks.layers.smooth import hyperbolic_tangent, logistic


def tanh_steps(inputs, u, batch, states):
    """states[t + 1] = tanh(inputs[t] + states[t] @ u)

    inputs: (length * batch, hidden), the input's part with the bias; u: (hidden, hidden).
    """
    hidden = u.shape[0]
    states[:batch] = 0
    for first in range(0, inputs.shape[0], batch):
        own, following = inputs[first : first + batch], states[first + batch : first + 2 * batch]
        np.dot(states[first : first + batch], u, following)
        for i in range(batch):
            for j in range(hidden):
                following[i, j] = hyperbolic_tangent(following[i, j] + own[i, j])


def tanh_steps_backward(states, u, batch, delta, back, gu):
    """From delta = gradient with respect to states[1:], in place, that with respect to inputs; gu that of u.

    back: (batch, hidden), scratch.
    """
    hidden = u.shape[0]
    for first in range(delta.shape[0] - batch, -1, -batch):
        # Slices: with rows counted from first, the compiler finds no SIMD.
        d, h = delta[first : first + batch], states[first + batch : first + 2 * batch]
        for i in range(batch):
            for j in range(hidden):
                d[i, j] -= d[i, j] * h[i, j] * h[i, j]
        if first > 0:
            before = delta[first - batch : first]
            np.dot(d, u.T, back)
            for i in range(batch):
                for j in range(hidden):
                    before[i, j] += back[i, j]
    np.dot(states[: delta.shape[0]].T, delta, gu)


def gated_steps(inputs, u, b, batch, turn, gates, states):
    """With m = states[t] @ u, split in three as inputs[t] is:

    r = logistic(inputs_r + m_r), z = logistic(inputs_z + m_z), n = tanh(inputs_n + r * (m_n + b)),
    states[t + 1] = n + z * (states[t] - n)

    as in PyTorch's GRU. inputs: (length * batch, 3 * hidden), with their biases; u: (hidden, 3 * hidden); b: (hidden,).
    turn: (batch, 3 * hidden), scratch. gates: (length * batch, 4 * hidden), r, z, n and m_n + b for the backward pass.
    """
    states[:batch] = 0
    for first in range(0, inputs.shape[0], batch):
        np.dot(states[first : first + batch], u, turn)
        for i in range(batch):
            row = first + i
            _gate(inputs[row], turn[i], b, states[row], gates[row], states[batch + row])


def _gate(inputs, m, b, state, gates, following):
    """One sequence's step; all 1-d. Slices, since an index such as 2 * hidden + j does not become SIMD."""
    hidden = b.size
    r, z, n, shifted = _parts(gates, hidden)
    inputs_n, m_n = inputs[2 * hidden :], m[2 * hidden :]
    for j in range(2 * hidden):
        gates[j] = logistic(inputs[j] + m[j])
    for j in range(hidden):
        shifted[j] = m_n[j] + b[j]
    for j in range(hidden):
        n[j] = hyperbolic_tangent(inputs_n[j] + r[j] * shifted[j])
    for j in range(hidden):
        following[j] = n[j] + z[j] * (state[j] - n[j])


def _parts(row, hidden):
    return row[:hidden], row[hidden : 2 * hidden], row[2 * hidden : 3 * hidden], row[3 * hidden :]


def gated_steps_backward(states, gates, u, batch, delta, back, ginputs, gturn, gu, gb):
    """From delta = gradient with respect to states[1:], which is used up: ginputs, gu and gb.

    gturn: (length * batch, 3 * hidden), that of m; back: (batch, hidden); both scratch.
    """
    hidden = u.shape[0]
    gb[:] = 0
    for first in range(delta.shape[0] - batch, -1, -batch):
        for i in range(batch):
            row = first + i
            _gate_backward(states[row], gates[row], delta[row], ginputs[row], gturn[row], gb)
        if first > 0:
            np.dot(gturn[first : first + batch], u.T, back)
            for i in range(batch):
                d, z, before = delta[first + i], gates[first + i, hidden : 2 * hidden], delta[first - batch + i]
                for j in range(hidden):
                    before[j] += back[i, j] + d[j] * z[j]
    np.dot(states[: delta.shape[0]].T, gturn, gu)


def _gate_backward(state, gates, delta, ginputs, gm, gb):
    """The way back of `_gate`; adds to gb."""
    hidden = gb.size
    one = delta.dtype.type(1.0)
    r, z, n, shifted = _parts(gates, hidden)
    dr, dz, dn, _ = _parts(ginputs, hidden)
    gm_n = gm[2 * hidden :]
    for j in range(hidden):
        dn[j] = delta[j] * (one - z[j]) * (one - n[j] * n[j])
    for j in range(hidden):
        dz[j] = delta[j] * (state[j] - n[j]) * z[j] * (one - z[j])
    for j in range(hidden):
        dr[j] = dn[j] * shifted[j] * r[j] * (one - r[j])
    for j in range(2 * hidden):
        gm[j] = ginputs[j]
    for j in range(hidden):
        gm_n[j] = dn[j] * r[j]
    for j in range(hidden):
        gb[j] += gm_n[j]
