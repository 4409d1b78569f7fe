"""Random rotations that take n log n operations and no matrix."""

from __future__ import annotations

import math

ROUNDS = 3


def rotate(x, signs):
    """x = Q x, in place: three rounds of random signs and a Walsh-Hadamard transform. x.size is a power of two.

    signs: 3 * x.size numbers, each -1 or 1. Every element of Q is about as large as a random rotation's (Yu et al.
    2016, Orthogonal random features, section 4: HD3).
    """
    n = x.size
    scale = x.dtype.type(1.0 / math.sqrt(n))
    for r in range(ROUNDS):
        first = r * n
        for i in range(n):
            x[i] *= signs[first + i] * scale
        walsh_hadamard(x)


def rotate_back(x, signs):
    """x = Q.T x, in place: undoes `rotate`, and turns a gradient with respect to Q x into one with respect to x."""
    n = x.size
    scale = x.dtype.type(1.0 / math.sqrt(n))
    for r in range(ROUNDS - 1, -1, -1):
        walsh_hadamard(x)
        first = r * n
        for i in range(n):
            x[i] *= signs[first + i] * scale


def walsh_hadamard(x):
    """x = H x, in place, for the symmetric matrix H of -1 and 1 with H H = n I; x.size is a power of two."""
    half = 1
    while half < x.size:
        for first in range(0, x.size, 2 * half):
            for i in range(first, first + half):
                a, b = x[i], x[i + half]
                x[i], x[i + half] = a + b, a - b
        half *= 2
