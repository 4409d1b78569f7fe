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
from optadvisor.kernels.cuda.arrays import arithmetic, dtype_name

GLOBAL = 1  # address space of the device's memory: LLVM then emits ld.global instead of generic loads


@functools.cache
def accessors(dtype: Any) -> tuple[Any, Any]:
    """load(address, index) and store(address, index, value) of elements of `dtype`, for device code.

    float16 and bfloat16 are read into float32, and stored rounded to the nearest, ties to even.
    """
    name = dtype_name(dtype)
    kind = getattr(nb, dtype_name(arithmetic(dtype)))
    widen, narrow = _CONVERSIONS.get(name, (None, None))

    def place(context: Any, builder: Any, arguments: Any) -> Any:
        element = ir.IntType(16) if widen else context.get_value_type(kind)
        pointer = builder.inttoptr(arguments[0], ir.PointerType(element, addrspace=GLOBAL))
        return builder.gep(pointer, [arguments[1]])

    @intrinsic
    def load(typingctx: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = builder.load(place(context, builder, arguments))
            return widen(builder, value) if widen else value

        return kind(nb.int64, nb.int64), generate

    @intrinsic
    def store(typingctx: Any, address: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = narrow(builder, arguments[2]) if narrow else arguments[2]
            builder.store(value, place(context, builder, arguments))
            return context.get_dummy_value()

        return nb.void(nb.int64, nb.int64, kind), generate

    return load, store


def _widen_float16(builder: Any, bits: Any) -> Any:
    return builder.fpext(builder.bitcast(bits, ir.HalfType()), ir.FloatType())


def _narrow_float16(builder: Any, value: Any) -> Any:
    return builder.bitcast(builder.fptrunc(value, ir.HalfType()), ir.IntType(16))


# bfloat16 is the upper half of a float32. By integers: every generation has them, its own instructions only the newer.


def _widen_bfloat16(builder: Any, bits: Any) -> Any:
    word = ir.IntType(32)
    return builder.bitcast(builder.shl(builder.zext(bits, word), word(16)), ir.FloatType())


def _narrow_bfloat16(builder: Any, value: Any) -> Any:
    word = ir.IntType(32)
    bits = builder.bitcast(value, word)
    upper = builder.lshr(bits, word(16))
    # Half of the last bit that stays, and that bit: a tie goes to even. A carry of the largest number makes inf.
    rounded = builder.lshr(builder.add(bits, builder.add(word(0x7FFF), builder.and_(upper, word(1)))), word(16))
    quiet = builder.or_(upper, word(0x40))  # the carry of a nan would make it 0 or inf
    isnan = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(isnan, quiet, rounded), ir.IntType(16))


_CONVERSIONS = {
    "float16": (_widen_float16, _narrow_float16),
    "bfloat16": (_widen_bfloat16, _narrow_bfloat16),
}


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
