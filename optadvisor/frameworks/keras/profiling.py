"""Look at a Keras model: its layers by their classes, and how they are joined where the model is functional."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from optadvisor.frameworks import naming
from optadvisor.frameworks.guessing import Description, Input, Layer
from optadvisor.frameworks.keras import flow
from optadvisor.frameworks.keras.reading import homes, is_norm, parameters
from optadvisor.frameworks.looking import Look, look

_CONVEX = ("mse", "mean_squared_error", "mae", "mean_absolute_error", "huber")


def profile(model: Any, batch: Any = None, **declared: Any) -> Look:
    """What a Keras model is, as far as it can be told: parameters by role, norms, architecture, domain.

    How the layers are joined is read from functional and sequential models; the `call` of a subclass is not looked into.
    batch: a mini-batch (inputs, target), for the batch size. declared: fields of TaskProfile, which win over what is read,
    and epochs, which become steps.

    Errors: InputError as `reading.parameters` says, and for a declared field or value that does not exist.
    """
    members = parameters(model)
    chains = {id(chain[-1]): chain for chain in homes(model).values()}
    seen = flow.read(model)
    kinds = [naming.norm(type(chain[-1]).__name__) for chain in chains.values() if is_norm(chain[-1])]
    names = [n for chain in chains.values() for layer in chain[1:] for n in (layer.name, type(layer).__name__)]
    inputs = [_input(tensor) for tensor in getattr(model, "inputs", None) or ()]
    description = Description(
        model.name if type(model).__module__.startswith("keras.") else type(model).__name__,
        _layers(list(chains.values()), bool(seen and seen.attentions)),
        members,
        seen,
        "the call of a subclass is not looked into" if seen is None else "it has layers of your own",
        list(dict.fromkeys(names)),
        (),
        [one for one in inputs if one is not None],
    )
    loss = getattr(model, "loss", None)
    sizes = {int(leaf.shape[0]) for leaf in keras.tree.flatten(batch) if getattr(leaf, "shape", ())}
    read = {"batch_size": (sizes.pop(), "the length of the batch")} if len(sizes) == 1 else {}
    convex = loss if isinstance(loss, str) and loss in _CONVEX else ""
    return look(description, declared, read, convex_loss=convex, norms=dict(Counter(kinds)))


def _input(tensor: Any) -> Input | None:
    """An input with its channels after the batch, as the guesses expect it; None where its size is open."""
    shape = tuple(tensor.shape)[1:]
    if None in shape:
        return None
    if len(shape) == 3 and keras.config.image_data_format() == "channels_last":
        shape = (shape[2], *shape[:2])
    return Input((0, *shape), "float" in str(tensor.dtype))


def _layers(chains: Sequence[Sequence[Any]], attends: bool) -> list[Layer]:
    """The layers that hold weights; the projections of one attention are one layer."""
    found: dict[int, Layer] = {}
    for chain in chains:
        outer = next((x for x in chain if naming.is_attention(type(x).__name__)), chain[-1])
        layer = _layer(outer, attends)
        if layer is not None:
            found.setdefault(id(outer), layer)
    return list(found.values())


def _layer(layer: Any, attends: bool) -> Layer | None:
    kind = type(layer).__name__
    size = sum(p.size for p in parameters(layer))
    does = flow.KINDS.get(kind)
    shapes = [tuple(w.shape) for w in layer.trainable_weights + layer.non_trainable_weights]
    main = max(shapes, key=lambda s: (len(s), s), default=())
    if does in ("convolution", "transposed convolution"):
        swapped = does == "transposed convolution"
        inputs, outputs = (main[-1], main[-2]) if swapped else (main[-2], main[-1])
        tiles = attends and does == "convolution" and tuple(layer.kernel_size) == tuple(layer.strides)
        return Layer(layer.name, kind, "patches" if tiles else does, size, inputs, outputs, len(layer.kernel_size))
    if does in ("linear", "embedding") and len(main) == 2:
        return Layer(layer.name, kind, does, size, *main)
    if is_norm(layer):
        return Layer(layer.name, kind, "norm", size)
    if does in ("linear", "embedding", "recurrent", "attention"):
        return Layer(layer.name, kind, does, size)
    return Layer(layer.name, kind, "recurrent" if naming.is_recurrent(kind) else "other", size)
