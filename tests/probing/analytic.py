"""A subject whose Hessian, gradient and noise are known: f = (w - m)' H (w - m) / 2 with noise added to the gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.config import OptimizerConfig
from optadvisor.probing import Block, Sparse, ranging
from optadvisor.probing.subject import Weights
from optadvisor.profile import TaskProfile

Noise = Callable[[np.random.Generator, int], NDArray[np.floating[Any]]]


class Quadratic:
    """hessian: (n, n), symmetric. blocks: sizes, or blocks. breaks_at: from this weight's value on the loss is nan."""

    def __init__(
        self,
        hessian: NDArray[np.floating[Any]],
        blocks: Sequence[int | Block] = (),
        noise: Noise | None = None,
        start: Sequence[float] | None = None,
        declared: TaskProfile | None = None,
        batch_size: int | None = None,
        breaks_at: float = np.inf,
        zeros: Sparse | None = None,
    ) -> None:
        self.name, self.hessian = "quadratic", np.asarray(hessian, dtype=np.float64)
        n = len(self.hessian)
        sizes = blocks or (n,)
        self.blocks = [b if isinstance(b, Block) else Block(f"b{i}", "dense", (b,)) for i, b in enumerate(sizes)]
        self.noise, self.batch_size, self.distinct = noise, batch_size, None
        self.declared = declared or TaskProfile()
        self.read: Mapping[str, tuple[Any, str]] = {}
        self._start = np.ones(n, np.float32) if start is None else np.array(start, np.float32)
        self._breaks_at, self._zeros = breaks_at, zeros
        self.holding, self.released = 0, 0
        self.asked: list[int] = []

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self.holding += 1
        try:
            yield
        finally:
            self.released += 1

    def start(self) -> Weights:
        return self._start.copy()

    def gradient(self, weights: Weights, number: int) -> tuple[float, Weights]:
        self.asked.append(number)
        w = weights.astype(np.float64)
        with np.errstate(all="ignore"):  # a training may run away
            grad, loss = self.hessian @ w, 0.5 * float(w @ self.hessian @ w)
        if self.noise:
            slope = self.noise(np.random.default_rng([number, 99]), w.size)
            grad, loss = grad + slope, loss + float(slope @ w)
        if np.abs(w).max() >= self._breaks_at:
            loss = np.nan
        with np.errstate(over="ignore"):
            return loss, grad.astype(np.float32)

    def advance(self, weights: Weights, number: int) -> tuple[float, Weights]:
        return self.gradient(weights, number)

    def train(self, config: OptimizerConfig, steps: int) -> float:
        return ranging.by_gradients(self, config, steps)

    def zeros(self) -> Sparse | None:
        return self._zeros


def rotated(eigenvalues: Sequence[float], seed: int = 0) -> NDArray[np.float64]:
    """A symmetric matrix with these eigenvalues, in random directions."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues), len(eigenvalues))))
    return np.asarray(q @ np.diag(eigenvalues) @ q.T)


def stable(alpha: float, rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Symmetric alpha-stable numbers (Chambers, Mallows & Stuck 1976)."""
    v = rng.uniform(-np.pi / 2, np.pi / 2, size)
    w = rng.exponential(1.0, size)
    first = np.sin(alpha * v) / np.cos(v) ** (1 / alpha)
    return np.asarray(first * (np.cos((1 - alpha) * v) / w) ** ((1 - alpha) / alpha))
