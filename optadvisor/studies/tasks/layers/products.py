"""Matrix products in pieces that the BLAS neither threads nor repacks."""

from __future__ import annotations

import numpy as np

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
