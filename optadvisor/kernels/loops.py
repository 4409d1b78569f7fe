"""The CPU loops around a scalar rule: one over a slice of memory, one over a table of tensors.

Upper-case globals are the parts that `compiling.specialise` puts in. What keeps SIMD (measured, 12 against 130
GB/s without): the loop runs over range(x.size) of contiguous slices, and every scalar has the arrays' dtype.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray

from optadvisor.kernels.compiling import Compiled, cast, dtype_name, pointer, specialise
from optadvisor.kernels.rules.record import Form

UPDATE: Any = None
COEFFICIENTS: Any = None
SWEEP: Any = None
DTYPE: Any = np.float32
BITS: Any = np.int32
EXPONENT: Any = 0x7F800000


def _sweep_0(p, g, states, start, t, lr, values):
    c = cast(COEFFICIENTS(t, lr, *values), DTYPE)
    for i in range(p.size):
        (p[i],) = UPDATE(p[i], g[i], *c)


def _sweep_1(p, g, states, start, t, lr, values):
    c = cast(COEFFICIENTS(t, lr, *values), DTYPE)
    a = states[0, start : start + p.size]
    for i in range(p.size):
        p[i], a[i] = UPDATE(p[i], g[i], a[i], *c)


def _sweep_2(p, g, states, start, t, lr, values):
    c = cast(COEFFICIENTS(t, lr, *values), DTYPE)
    a = states[0, start : start + p.size]
    b = states[1, start : start + p.size]
    for i in range(p.size):
        p[i], a[i], b[i] = UPDATE(p[i], g[i], a[i], b[i], *c)


def _sweep_3(p, g, states, start, t, lr, values):
    c = cast(COEFFICIENTS(t, lr, *values), DTYPE)
    a = states[0, start : start + p.size]
    b = states[1, start : start + p.size]
    d = states[2, start : start + p.size]
    for i in range(p.size):
        p[i], a[i], b[i], d[i] = UPDATE(p[i], g[i], a[i], b[i], d[i], *c)


_SWEEPS = (_sweep_0, _sweep_1, _sweep_2, _sweep_3)

# What a call of the table kernel does, so that no group changes before every group was checked.
UPDATE_ONLY, CHECK_THEN_UPDATE, CHECK_ONLY = 0, 1, 2


def _table(parameters, gradients, sizes, starts, states, t, lr, values, mode):
    """Update every tensor of a group. Returns the number of the first tensor with a non-finite gradient, or -1."""
    if mode != UPDATE_ONLY:
        for k in range(sizes.size):
            # A float is nan or inf exactly if all bits of its exponent are set; integers keep the loop in SIMD.
            bits = carray(pointer(gradients[k]), (sizes[k],), BITS)
            found = BITS(0)
            for i in range(bits.size):
                found |= BITS((bits[i] & EXPONENT) == EXPONENT)
            if found:
                return k
    if mode != CHECK_ONLY:
        for k in range(sizes.size):
            p = carray(pointer(parameters[k]), (sizes[k],), DTYPE)
            g = carray(pointer(gradients[k]), (sizes[k],), DTYPE)
            SWEEP(p, g, states, starts[k], t, lr, values)
    return -1


@functools.cache
def sweep(form: Form, dtype: Any) -> Compiled:
    """sweep(p, g, states, start, t, lr, values): one step of `form` on flat arrays, in place.

    p, g: (n,) of `dtype`; states: (number of states, at least start + n), the columns from `start` are used;
    t: step, from 1; lr: float; values: tuple of float64, the hyperparameters that `form.arguments` names.
    """
    return specialise(
        _SWEEPS[len(form.states)],
        f"{form.name}_{dtype_name(dtype)}",
        UPDATE=form.update,
        COEFFICIENTS=form.coefficients,
        DTYPE=dtype,
    )


@functools.cache
def table(form: Form, dtype: Any) -> Compiled:
    """table(parameters, gradients, sizes, starts, states, t, lr, values, mode): one step over many tensors.

    parameters, gradients: (k,) int64 addresses; sizes: (k,) elements; starts: (k,) first column in `states`.
    """
    single = np.dtype(dtype).itemsize == 4
    return specialise(
        _table,
        f"{form.name}_{dtype_name(dtype)}",
        SWEEP=sweep(form, dtype),
        DTYPE=dtype,
        BITS=np.int32 if single else np.int64,
        EXPONENT=np.int32(0x7F800000) if single else np.int64(0x7FF0000000000000),
    )
