"""Tables: three that scikit-learn ships, in repeatable splits, and generated ones."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.datasets import of_scikit_learn

Floats = NDArray[np.float64]


@functools.cache
def table(name: str) -> tuple[Floats, Floats]:
    """Features (samples, inputs) and targets of "breast_cancer", "wine" or "diabetes", in the units they come in."""

    def make() -> dict[str, NDArray[Any]]:
        from sklearn import datasets

        options = {"scaled": False} if name == "diabetes" else {}
        bunch = getattr(datasets, f"load_{name}")(**options)
        return {"x": np.asarray(bunch.data, dtype=np.float64), "y": np.asarray(bunch.target, dtype=np.float64)}

    made = of_scikit_learn(name, make)
    return made["x"], made["y"]


def split(name: str, number: int) -> tuple[Floats, Floats]:
    """`table` in the random order of split `number`."""
    x, y = table(name)
    order = np.random.default_rng(number).permutation(len(x))
    return x[order], y[order]


def standardised(x: Floats, training: int, units: float = 0.0) -> Floats:
    """Features with mean 0 and deviation 1 over the training rows, times deviation**units relative to the largest.

    units: 0 for standardised features, 1 for the proportions that the units of measurement give them.
    """
    deviation = x[:training].std(axis=0)
    proportions = (deviation / deviation.max()) ** units
    return np.asarray((x - x[:training].mean(axis=0)) / deviation * proportions)


def whitened(x: Floats, training: int, share: float) -> Floats:
    """x turned so that the variances of its principal components over the training rows are raised to 1 - share.

    share: 0 leaves x as it is, 1 makes the condition number of its covariance 1.
    """
    variances, axes = np.linalg.eigh(np.cov(x[:training].T, bias=True))
    return np.asarray(x @ (axes * variances ** (-share / 2)) @ axes.T)


def condition(x: Floats) -> float:
    """Condition number of the features' covariance: that of a linear least-squares problem on them."""
    return float(np.linalg.cond(np.cov(x.T, bias=True)))


def friedman(inputs: int, noise: float, samples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Friedman's function #1 (1991, Multivariate adaptive regression splines, eq. 61) of five of the inputs, with noise.

    Inputs are uniform, brought to mean 0 and deviation 1; targets likewise, by what the function has without noise.
    """
    x = rng.uniform(size=(samples, inputs))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y += noise * rng.standard_normal(samples)
    return (x - 0.5) * np.sqrt(12), (y - 14.4) / 4.9


class Mixed:
    """A generated table of two classes: heavy-tailed numbers, categories as one-hot columns, thresholds that interact.

    The log odds are a sum of terms as decision trees have them: a weight where two conditions hold, each either "this
    number is above a threshold" or "this category is one of these". tail: degrees of freedom of the numbers'
    Student t distribution. signal: standard deviation of the log odds.
    """

    NUMBERS, CATEGORIES, LEVELS, TERMS = 8, 4, 6, 12
    INPUTS = NUMBERS + CATEGORIES * LEVELS

    def __init__(self, tail: float, signal: float, rng: np.random.Generator) -> None:
        self.tail, self.signal = tail, signal
        self.columns = rng.integers(self.NUMBERS + self.CATEGORIES, size=(self.TERMS, 2))
        self.thresholds = rng.normal(0, 0.5, (self.TERMS, 2))
        self.members = rng.random((self.TERMS, 2, self.LEVELS)) < 0.5
        self.weights = rng.standard_normal(self.TERMS)
        # The log odds' mean and deviation, so that classes are balanced and `signal` is what it says.
        self.centre, self.spread = 0.0, 1.0
        odds = self._odds(*self._draw(20_000, rng))
        self.centre, self.spread = float(odds.mean()), float(odds.std())

    def _draw(self, samples: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
        popular = 1.0 / np.arange(1, self.LEVELS + 1)
        levels = rng.choice(self.LEVELS, size=(samples, self.CATEGORIES), p=popular / popular.sum())
        return rng.standard_t(self.tail, size=(samples, self.NUMBERS)), levels

    def _odds(self, numbers: Floats, levels: NDArray[np.int64]) -> Floats:
        odds = np.zeros(len(numbers))
        for term in range(self.TERMS):
            holds = np.ones(len(numbers), dtype=bool)
            for side in range(2):
                column = self.columns[term, side]
                if column < self.NUMBERS:
                    holds &= numbers[:, column] > self.thresholds[term, side]
                else:
                    holds &= self.members[term, side][levels[:, column - self.NUMBERS]]
            odds += self.weights[term] * holds
        return (odds - self.centre) / self.spread

    def sample(self, samples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Features (samples, INPUTS) and targets 0 or 1."""
        numbers, levels = self._draw(samples, rng)
        chance = 1 / (1 + np.exp(-self.signal * self._odds(numbers, levels)))
        hot = np.eye(self.LEVELS)[levels].reshape(samples, -1)
        return np.concatenate([numbers, hot], axis=1), (rng.random(samples) < chance).astype(np.float64)
