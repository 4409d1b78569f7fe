"""A pre-norm transformer block (Xiong et al. 2020): x + attention(norm(x)), then x + mlp(norm(x)).

Its parameters are two 1-d pieces, `matrices` (decayed) and `vectors` (not); its activations one piece of work. The
MLP is twice as wide as the stream, half of the usual, so that a step stays short.
"""

from __future__ import annotations

import numpy as np

from optadvisor.studies.tasks.layers.attention import attention, attention_backward
from optadvisor.studies.tasks.layers.dense import dense, dense_backward
from optadvisor.studies.tasks.layers.gelu import gelu, gelu_backward
from optadvisor.studies.tasks.layers.layer_norm import layer_norm, layer_norm_backward

MATRICES, VECTORS = 8, 11  # parameters of a block, in width**2 and in width


def matrices(piece, width):
    """Of queries, keys and values (width, 3 * width), of what comes out (width, width), and the MLP's two."""
    square = width * width
    qkv = piece[: 3 * square].reshape(width, 3 * width)
    out = piece[3 * square : 4 * square].reshape(width, width)
    wide = piece[4 * square : 6 * square].reshape(width, 2 * width)
    return qkv, out, wide, piece[6 * square : 8 * square].reshape(2 * width, width)


def vectors(piece, width):
    """Gain and bias of the first norm, biases of qkv and out, gain and bias of the second norm, the MLP's biases."""
    w = width
    gain1, bias1, b_qkv, b_out = piece[:w], piece[w : 2 * w], piece[2 * w : 5 * w], piece[5 * w : 6 * w]
    gain2, bias2, b_wide, b_back = piece[6 * w : 7 * w], piece[7 * w : 8 * w], piece[8 * w : 10 * w], piece[10 * w :]
    return gain1, bias1, b_qkv, b_out, gain2, bias2, b_wide, b_back


def initial_block(weights, others, width, depth, rng):
    """Uniform in +-1/sqrt(inputs), what goes back into the stream divided by sqrt(2 * depth); biases 0, gains 1.

    The division is Radford et al.'s (2019, section 2.3).
    """
    for matrix in matrices(weights, width):
        matrix[...] = rng.uniform(-1, 1, matrix.shape) / np.sqrt(matrix.shape[0])
    for back in (1, 3):
        matrices(weights, width)[back][...] /= np.sqrt(2 * depth)
    others[...] = 0
    for gain in (0, 4):
        vectors(others, width)[gain][...] = 1


def kept_size(batch, length, width, heads):
    """Elements that a block keeps for its backward pass."""
    rows = batch * length
    return rows * (12 * width + 2 + heads * length)


def scratch_size(batch, length, width, heads):
    """Elements that all blocks share: a stream, what is three times as wide, one head's turn."""
    return batch * length * 4 * width + (2 * width // heads) * length + length * length


def _kept(work, batch, length, width, heads):
    """Norm 1: hat, scale, output; attention: heads, weights, output; norm 2: three; MLP before and after GELU."""
    n, w = batch * length, width
    hat1, a1 = work[: n * w].reshape(n, w), work[n * w : 2 * n * w].reshape(n, w)
    hat2, a2 = work[2 * n * w : 3 * n * w].reshape(n, w), work[3 * n * w : 4 * n * w].reshape(n, w)
    mixed = work[4 * n * w : 5 * n * w].reshape(n, w)
    split = work[5 * n * w : 8 * n * w].reshape(batch * heads, 3, length, w // heads)
    wide = work[8 * n * w : 10 * n * w].reshape(n, 2 * w)
    bent = work[10 * n * w : 12 * n * w].reshape(n, 2 * w)
    rest = work[12 * n * w :]
    scale1, scale2 = rest[:n], rest[n : 2 * n]
    p = rest[2 * n : 2 * n + n * heads * length].reshape(batch * heads, length, length)
    return hat1, scale1, a1, split, p, mixed, hat2, scale2, a2, wide, bent


def _scratch(scratch, batch, length, width, heads):
    """A stream, what is three times and twice as wide (the same place), two heads' rows, one head's square."""
    n, size = batch * length, width // heads
    first, second = n * width, 4 * n * width
    stream = scratch[:first].reshape(n, width)
    three = scratch[first:second].reshape(n, 3 * width)
    two = scratch[first : first + 2 * n * width].reshape(n, 2 * width)
    head = scratch[second : second + 2 * length * size].reshape(2, length, size)
    last = second + 2 * length * size
    return stream, three, two, head, scratch[last : last + length * length].reshape(length, length)


def block(x, weights, others, batch, heads, causal, work, scratch):
    """x: (length * batch, width) in time order, changed in place. weights, others: its pieces of the parameters."""
    width = x.shape[1]
    length = x.shape[0] // batch
    hat1, scale1, a1, split, p, mixed, hat2, scale2, a2, wide, bent = _kept(work, batch, length, width, heads)
    stream, three, _, head, _ = _scratch(scratch, batch, length, width, heads)
    w_qkv, w_out, w_wide, w_back = matrices(weights, width)
    gain1, bias1, b_qkv, b_out, gain2, bias2, b_wide, b_back = vectors(others, width)
    layer_norm(x, gain1, bias1, hat1, scale1, a1)
    dense(a1, w_qkv, b_qkv, three)
    attention(three, batch, causal, split, p, head[0], mixed)
    dense(mixed, w_out, b_out, stream)
    _add(stream, x)
    layer_norm(x, gain2, bias2, hat2, scale2, a2)
    dense(a2, w_wide, b_wide, wide)
    gelu(wide, bent)
    dense(bent, w_back, b_back, stream)
    _add(stream, x)


def block_backward(delta, weights, others, gweights, gothers, batch, heads, work, scratch):
    """From delta = gradient with respect to the block's output, in place, that with respect to its input."""
    width = delta.shape[1]
    length = delta.shape[0] // batch
    hat1, scale1, a1, split, p, mixed, hat2, scale2, a2, wide, bent = _kept(work, batch, length, width, heads)
    stream, three, two, head, square = _scratch(scratch, batch, length, width, heads)
    w_qkv, w_out, w_wide, w_back = matrices(weights, width)
    g_qkv, g_out, g_wide, g_back = matrices(gweights, width)
    gain1, _, _, _, gain2, _, _, _ = vectors(others, width)
    ggain1, gbias1, gb_qkv, gb_out, ggain2, gbias2, gb_wide, gb_back = vectors(gothers, width)
    dense_backward(bent, delta, g_back, gb_back)
    np.dot(delta, w_back.T, two)
    gelu_backward(wide, two)
    dense_backward(a2, two, g_wide, gb_wide)
    np.dot(two, w_wide.T, stream)
    layer_norm_backward(stream, gain2, hat2, scale2, ggain2, gbias2, delta)
    dense_backward(mixed, delta, g_out, gb_out)
    np.dot(delta, w_out.T, stream)
    attention_backward(stream, batch, split, p, head, square, three)
    dense_backward(a1, three, g_qkv, gb_qkv)
    np.dot(three, w_qkv.T, stream)
    layer_norm_backward(stream, gain1, hat1, scale1, ggain1, gbias1, delta)


def _add(x, into):
    """into += x"""
    n, width = x.shape
    for i in range(n):
        for j in range(width):
            into[i, j] += x[i, j]
