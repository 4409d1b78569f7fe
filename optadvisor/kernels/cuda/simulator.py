"""The names of `device` on numba's CUDA simulator: kernels run as Python, a thread each, on memory of the host."""

from __future__ import annotations

import ctypes
import functools
import types
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from optadvisor.kernels.compiling import bind
from optadvisor.kernels.cuda.arrays import HALVES, dtype_name

SIMULATED = True
THREADS = 3  # a simulated thread is a Python thread: few
BLOCKS = 2


@functools.cache
def accessors(dtype: Any) -> tuple[Any, Any]:
    """load(address, index) and store(address, index, value) of elements of `dtype`; halves are read into float32."""
    kind = np.dtype(dtype)
    if kind in HALVES:
        load, store = _CONVERSIONS[dtype_name(kind)]
        return functools.partial(_load_half, load), functools.partial(_store_half, store)
    cell = np.ctypeslib.as_ctypes_type(kind)
    return functools.partial(_load, kind, cell), functools.partial(_store, kind, cell)


def _load(kind: np.dtype[Any], cell: Any, address: int, index: int) -> Any:
    return kind.type(cell.from_address(int(address) + int(index) * kind.itemsize).value)


def _store(kind: np.dtype[Any], cell: Any, address: int, index: int, value: Any) -> None:
    cell.from_address(int(address) + int(index) * kind.itemsize).value = value


def _load_half(widen: Any, address: int, index: int) -> np.float32:
    found: np.float32 = widen(ctypes.c_uint16.from_address(int(address) + 2 * int(index)).value)
    return found


def _store_half(narrow: Any, address: int, index: int, value: Any) -> None:
    ctypes.c_uint16.from_address(int(address) + 2 * int(index)).value = narrow(value)


def _widen_float16(bits: int) -> np.float32:
    return np.float32(np.uint16(bits).view(np.float16))


def _narrow_float16(value: np.float32) -> int:
    with np.errstate(over="ignore"):  # to inf, as on a device
        return int(np.float16(value).view(np.uint16))


def _widen_bfloat16(bits: int) -> np.float32:
    return np.uint32(bits << 16).view(np.float32)


def _narrow_bfloat16(value: np.float32) -> int:
    bits = int(np.float32(value).view(np.uint32))
    upper = bits >> 16
    return upper | 0x40 if np.isnan(value) else (bits + 0x7FFF + (upper & 1)) >> 16


_CONVERSIONS = {
    "float16": (_widen_float16, _narrow_float16),
    "bfloat16": (_widen_bfloat16, _narrow_bfloat16),
}


def inlined(function: types.FunctionType, parts: dict[str, Any]) -> Any:
    # math.sqrt makes a Python float, float64, of a float32; NumPy's functions of the same names keep it, as CUDA's do.
    bound = bind(function, function.__name__, inlined, parts)
    if "math" in bound.__globals__:
        bound.__globals__["math"] = np
    return bound


class Kernel:
    """A template with its parts, run by the simulator."""

    def __init__(
        self, template: types.FunctionType, name: str, signature: tuple[Any, ...], parts: dict[str, Any]
    ) -> None:
        self.name = f"{template.__name__}_{name}"
        self._kernel = cuda.jit(bind(template, self.name, inlined, parts))

    def launch(self, grid: int, stream: int, *arguments: Any) -> None:
        self._kernel[grid, THREADS](*arguments)


class Memory:
    """Zeroed memory."""

    def __init__(self, size: int) -> None:
        self._bytes = np.zeros(max(size, 1), dtype=np.uint8)
        self.address: int = self._bytes.ctypes.data


def zeros(size: int, stream: int) -> Memory:
    return Memory(size)


def read(address: int, shape: tuple[int, ...], dtype: Any, stream: int) -> NDArray[Any]:
    """A copy of an array at an address."""
    array = np.empty(shape, dtype)
    ctypes.memmove(array.ctypes.data, address, array.nbytes)
    return array


def write(address: int, array: NDArray[Any], stream: int) -> None:
    """Put a C-contiguous array at an address."""
    ctypes.memmove(address, array.ctypes.data, array.nbytes)


def require(address: int) -> None:
    """Memory of the host is always there."""


def blocks() -> int:
    """Blocks of a launch that has work for all of them."""
    return BLOCKS
