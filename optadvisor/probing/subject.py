"""`Subject`: what is probed, as flat weights and the gradients of numbered mini-batches, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from optadvisor.config import OptimizerConfig
from optadvisor.kernels.errors import NonFiniteGradient
from optadvisor.profile import TaskProfile

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Block:
    """A part of the flat weights: one parameter of a model, `size` = product of `shape` elements."""

    name: str
    role: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Sparse:
    """Zeros among the input features of an example: a share from 0 to 1, and how it was counted."""

    share: float
    how: str


class Subject(Protocol):
    """A model, its mini-batches and its loss.

    blocks: what trains, in the order of the flat weights (float32). batch_size: examples in a mini-batch, None where
    unknown. distinct: how many mini-batches there are that differ, None for no end. declared: what a person says of the
    task; it wins over what is measured. read: what can be told without measuring, field of TaskProfile -> value and why.
    """

    @property
    def name(self) -> str: ...

    @property
    def blocks(self) -> Sequence[Block]: ...

    @property
    def batch_size(self) -> int | None: ...

    @property
    def distinct(self) -> int | None: ...

    @property
    def declared(self) -> TaskProfile: ...

    @property
    def read(self) -> Mapping[str, tuple[Any, str]]: ...

    def held(self) -> AbstractContextManager[None]:
        """Whatever is done inside, everything of the person's is as it was afterwards, bit for bit."""

    def start(self) -> Weights:
        """A copy of the weights as they were given; also forgets what `advance` kept."""

    def gradient(self, weights: Weights, number: int) -> tuple[float, Weights]:
        """Loss and gradient of mini-batch `number` at these weights.

        The same number means the same examples and the same random numbers. Nothing is kept: it may be asked for in any
        order.
        """

    def advance(self, weights: Weights, number: int) -> tuple[float, Weights]:
        """The same as a step of a training, which keeps what a training keeps (running statistics, environments)."""

    def train(self, config: OptimizerConfig, steps: int) -> float:
        """What a short training from the start comes to: a loss, lower is better, inf where it diverged."""

    def zeros(self) -> Sparse | None:
        """The share of zeros among the input features; None where they cannot be seen."""


class Meter:
    """Asks a subject for gradients, counts them, and refuses what is not finite."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.gradients = subject, 0

    def gradient(self, weights: Weights, number: int) -> tuple[float, Weights]:
        return self._checked(self.subject.gradient(weights, number), number)

    def advance(self, weights: Weights, number: int) -> tuple[float, Weights]:
        return self._checked(self.subject.advance(weights, number), number)

    def _checked(self, found: tuple[float, Weights], number: int) -> tuple[float, Weights]:
        self.gradients += 1
        loss, grad = found
        if not np.isfinite(loss) or not np.isfinite(grad).all():
            what = f"the loss is {loss}" if not np.isfinite(loss) else "the gradient holds NaN or Inf"
            raise NonFiniteGradient(
                f"{self.subject.name}: {what} on mini-batch {number}: check the data and the initial weights"
            )
        return found


def cuts(blocks: Sequence[Block]) -> list[slice]:
    """Where the blocks lie in the flat weights."""
    ends = np.cumsum([0, *(block.size for block in blocks)])
    return [slice(int(first), int(last)) for first, last in zip(ends[:-1], ends[1:], strict=True)]
