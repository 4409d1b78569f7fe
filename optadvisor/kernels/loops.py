"""The CPU loops around a scalar rule: over a slice of memory, over a table of tensors, over the touched rows of a table.

Upper-case globals are the parts that `compiling.specialise` puts in. What keeps SIMD (measured, 12 against 130
GB/s without): the loop runs over range(x.size) of contiguous slices, and every scalar has the arrays' dtype.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray

from optadvisor.kernels.compiling import Compiled, as_tuple, cast, dtype_name, pointer, prefetch, specialise
from optadvisor.kernels.rules.record import Form

UPDATE: Any = None
COEFFICIENTS: Any = None
SWEEP: Any = None
SQUARES: Any = None
COUNT: Any = 0
DTYPE: Any = np.float32
FINITE: Any = None
AVERAGE: Any = None
BITS: Any = np.int32
EXPONENT: Any = 0x7F800000

# Elements in a block: what a second loop over a block reads is still in the first-level cache.
BLOCK = 2048

# Rows asked for ahead of time, and elements between two askings (a cache line of float32).
AHEAD, LINE = 8, 16

# Columns of a table: one row a tensor.
PARAMETER, GRADIENT, SIZE, START = 0, 1, 2, 3

# What a step is told in `numbers`; hyperparameters follow from VALUES on.
STEP, LR, SCALE, KEEP, TAKE, SQUARED_NORM, VALUES = 0, 1, 2, 3, 4, 5, 6

# What a call of the table kernel does, so that no group changes before every group was checked.
CHECK, NORM, RUN = 1, 2, 4


def _sweep_0(p, g, states, start, scale, c):
    for i in range(p.size):
        (p[i],) = UPDATE(p[i], scale * g[i], *c)


def _sweep_1(p, g, states, start, scale, c):
    s0 = states[0, start : start + p.size]
    for i in range(p.size):
        p[i], s0[i] = UPDATE(p[i], scale * g[i], s0[i], *c)


def _sweep_2(p, g, states, start, scale, c):
    s0 = states[0, start : start + p.size]
    s1 = states[1, start : start + p.size]
    for i in range(p.size):
        p[i], s0[i], s1[i] = UPDATE(p[i], scale * g[i], s0[i], s1[i], *c)


def _sweep_3(p, g, states, start, scale, c):
    s0 = states[0, start : start + p.size]
    s1 = states[1, start : start + p.size]
    s2 = states[2, start : start + p.size]
    for i in range(p.size):
        p[i], s0[i], s1[i], s2[i] = UPDATE(p[i], scale * g[i], s0[i], s1[i], s2[i], *c)


_SWEEPS = (_sweep_0, _sweep_1, _sweep_2, _sweep_3)


def _step(p, g, states, start, t, lr, values):
    SWEEP(p, g, states, start, DTYPE(1.0), cast(COEFFICIENTS(t, lr, *values), DTYPE))


def _squares(g):
    # In float64: the square of a float32 cannot overflow it. numba's float() leaves a float32 as it is, so it takes
    # np.float64. Compiled with leave to reorder, or it is not SIMD.
    total = 0.0
    for i in range(g.size):
        x = np.float64(g[i])
        total += x * x
    return total


def _finite(address, size):
    """Whether no element is nan or inf: exactly those have all bits of the exponent set, and integers keep SIMD."""
    bits = carray(pointer(address), (size,), BITS)
    found = BITS(0)
    for i in range(bits.size):
        found |= BITS((bits[i] & EXPONENT) == EXPONENT)
    return found == 0


def _average(p, average, keep, take):
    for i in range(p.size):
        average[i] = keep * average[i] + take * p[i]


def _table(table, states, numbers, mode):
    """Update every tensor of a group. Returns the number of the first tensor with a non-finite gradient, or -1."""
    if mode & CHECK:
        for k in range(table.shape[0]):
            if not FINITE(table[k, GRADIENT], table[k, SIZE]):
                return k
    if mode & NORM:
        total = 0.0
        for k in range(table.shape[0]):
            total += SQUARES(carray(pointer(table[k, GRADIENT]), (table[k, SIZE],), DTYPE))
        numbers[SQUARED_NORM] = total
    if mode & RUN:
        c = cast(COEFFICIENTS(int(numbers[STEP]), numbers[LR], *as_tuple(numbers, VALUES, COUNT)), DTYPE)
        scale = DTYPE(numbers[SCALE])
        keep, take = DTYPE(numbers[KEEP]), DTYPE(numbers[TAKE])
        averages = numbers[TAKE] != 0.0
        for k in range(table.shape[0]):
            p = carray(pointer(table[k, PARAMETER]), (table[k, SIZE],), DTYPE)
            g = carray(pointer(table[k, GRADIENT]), (table[k, SIZE],), DTYPE)
            start = table[k, START]
            if not averages:
                SWEEP(p, g, states, start, scale, c)
                continue
            last = states[states.shape[0] - 1]
            for low in range(0, p.size, BLOCK):
                high = min(low + BLOCK, p.size)
                SWEEP(p[low:high], g[low:high], states, start + low, scale, c)
                AVERAGE(p[low:high], last[start + low : start + high], keep, take)
    return -1


def _rows(parameter, ids, rows, buffer, states, start, numbers, mode, slots, work):
    """Update the rows `ids` of a table; the gradients of repeated ids are summed first, in the order they came.

    slots: (a power of two above ids.size,) of -1; work: (2, ids.size). Returns -1, or the first non-finite row.
    """
    width = rows.shape[1]
    if mode & CHECK:
        for j in range(ids.size):
            if not FINITE(rows[j].ctypes.data, width):
                return j
    if not mode & (NORM | RUN):
        return -1
    following, firsts = work[0], work[1]
    mask = slots.size - 1
    for j in range(ids.size - 1, -1, -1):  # backwards, so that a slot ends with the first row of its id
        h = ((ids[j] * np.int64(-7046029254386353131)) >> 32) & mask
        while slots[h] >= 0 and ids[slots[h]] != ids[j]:
            h = (h + 1) & mask
        following[j] = slots[h]
        slots[h] = j
    count = 0
    for h in range(slots.size):
        if slots[h] >= 0:
            firsts[count] = slots[h]
            count += 1
    c = cast(COEFFICIENTS(int(numbers[STEP]), numbers[LR], *as_tuple(numbers, VALUES, COUNT)), DTYPE)
    scale = DTYPE(numbers[SCALE])
    total = 0.0
    for n in range(count):
        if n + AHEAD < count:  # rows lie anywhere in memory: without this every one of them waits for it
            soon = ids[firsts[n + AHEAD]] * width
            for i in range(0, width, LINE):
                prefetch(parameter, soon + i)
                for k in range(states.shape[0]):
                    prefetch(states[k], start + soon + i)
        j = firsts[n]
        g = rows[j]
        if following[j] >= 0:
            buffer[:] = rows[j]
            k = following[j]
            while k >= 0:
                for i in range(width):
                    buffer[i] += rows[k, i]
                k = following[k]
            g = buffer
        if mode & NORM:
            total += SQUARES(g)
        if mode & RUN:
            first = ids[j] * width
            SWEEP(parameter[first : first + width], g, states, start + first, scale, c)
    if mode & NORM:
        numbers[SQUARED_NORM] += total
    return -1


@functools.cache
def elementwise(form: Form, dtype: Any) -> Compiled:
    """elementwise(p, g, states, start, scale, c): one step on flat arrays, for coefficients c in `dtype`."""
    return specialise(_SWEEPS[len(form.states)], f"{form.name}_{dtype_name(dtype)}", UPDATE=form.update)


@functools.cache
def finite(dtype: Any) -> Compiled:
    """finite(address, size): whether no element at the address is nan or inf."""
    single = np.dtype(dtype).itemsize == 4
    exponent = np.int32(0x7F800000) if single else np.int64(0x7FF0000000000000)
    return specialise(_finite, dtype_name(dtype), BITS=np.int32 if single else np.int64, EXPONENT=exponent)


def _parts(form: Form, dtype: Any) -> dict[str, Any]:
    return {
        "SWEEP": elementwise(form, dtype),
        "COEFFICIENTS": form.coefficients,
        "COUNT": len(form.arguments),
        "DTYPE": dtype,
        "FINITE": finite(dtype),
        "SQUARES": specialise(_squares, dtype_name(dtype), fastmath=frozenset({"reassoc", "contract"})),
    }


@functools.cache
def sweep(form: Form, dtype: Any) -> Compiled:
    """sweep(p, g, states, start, t, lr, values): one step of `form` on flat arrays, in place.

    p, g: (n,) of `dtype`; states: (number of states, at least start + n), the columns from `start` are used;
    t: step, from 1; lr: float; values: tuple of float64, the hyperparameters that `form.arguments` names.
    """
    parts = {"SWEEP": elementwise(form, dtype), "COEFFICIENTS": form.coefficients, "DTYPE": dtype}
    return specialise(_step, f"{form.name}_{dtype_name(dtype)}", **parts)


@functools.cache
def table(form: Form, dtype: Any) -> Compiled:
    """table(table, states, numbers, mode): one step over many tensors.

    table: (k, 4) int64: addresses of parameter and gradient, elements, first column in `states`. states: as for
    `sweep`, one row more where weights are averaged. numbers: float64: see STEP .. VALUES. mode: CHECK | NORM | RUN.
    """
    return specialise(_table, f"{form.name}_{dtype_name(dtype)}", AVERAGE=_average, **_parts(form, dtype))


@functools.cache
def rows(form: Form, dtype: Any) -> Compiled:
    """rows(parameter, ids, rows, buffer, states, start, numbers, mode, slots, chain): the touched rows of one table.

    parameter: the table, flat; ids: (m,) int64 in range; rows: (m, width) gradients; buffer: (width,); the rest as for
    `table`. Cost is O(m * width), whatever the table's height.
    """
    return specialise(_rows, f"{form.name}_{dtype_name(dtype)}", **_parts(form, dtype))
