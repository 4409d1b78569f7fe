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

from optadvisor.kernels.cuda.arrays import EXPONENTS, arithmetic, dtype_name
from optadvisor.kernels.cuda.target import Kernel, accessors
from optadvisor.kernels.loops import COLUMNS, GRADIENT, PARAMETER, SIZE, START, averaged, clip_factor
from optadvisor.kernels.rules.record import Form

UPDATE: Any = None
CALL: Any = None
ELEMENT: Any = None
LOAD: Any = None
STORE: Any = None
LOAD_GRADIENT: Any = None
LOAD_PARAMETER: Any = None
STORE_PARAMETER: Any = None
VALUE: Any = None
PUT: Any = None
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


CALLS = {
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


# Where the value of a parameter is: in the caller's array, or, where that has half precision, as the float32 master
# weight in the row behind the rule's states (`at`); the caller's array then gets it rounded.


def _value(p, i, states, at):
    return LOAD_PARAMETER(p, i)


def _put(p, i, states, at, x):
    STORE_PARAMETER(p, i, x)


def _master_value(p, i, states, at):
    return LOAD(states, at)


def _put_master(p, i, states, at, x):
    STORE(states, at, x)
    STORE_PARAMETER(p, i, x)


def _put_nothing(p, i, states, at, x):
    pass


# One element: i counts in the parameter, s in a row of states; g is the gradient, scaled. Returns what `update` does
# in place of the parameter.


def _element_0(p, i, g, states, width, s, c):
    x = CALL((VALUE(p, i, states, s), g) + c)  # noqa: RUF005
    PUT(p, i, states, s, x[0])
    return x[0]


def _element_1(p, i, g, states, width, s, c):
    at = s + width
    x = CALL((VALUE(p, i, states, at), g, LOAD(states, s)) + c)  # noqa: RUF005
    PUT(p, i, states, at, x[0])
    STORE(states, s, x[1])
    return x[0]


def _element_2(p, i, g, states, width, s, c):
    at = s + width + width
    x = CALL((VALUE(p, i, states, at), g, LOAD(states, s), LOAD(states, s + width)) + c)  # noqa: RUF005
    PUT(p, i, states, at, x[0])
    STORE(states, s, x[1])
    STORE(states, s + width, x[2])
    return x[0]


def _element_3(p, i, g, states, width, s, c):
    at = s + width + width + width
    old = (VALUE(p, i, states, at), g, LOAD(states, s), LOAD(states, s + width), LOAD(states, s + width + width))
    x = CALL(old + c)
    PUT(p, i, states, at, x[0])
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
        x = ELEMENT(p, i, scale * LOAD_GRADIENT(g, i), states, width, i, c)
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
            x = ELEMENT(p, i, scale * LOAD_GRADIENT(g, i), states, width, start + i, c)
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


def parts(form: Form, parameter: Any, coefficients: int, gradient: Any, *, moves: bool = True) -> dict[str, Any]:
    """What the templates take: the rule, and how parameters, gradients and states of these dtypes are read and written.

    moves: whether what `update` returns is the new parameter; the direction of a form with a stage is not.
    """
    load, store = accessors(arithmetic(parameter))
    load_parameter, store_parameter = accessors(parameter)
    load_gradient, _ = accessors(gradient or parameter)
    load_int, store_int = accessors(np.int64)
    half = arithmetic(parameter) != np.dtype(parameter)
    value, put = (_master_value, _put_master) if half else (_value, _put)
    return {
        "UPDATE": form.update,
        "CALL": CALLS[2 + len(form.states) + coefficients],
        "ELEMENT": _ELEMENTS[len(form.states)],
        "VALUE": value,
        "PUT": put if moves else _put_nothing,
        "LOAD": load,
        "STORE": store,
        "LOAD_GRADIENT": load_gradient,
        "LOAD_PARAMETER": load_parameter,
        "STORE_PARAMETER": store_parameter,
        "LOAD_INT": load_int,
        "STORE_INT": store_int,
        "AVERAGED": averaged,
    }


def label(form: Form, parameter: Any, gradient: Any) -> str:
    """What a kernel is called, after its template."""
    names = (form.name, dtype_name(parameter), dtype_name(gradient or parameter))
    return "_".join(names if names[1] != names[2] else names[:2])


def _update(template: Any, form: Form, parameter: Any, coefficients: int, gradient: Any) -> Kernel:
    kind = arithmetic(parameter).type
    signature = (*[np.int64] * 7, *[kind] * 3, (kind, coefficients))
    return Kernel(template, label(form, parameter, gradient), signature, parts(form, parameter, coefficients, gradient))


@functools.cache
def flat(form: Form, parameter: Any, coefficients: int, gradient: Any = None) -> Kernel:
    """flat(p, g, size, states, width, average, factor, scale, keep, take, c): one step on one arena.

    p, g, states: addresses of (size,), (size,) and (rows, width); average: element of `states` where the moving
    average begins, or -1; factor: address of a factor on the gradients, or 0; scale, keep, take, c: scalars of the
    arithmetic. parameter, gradient: dtypes, the gradient's where it is another; with half-precision parameters the
    master weights are the row of `states` behind the rule's.
    """
    return _update(_flat, form, parameter, coefficients, gradient)


@functools.cache
def table(form: Form, parameter: Any, coefficients: int, gradient: Any = None) -> Kernel:
    """table(table, chunks, count, states, ...): one step over many tensors in one launch; the rest as for `flat`.

    table: address of (tensors, COLUMNS) int64, as the CPU's; chunks: address of (count, 2) int64.
    """
    return _update(_table, form, parameter, coefficients, gradient)


def bits(dtype: Any) -> dict[str, Any]:
    """LOAD and EXPONENT, to tell nan and inf by the bits of the exponent: all of them are set."""
    kind = {2: np.int16, 4: np.int32, 8: np.int64}[np.dtype(dtype).itemsize]
    return {"LOAD": accessors(kind)[0], "EXPONENT": kind(EXPONENTS[dtype_name(dtype)])}


@functools.cache
def check(dtype: Any) -> Kernel:
    """check(table, chunks, count, found): write 1 at the address `found` if a gradient holds nan or inf."""
    load_int, store_int = accessors(np.int64)
    return Kernel(
        _check, dtype_name(dtype), (np.int64,) * 4, {"LOAD_INT": load_int, "STORE_INT": store_int, **bits(dtype)}
    )


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
