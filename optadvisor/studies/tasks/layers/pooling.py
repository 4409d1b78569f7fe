"""Pooling of images in the arrays of convolution.py: (height, channels, width * n)."""

from __future__ import annotations


def max_pool(x, n, out):
    """out = the largest of each 2 x 2 pixels; out: (height / 2, channels, width / 2 * n)."""
    for y in range(out.shape[0]):
        for c in range(out.shape[1]):
            top, bottom, line = x[2 * y, c], x[2 * y + 1, c], out[y, c]
            for column in range(line.size // n):
                first = column * n
                left, right = slice(2 * first, 2 * first + n), slice(2 * first + n, 2 * first + 2 * n)
                a, b, d, e = top[left], top[right], bottom[left], bottom[right]
                best = line[first : first + n]
                for i in range(n):
                    best[i] = max(max(a[i], b[i]), max(d[i], e[i]))


def max_pool_backward(x, output, delta, n, dx):
    """dx = delta where x was the largest of its 2 x 2 pixels, the first of equal ones, else 0."""
    zero = x.dtype.type(0)
    for y in range(output.shape[0]):
        for c in range(output.shape[1]):
            for column in range(output.shape[2] // n):
                first = column * n
                best, given = output[y, c, first : first + n], delta[y, c, first : first + n]
                left, right = slice(2 * first, 2 * first + n), slice(2 * first + n, 2 * first + 2 * n)
                a, b = x[2 * y, c, left], x[2 * y, c, right]
                d = x[2 * y + 1, c, left]
                da, db = dx[2 * y, c, left], dx[2 * y, c, right]
                dd, de = dx[2 * y + 1, c, left], dx[2 * y + 1, c, right]
                for i in range(n):
                    is_a, is_b, is_d = a[i] == best[i], b[i] == best[i], d[i] == best[i]
                    rest = given[i]
                    da[i] = rest if is_a else zero
                    rest = zero if is_a else rest
                    db[i] = rest if is_b else zero
                    rest = zero if is_b else rest
                    dd[i] = rest if is_d else zero
                    de[i] = zero if is_d else rest


def mean_pool(x, n, out):
    """out[c, i] = the mean of channel c of image i; out: (channels, n)."""
    height, channels, size = x.shape
    scale = x.dtype.type(1.0 / (height * (size // n)))
    for c in range(channels):
        line = out[c]
        line[:] = 0
        for y in range(height):
            for first in range(0, size, n):
                pixel = x[y, c, first : first + n]
                for i in range(n):
                    line[i] += pixel[i]
        for i in range(n):
            line[i] *= scale


def mean_pool_backward(delta, n, dx):
    """dx = delta shared out evenly over each image's pixels"""
    height, channels, size = dx.shape
    scale = dx.dtype.type(1.0 / (height * (size // n)))
    for y in range(height):
        for c in range(channels):
            line = delta[c]
            for first in range(0, size, n):
                pixel = dx[y, c, first : first + n]
                for i in range(n):
                    pixel[i] = scale * line[i]
