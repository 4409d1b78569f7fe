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
AT_STEP: Any = None
SWEEP: Any = None
SQUARES: Any = None
COUNT: Any = 0
DTYPE: Any = np.float32
FINITE: Any = None
LOOK: Any = None
STAGE: Any = None
STAGED: Any = False
MEMORIES: Any = 0
AVERAGE: Any = None
BITS: Any = np.int32
EXPONENT: Any = 0x7F800000

# Elements in a block: what a second loop over a block reads is still in the first-level cache.
BLOCK = 2048

CLIP_EPS = 1e-6  # of the norm, as torch.nn.utils.clip_grad_norm_ has it

# Rows asked for ahead of time, and elements between two askings (a cache line of float32).
AHEAD, LINE = 8, 16

# Columns of a table: one row a tensor.
# DELAY: the steps that the tensor has missed, so that it is at its own step.
PARAMETER, GRADIENT, SIZE, START, ROWS, MEMORY, DELAY, COLUMNS = 0, 1, 2, 3, 4, 5, 6, 7

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


def averaged(average, p, keep, take):
    return keep * average + take * p


def clip_factor(norm: float, max_norm: float, divisor: float) -> float:
    """What gradients are multiplied by that are divided by `divisor` and then clipped to `max_norm`."""
    return min(1.0, max_norm / (norm + CLIP_EPS)) / divisor


def _average(p, average, keep, take):
    for i in range(p.size):
        average[i] = averaged(average[i], p[i], keep, take)


def _coefficients(numbers, delay):
    """What the rule needs at the step of a tensor, in the arrays' dtype."""
    t = int(numbers[STEP]) - delay
    return cast(COEFFICIENTS(t, numbers[LR], *as_tuple(numbers, VALUES, COUNT)), DTYPE)


def _look(table, numbers, mode):
    """Check the gradients and sum their squares, as asked. The number of the first non-finite one, or -1."""
    if mode & CHECK:
        for k in range(table.shape[0]):
            if not FINITE(table[k, GRADIENT], table[k, SIZE]):
                return k
    if mode & NORM:
        total = 0.0
        for k in range(table.shape[0]):
            total += SQUARES(carray(pointer(table[k, GRADIENT]), (table[k, SIZE],), DTYPE))
        numbers[SQUARED_NORM] = total
    return -1


def _table(table, states, numbers, mode):
    """Update every tensor of a group. Returns the number of the first tensor with a non-finite gradient, or -1."""
    bad = LOOK(table, numbers, mode)
    if bad >= 0:
        return bad
    if mode & RUN:
        delay = 0
        c = AT_STEP(numbers, delay)
        scale = DTYPE(numbers[SCALE])
        keep, take = DTYPE(numbers[KEEP]), DTYPE(numbers[TAKE])
        averages = numbers[TAKE] != 0.0
        for k in range(table.shape[0]):
            if table[k, DELAY] != delay:
                delay = table[k, DELAY]
                c = AT_STEP(numbers, delay)
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


def _tensors(table, states, numbers, mode):
    """`_table` for a form with a stage: the sweep makes the direction of a tensor, the stage its step."""
    bad = LOOK(table, numbers, mode)
    if bad >= 0:
        return bad
    if mode & RUN:
        delay = 0
        c = AT_STEP(numbers, delay)
        scale = DTYPE(numbers[SCALE])
        keep, take = DTYPE(numbers[KEEP]), DTYPE(numbers[TAKE])
        largest = 0
        for k in range(table.shape[0]):
            largest = max(largest, table[k, SIZE])
        work = np.empty(largest, DTYPE)
        for k in range(table.shape[0]):
            size, rows, start = table[k, SIZE], table[k, ROWS], table[k, START]
            if size == 0:
                continue
            if table[k, DELAY] != delay:
                delay = table[k, DELAY]
                c = AT_STEP(numbers, delay)
            p = carray(pointer(table[k, PARAMETER]), (size,), DTYPE)
            g = carray(pointer(table[k, GRADIENT]), (size,), DTYPE)
            memory = carray(pointer(table[k, MEMORY]), (MEMORIES, rows), DTYPE)
            direction = work[:size]
            direction[:] = p
            SWEEP(direction, g, states, start, scale, c)
            STAGE(p.reshape((rows, size // rows)), direction.reshape((rows, size // rows)), memory, *c)
            if numbers[TAKE] != 0.0:
                AVERAGE(p, states[states.shape[0] - 1, start : start + size], keep, take)
    return -1


def _no_stage(p, direction, memory, *c):
    pass


def _rows(parameter, ids, rows, buffer, states, start, memory, numbers, mode, slots, work):
    """Update the rows `ids` of a table; the gradients of repeated ids are summed first, in the order they came.

    slots: (a power of two above ids.size,) of -1; work: (2, ids.size). Returns -1, or the first non-finite row.
    """
    width = rows.shape[1]
    if mode & CHECK:
        for j in range(ids.size):
            if not FINITE(rows[j].ctypes.data, width):
                return j
    if not mode & (NORM | RUN) or width == 0:
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
    c = AT_STEP(numbers, 0)
    scale = DTYPE(numbers[SCALE])
    total = 0.0
    for n in range(count):
        if n + AHEAD < count:  # rows lie anywhere in memory: without this every one of them waits for it
            soon = ids[firsts[n + AHEAD]] * width
            for i in range(0, width, LINE):
                prefetch(parameter, soon + i)
                for k in range(states.shape[0]):
                    prefetch(states[k], start + soon + i)
            for k in range(memory.shape[0]):
                prefetch(memory[k], ids[firsts[n + AHEAD]])
        j = firsts[n]
        g = rows[j]
        if following[j] >= 0:
            buffer[0] = rows[j]
            k = following[j]
            while k >= 0:
                for i in range(width):
                    buffer[0, i] += rows[k, i]
                k = following[k]
            g = buffer[0]
        if mode & NORM:
            total += SQUARES(g)
        if mode & RUN:
            first = ids[j] * width
            p = parameter[first : first + width]
            if STAGED:
                direction = buffer[1]
                direction[:] = p
                SWEEP(direction, g, states, start + first, scale, c)
                own = memory[:, ids[j] : ids[j] + 1]
                STAGE(p.reshape((1, width)), direction.reshape((1, width)), own, *c)
            else:
                SWEEP(p, g, states, start + first, scale, c)
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
    squares = specialise(_squares, dtype_name(dtype), fastmath=frozenset({"reassoc", "contract"}))
    at_step = {"COEFFICIENTS": form.coefficients, "COUNT": len(form.arguments), "DTYPE": dtype}
    return {
        "SWEEP": elementwise(form, dtype),
        "AT_STEP": specialise(_coefficients, f"{form.name}_{dtype_name(dtype)}", cache=False, **at_step),
        "DTYPE": dtype,
        "FINITE": finite(dtype),
        "SQUARES": squares,
        "LOOK": specialise(_look, dtype_name(dtype), cache=False, FINITE=finite(dtype), SQUARES=squares, DTYPE=dtype),
        "STAGED": form.stage is not None,
        "STAGE": specialise(form.stage or _no_stage, form.name, cache=False, SQUARES=squares),
        "MEMORIES": len(form.row_states),
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

    table: (k, COLUMNS) int64: addresses of parameter and gradient, elements, first column in `states`, rows, address
    of the states by row, steps missed. states: as for `sweep`, one row more where weights are averaged. numbers:
    float64: see STEP .. VALUES. mode: CHECK | NORM | RUN.
    """
    template = _table if form.stage is None else _tensors
    return specialise(template, f"{form.name}_{dtype_name(dtype)}", AVERAGE=_average, **_parts(form, dtype))


@functools.cache
def rows(form: Form, dtype: Any) -> Compiled:
    """rows(parameter, ids, rows, buffer, states, start, memory, numbers, mode, slots, work): touched rows of one table.

    parameter: the table, flat; ids: (m,) int64 in range; rows: (m, width) gradients; buffer: (2, width); memory:
    (states by row, height); the rest as for `table`. Cost is O(m * width), whatever the table's height.
    """
    return specialise(_rows, f"{form.name}_{dtype_name(dtype)}", **_parts(form, dtype))
