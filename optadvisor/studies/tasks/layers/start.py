"""Weights at the start of a training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def dense_start(rng: np.random.Generator, sizes: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights and biases of a stack of dense layers (stack.py), uniform in +-1/sqrt(inputs) as PyTorch's Linear."""
    weights, biases = [], []
    for inputs, outputs in itertools.pairwise(sizes):
        weights.append(rng.uniform(-1, 1, inputs * outputs) / np.sqrt(inputs))
        biases.append(rng.uniform(-1, 1, outputs) / np.sqrt(inputs))
    return np.concatenate(weights), np.concatenate(biases)


def dense_counts(sizes: Sequence[int]) -> tuple[int, int]:
    """How many weights and how many biases that is."""
    return sum(a * b for a, b in itertools.pairwise(sizes)), sum(sizes[1:])
