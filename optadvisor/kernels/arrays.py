"""The caller's arrays: walking their structure, checking them, and finding them in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.kernels.cuda.arrays import HALVES, DeviceArray, device_array, dtype_name
from optadvisor.kernels.errors import InputError

Array = NDArray[Any]
Parameters = Sequence[Any] | Mapping[str, Any]


@dataclass
class Leaf:
    """One parameter array: where it stands in what the caller passed, and its name in messages."""

    path: tuple[Any, ...]
    name: str
    array: Any  # NumPy's, or a DeviceArray

    @property
    def on_device(self) -> bool:
        return isinstance(self.array, DeviceArray)


def address(array: Any) -> int:
    """Where the array's memory begins."""
    if isinstance(array, DeviceArray):
        return array.address
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


def is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or device_array(value) is not None


def walk(tree: Any, name: str) -> Iterator[tuple[tuple[Any, ...], str, Any]]:
    """(path, readable name, leaf) of every leaf, mappings in sorted order; a group's "params" is left out of the path."""
    if is_groups(tree):
        for number, group in enumerate(tree):
            inner = group.get("params", group)
            if is_array(inner):
                inner = [inner]
            for path, label, leaf in walk(inner, f"{name}[{number}]"):
                yield (number, *path), label, leaf
        return
    if isinstance(tree, Mapping):
        items: list[tuple[Any, Any]] = sorted(tree.items(), key=lambda item: str(item[0]))
    elif isinstance(tree, Sequence) and not isinstance(tree, (str, bytes)):
        items = list(enumerate(tree))
    else:
        raise InputError(f"{name} is {type(tree).__name__}; it takes a list or dict of arrays, NumPy's or a GPU's")
    for key, leaf in items:
        yield (key,), f"{name}[{key!r}]", leaf


def parameter_leaves(params: Parameters) -> Iterator[Leaf]:
    """Every parameter array, checked: dtype, layout, writeable."""
    for number, group in enumerate(params if is_groups(params) else ()):
        if "params" not in group:
            raise InputError(f"params[{number}] is a dict without 'params': a list of dicts is a list of groups")
    for path, name, given in walk(params, "params"):
        array: Any = given if isinstance(given, np.ndarray) else device_array(given)
        if array is None:
            raise InputError(
                f"{name} is {type(given).__name__}; it takes a NumPy array, or one on a GPU with __cuda_array_interface__"
            )
        on_device = isinstance(array, DeviceArray)
        if array.dtype not in (np.float32, np.float64) and not (on_device and array.dtype in HALVES):
            half = "" if on_device or array.dtype.itemsize != 2 else " (float16 and bfloat16 only on a GPU)"
            raise InputError(
                f"{name} is {dtype_name(array.dtype)}; parameters are float32 or float64{half}: use .astype(numpy.float32)"
            )
        if isinstance(array, np.ndarray):
            library, contiguous, writeable = "numpy", array.flags.c_contiguous, array.flags.writeable
        else:
            library, contiguous, writeable = "cupy", array.contiguous, array.writeable
        if not contiguous:
            raise InputError(f"{name} is not C-contiguous; pass {library}.ascontiguousarray(...) of it")
        if not writeable:
            raise InputError(f"{name} is read-only, and a step writes it in place; pass a writeable copy")
        yield Leaf(path, name, array)


def refuse_overlap(leaves: Sequence[Leaf]) -> None:
    """InputError where two parameters share memory."""
    spans = sorted((address(leaf.array), leaf.array.nbytes, leaf.name) for leaf in leaves if leaf.array.size)
    for (start, size, name), (following, _, other) in itertools.pairwise(spans):
        if following < start + size:
            raise InputError(f"{name} and {other} share memory: pass each parameter once")


def refuse_outside(ids: Array, name: str, leaf: Leaf) -> None:
    """InputError where an id is no row of the table."""
    height = leaf.array.shape[0]
    if ids.size and not (int(ids.min()) >= 0 and int(ids.max()) < height):
        wrong = int(ids[(ids < 0) | (ids >= height)][0])
        raise InputError(f"ids of {name} hold {wrong}; {leaf.name} has rows 0 to {height - 1}")


def structure(tree: Any, values: Iterator[Any]) -> Any:
    """`values`, in the order of `walk`, in the structure of `tree`."""
    if is_groups(tree):
        return [{"params": structure(group["params"], values)} for group in tree]
    if is_array(tree):
        return next(values)
    if isinstance(tree, Mapping):
        return {key: next(values) for key in sorted(tree, key=str)}
    return [next(values) for _ in tree]
