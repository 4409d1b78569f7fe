"""Zeros in gradients: of entries and, of tables, of whole rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optadvisor.probing.subject import Block, Weights, cuts

TABLES = ("embedding", "sparse embedding")


@dataclass(frozen=True)
class Sparsity:
    """Of one role, means over mini-batches: the share of entries of a gradient that are exactly 0; of embeddings of
    which the rows are known, the share of rows that a mini-batch does not touch."""

    role: str
    parameters: int
    zeros: float
    rows_untouched: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Zeros:
    """Counts them gradient by gradient, so that none has to be kept."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks, self._cuts = blocks, cuts(blocks)
        self._zeros, self._empty, self._seen = [0] * len(blocks), [0] * len(blocks), 0

    def add(self, grad: Weights) -> None:
        self._seen += 1
        for i, (block, cut) in enumerate(zip(self._blocks, self._cuts, strict=True)):
            zero = grad[cut] == 0
            self._zeros[i] += int(np.count_nonzero(zero))
            if _is_table(block):
                self._empty[i] += int(np.count_nonzero(zero.reshape(block.shape).all(axis=1)))

    def found(self) -> list[Sparsity]:
        """A line for each role, in the order in which the roles first appear."""
        roles = dict.fromkeys(block.role for block in self._blocks)
        return [self._of([i for i, block in enumerate(self._blocks) if block.role == role]) for role in roles]

    def _of(self, own: list[int]) -> Sparsity:
        role, size = self._blocks[own[0]].role, sum(self._blocks[i].size for i in own)
        tables = [i for i in own if _is_table(self._blocks[i])]
        rows = sum(self._blocks[i].shape[0] for i in tables)
        untouched = _share((self._empty[i] for i in tables), rows * self._seen) if rows else None
        return Sparsity(role, size, _share((self._zeros[i] for i in own), size * self._seen) or 0.0, untouched)


def _is_table(block: Block) -> bool:
    return block.role in TABLES and len(block.shape) == 2


def _share(counts: Iterable[int], of: int) -> float | None:
    return sum(counts) / of if of else None
