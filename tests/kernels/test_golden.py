"""The kernels arrive where PyTorch did when golden.json was made (see make_golden.py)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from optadvisor.kernels import Optimizer

from .cases import Case, distance
from .make_golden import CHECKED, PATH, STEPS, gradient, parameters
from .torch_twin import TWIN_CASES

GOLDEN = json.loads(PATH.read_text(encoding="utf-8"))
BOUND = {"float32": 1e-6, "float64": 1e-12}


def test_golden_file_holds_every_case():
    assert set(GOLDEN["cases"]) == {str(case) for case in TWIN_CASES}, "run python -m tests.kernels.make_golden"
    assert GOLDEN["torch"]


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("case", TWIN_CASES, ids=str)
def test_golden_path(case: Case, dtype: str):
    p = parameters(dtype)
    optimizer = Optimizer(case.rule, [p], **case.hyperparameters)
    expected = iter(GOLDEN["cases"][str(case)][dtype])
    for t in range(1, STEPS + 1):
        optimizer.step([gradient(t, dtype)])
        if t in CHECKED:
            assert distance(p, np.array(next(expected))) < BOUND[dtype], f"step {t}"
    assert next(expected, None) is None
