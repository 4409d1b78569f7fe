"""Arrays in the memory of a GPU, taken and handed out through `__cuda_array_interface__` without a copy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEGACY_STREAM = 1  # CUDA's handle of the default stream


@dataclass(frozen=True)
class DeviceArray:
    """C-contiguous memory of a GPU. `owner` keeps it alive; CuPy, torch and numba take this object without a copy."""

    owner: Any
    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: int = LEGACY_STREAM
    contiguous: bool = True
    writeable: bool = True

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, not self.writeable),
            "strides": None,
            "stream": self.stream,
            "version": 3,
        }

    def copy_to_host(self) -> NDArray[Any]:
        """A NumPy array with the values as they are after all work on the stream. Waits for it."""
        from optadvisor.kernels.cuda import target

        return target.read(self.address, self.shape, self.dtype, self.stream)


def device_array(value: Any) -> DeviceArray | None:
    """The memory behind an array of CuPy, numba, torch or this module; None where it is not on a GPU."""
    if isinstance(value, DeviceArray) or value is None:
        return value
    if isinstance(value, (np.ndarray, np.generic, list, tuple, dict, str, int, float)):
        return None
    # torch exports no tensor that requires a gradient, such as a model's parameter; detached it is the same memory.
    detach = getattr(value, "detach", None)
    exported = detach() if callable(detach) else value
    interface = getattr(exported, "__cuda_array_interface__", None)
    if not isinstance(interface, dict):
        return None
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    address, read_only = interface["data"]
    return DeviceArray(
        exported,
        int(address or 0),
        shape,
        dtype,
        int(interface.get("stream") or LEGACY_STREAM),
        strides is None or _contiguous(shape, tuple(strides), dtype.itemsize),
        not read_only,
    )


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    if 0 in shape:
        return True
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length > 1 and stride != itemsize:
            return False
        itemsize *= length
    return True


def stream_handle(stream: Any) -> int:
    """The handle of a stream of torch, CuPy, numba or cuda.core, or a handle as an int; 0 and None are CUDA's default."""
    if hasattr(stream, "__cuda_stream__"):
        protocol = stream.__cuda_stream__
        stream = (protocol() if callable(protocol) else protocol)[1]
    for name in ("cuda_stream", "ptr", "handle"):
        if not isinstance(stream, int) and hasattr(stream, name):
            stream = getattr(stream, name)
    stream = getattr(stream, "value", stream)  # numba's handle is a ctypes pointer
    return int(stream or LEGACY_STREAM)
