"""Matrix products in pieces that stay in the cache and in the BLAS's kernels for small matrices."""

from __future__ import annotations

import numpy as np

# Multiplications a piece. Above 10**6 OpenBLAS leaves its kernels for small matrices: measured 8 x slower on its own.
# In a whole training of the largest convolutional net 2**18 is the best of 2**16 to 10**6 by a third. It is also where
# OpenBLAS would start threads of its own, if it were let.
LIMIT = 2**18


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
