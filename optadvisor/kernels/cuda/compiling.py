"""Scalar rules and kernel templates -> PTX and cubin. Needs no device: only running a kernel does."""

from __future__ import annotations

import functools
import re
import types
from typing import Any

import numpy as np
from cuda.core import Linker, LinkerOptions, ObjectCode
from llvmlite import ir
from numba import cuda
from numba.cuda import types as nb
from numba.cuda.extending import intrinsic

from optadvisor.kernels.compiling import bind

GLOBAL = 1  # address space of the device's memory: LLVM then emits ld.global instead of generic loads


@functools.cache
def accessors(dtype: Any) -> tuple[Any, Any]:
    """load(address, index) and store(address, index, value) of elements of `dtype`, for device code."""
    kind = getattr(nb, np.dtype(dtype).name)

    def place(context: Any, builder: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.PointerType(context.get_value_type(kind), addrspace=GLOBAL))
        return builder.gep(pointer, [arguments[1]])

    @intrinsic
    def load(typingctx: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(place(context, builder, arguments))

        return kind(nb.int64, nb.int64), generate

    @intrinsic
    def store(typingctx: Any, address: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            builder.store(arguments[2], place(context, builder, arguments))
            return context.get_dummy_value()

        return nb.void(nb.int64, nb.int64, kind), generate

    return load, store


def inlined(function: types.FunctionType, parts: dict[str, Any]) -> Any:
    """A plain function, and the plain functions it calls, as device code."""
    return cuda.jit(device=True, inline="always")(bind(function, function.__name__, inlined, parts))


class Kernel:
    """A template with its parts, ready to compile for a compute capability such as (8, 0)."""

    def __init__(
        self, template: types.FunctionType, name: str, signature: tuple[Any, ...], parts: dict[str, Any]
    ) -> None:
        self.name = f"{template.__name__}_{name}"
        self._function = bind(template, self.name, inlined, parts)
        self._signature = nb.void(*(_numba_type(kind) for kind in signature))
        self.ptx = functools.cache(self._ptx)
        self.cubin = functools.cache(self._cubin)

    def _ptx(self, capability: tuple[int, int]) -> str:
        """The kernel as PTX, NVIDIA's portable assembly."""
        text: str
        text, _ = cuda.compile(self._function, self._signature, device=False, abi="numba", cc=capability, output="ptx")
        return text

    def _cubin(self, capability: tuple[int, int]) -> bytes:
        """The kernel as machine code of that capability."""
        options = LinkerOptions(arch="sm_{}{}".format(*capability))
        code = Linker(ObjectCode.from_ptx(self.ptx(capability).encode()), options=options).link("cubin").code
        return bytes(code)

    def entry(self, capability: tuple[int, int]) -> str:
        """The name under which the kernel stands in its PTX and cubin."""
        found = re.search(r"\.entry\s+([^\s(]+)", self.ptx(capability))
        assert found is not None
        return found[1]


def _numba_type(kind: Any) -> Any:
    if isinstance(kind, tuple):
        return nb.UniTuple(_numba_type(kind[0]), kind[1])
    return getattr(nb, np.dtype(kind).name)
