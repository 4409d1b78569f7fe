"""A large group's step on several threads: each takes a stretch of the group's elements. Same bits as on one."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from optadvisor.kernels import loops
from optadvisor.kernels.arrays import Array

# Elements of a share, and shares from which on there is more than one thread. AdamW with both cores taken by other work:
# 3e6 elements 1.3 ms on two threads and 1.8 on one at best, but 1e6 0.9 ms and 0.7, waiting for each other included.
LEAST, FROM = 1 << 19, 4
PER_THREAD = 4  # shares: where another program has a core, the threads on the others take what it leaves

Kernel = Callable[[Array, Array, Array, int], int]


def shared(kernel: Kernel, table: Array, itemsize: int, threads: int) -> Kernel:
    """The table kernel of a form without a stage, for this table, on several threads if it is large enough for them."""
    shares = min(PER_THREAD * threads, int(table[:, loops.SIZE].sum()) // LEAST)
    few = threads < 2 or shares < FROM
    return kernel if few else Shared(kernel, table, itemsize, min(threads, shares), shares)


class Shared:
    """A table kernel whose rows, cut where a share ends, go to whichever thread is free. Called as the kernel is."""

    def __init__(self, kernel: Kernel, table: Array, itemsize: int, threads: int, shares: int) -> None:
        self._kernel, self._itemsize, self._threads = kernel, itemsize, threads
        sizes = table[:, loops.SIZE]
        ends = np.cumsum(sizes)
        starts, total = ends - sizes, int(ends[-1])
        each = -(-total // (shares * loops.BLOCK)) * loops.BLOCK
        cuts = np.unique(np.concatenate([starts[sizes > 0], np.arange(0, total, each), [total]]))
        self._rows = np.searchsorted(ends, cuts[:-1], side="right")
        self._first = cuts[:-1] - starts[self._rows]
        self._sizes = np.diff(cuts)
        bounds = np.unique(np.searchsorted(cuts, [*range(0, total, each), total]))
        self._shares = list(itertools.pairwise(bounds.tolist()))

    def __call__(self, table: Array, states: Array, numbers: Array, mode: int) -> int:
        if mode & loops.CHECK and mode != loops.CHECK:  # all gradients first, then the first change
            bad = self(table, states, numbers, loops.CHECK)
            if bad >= 0:
                return bad
            mode -= loops.CHECK
        pieces = table[self._rows]
        pieces[:, [loops.PARAMETER, loops.GRADIENT]] += (self._first * self._itemsize)[:, None]
        pieces[:, loops.START] += self._first
        pieces[:, loops.SIZE] = np.where(pieces[:, loops.SIZE] > 0, self._sizes, 0)  # 0: no gradient in this step
        own = [numbers.copy() if mode & loops.NORM else numbers for _ in self._shares]
        queue = iter([(low, pieces[low:high], one) for (low, high), one in zip(self._shares, own, strict=True)])
        bad_rows: list[int] = []

        def work() -> None:
            for low, piece, one in queue:  # threads take turns: `next` of a list's iterator is one operation
                bad = self._kernel(piece, states, one, mode)
                if bad >= 0:
                    bad_rows.append(int(self._rows[low + bad]))

        helpers = [_pool(os.getpid(), self._threads - 1).submit(work) for _ in range(self._threads - 1)]
        work()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        if mode & loops.NORM:
            numbers[loops.SQUARED_NORM] = sum(one[loops.SQUARED_NORM] for one in own)
        return min(bad_rows, default=-1)


@functools.cache
def _pool(process: int, threads: int) -> Any:
    """Threads of this process: after a fork there are none, so the key holds whose they are."""
    return ThreadPoolExecutor(threads, thread_name_prefix="optadvisor")
