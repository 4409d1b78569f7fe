"""Scaled dot-product attention with several heads (Vaswani et al. 2017, section 3.2).

Rows are places in time order: place t of sequence i is row t * batch + i.
"""

from __future__ import annotations

import math

import numpy as np

from optadvisor.studies.tasks.layers.smooth import exponential
from optadvisor.studies.tasks.layers.sums import plus


def attention(qkv, batch, causal, kept, p, mixed, out):
    """out = softmax(q @ k.T / sqrt(size)) @ v for each sequence and head; causal: place t sees places 0 to t alone.

    qkv: (length * batch, 3 * width), queries, keys and values side by side, the heads side by side within them. out:
    (length * batch, width). kept: (batch * heads, 3, length, size), a copy by heads, and p: (batch * heads, length,
    length), the weights, are what the backward pass needs. mixed: (length, size), scratch.
    """
    heads, size = kept.shape[0] // batch, kept.shape[3]
    width = heads * size
    scale = qkv.dtype.type(1.0 / math.sqrt(size))
    for i in range(batch):
        for h in range(heads):
            own, weights = kept[i * heads + h], p[i * heads + h]
            for part in range(3):
                _from_rows(qkv, i, batch, part * width + h * size, own[part])
            q, k, v = own[0], own[1], own[2]
            np.dot(q, k.T, weights)
            _softmax(weights, scale, causal)
            np.dot(weights, v, mixed)
            _to_rows(mixed, i, batch, h * size, out)


def attention_backward(delta, batch, kept, p, scratch, slope, gqkv):
    """gqkv = the gradient with respect to qkv. delta: out's gradient; scratch: (2, length, size); slope: (length,) * 2"""
    heads, size = kept.shape[0] // batch, kept.shape[3]
    width = heads * size
    scale = delta.dtype.type(1.0 / math.sqrt(size))
    d, g = scratch[0], scratch[1]
    for i in range(batch):
        for h in range(heads):
            own, weights = kept[i * heads + h], p[i * heads + h]
            q, k, v = own[0], own[1], own[2]
            _from_rows(delta, i, batch, h * size, d)
            np.dot(weights.T, d, g)
            _to_rows(g, i, batch, 2 * width + h * size, gqkv)
            np.dot(d, v.T, slope)
            _softmax_backward(weights, scale, slope)
            np.dot(slope, k, g)
            _to_rows(g, i, batch, h * size, gqkv)
            np.dot(slope.T, q, g)
            _to_rows(g, i, batch, width + h * size, gqkv)


def _from_rows(x, first, step, column, out):
    """out[t] = x[first + t * step, column:]"""
    length, size = out.shape
    for t in range(length):
        row = x[first + t * step, column : column + size]  # an index of column + j would not become SIMD
        for j in range(size):
            out[t, j] = row[j]


def _to_rows(x, first, step, column, out):
    """out[first + t * step, column:] = x[t]"""
    length, size = x.shape
    for t in range(length):
        row = out[first + t * step, column : column + size]
        for j in range(size):
            row[j] = x[t, j]


def _softmax(s, scale, causal):
    """Each row of s: softmax of scale * s, in place; causal: of its first t + 1 elements, and 0 behind them."""
    length = s.shape[0]
    for t in range(length):
        end = t + 1 if causal else length
        top = s[t, 0]
        for j in range(1, end):
            top = max(top, s[t, j])
        for j in range(length):
            s[t, j] = (s[t, j] - top) * scale
    flat = s.reshape(length * length)
    for j in range(flat.size):  # all of them at once: short rows would not fill a vector
        flat[j] = exponential(flat[j])
    for t in range(length):
        for j in range(t + 1 if causal else length, length):
            s[t, j] = 0
        total = s.dtype.type(0)
        for j in range(length):
            total = plus(total, s[t, j])
        share = s.dtype.type(1.0) / total
        for j in range(length):
            s[t, j] *= share


def _softmax_backward(p, scale, slope):
    """slope = scale * p * (slope - sum(p * slope)) for each row, in place"""
    length = p.shape[0]
    for t in range(length):
        mean = p.dtype.type(0)
        for j in range(length):
            mean = plus(mean, p[t, j] * slope[t, j])
        for j in range(length):
            slope[t, j] = scale * p[t, j] * (slope[t, j] - mean)
