"""Kernels, memory and streams of a CUDA device, through NVIDIA's own bindings (dependencies of numba-cuda).

Kernels are linked to machine code by `compiling` and launched by cuda.core with scalars only: numba's own launch
looks up types and wraps arrays each time.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

import numpy as np
from cuda.bindings import driver
from cuda.core import Device, LaunchConfig, ObjectCode, Stream, launch
from numpy.typing import NDArray

from optadvisor.kernels.cuda import compiling
from optadvisor.kernels.cuda.compiling import accessors
from optadvisor.kernels.errors import InputError

__all__ = ["SIMULATED", "THREADS", "Kernel", "Memory", "accessors", "blocks", "read", "require", "write", "zeros"]

SIMULATED = False
THREADS = 256
BLOCKS_PER_PROCESSOR = 8  # 2048 threads, what a multiprocessor holds


def _called(result: Any) -> Any:
    error, *values = result
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"CUDA: {error.name}")
    return values[0] if values else None


def require(address: int) -> None:
    """InputError where there is no device; makes the device of this memory current where no other is."""
    try:
        error, *_ = driver.cuInit(0)
        found = error == driver.CUresult.CUDA_SUCCESS
    except RuntimeError:  # cuda.bindings finds no driver library
        found = False
    if not found or not _called(driver.cuDeviceGetCount()):
        raise InputError(
            "a GPU was asked for, but there is no CUDA device or driver: install NVIDIA's driver, or pass NumPy arrays"
        )
    if not int(_called(driver.cuCtxGetCurrent())):
        ordinal = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        Device(_called(driver.cuPointerGetAttribute(ordinal, address)) if address else 0).set_current()


@functools.cache
def _stream(handle: int) -> Stream:
    return Stream.from_handle(handle)


@functools.cache
def _config(grid: int) -> LaunchConfig:
    return LaunchConfig(grid=grid, block=THREADS)


def blocks() -> int:
    """Blocks of a launch that has work for all of them."""
    return _blocks(Device().device_id)


@functools.cache
def _blocks(ordinal: int) -> int:
    processors: int = Device(ordinal).properties.multiprocessor_count
    return BLOCKS_PER_PROCESSOR * processors


class Kernel(compiling.Kernel):
    """A template with its parts, loaded on each device where it is launched."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._loaded = functools.cache(self._load)

    def _load(self, ordinal: int) -> Any:
        capability = tuple(Device(ordinal).compute_capability)
        return ObjectCode.from_cubin(self.cubin(capability)).get_kernel(self.entry(capability))

    def launch(self, grid: int, stream: int, *arguments: Any) -> None:
        """Start it on `grid` blocks. Arguments are Python ints (int64) and NumPy or Python floats; a tuple is flattened."""
        flat = (*arguments[:-1], *arguments[-1]) if isinstance(arguments[-1], tuple) else arguments
        launch(_stream(stream), _config(grid), self._loaded(Device().device_id), *flat)


class Memory:
    """Zeroed memory of the current device, given back when nothing refers to it any more."""

    def __init__(self, size: int, stream: int) -> None:
        size = max(size, 1)
        self.address = int(_called(driver.cuMemAlloc(size)))
        _called(driver.cuMemsetD8Async(self.address, 0, size, stream))
        # Not at exit: the driver frees everything then, and may be gone already.
        weakref.finalize(self, driver.cuMemFree, self.address).atexit = False


def zeros(size: int, stream: int) -> Memory:
    return Memory(size, stream)


def read(address: int, shape: tuple[int, ...], dtype: Any, stream: int) -> NDArray[Any]:
    """A copy on the host of an array at an address. Waits for the stream."""
    array = np.empty(shape, dtype)
    if array.nbytes:
        _called(driver.cuMemcpyDtoHAsync(array.ctypes.data, address, array.nbytes, stream))
        _called(driver.cuStreamSynchronize(stream))
    return array


def write(address: int, array: NDArray[Any], stream: int) -> None:
    """Copy a C-contiguous array of the host to an address. The array may be changed when this returns."""
    if array.nbytes:
        # From pageable memory the driver stages the bytes before it returns.
        _called(driver.cuMemcpyHtoDAsync(address, array.ctypes.data, array.nbytes, stream))
