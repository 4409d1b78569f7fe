"""Numbers that look random and follow from (key, counter) alone: the same on every thread and for every rule.

SplitMix64 (Steele, Lea & Flood 2014, Fast splittable pseudorandom number generators): its output function, applied to
a counter. A key is any integer; `mix` makes another key of it.
"""

from __future__ import annotations

import math

import numpy as np


def mix(key, counter):
    """A 64-bit key that follows from a key and a counter."""
    z = np.uint64(key) + np.uint64(counter) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((z ^ (z >> np.uint64(31))) & np.uint64(0x7FFFFFFFFFFFFFFF))


def uniform(key, counter):
    """A number in [0, 1), float64."""
    return (mix(key, counter) >> 10) * (1.0 / 9007199254740992.0)


def below(key, counter, n):
    """A whole number from 0 to n - 1."""
    return min(np.int64(uniform(key, counter) * n), n - 1)


def normal(key, counter):
    """A standard normal number, float64 (Box & Muller 1958). Uses the counters 2*counter and 2*counter + 1."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(key, 2 * counter)))
    return radius * math.cos(2.0 * math.pi * uniform(key, 2 * counter + 1))


def fill_normal(key, out):
    """out[i] = standard normal numbers, for a 1-d array. Two for the price of one: half the time of `normal`."""
    n = out.size
    for i in range(0, n, 2):
        radius = math.sqrt(-2.0 * math.log(1.0 - uniform(key, i)))
        angle = 2.0 * math.pi * uniform(key, i + 1)
        out[i] = radius * math.cos(angle)
        if i + 1 < n:
            out[i + 1] = radius * math.sin(angle)


def fill_student(key, degrees, out):
    """out[i] = numbers of Student's t distribution, for a 1-d array (Bailey 1994, Polar generation of random variates).

    P(|x| > s) falls as s**-degrees: the variance is infinite for 2 degrees of freedom and below, the mean for 1.
    """
    power = -2.0 / degrees
    for i in range(out.size):
        radius = math.sqrt(degrees * ((1.0 - uniform(key, 2 * i)) ** power - 1.0))
        out[i] = radius * math.cos(2.0 * math.pi * uniform(key, 2 * i + 1))


def shuffle(key, order):
    """A random order of a 1-d array, in place (Fisher & Yates)."""
    for i in range(order.size - 1, 0, -1):
        j = below(key, i, i + 1)
        order[i], order[j] = order[j], order[i]
