"""A JAX pytree as `Parameter` records: roles from key paths, classes and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from optadvisor.frameworks import naming
from optadvisor.frameworks.parameters import Parameter, distinct
from optadvisor.kernels.errors import InputError

# Collections of Flax that are no parameters, and the classes of their variables in nnx.
_STATISTICS = {"batch_stats", "cache", "intermediates"}
_STATISTICS_CLASSES = {"BatchStat", "Cache", "Intermediate"}
_OFFSETS = {"b", "offset", "beta"}
_WEIGHTS = ("kernel", "w", "weight")


def parameters(tree: Any) -> list[Parameter]:
    """Every array of a pytree of parameters, in the order of jax.tree.leaves.

    tree: the parameters of Flax (linen or nnx), Haiku or Equinox, or plain dicts and lists of arrays. A name is the path
    with "/" between its keys, such as "params/Dense_0/kernel". Roles are told from the last keys, from the classes of
    the nodes where they are objects (Equinox), and from the shape. Leaves that are no arrays (functions, settings) are
    left out; arrays of integers and random keys are there as not trainable. An array that stands twice in a tree is
    two parameters to JAX.

    Errors: InputError for a tree without arrays, and for one with statistics in it, which are no parameters.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    arrays = [(path, leaf) for path, leaf in leaves if hasattr(leaf, "shape") and hasattr(leaf, "dtype")]
    if not arrays:
        raise InputError(f"the pytree ({type(tree).__name__}) has no arrays: pass the parameters of the model")
    names = [_keys(path) for path, _ in arrays]
    shown = distinct("/".join(keys) for keys in names)
    siblings: dict[tuple[str, ...], set[str]] = {}
    for keys in names:
        for end, key in enumerate(keys):
            siblings.setdefault(tuple(keys[:end]), set()).add(key)
    found = []
    for name, keys, (path, leaf) in zip(shown, names, arrays, strict=True):
        classes = _classes(tree, path)
        _refuse_statistics(name, keys, classes)
        beside = [siblings[tuple(keys[:-1])], siblings.get(tuple(keys[:-2]), set())]
        role, why = _role(keys, classes, tuple(leaf.shape), beside)
        trainable = bool(jax.numpy.issubdtype(leaf.dtype, np.inexact))
        left = role in ("norm", "bias") or (role == "other" and naming.is_vector(leaf.shape))
        found.append(Parameter(name, tuple(leaf.shape), role, why, leaf, trainable, not left))
    return found


def _keys(path: Sequence[Any]) -> list[str]:
    """The path as text; a variable of nnx is one key, not one and its `value`."""
    keys = [jax.tree_util.keystr((key,), simple=True) for key in path]
    if len(keys) > 1 and isinstance(path[-1], jax.tree_util.GetAttrKey) and keys[-1] in ("value", "raw_value"):
        keys.pop()
    return [part for key in keys for part in key.split("/") if part != "~"] or [""]  # Haiku: mlp/~/linear_0


def _classes(tree: Any, path: Sequence[Any]) -> list[str]:
    """Classes of the objects on the way to a leaf, the tree's own first; "" for containers."""
    found, node = [], tree
    for key in path:
        plain = isinstance(node, (Mapping, list, tuple))
        found.append("" if plain else type(node).__name__)
        try:
            if isinstance(key, jax.tree_util.GetAttrKey):
                node = getattr(node, key.name)
            else:
                node = node[key.key if isinstance(key, jax.tree_util.DictKey) else key.idx]
        except (AttributeError, KeyError, IndexError, TypeError):  # a node that flattens in its own way
            break
    return found


def _refuse_statistics(name: str, keys: Sequence[str], classes: Sequence[str]) -> None:
    if keys[0] in _STATISTICS:
        raise InputError(f"{name} is no parameter: pass variables['params'] instead of all variables")
    if _STATISTICS_CLASSES.intersection(classes):
        raise InputError(f"{name} is no parameter: pass nnx.state(model, nnx.Param) instead of the whole state")


def _role(
    keys: Sequence[str], classes: Sequence[str], shape: tuple[int, ...], beside: Sequence[set[str]]
) -> tuple[str, str]:
    """Role and reason of an array: what holds it, then its own name, then its shape.

    beside: the keys that stand beside its own, and beside that of its holder.
    """
    own = keys[-1]
    around = [key for key in keys[:-1] if not key.isdigit()]
    holder = around[-1] if around else ""
    kind = next((name for name in reversed(classes) if name and name != "Param"), "")
    where = f"{own} of {kind or holder}" if kind or holder else own
    small = naming.is_vector(shape)
    if naming.is_norm(kind) or naming.is_norm(holder):
        return ("norm", where)
    if naming.is_bias(own) or (small and (own in _OFFSETS or naming.words(own)[:1] == ["b"])):
        return ("bias", where)
    if small and own in ("scale", "gamma"):
        return ("norm", f"{where}, a scale")
    if len(shape) == 2 and (naming.is_embedding(own) or (naming.is_embedding(kind) and own == "weight")):
        return ("embedding", where)
    if len(shape) < 2:
        return ("other", f"{where}, a {'scalar' if not shape else 'vector'}")
    if "conv" in naming.words(kind or holder) and own in _WEIGHTS and len(shape) >= 3:
        return ("convolution", where)
    near = [*around[-2:], *(name for name in classes[-3:] if name)]
    for test, role in ((naming.is_attention, "attention"), (naming.is_recurrent, "recurrent")):
        holding = next((name for name in reversed(near) if test(name)), None)
        if holding:
            return (role, where if holding in (kind, holder) else f"{where} in {holding}")
    if naming.projects(own, beside[0]) or (own in _WEIGHTS and naming.projects(holder, beside[1])):
        return ("attention", f"{where}, a projection of an attention")
    if own in _WEIGHTS and len(shape) == 4 and (shape[0] == shape[1] <= 32 or shape[2] == shape[3] <= 32):
        return ("convolution", f"{where}, {'x'.join(map(str, shape))}")
    if (len(shape) == 2 and not naming.is_whole(own)) or own == "kernel":
        return ("matrix", f"{where}, {len(shape)} dimensions")
    return ("other", f"{where}, {len(shape)} dimensions")
