"""Matrix products in pieces that the BLAS neither threads nor repacks, and sums that become SIMD."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types as nb
from numba.extending import intrinsic

# OpenBLAS starts threads of its own above this many multiplications (its GEMM_MULTITHREAD_THRESHOLD): trainings side
# by side would wait for one another. Above 10**6 it also leaves its kernels for small matrices: measured 8 x slower.
LIMIT = 65536 * 4


def product(a, b, out):
    """out = a @ b for a contiguous a, some rows at a time; b may be a transposed view."""
    rows = max(1, LIMIT // (b.shape[0] * b.shape[1]))
    for first in range(0, a.shape[0], rows):
        np.dot(a[first : first + rows], b, out[first : first + rows])


def transpose(a, out):
    """out = a.T, copied"""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[j, i] = a[i, j]


@intrinsic
def plus(typingctx: Any, a: Any, b: Any) -> Any:
    """a + b of floats that a sum in a loop may take in another order: with it, and only with it, such a sum is SIMD."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(arguments[0], arguments[1], flags=("reassoc",))

    return (a(a, a), generate) if isinstance(a, nb.Float) and a == b else None
