"""CUDA kernels for the rows of a table: sort the ids, then update each touched row once.

Repeated ids are summed in the order in which they came, as on the CPU, so a step gives the same bits each time. That
is why ids are sorted and nothing is added atomically: keys of (id, place) in one int64 put the rows of an id side by
side, in order. The sort merges 32 runs at a time, each key counting the smaller ones in the other runs: 2 launches for
1,000 ids, 3 for 30,000, 4 for a million, and no scratch but a second array of keys. A hash table with atomics would
need fewer passes, but then the repeats of an id have to be put in order after all.

Nothing here asks the host how many ids there are but for the length of the array: the first place of each id works.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import cuda

from optadvisor.kernels.cuda.arrays import arithmetic, dtype_name
from optadvisor.kernels.cuda.loops import CALLS, bits, label, parts
from optadvisor.kernels.cuda.target import Kernel, accessors
from optadvisor.kernels.rules.record import Form

CALL: Any = None
ELEMENT: Any = None
VALUE: Any = None
PUT: Any = None
LOAD: Any = None
STORE: Any = None
LOAD_GRADIENT: Any = None
LOAD_IDS: Any = None
LOAD_INT: Any = None
STORE_INT: Any = None
LOAD_DOUBLE: Any = None
STORE_DOUBLE: Any = None
SUMMED: Any = None
FIRST: Any = None
DTYPE: Any = np.float32
EXPONENT: Any = 0x7F800000

# Runs that one launch merges.
WAYS = 32


def _keys(ids, count, shift, height, keys):
    # An id outside the table becomes `height`: sorted to the end, and passed over. Place and id share 63 bits, enough
    # for any table and batch that fit in one memory.
    i, step = np.int64(cuda.grid(1)), np.int64(cuda.gridsize(1))
    while i < count:
        row = np.int64(LOAD_IDS(ids, i))
        if row < 0 or row > height:
            row = np.int64(height)
        STORE_INT(keys, i, (row << shift) | i)
        i += step


def _merge(keys, count, width, out):
    i, step = np.int64(cuda.grid(1)), np.int64(cuda.gridsize(1))
    while i < count:
        key = LOAD_INT(keys, i)
        first, own = i - i % (width * WAYS), i - i % width
        rank = i - own
        low, end = first, min(first + width * WAYS, count)
        while low < end:
            if low != own:
                a, b = low, min(low + width, end)
                while a < b:
                    middle = (a + b) >> 1
                    if LOAD_INT(keys, middle) < key:
                        a = middle + 1
                    else:
                        b = middle
                rank += a - low
            low += width
        STORE_INT(out, first + rank, key)
        i += step


def _first(keys, n, shift, height):
    """The id at place n of the sorted keys if it is in the table and stands there for the first time, else -1."""
    row = LOAD_INT(keys, n) >> shift
    before = LOAD_INT(keys, max(n - 1, 0)) >> shift
    return row if row < height and (n == 0 or before != row) else np.int64(-1)


def _summed(keys, n, count, shift, g, width, i):
    """Element i of the gradients of the id at place n, added up in the order in which they came."""
    key = LOAD_INT(keys, n)
    row, mask = key >> shift, (np.int64(1) << shift) - 1
    total = LOAD_GRADIENT(g, (key & mask) * width + i)
    n += 1
    while n < count:
        key = LOAD_INT(keys, n)
        if key >> shift != row:
            break
        total += LOAD_GRADIENT(g, (key & mask) * width + i)
        n += 1
    return total


# `lanes` threads work on a row side by side, element for element; a block takes blockDim // lanes rows at a time.


def _rows(keys, count, shift, height, lanes, p, g, width, states, stride, start, factor, scale, c):
    if factor != 0:
        scale = scale * LOAD(factor, 0)
    mine, together = cuda.threadIdx.x // lanes, cuda.blockDim.x // lanes
    n, step = np.int64(cuda.blockIdx.x * together + mine), np.int64(cuda.gridDim.x * together)
    while n < count and mine < together:
        row = FIRST(keys, n, shift, height)
        i = cuda.threadIdx.x - mine * lanes
        while row >= 0 and i < width:
            at = row * width + i
            ELEMENT(p, at, scale * SUMMED(keys, n, count, shift, g, width, i), states, stride, start + at, c)
            i += lanes
        n += step


# A form whose stage works by row is three launches: directions and sums of squares, a number for each row, the step.


def _directions(keys, count, shift, height, lanes, p, g, width, states, stride, start, factor, work, partial, scale, c):
    if factor != 0:
        scale = scale * LOAD(factor, 0)
    mine, together = cuda.threadIdx.x // lanes, cuda.blockDim.x // lanes
    n, step = np.int64(cuda.blockIdx.x * together + mine), np.int64(cuda.gridDim.x * together)
    while n < count and mine < together:
        row = FIRST(keys, n, shift, height)
        lane = cuda.threadIdx.x - mine * lanes
        i, total = lane, 0.0
        while row >= 0 and i < width:
            at = row * width + i
            x = ELEMENT(p, at, scale * SUMMED(keys, n, count, shift, g, width, i), states, stride, start + at, c)
            STORE(work, n * width + i, x)
            total += np.float64(x) * np.float64(x)
            i += lanes
        STORE_DOUBLE(partial, n * lanes + lane, total)
        n += step


def _numbers(keys, count, shift, height, lanes, width, partial, memory, numbers, c):
    n, step = np.int64(cuda.grid(1)), np.int64(cuda.gridsize(1))
    while n < count:
        row = FIRST(keys, n, shift, height)
        if row >= 0:
            total, lane = 0.0, 0
            while lane < lanes:
                total += LOAD_DOUBLE(partial, n * lanes + lane)
                lane += 1
            x = CALL((DTYPE(total / width), LOAD(memory, row)) + c)  # noqa: RUF005
            STORE(numbers, n, x[0])
            STORE(memory, row, x[1])
        n += step


def _move(keys, count, shift, height, lanes, p, width, states, start, work, numbers, c):
    mine, together = cuda.threadIdx.x // lanes, cuda.blockDim.x // lanes
    n, step = np.int64(cuda.blockIdx.x * together + mine), np.int64(cuda.gridDim.x * together)
    while n < count and mine < together:
        row = FIRST(keys, n, shift, height)
        i = cuda.threadIdx.x - mine * lanes
        while row >= 0 and i < width:
            at = row * width + i
            old = (VALUE(p, at, states, start + at), LOAD(work, n * width + i), LOAD(numbers, n))
            PUT(p, at, states, start + at, CALL(old + c)[0])
            i += lanes
        n += step


def _squares(keys, count, shift, height, lanes, g, width, partial):
    mine, together = cuda.threadIdx.x // lanes, cuda.blockDim.x // lanes
    n, step = np.int64(cuda.blockIdx.x * together + mine), np.int64(cuda.gridDim.x * together)
    total = 0.0
    while n < count and mine < together:
        row = FIRST(keys, n, shift, height)
        i = cuda.threadIdx.x - mine * lanes
        while row >= 0 and i < width:
            x = np.float64(SUMMED(keys, n, count, shift, g, width, i))
            total += x * x
            i += lanes
        n += step
    STORE_DOUBLE(partial, cuda.grid(1), total)


def _check(keys, count, shift, height, g, width, found):
    i, step = np.int64(cuda.grid(1)), np.int64(cuda.gridsize(1))
    while i < count * width:
        if (LOAD(g, i) & EXPONENT) == EXPONENT:
            STORE_INT(found, 0, 1)
        if i < count and LOAD_INT(keys, i) >> shift >= height:
            STORE_INT(found, 0, 1)
        i += step


_PLACES = {"SUMMED": _summed, "FIRST": _first}


@functools.cache
def keys(dtype: Any) -> Kernel:
    """keys(ids, count, shift, height, keys): (id << shift) | place for ids of `dtype`; shift: bits of a place."""
    _, store_int = accessors(np.int64)
    return Kernel(_keys, dtype_name(dtype), (np.int64,) * 5, {"LOAD_IDS": accessors(dtype)[0], "STORE_INT": store_int})


@functools.cache
def merge() -> Kernel:
    """merge(keys, count, width, out): sorted runs of `width` become sorted runs of WAYS*width."""
    load_int, store_int = accessors(np.int64)
    return Kernel(_merge, "int64", (np.int64,) * 4, {"LOAD_INT": load_int, "STORE_INT": store_int})


def passes(count: int) -> int:
    """Launches of `merge` that sort `count` keys."""
    return math.ceil(math.log(count, WAYS) - 1e-9) if count > 1 else 0


@functools.cache
def rows(form: Form, parameter: Any, coefficients: int, gradient: Any = None) -> Kernel:
    """rows(keys, count, shift, height, lanes, p, g, width, states, stride, start, factor, scale, c): the touched rows.

    keys: address of (count,) sorted keys; p: of the table, (height, width); g: of (count, width) gradients; states: of
    (rows, stride), the table's from column `start`; the rest as for `loops.flat`.
    """
    kind = arithmetic(parameter).type
    signature = (*[np.int64] * 12, kind, (kind, coefficients))
    values = {**parts(form, parameter, coefficients, gradient), **_PLACES}
    return Kernel(_rows, label(form, parameter, gradient), signature, values)


@functools.cache
def staged(form: Form, parameter: Any, coefficients: int, gradient: Any = None) -> tuple[Kernel, Kernel, Kernel]:
    """The three kernels of a form with `row_number`, in order; memory: address of (height,), its state by row.

    directions(keys, count, shift, height, lanes, p, g, width, states, stride, start, factor, work, partial, scale, c);
    numbers(keys, count, shift, height, lanes, width, partial, memory, numbers, c);
    move(keys, count, shift, height, lanes, p, width, states, start, work, numbers, c).
    work: scratch of (count, width), partial of (count, lanes) float64, numbers of (count,).
    """
    assert not form.states
    kind = arithmetic(parameter).type
    load_double, store_double = accessors(np.float64)
    shared = {**parts(form, parameter, coefficients, gradient), **_PLACES, "DTYPE": kind}
    doubles = {"LOAD_DOUBLE": load_double, "STORE_DOUBLE": store_double}
    name, c = label(form, parameter, gradient), (kind, coefficients)
    aside = {**parts(form, parameter, coefficients, gradient, moves=False), **_PLACES, **doubles}
    number = {**shared, **doubles, "UPDATE": form.row_number, "CALL": CALLS[2 + coefficients]}
    move = {**shared, "UPDATE": form.row_move, "CALL": CALLS[3 + coefficients]}
    return (
        Kernel(_directions, name, (*[np.int64] * 14, kind, c), aside),
        Kernel(_numbers, name, (*[np.int64] * 9, c), number),
        Kernel(_move, name, (*[np.int64] * 11, c), move),
    )


@functools.cache
def squares(dtype: Any) -> Kernel:
    """squares(keys, count, shift, height, lanes, g, width, partial): sums of squares of the summed rows."""
    load_int, _ = accessors(np.int64)
    load, _ = accessors(dtype)
    _, store_double = accessors(np.float64)
    values = {"LOAD_GRADIENT": load, "LOAD_INT": load_int, "STORE_DOUBLE": store_double, **_PLACES}
    return Kernel(_squares, f"rows_{dtype_name(dtype)}", (np.int64,) * 8, values)


@functools.cache
def check(dtype: Any) -> Kernel:
    """check(keys, count, shift, height, g, width, found): write 1 at `found` for nan, inf or an id outside the table."""
    load_int, store_int = accessors(np.int64)
    values = {"LOAD_INT": load_int, "STORE_INT": store_int, **bits(dtype)}
    return Kernel(_check, f"rows_{dtype_name(dtype)}", (np.int64,) * 7, values)
