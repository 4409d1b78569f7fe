"""The caller's arrays: walking their structure, checking them, and finding them in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.kernels.errors import InputError

Array = NDArray[Any]
Parameters = Sequence[Any] | Mapping[str, Any]


@dataclass
class Leaf:
    """One parameter array: where it stands in what the caller passed, and its name in messages."""

    path: tuple[Any, ...]
    name: str
    array: Array


def address(array: Array) -> int:
    """Where the array's memory begins."""
    where: int = array.__array_interface__["data"][0]
    return where


def aligned_zeros(rows: int, columns: int, dtype: np.dtype[Any]) -> Array:
    """A zeroed (rows, columns) array that begins on a cache line."""
    memory = np.zeros(rows * columns * dtype.itemsize + 64, dtype=np.uint8)
    first = -address(memory) % 64
    return memory[first : first + rows * columns * dtype.itemsize].view(dtype).reshape(rows, columns)


def is_groups(params: object) -> bool:
    """Whether these are groups: a list of dicts, as in PyTorch."""
    return isinstance(params, Sequence) and len(params) > 0 and all(isinstance(g, Mapping) for g in params)


def walk(tree: Any, name: str) -> Iterator[tuple[tuple[Any, ...], str, Any]]:
    """(path, readable name, leaf) of every leaf, mappings in sorted order; a group's "params" is left out of the path."""
    if is_groups(tree):
        for number, group in enumerate(tree):
            inner = group["params"] if "params" in group else group
            if isinstance(inner, np.ndarray):
                inner = [inner]
            for path, label, leaf in walk(inner, f"{name}[{number}]"):
                yield (number, *path), label, leaf
        return
    if isinstance(tree, Mapping):
        items: list[tuple[Any, Any]] = sorted(tree.items(), key=lambda item: str(item[0]))
    elif isinstance(tree, Sequence) and not isinstance(tree, (str, bytes)):
        items = list(enumerate(tree))
    else:
        raise InputError(f"{name} is {type(tree).__name__}; it takes a list or dict of NumPy arrays")
    for key, leaf in items:
        yield (key,), f"{name}[{key!r}]", leaf


def parameter_leaves(params: Parameters) -> Iterator[Leaf]:
    """Every parameter array, checked: dtype, layout, writeable."""
    for number, group in enumerate(params if is_groups(params) else ()):
        if "params" not in group:
            raise InputError(f"params[{number}] is a dict without 'params': a list of dicts is a list of groups")
    for path, name, array in walk(params, "params"):
        if not isinstance(array, np.ndarray):
            raise InputError(f"{name} is {type(array).__name__}; it takes a NumPy array")
        if array.dtype not in (np.float32, np.float64):
            raise InputError(f"{name} is {array.dtype}; parameters are float32 or float64: use .astype(numpy.float32)")
        if not array.flags.c_contiguous:
            raise InputError(f"{name} is not C-contiguous; pass numpy.ascontiguousarray(...) of it")
        if not array.flags.writeable:
            raise InputError(f"{name} is read-only, and a step writes it in place; pass a writeable copy")
        yield Leaf(path, name, array)


def refuse_overlap(leaves: Sequence[Leaf]) -> None:
    """InputError where two parameters share memory."""
    spans = sorted((address(leaf.array), leaf.array.nbytes, leaf.name) for leaf in leaves if leaf.array.size)
    for (start, size, name), (following, _, other) in zip(spans, spans[1:], strict=False):
        if following < start + size:
            raise InputError(f"{name} and {other} share memory: pass each parameter once")


def structure(tree: Any, values: Iterator[Any]) -> Any:
    """`values`, in the order of `walk`, in the structure of `tree`."""
    if is_groups(tree):
        return [{"params": structure(group["params"], values)} for group in tree]
    if isinstance(tree, np.ndarray):
        return next(values)
    if isinstance(tree, Mapping):
        return {key: next(values) for key in sorted(tree, key=str)}
    return [next(values) for _ in tree]
