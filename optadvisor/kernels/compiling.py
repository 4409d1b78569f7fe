"""Compile plain Python functions with Numba so that the disk cache hits, and misses after an edit.

numba keys its cache by the file and the qualified name of the function it compiles. A kernel here is a template
loop whose parts (the rule, a dtype, a task's gradient) are globals put in afterwards, so its name carries a hash of
all of them: of their code, of every function they call, and of the compiler flags. Measured: a second process hits,
and an edit of a rule in another file recompiles, where a plain module-level kernel would serve the stale code.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import hashlib
import os
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numba.core.config
import numpy as np
import platformdirs
from llvmlite import ir
from numba import types as nb
from numba.core import cgutils
from numba.extending import intrinsic

# error_model "numpy" is worth 11x: Python's check for a zero divisor stops SIMD. No fastmath: it gains nothing on
# element-wise rules, and it would remove the checks for nan and inf. nogil: threads may step side by side.
FLAGS = {"error_model": "numpy", "nogil": True}

_decorating = threading.Lock()


def cache_folder() -> Path | None:
    """Where compiled kernels are kept: NUMBA_CACHE_DIR if set, else the user's cache folder; None if unwritable.

    Never beside the source, numba's default: what an uninstall leaves there shadows a later editable install.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return _writable(Path(chosen) if chosen else Path(platformdirs.user_cache_dir("optadvisor")) / "kernels")


@functools.cache
def _writable(folder: Path) -> Path | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None


@contextlib.contextmanager
def _numba_caches_in(folder: Path) -> Iterator[None]:
    """numba reads its cache folder when a function is decorated. The caller's own setting is put back after."""
    with _decorating:
        before = numba.core.config.CACHE_DIR
        numba.core.config.CACHE_DIR = str(folder)
        try:
            yield
        finally:
            numba.core.config.CACHE_DIR = before


def fingerprint(part: object) -> str:
    """A hash that changes when the code of a function, or of anything of this kind that it calls, changes."""
    digest = hashlib.sha256()
    _feed(digest, part, set())
    return digest.hexdigest()[:16]


def _feed(digest: Any, part: object, seen: set[int]) -> None:
    part = getattr(part, "_defn", part)  # an intrinsic: the function that emits its code
    code = part.__code__ if isinstance(part, types.FunctionType) else part
    if isinstance(part, Compiled):
        digest.update(part.digest.encode())
    elif isinstance(code, types.CodeType):
        digest.update(code.co_code)
        digest.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
        for constant in code.co_consts:
            _feed(digest, constant, seen)
        if isinstance(part, types.FunctionType) and id(part) not in seen:
            seen.add(id(part))
            digest.update(repr(part.__defaults__).encode())
            for name, value in sorted(_called(part).items()):
                digest.update(name.encode())
                _feed(digest, value, seen)
    else:
        digest.update(repr(part).encode())


def _called(function: types.FunctionType) -> dict[str, Any]:
    """Globals of `function` that become part of its machine code: plain functions, compiled ones, constants."""
    names = set(_names(function.__code__))
    return {n: v for n, v in function.__globals__.items() if n in names and _is_part(v)}


def _is_part(value: object) -> bool:
    if isinstance(value, types.FunctionType):  # numba knows its own functions (carray), and compiles them itself
        return not value.__module__.startswith("numba.")
    return isinstance(value, (Compiled, int, float, str, tuple, type)) or hasattr(value, "_defn")


def _names(code: types.CodeType) -> Iterator[str]:
    """The globals that code loads. Not `co_names`: that has attributes too, the exp of math.exp."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


class Compiled:
    """A function ready to call, and to be put into another template: `function` is numba's dispatcher."""

    def __init__(self, function: Any, digest: str, name: str) -> None:
        self.function = function
        self.digest = digest
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


@functools.cache
def scalar(function: Callable[..., Any]) -> Compiled:
    """Compile a plain function, and the plain functions it calls, to be called from a kernel."""
    return specialise(function, function.__name__, cache=False)


def specialise(
    template: Callable[..., Any], name: str, *, cache: bool = True, fastmath: frozenset[str] = frozenset(), **parts: Any
) -> Compiled:
    """A copy of `template` with `parts` in place of the globals of those names, compiled when first called.

    A part is a constant, a dtype, a plain function (compiled on the way) or a `Compiled` one. `name` is for people:
    profiles and cache files show it. fastmath: liberties for the compiler, by LLVM's names.
    """
    flags: dict[str, Any] = {**FLAGS, **({"fastmath": set(fastmath)} if fastmath else {})}
    bound, digest = _bound(template, name, parts, sorted(fastmath))
    folder = cache_folder() if cache else None
    if folder is None:
        return Compiled(numba.njit(**flags)(bound), digest, name)
    with _numba_caches_in(folder):
        return Compiled(numba.njit(cache=True, **flags)(bound), digest, name)


def entry(template: Callable[..., Any], name: str, arguments: int, **parts: Any) -> int:
    """The address of `template`, compiled as a C function of that many int64 that returns a double, for `call`.

    What calls through an address does not hold the callee's code: a task's gradient is compiled once, not once in
    every rule's loop. The code lives as long as the process.
    """
    bound, _ = _bound(template, name, parts, "entry")
    signature = nb.float64(*([nb.int64] * arguments))
    folder = cache_folder()
    if folder is None:
        made = numba.cfunc(signature, **FLAGS)(bound)
    else:
        with _numba_caches_in(folder):
            made = numba.cfunc(signature, cache=True, **FLAGS)(bound)
    _kept.append(made)
    return int(made.address)


_kept: list[Any] = []


def _bound(
    template: Callable[..., Any], name: str, parts: dict[str, Any], how: object
) -> tuple[types.FunctionType, str]:
    """A copy of `template` with the dispatchers of its parts, under a name that holds the hash of all of it."""
    bound = _with_parts(template, parts)
    identity = f"{fingerprint(bound)} {FLAGS} {how} {sorted(parts)}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    for part, value in _called(bound).items():
        if isinstance(value, types.FunctionType):
            value = scalar(value)
        bound.__globals__[part] = value.function if isinstance(value, Compiled) else value
    bound.__module__ = template.__module__
    bound.__name__ = bound.__qualname__ = f"{template.__name__}_{name}_{digest}"
    return bound, digest


@intrinsic
def call(typingctx: Any, address: Any, arguments: Any) -> Any:
    """call(address, (a, b, ...)): what the C function there returns; made by `entry`, it takes int64s."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        given = [
            context.cast(builder, element, kind, nb.int64)
            for element, kind in zip(cgutils.unpack_tuple(builder, values[1], len(arguments)), arguments, strict=True)
        ]
        kind = ir.FunctionType(ir.DoubleType(), [value.type for value in given])
        return builder.call(builder.inttoptr(values[0], kind.as_pointer()), given)

    return nb.float64(address, arguments), generate


def bind(
    template: Callable[..., Any], name: str, compile_part: Callable[[Any, dict[str, Any]], Any], parts: dict[str, Any]
) -> types.FunctionType:
    """`specialise` for another target: a copy of `template` whose plain functions went through `compile_part`.

    compile_part(function, parts) does the same for the functions that they call: they see the same parts.
    """
    bound = _with_parts(template, parts)
    for part, value in _called(bound).items():
        if isinstance(value, types.FunctionType):
            bound.__globals__[part] = compile_part(value, parts)
    bound.__module__ = template.__module__
    bound.__name__ = bound.__qualname__ = name
    return bound


def _with_parts(template: Callable[..., Any], parts: dict[str, Any]) -> types.FunctionType:
    assert isinstance(template, types.FunctionType)
    names = {**template.__globals__, **parts}
    return types.FunctionType(template.__code__, names, template.__name__, template.__defaults__)


@intrinsic
def cast(typingctx: Any, values: Any, dtype: Any) -> Any:
    """cast((a, b, ...), dtype): the tuple with every element in dtype, so that float32 arithmetic stays float32."""
    target = dtype.dtype
    result = nb.UniTuple(target, len(values))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        elements = cgutils.unpack_tuple(builder, arguments[0], len(values))
        converted = [
            context.cast(builder, element, kind, target) for element, kind in zip(elements, values, strict=True)
        ]
        return context.make_tuple(builder, result, converted)

    return result(values, dtype), generate


@intrinsic
def as_tuple(typingctx: Any, values: Any, first: Any, count: Any) -> Any:
    """as_tuple(values, first, count): values[first : first + count] of a 1-d array as a tuple; count is a literal."""
    if not isinstance(count, nb.IntegerLiteral):
        raise numba.core.errors.RequireLiteralValue("count must be a literal")
    n = count.literal_value
    result = nb.UniTuple(values.dtype, n)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        elements = []
        for i in range(n):
            index = builder.add(arguments[1], arguments[1].type(i))
            address = cgutils.get_item_pointer(context, builder, signature.args[0], array, [index])
            elements.append(context.unpack_value(builder, values.dtype, address))
        return context.make_tuple(builder, result, elements)

    return result(values, first, count), generate


@intrinsic
def pointer(typingctx: Any, address: Any) -> Any:
    """pointer(address): an integer address as the pointer that `numba.carray` takes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return nb.voidptr(nb.intp), generate


@intrinsic
def prefetch(typingctx: Any, values: Any, index: Any) -> Any:
    """prefetch(values, index): ask for the cache line of values[index] of a 1-d array; changes nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = cgutils.get_item_pointer(context, builder, signature.args[0], array, [arguments[1]])
        byte = builder.bitcast(address, cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, cgutils.int32_t, cgutils.int32_t, cgutils.int32_t])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        write, keep, data = (cgutils.int32_t(flag) for flag in (1, 3, 1))
        builder.call(function, [byte, write, keep, data])
        return context.get_dummy_value()

    return nb.void(values, index), generate


def dtype_name(dtype: type) -> str:
    return np.dtype(dtype).name
