"""Tensors as the kernels see them: NumPy arrays or arrays on the GPU over the same memory, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from optadvisor.kernels.cuda.arrays import BFLOAT16, DeviceArray
from optadvisor.kernels.errors import InputError

_DTYPES: dict[torch.dtype, np.dtype[Any]] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}
HALVES: dict[torch.dtype, np.dtype[Any]] = {torch.float16: np.dtype(np.float16), torch.bfloat16: BFLOAT16}
_ON_GPU = {**_DTYPES, **HALVES, torch.int64: np.dtype(np.int64)}
_DEVICES = ("cpu", "cuda")


def on_gpu(tensor: torch.Tensor) -> bool:
    found: bool = tensor.is_cuda
    return found


def check(tensor: torch.Tensor, name: str) -> None:
    """InputError for a parameter that the kernels cannot update."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise InputError(f"{name} is a {type(tensor).__name__}, which has no memory of its own: pass plain tensors")
    if tensor.layout is not torch.strided:
        raise InputError(f"{name} is {tensor.layout}: parameters are dense; only their gradients may be sparse")
    if tensor.device.type not in (*_DEVICES, "meta"):
        raise InputError(f"{name} is on {tensor.device}; the kernels run on {' and '.join(_DEVICES)}")
    if tensor.is_complex():
        raise InputError(f"{name} is {kind}; parameters are real: make it torch.view_as_real(...) of the tensor")
    if tensor.dtype in HALVES and not on_gpu(tensor):
        raise InputError(
            f"{name} is {kind}, which the kernels have only on a GPU: keep the weights in float32 (torch.autocast computes "
            f"in {kind} all the same)"
        )
    if tensor.dtype not in _DTYPES and tensor.dtype not in HALVES:
        raise InputError(f"{name} is {kind}; parameters are float32 or float64: use .float()")


class Layout:
    """How a parameter's memory is read: as it is, with its axes in the order of memory, or through a contiguous copy.

    ordered: whether axes may be taken in another order, which only element-wise rules allow.
    """

    def __init__(self, tensor: torch.Tensor, ordered: bool) -> None:
        tensor = tensor.detach()
        axes = sorted(range(tensor.dim()), key=lambda axis: (-tensor.stride(axis), axis))
        self.axes = None if tensor.is_contiguous() else axes
        self.copied = self.axes is not None and not (ordered and tensor.permute(axes).is_contiguous())
        self.tensor = tensor
        self.memory = tensor.contiguous() if self.copied else self.inner(tensor)
        if self.copied:
            self.axes = None

    def inner(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the parameter's shape with its axes in the order of memory."""
        return tensor if self.axes is None else tensor.permute(self.axes)

    def outer(self, tensor: torch.Tensor) -> torch.Tensor:
        """The opposite: a tensor over the kernels' memory in the parameter's shape."""
        if self.axes is None or tensor.dim() != len(self.axes):
            return tensor
        return tensor.permute([self.axes.index(axis) for axis in range(len(self.axes))])


def array(tensor: torch.Tensor) -> Any:
    """The memory of a contiguous tensor, for the kernels."""
    if not on_gpu(tensor):
        return tensor.numpy()
    dtype = _ON_GPU[tensor.dtype]
    return DeviceArray(tensor, tensor.data_ptr(), tuple(tensor.shape), dtype)


def tensor_over(memory: Any, like: torch.Tensor) -> torch.Tensor:
    """A tensor over the kernels' memory, on the device of `like`."""
    if isinstance(memory, DeviceArray):
        return torch.as_tensor(memory, device=like.device)
    return torch.from_numpy(memory)
