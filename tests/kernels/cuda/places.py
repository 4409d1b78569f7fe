"""Where the CUDA tests run: numba's simulator (NUMBA_ENABLE_CUDASIM=1), a real device, or nowhere."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import RULES, InputError
from optadvisor.kernels.cuda.arrays import DeviceArray, device_array

from ..cases import CASES, DEFAULTS, Case

INSTALLED = importlib.util.find_spec("numba_cuda") is not None
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def reason_to_skip() -> str | None:
    """Why kernels cannot run here, or None."""
    if not INSTALLED:
        return "numba-cuda is not installed: make test-cuda"
    if SIMULATED:
        return None
    from optadvisor.kernels.cuda import target

    try:
        target.require(0)
    except InputError as error:
        return f"{error}; the simulator runs these tests with NUMBA_ENABLE_CUDASIM=1: make test-cuda"
    return None


REASON = reason_to_skip()
runs_kernels = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def to_device(array: np.ndarray) -> DeviceArray:
    """A copy in the memory of the device."""
    from optadvisor.kernels.cuda import target

    memory = target.zeros(array.nbytes, 1)
    target.write(memory.address, np.ascontiguousarray(array), 1)
    return DeviceArray(memory, memory.address, array.shape, array.dtype)


def to_host(value: Any) -> np.ndarray:
    found = device_array(value)
    assert found is not None
    return found.copy_to_host()


def assert_same(found: Any, expected: np.ndarray, message: str = "", *, rounded: bool = False) -> None:
    """Equal in every bit under the simulator. A device contracts a*b + c to one rounding: there, to a few of them.

    rounded: where a sum of many numbers is taken in another order, so that its last bits differ.
    """
    found = to_host(found)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if SIMULATED and not rounded:
        np.testing.assert_array_equal(found, expected, err_msg=message)
    else:
        room = 64 * float(np.finfo(expected.dtype).eps)
        scale = float(np.max(np.abs(expected), initial=0.0)) or 1.0
        np.testing.assert_allclose(found, expected, rtol=room, atol=room * scale, err_msg=message)


def runs_on_gpu(case: Case) -> bool:
    """Whether the GPU's kernels have the case's form."""
    return RULES[case.rule].form(case.complete, case.convention).on_gpu


GPU_CASES = [case for case in CASES if runs_on_gpu(case)]
GPU_DEFAULTS = [case for case in DEFAULTS if runs_on_gpu(case)]
CPU_ONLY = [case for case in DEFAULTS if not runs_on_gpu(case)]
