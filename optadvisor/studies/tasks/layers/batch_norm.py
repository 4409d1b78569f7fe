"""Batch normalisation (Ioffe & Szegedy 2015) of images in the arrays of convolution.py: (height, channels, width * n)."""

from __future__ import annotations

import math

from optadvisor.studies.tasks.layers.sums import plus

EPS = 1e-5  # PyTorch's default


def batch_statistics(x, mean, variance):
    """Mean and (biased) variance of each channel over all pixels of all images."""
    height, channels, size = x.shape
    share = x.dtype.type(1.0 / (height * size))
    for c in range(channels):
        total = x.dtype.type(0)
        for y in range(height):
            line = x[y, c]
            for p in range(size):
                total = plus(total, line[p])
        middle = total * share
        total = x.dtype.type(0)
        for y in range(height):
            line = x[y, c]
            for p in range(size):
                total = plus(total, (line[p] - middle) * (line[p] - middle))
        mean[c] = middle
        variance[c] = total * share


def normalise(x, mean, variance):
    """x = (x - mean) / sqrt(variance + EPS) of each channel, in place"""
    for c in range(mean.size):
        middle, scale = mean[c], x.dtype.type(1.0 / math.sqrt(variance[c] + EPS))
        for y in range(x.shape[0]):
            line = x[y, c]
            for p in range(line.size):
                line[p] = (line[p] - middle) * scale


def scale_shift(x, gain, shift, out):
    """out = gain * x + shift of each channel"""
    for c in range(gain.size):
        g, s = gain[c], shift[c]
        for y in range(x.shape[0]):
            source, line = x[y, c], out[y, c]
            for p in range(line.size):
                line[p] = g * source[p] + s


def batch_norm_backward(normal, variance, gain, delta, ggain, gshift):
    """The gradient through scale_shift, normalise and batch_statistics together.

    normal: what normalise left; variance: of the batch. delta: the gradient of the output, becomes that of the input,
    gain / sqrt(variance + EPS) * (delta - mean(delta) - normal * mean(delta * normal)), in place.
    """
    height, channels, size = normal.shape
    share = delta.dtype.type(1.0 / (height * size))
    for c in range(channels):
        total, along = delta.dtype.type(0), delta.dtype.type(0)
        for y in range(height):
            line, unit = delta[y, c], normal[y, c]
            for p in range(size):
                total = plus(total, line[p])
                along = plus(along, line[p] * unit[p])
        ggain[c], gshift[c] = along, total
        scale = gain[c] * delta.dtype.type(1.0 / math.sqrt(variance[c] + EPS))
        middle, slope = total * share, along * share
        for y in range(height):
            line, unit = delta[y, c], normal[y, c]
            for p in range(size):
                line[p] = scale * (line[p] - middle - unit[p] * slope)


def add_statistics(statistics, share, sums):
    """Add a mini-batch's share to the sums. statistics: means, then as many variances; sums: of means and squares."""
    count = statistics.size // 2
    for c in range(count):
        mean = statistics[c]
        sums[c] += share * mean
        sums[count + c] += share * (statistics[count + c] + mean * mean)


def whole_statistics(sums, statistics):
    """Means and variances over all the mini-batches that were added, with shares that make 1."""
    count = statistics.size // 2
    for c in range(count):
        mean = sums[c]
        statistics[c] = mean
        statistics[count + c] = max(sums[count + c] - mean * mean, statistics.dtype.type(0))
