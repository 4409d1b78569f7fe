"""Arrays in the memory of a GPU, taken and handed out through `__cuda_array_interface__` without a copy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.kernels.errors import InputError

LEGACY_STREAM = 1  # CUDA's handle of the default stream

# NumPy has no bfloat16. A dtype of one field is no integer and no float16, so neither is ever taken for it.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
HALVES = (np.dtype(np.float16), BFLOAT16)

# The bits of the exponent: nan and inf have them all.
EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000, "float64": 0x7FF0000000000000}


def dtype_name(dtype: Any) -> str:
    """The name that messages, state_dict and kernels use."""
    return "bfloat16" if np.dtype(dtype) == BFLOAT16 else str(np.dtype(dtype))


def arithmetic(dtype: Any) -> np.dtype[Any]:
    """The dtype in which parameters of `dtype` are updated."""
    return np.dtype(np.float32) if np.dtype(dtype) in HALVES else np.dtype(dtype)


def widened(array: NDArray[Any]) -> NDArray[Any]:
    """An array of the host in the dtype of its arithmetic; exact."""
    if array.dtype == BFLOAT16:
        return np.asarray(array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.astype(arithmetic(array.dtype), copy=False)


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
        """A NumPy array with the values as they are after all work on the stream; bfloat16 as float32. Waits for it."""
        from optadvisor.kernels.cuda import target

        array = target.read(self.address, self.shape, self.dtype, self.stream)
        return widened(array) if self.dtype == BFLOAT16 else array


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
    shape, dtype = tuple(interface["shape"]), _dtype(exported, interface["typestr"])
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


def bfloat16(value: Any) -> DeviceArray:
    """An array of 16-bit integers on a GPU as the bfloat16 numbers whose bits they are: the same memory."""
    array = device_array(value)
    if array is None or array.dtype.itemsize != 2:
        found = type(value).__name__ if array is None else f"an array of {dtype_name(array.dtype)}"
        raise InputError(f"bfloat16() got {found}; it takes an array of uint16 or int16 on a GPU")
    return replace(array, dtype=BFLOAT16)


def _dtype(value: Any, typestr: str) -> np.dtype[Any]:
    # The interface has no word for bfloat16: torch and ml_dtypes export bytes, "<V2", and older torch "<f2", float16.
    declared = str(getattr(value, "dtype", ""))
    return BFLOAT16 if declared in ("torch.bfloat16", "bfloat16") else np.dtype(typestr)


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
