"""What mini-batch gradients at the same weights say of their noise: its scale, its tail, how far gradients agree.

G_1 .. G_n are the gradients of n mini-batches of B examples at the same weights.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optadvisor.probing.subject import Floats, Weights

Z80 = 1.2816  # the normal distribution's 90% point: between minus and plus it lie four cases of five
GROUP = 4  # how many samples of noise are added up for the tail index
DEALS = 16  # in how many ways they are dealt into groups
EXAMPLES = 1  # counts the mini-batch as the unit where nobody knows its size


@dataclass(frozen=True)
class Noise:
    """The gradient noise scale (McCandlish et al. 2018, An empirical model of large-batch training, appendix A.1).

    norm2: estimate of |G|^2, the squared norm of the true gradient. trace: estimate of tr(Sigma), the variance of the
    gradient of one example, summed over parameters. scale: trace / norm2, in examples: the batch size at which noise
    and gradient are equally large. None where norm2 is not told from 0. low, high: interval for four cases of five;
    high is None for no upper end. unit: "examples", or "mini-batches" where the batch size is unknown.
    """

    norm2: float
    trace: float
    scale: float | None
    low: float | None
    high: float | None
    unit: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def noise(gram: Floats, batch: int | None) -> Noise:
    """From gram[i, j] = G_i . G_j, with the two batch sizes B and n*B: a mini-batch, and all of them together.

        |G_small|^2 = mean of |G_i|^2,  |G_big|^2 = |mean of G_i|^2
        |G|^2 = (n B |G_big|^2 - B |G_small|^2) / (n B - B),  tr(Sigma) = (|G_small|^2 - |G_big|^2) / (1/B - 1/(n B))

    Both are unbiased for independent mini-batches; the first is the mean of G_i . G_j over all i != j, and may be
    negative. The interval is Fieller's (1954) for a quotient, with the jackknife's variances and covariance.
    """
    n, size = len(gram), batch or EXAMPLES
    squares, sums = np.diag(gram), gram.sum(axis=1)
    pairs = float(sums.sum() - squares.sum())
    norm2, small = pairs / (n * (n - 1)), float(squares.mean())
    trace = max(small - norm2, 0.0) * size  # below 0 by rounding alone
    # Without mini-batch i.
    norms = (pairs - 2 * (sums - squares)) / ((n - 1) * (n - 2))
    traces = ((squares.sum() - squares) / (n - 1) - norms) * size
    variances = np.cov(traces, norms) * (n - 1) ** 2 / n
    low, high = _quotient(trace, norm2, Z80**2 * variances)
    return Noise(
        norm2,
        trace,
        None if high is None else trace / norm2,
        low,
        high,
        "examples" if batch else "mini-batches",
    )


def _quotient(over: float, under: float, spread: Floats) -> tuple[float | None, float | None]:
    """Fieller's interval of over / under, both positive; spread: their covariance times the square of a normal deviate.

    Without an upper end where `under` is not told from 0, then with a lower end from the largest that it may be.
    """
    square, middle, rest = under**2 - spread[1, 1], over * under - spread[0, 1], over**2 - spread[0, 0]
    if under <= 0 or square <= 0:
        most = under + math.sqrt(spread[1, 1])
        return (max(over - math.sqrt(spread[0, 0]), 0.0) / most if most > 0 else None), None
    half = math.sqrt(max(middle**2 - square * rest, 0.0))
    return max((middle - half) / square, 0.0), (middle + half) / square


def agreement(gram: Floats) -> float | None:
    """Mean cosine of successive mini-batch gradients, G_i . G_(i+1) / (|G_i| |G_(i+1)|); None of one alone, and
    where one is 0."""
    norms = np.sqrt(np.diag(gram))
    if len(norms) < 2 or not (norms > 0).all():
        return None
    return float((np.diagonal(gram, 1) / (norms[1:] * norms[:-1])).mean())


def cosine(one: Weights, other: Weights) -> float:
    """Of two gradients; 0 where one of them is 0."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0 else 0.0


@dataclass(frozen=True)
class Tail:
    """alpha: tail index of the gradient noise, 2 for Gaussian noise, less for heavy tails. entries: of how many
    parameters it is the mean; share: of all parameters, the ones whose noise is never exactly 0."""

    alpha: float | None
    entries: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def tail(gradients: Weights, rng: np.random.Generator) -> Tail:
    """The estimator of Mohammadi, Mohammadpour & Ogata (2015, theorem 2.3), which Simsekli, Sagun & Gurbuzbalaban (2019,
    A tail-index analysis of stochastic gradient noise) use: a sum of k alpha-stable numbers is k^(1/alpha) times as wide.

        1/alpha = (mean log |X_1 + .. + X_k| - mean log |X|) / log k,  k = 4

    gradients: (n, parameters). X are differences of two mini-batch gradients, G_2 - G_1, G_4 - G_3 and so on: symmetric and
    without the mean, as the estimator wants. It is taken for each parameter and 1/alpha averaged over them: pooled,
    parameters of unlike scale would look like a heavy tail. Parameters with a difference of exactly 0 are left out.
    """
    pairs = len(gradients) // 2 // GROUP * GROUP
    if not pairs:
        return Tail(None, 0, 0.0)
    even, odd = gradients[: 2 * pairs : 2], gradients[1 : 2 * pairs : 2]
    kept = np.flatnonzero((even != odd).all(axis=0))
    share = kept.size / max(gradients.shape[1], 1)
    if not kept.size:
        return Tail(None, 0, share)
    x = even[:, kept].astype(np.float64) - odd[:, kept]
    single = float(np.log(np.abs(x)).mean())
    sums = []
    for _ in range(DEALS):
        dealt = x[rng.permutation(pairs)].reshape(pairs // GROUP, GROUP, -1).sum(axis=1)
        sums.append(float(np.log(np.abs(dealt[dealt != 0])).mean()) if dealt.any() else single)
    slope = (float(np.mean(sums)) - single) / math.log(GROUP)
    return Tail(1 / slope if slope > 0 else None, int(kept.size), share)
