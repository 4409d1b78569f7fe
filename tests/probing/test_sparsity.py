"""Zeros of gradients, counted exactly."""

from __future__ import annotations

import numpy as np

from optadvisor.probing.sparsity import Sparsity, Zeros
from optadvisor.probing.subject import Block


def test_entries_by_role_and_rows_of_tables():
    blocks = [
        Block("a", "embedding", (4, 2)),
        Block("w", "matrix", (2, 3)),
        Block("b", "bias", (3,)),
        Block("c", "embedding", (2, 1)),
    ]
    zeros = Zeros(blocks)
    table = [[0, 0], [1, 0], [0, 0], [2, 3]]  # 5 zeros, 2 rows of 4
    zeros.add(np.concatenate([np.ravel(table), [1, 0, 0, 2, 0, 3], [1, 1, 1], [0, 5]]).astype(np.float32))
    zeros.add(np.concatenate([np.zeros(8), np.ones(6), [0, 0, 0], [1, 5]]).astype(np.float32))
    assert zeros.found() == [
        Sparsity("embedding", 10, (5 + 1 + 8 + 0) / 20, (2 + 1 + 4 + 0) / 12),
        Sparsity("matrix", 6, 3 / 12, None),
        Sparsity("bias", 3, 3 / 6, None),
    ]


def test_a_negative_zero_is_a_zero_and_a_denormal_is_not():
    zeros = Zeros([Block("w", "matrix", (1, 3))])
    zeros.add(np.array([-0.0, 1e-45, 1.0], dtype=np.float32))
    assert zeros.found()[0].zeros == 1 / 3


def test_a_table_of_unknown_rows_has_no_rows():
    zeros = Zeros([Block("embedding", "embedding", (6,))])
    zeros.add(np.float32([0, 0, 0, 1, 1, 1]))
    assert zeros.found() == [Sparsity("embedding", 6, 0.5, None)]
