"""Look at a JAX pytree: what its names and shapes say. How layers are joined is not in a pytree, so less can be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from optadvisor.frameworks import naming
from optadvisor.frameworks.guessing import Description, Layer
from optadvisor.frameworks.looking import Look, look
from optadvisor.frameworks.optax.reading import parameters
from optadvisor.frameworks.parameters import Parameter

_UNSEEN = "a pytree does not say"


def profile(tree: Any, batch: Any = None, **declared: Any) -> Look:
    """What a pytree of parameters is, as far as names and shapes tell: roles, norms, architecture where it is named.

    tree: as `reading.parameters` takes it. batch: a mini-batch, any pytree of arrays, for the batch size. declared: fields of
    TaskProfile, which win over what is read, and epochs, which become steps.

    Errors: InputError as `reading.parameters` says, and for a declared field or value that does not exist.
    """
    members = parameters(tree)
    name = "pytree" if isinstance(tree, (Mapping, list, tuple)) else type(tree).__name__
    layers = _layers(members)
    parts = dict.fromkeys(part for p in members for part in p.name.split("/"))
    kinds = [naming.norm(holder) for holder in dict.fromkeys(_holder(p) for p in members if p.role == "norm")]
    description = Description(name, layers, members, None, _UNSEEN, list(parts))
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(batch) if getattr(leaf, "shape", ())}
    read = {"batch_size": (sizes.pop(), "the length of the batch")} if len(sizes) == 1 else {}
    return look(description, declared, read, norms=dict(Counter(kinds)))


def _holder(parameter: Parameter) -> str:
    return parameter.name.rpartition("/")[0]


def _layers(members: Sequence[Parameter]) -> list[Layer]:
    """The layers by the paths that hold parameters; the projections of one attention are one layer."""
    held: dict[str, list[Parameter]] = {}
    for parameter in members:
        path = _holder(parameter)
        if parameter.role == "attention" or any(p.role == "attention" for p in held.get(path, ())):
            path = path.rpartition("/")[0] if "/" in path or path else path
        held.setdefault(path, []).append(parameter)
    found = []
    for path, own in held.items():
        main = max(own, key=lambda p: (p.role != "bias", p.size))
        if main.role != "bias":
            several = main.role == "matrix" and not path  # a plain dict of matrices: a layer each
            for each in [p for p in own if p.role == "matrix"] if several else [main]:
                size = each.size if several else sum(p.size for p in own)
                found.append(_layer(path or each.name, each, size))
    single = [x for x in found if x.does == "convolution"]
    if len(single) == 1 and any(x.does == "attention" for x in found):
        at = found.index(single[0])  # the one convolution of a transformer cuts an image into tiles
        found[at] = Layer(**{**vars(single[0]), "does": "patches"})
    return found


def _layer(path: str, main: Parameter, size: int) -> Layer:
    kind, shape = path.rpartition("/")[2], main.shape
    last = main.name.rpartition("/")[2] != "weight"  # Flax and Haiku have outputs last, Equinox first
    if main.role == "convolution":
        does = "transposed convolution" if "transpose" in naming.words(kind) else "convolution"
        return Layer(path, kind, does, size, shape[-2 if last else 1], shape[-1 if last else 0], len(shape) - 2)
    if main.role in ("embedding", "matrix") and len(shape) == 2:
        rows, columns = shape if last or main.role == "embedding" else shape[::-1]
        return Layer(path, kind, "linear" if main.role == "matrix" else "embedding", size, rows, columns)
    return Layer(path, kind, "linear" if main.role == "matrix" else main.role, size)
