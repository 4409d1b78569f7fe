"""The loss of a language model: cross-entropy over every place of every window."""

from __future__ import annotations

import math

from optadvisor.studies.tasks.layers.smooth import exponential
from optadvisor.studies.tasks.layers.sums import plus


def next_token_loss(z, tokens, rows, stride, length, across, along):
    """Mean cross-entropy of logits z against tokens[rows[i] * stride + t], and how many places have it on top.

    z: (places, vocabulary), with places as in layers/embedding.py; give tokens[1:] for the next ones. The gradient
    with respect to z takes its place. The loss is float64; nan where a logit is.
    """
    n, vocabulary = z.shape
    share = z.dtype.type(1.0 / n)
    loss, right = 0.0, 0
    for i in range(rows.size):
        first = rows[i] * stride
        for t in range(length):
            place, label = i * across + t * along, tokens[first + t]
            top = z[place, 0]
            for j in range(1, vocabulary):
                top = max(top, z[place, j])
            own = z[place, label] - top
            total = z.dtype.type(0)
            # One array, not z and delta: two that turn out to be the same memory fall back to a loop without SIMD.
            for j in range(vocabulary):
                z[place, j] = exponential(z[place, j] - top)
            for j in range(vocabulary):
                total = plus(total, z[place, j])
            loss += math.log(total) - own
            right += own == 0
            scale = share / total
            for j in range(vocabulary):
                z[place, j] *= scale
            z[place, label] -= share
    return loss / n, right
