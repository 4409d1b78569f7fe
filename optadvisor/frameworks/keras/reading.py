"""A Keras model as `Parameter` records: roles from the classes of its layers, names and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from optadvisor.frameworks import naming
from optadvisor.frameworks.parameters import Parameter, distinct
from optadvisor.kernels.errors import InputError

_layers = keras.layers
_NORMS = (
    _layers.BatchNormalization,
    _layers.LayerNormalization,
    _layers.GroupNormalization,
    _layers.RMSNormalization,
)
_CONVOLUTIONS = (
    _layers.Conv1D,
    _layers.Conv2D,
    _layers.Conv3D,
    _layers.Conv1DTranspose,
    _layers.Conv2DTranspose,
    _layers.Conv3DTranspose,
    _layers.DepthwiseConv1D,
    _layers.DepthwiseConv2D,
    _layers.SeparableConv1D,
    _layers.SeparableConv2D,
)
_ATTENTIONS = (_layers.MultiHeadAttention, _layers.GroupQueryAttention, _layers.Attention, _layers.AdditiveAttention)
_CELLS = (_layers.LSTMCell, _layers.GRUCell, _layers.SimpleRNNCell, _layers.ConvLSTM1D, _layers.ConvLSTM2D)


def parameters(model: Any) -> list[Parameter]:
    """Every trainable or frozen weight of a Keras model or layer, each once, in the order of `model.weights`.

    A name is the variable's path, such as "sequential/dense/kernel". Statistics (moving means, counts) are no
    parameters and are left out; weights of a layer with trainable=False are there as frozen.

    Errors: InputError for what is no Keras layer, and for a model that is not built yet.
    """
    if not isinstance(model, keras.layers.Layer):
        raise InputError(f"model is {type(model).__name__}; it takes a keras.Model or a keras.layers.Layer")
    if not model.built:
        raise InputError(f"{model.name} has no weights yet: call it on one batch, or begin it with keras.Input(shape)")
    chains = homes(model)
    variables = [variable for variable in model.weights if id(variable) in chains]
    names = distinct(variable.path for variable in variables)
    found = []
    for name, variable in zip(names, variables, strict=True):
        shape = tuple(int(n) for n in variable.shape)
        role, why = _role(chains[id(variable)], variable.name, shape)
        left = role in ("norm", "bias") or (role == "other" and naming.is_vector(shape))
        found.append(Parameter(name, shape, role, why, variable, bool(variable.trainable), not left))
    return found


def homes(model: Any) -> dict[int, list[Any]]:
    """id of a parameter -> the layers that it is in, the outermost first."""
    found: dict[int, list[Any]] = {}
    for chain in _chains(model):
        for variable in chain[-1]._trainable_variables:
            found.setdefault(id(variable), chain)
    return found


def is_norm(layer: Any) -> bool:
    """Whether a layer is a normalisation: one of Keras', or a class of a person's that is called so."""
    return isinstance(layer, _NORMS) or naming.is_norm(type(layer).__name__)


def _chains(layer: Any, above: Sequence[Any] = ()) -> Iterator[list[Any]]:
    """Every layer with those around it, the outermost first; what is inside comes before what holds it."""
    chain = [*above, layer]
    for inner in layer._layers:
        if not any(inner is outer for outer in chain):
            yield from _chains(inner, chain)
    yield chain


def _role(chain: Sequence[Any], own: str, shape: tuple[int, ...]) -> tuple[str, str]:
    layer = chain[-1]
    kind = type(layer).__name__
    where = f"{own} of {kind}"
    if isinstance(layer, _layers.Embedding):
        return ("embedding", where)
    if is_norm(layer):
        return ("norm", where)
    if naming.is_bias(own) or (naming.is_vector(shape) and own in ("b", "beta")):
        return ("bias", where)
    if isinstance(layer, _CONVOLUTIONS):
        return ("convolution", where)
    if isinstance(layer, _CELLS) or (naming.is_recurrent(kind) and len(shape) >= 2):
        return ("recurrent", where)
    attention = next(
        (
            outer
            for outer in chain[::-1][:3]
            if isinstance(outer, _ATTENTIONS) or naming.is_attention(type(outer).__name__)
        ),
        None,
    )
    if attention is not None and not naming.is_vector(shape):
        return ("attention", where if attention is layer else f"{where} in {type(attention).__name__}")
    if isinstance(layer, (_layers.Dense, _layers.EinsumDense)):
        return ("matrix", where)
    if len(shape) == 2 and naming.is_embedding(own):
        return ("embedding", where)
    if naming.is_vector(shape):
        return ("other", f"{where}, a {'scalar' if not shape else 'vector'}")
    if len(shape) == 2 and not naming.is_whole(own):
        return ("matrix", f"{where}, two dimensions")
    return ("other", f"{where}, {len(shape)} dimensions")
