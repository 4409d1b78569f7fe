"""3 x 3 convolutions with zero padding, as matrix products of shifted copies.

A mini-batch of images is an array (height, channels, width * n): the n images side by side are the innermost axis, so
that a shift by a pixel, a pooling or a sum is a loop over contiguous numbers, and every line of pixels is a matrix of
its own, small enough for the processor's cache. Weights are (filters, channels * 9), as PyTorch's are in memory.
"""

from __future__ import annotations

from optadvisor.studies.tasks.layers.products import product
from optadvisor.studies.tasks.layers.sums import plus


def gather_images(x, rows, out):
    """out[y, 0, (column, i)] = x[rows[i], (y, column)]: images of one channel, one a row of x."""
    n = rows.size
    height, width = out.shape[0], out.shape[2] // n
    for i in range(n):
        image = x[rows[i]]
        for y in range(height):
            line = out[y, 0]
            for column in range(width):
                line[column * n + i] = image[y * width + column]


def columns(x, y, n, out):
    """out[9 c + 3 i + j] = line y + i - 1 of channel c shifted by j - 1 pixels; 0 outside the image.

    x: (height, channels, width * n). out: (9 * channels, width * n).
    """
    height, channels, size = x.shape
    for i in range(3):
        source = y + i - 1
        for c in range(channels):
            left, middle, right = out[9 * c + 3 * i], out[9 * c + 3 * i + 1], out[9 * c + 3 * i + 2]
            if 0 <= source < height:
                line = x[source, c]
                clear(left[:n])
                copy(line[: size - n], left[n:])
                copy(line, middle)
                copy(line[n:], right[: size - n])
                clear(right[size - n :])
            else:
                clear(left)
                clear(middle)
                clear(right)


def copy(x, out):
    """out[:] = x of one axis: 4 times as fast, since no overlap is looked for. An index such as n + p is slow too."""
    for p in range(out.size):
        out[p] = x[p]


def clear(out):
    """out[:] = 0"""
    for p in range(out.size):
        out[p] = 0


def convolution(x, w, n, tile, out):
    """out = w * x. x: (height, channels, width * n), w: (filters, 9 channels), out: (height, filters, width * n).

    tile: scratch of at least 9 * channels * width * n elements, here and below.
    """
    shifted = tile[: w.shape[1] * x.shape[2]].reshape(w.shape[1], x.shape[2])
    for y in range(x.shape[0]):
        columns(x, y, n, shifted)
        product(w, shifted, out[y])


def convolution_weights(x, delta, n, tile, part, gw):
    """gw: the gradient of a convolution's weights, for the gradient delta of its output.

    part: scratch of w.size elements, here and below.
    """
    filters, taps = gw.shape
    shifted = tile[: taps * x.shape[2]].reshape(taps, x.shape[2])
    some = part[: filters * taps].reshape(filters, taps)
    gw[:] = 0
    for y in range(x.shape[0]):
        columns(x, y, n, shifted)
        product(delta[y], shifted.T, some)
        for f in range(filters):
            for k in range(taps):
                gw[f, k] += some[f, k]


def convolution_inputs(delta, w, n, tile, part, dx):
    """dx: the gradient of a convolution's input: delta convolved with the weights turned around.

    tile: scratch of 9 * filters * width * n elements.
    """
    filters, channels = w.shape[0], w.shape[1] // 9
    turned = part[: w.size].reshape(channels, 9 * filters)
    for f in range(filters):
        for c in range(channels):
            for k in range(9):
                turned[c, 9 * f + 8 - k] = w[f, 9 * c + k]
    convolution(delta, turned, n, tile, dx)


def add_bias(x, b):
    """x[:, c] += b[c], in place"""
    for y in range(x.shape[0]):
        for c in range(b.size):
            line, bias = x[y, c], b[c]
            for p in range(line.size):
                line[p] += bias


def bias_gradient(delta, gb):
    """gb[c] = the sum of delta[:, c]"""
    for c in range(gb.size):
        total = delta.dtype.type(0)
        for y in range(delta.shape[0]):
            line = delta[y, c]
            for p in range(line.size):
                total = plus(total, line[p])
        gb[c] = total
