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

SIMULATED = True
THREADS = 3  # a simulated thread is a Python thread: few
BLOCKS = 2


@functools.cache
def accessors(dtype: Any) -> tuple[Any, Any]:
    """load(address, index) and store(address, index, value) of elements of `dtype`."""
    kind = np.dtype(dtype)
    cell = np.ctypeslib.as_ctypes_type(kind)
    return functools.partial(_load, kind, cell), functools.partial(_store, kind, cell)


def _load(kind: np.dtype[Any], cell: Any, address: int, index: int) -> Any:
    return kind.type(cell.from_address(int(address) + int(index) * kind.itemsize).value)


def _store(kind: np.dtype[Any], cell: Any, address: int, index: int, value: Any) -> None:
    cell.from_address(int(address) + int(index) * kind.itemsize).value = value


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
