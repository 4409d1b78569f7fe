"""The CUDA kernels around a scalar rule: over one arena, over a table of tensors; the checks and sums before a step.

Upper-case globals are the parts that `target` puts in; the rule itself is the CPU's. Memory is passed as integer
addresses, read and written by LOAD and STORE: a launch then costs a handful of scalars and wraps no array.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import cuda

from optadvisor.kernels.compiling import dtype_name
from optadvisor.kernels.cuda.target import Kernel, accessors
from optadvisor.kernels.loops import COLUMNS, GRADIENT, PARAMETER, SIZE, START, averaged, clip_factor
from optadvisor.kernels.rules.record import Form

UPDATE: Any = None
CALL: Any = None
ELEMENT: Any = None
LOAD: Any = None
STORE: Any = None
LOAD_INT: Any = None
STORE_INT: Any = None
LOAD_DOUBLE: Any = None
STORE_DOUBLE: Any = None
STORE_SINGLE: Any = None
AVERAGED: Any = None
FACTOR: Any = None
DTYPE: Any = np.float32
EXPONENT: Any = 0x7F800000

# `while` with a counter of our own: numba's range emits more arithmetic than a rule has.

# Elements that a block takes from a tensor at a time: small, so that a few thousand blocks share a model evenly.
CHUNK = 4096

# Columns of the table of tensors, the CPU's, and of the table of chunks: number of the tensor, first element.
CHUNK_COLUMNS = 2

# What `clip` leaves, in float64, and behind it the factor once more in float32: a float32 kernel reads no float64.
NORM, FACTOR_DOUBLE, FACTOR_SINGLE, RESULT_BYTES = 0, 1, 2, 24


# numba's inliner takes no starred call, and a device function that is not inlined asks for a live device when it is
# compiled. So the values of a call (parameter, gradient, states, coefficients) come as one tuple.


def _call_3(v):
    return UPDATE(v[0], v[1], v[2])


def _call_4(v):
    return UPDATE(v[0], v[1], v[2], v[3])


def _call_5(v):
    return UPDATE(v[0], v[1], v[2], v[3], v[4])


def _call_6(v):
    return UPDATE(v[0], v[1], v[2], v[3], v[4], v[5])


def _call_7(v):
    return UPDATE(v[0], v[1], v[2], v[3], v[4], v[5], v[6])


def _call_8(v):
    return UPDATE(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7])


def _call_9(v):
    return UPDATE(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8])


def _call_10(v):
    return UPDATE(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9])


def _call_11(v):
    return UPDATE(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10])


def _call_12(v):
    return UPDATE(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11])


def _call_13(v):
    return UPDATE(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12])


def _call_14(v):
    return UPDATE(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12], v[13])


_CALLS = {
    3: _call_3,
    4: _call_4,
    5: _call_5,
    6: _call_6,
    7: _call_7,
    8: _call_8,
    9: _call_9,
    10: _call_10,
    11: _call_11,
    12: _call_12,
    13: _call_13,
    14: _call_14,
}


# One element: i counts in parameter and gradient, s in a row of states. Returns the new parameter.


def _element_0(p, g, i, states, width, s, scale, c):
    x = CALL((LOAD(p, i), scale * LOAD(g, i)) + c)  # noqa: RUF005
    STORE(p, i, x[0])
    return x[0]


def _element_1(p, g, i, states, width, s, scale, c):
    x = CALL((LOAD(p, i), scale * LOAD(g, i), LOAD(states, s)) + c)  # noqa: RUF005
    STORE(p, i, x[0])
    STORE(states, s, x[1])
    return x[0]


def _element_2(p, g, i, states, width, s, scale, c):
    x = CALL((LOAD(p, i), scale * LOAD(g, i), LOAD(states, s), LOAD(states, s + width)) + c)  # noqa: RUF005
    STORE(p, i, x[0])
    STORE(states, s, x[1])
    STORE(states, s + width, x[2])
    return x[0]


def _element_3(p, g, i, states, width, s, scale, c):
    old = (LOAD(p, i), scale * LOAD(g, i), LOAD(states, s), LOAD(states, s + width), LOAD(states, s + width + width))
    x = CALL(old + c)
    STORE(p, i, x[0])
    STORE(states, s, x[1])
    STORE(states, s + width, x[2])
    STORE(states, s + width + width, x[3])
    return x[0]


_ELEMENTS = (_element_0, _element_1, _element_2, _element_3)


def _flat(p, g, size, states, width, average, factor, scale, keep, take, c):
    if factor != 0:
        scale = scale * LOAD(factor, 0)
    i, step = np.int64(cuda.grid(1)), np.int64(cuda.gridsize(1))
    while i < size:
        x = ELEMENT(p, g, i, states, width, i, scale, c)
        if average >= 0:
            STORE(states, average + i, AVERAGED(LOAD(states, average + i), x, keep, take))
        i += step


def _table(table, chunks, count, states, width, average, factor, scale, keep, take, c):
    if factor != 0:
        scale = scale * LOAD(factor, 0)
    for n in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        row = table + LOAD_INT(chunks, CHUNK_COLUMNS * n) * (8 * COLUMNS)
        low = LOAD_INT(chunks, CHUNK_COLUMNS * n + 1)
        p, g, start = LOAD_INT(row, PARAMETER), LOAD_INT(row, GRADIENT), LOAD_INT(row, START)
        i, end = low + cuda.threadIdx.x, min(low + CHUNK, LOAD_INT(row, SIZE))
        while i < end:
            x = ELEMENT(p, g, i, states, width, start + i, scale, c)
            if average >= 0:
                s = average + start + i
                STORE(states, s, AVERAGED(LOAD(states, s), x, keep, take))
            i += cuda.blockDim.x


def _check(table, chunks, count, found):
    # Which tensor it was is looked up on the host, after the fact: here any thread may write the one same value.
    for n in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        row = table + LOAD_INT(chunks, CHUNK_COLUMNS * n) * (8 * COLUMNS)
        low = LOAD_INT(chunks, CHUNK_COLUMNS * n + 1)
        g = LOAD_INT(row, GRADIENT)
        i, end = low + cuda.threadIdx.x, min(low + CHUNK, LOAD_INT(row, SIZE))
        while i < end:
            if (LOAD(g, i) & EXPONENT) == EXPONENT:
                STORE_INT(found, 0, 1)
            i += cuda.blockDim.x


def _squares(table, chunks, count, partial):
    # In float64, as on the CPU: the square of a float32 cannot overflow it.
    total = 0.0
    for n in range(cuda.blockIdx.x, count, cuda.gridDim.x):
        row = table + LOAD_INT(chunks, CHUNK_COLUMNS * n) * (8 * COLUMNS)
        low = LOAD_INT(chunks, CHUNK_COLUMNS * n + 1)
        g = LOAD_INT(row, GRADIENT)
        i, end = low + cuda.threadIdx.x, min(low + CHUNK, LOAD_INT(row, SIZE))
        while i < end:
            x = np.float64(LOAD(g, i))
            total += x * x
            i += cuda.blockDim.x
    STORE_DOUBLE(partial, cuda.grid(1), total)


def _clip(partial, count, max_norm, divisor, result):
    # One block: each thread sums a part, over places that no other thread reads, and the first one sums these.
    me = cuda.threadIdx.x
    total = 0.0
    for i in range(me, count, cuda.blockDim.x):
        total += LOAD_DOUBLE(partial, i)
    if me < count:
        STORE_DOUBLE(partial, me, total)
    cuda.syncthreads()
    if me == 0:
        total = 0.0
        for i in range(min(count, cuda.blockDim.x)):
            total += LOAD_DOUBLE(partial, i)
        norm = math.sqrt(total) / divisor
        factor = FACTOR(norm, max_norm, divisor)
        STORE_DOUBLE(result, NORM, norm)
        STORE_DOUBLE(result, FACTOR_DOUBLE, factor)
        STORE_SINGLE(result + 8 * FACTOR_SINGLE, 0, np.float32(factor))


def _parts(form: Form, dtype: Any, coefficients: int) -> dict[str, Any]:
    load, store = accessors(dtype)
    load_int, _ = accessors(np.int64)
    values = 2 + len(form.states) + coefficients
    return {
        "UPDATE": form.update,
        "CALL": _CALLS[values],
        "ELEMENT": _ELEMENTS[len(form.states)],
        "LOAD": load,
        "STORE": store,
        "LOAD_INT": load_int,
        "AVERAGED": averaged,
    }


def _signature(dtype: Any, coefficients: int) -> tuple[Any, ...]:
    return (*[np.int64] * 7, *[dtype] * 3, (dtype, coefficients))


@functools.cache
def flat(form: Form, dtype: Any, coefficients: int) -> Kernel:
    """flat(p, g, size, states, width, average, factor, scale, keep, take, c): one step on one arena.

    p, g, states: addresses of (size,), (size,) and (rows, width); average: element of `states` where the moving
    average begins, or -1; factor: address of a factor on the gradients, or 0; scale, keep, take, c: scalars in dtype.
    """
    return Kernel(
        _flat, f"{form.name}_{dtype_name(dtype)}", _signature(dtype, coefficients), _parts(form, dtype, coefficients)
    )


@functools.cache
def table(form: Form, dtype: Any, coefficients: int) -> Kernel:
    """table(table, chunks, count, states, ...): one step over many tensors in one launch; the rest as for `flat`.

    table: address of (tensors, 4) int64, as the CPU's; chunks: address of (count, 2) int64.
    """
    return Kernel(
        _table, f"{form.name}_{dtype_name(dtype)}", _signature(dtype, coefficients), _parts(form, dtype, coefficients)
    )


@functools.cache
def check(dtype: Any) -> Kernel:
    """check(table, chunks, count, found): write 1 at the address `found` if a gradient holds nan or inf."""
    single = np.dtype(dtype).itemsize == 4
    load, _ = accessors(np.int32 if single else np.int64)
    load_int, store_int = accessors(np.int64)
    exponent = np.int32(0x7F800000) if single else np.int64(0x7FF0000000000000)
    parts = {"LOAD": load, "LOAD_INT": load_int, "STORE_INT": store_int, "EXPONENT": exponent}
    return Kernel(_check, dtype_name(dtype), (np.int64,) * 4, parts)


@functools.cache
def squares(dtype: Any) -> Kernel:
    """squares(table, chunks, count, partial): sums of squares of the gradients, a float64 a thread."""
    load, _ = accessors(dtype)
    load_int, _ = accessors(np.int64)
    _, store_double = accessors(np.float64)
    parts = {"LOAD": load, "LOAD_INT": load_int, "STORE_DOUBLE": store_double}
    return Kernel(_squares, dtype_name(dtype), (np.int64,) * 4, parts)


@functools.cache
def clip() -> Kernel:
    """clip(partial, count, max_norm, divisor, result): norm and clipping factor from the sums of all threads."""
    load_double, store_double = accessors(np.float64)
    _, store_single = accessors(np.float32)
    parts = {
        "LOAD_DOUBLE": load_double,
        "STORE_DOUBLE": store_double,
        "STORE_SINGLE": store_single,
        "FACTOR": clip_factor,
    }
    return Kernel(_clip, "float64", (np.int64, np.int64, np.float64, np.float64, np.int64), parts)
