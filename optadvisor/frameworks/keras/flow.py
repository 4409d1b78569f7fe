"""The operations of a Keras model: those of functional and sequential models are there to be read."""

from __future__ import annotations

from typing import Any

import keras

from optadvisor.frameworks.flow import Flow, Op, flow

# By name, as the classes of keras.ops, which `x + y` makes, have no public home.
KINDS: dict[str, str] = {
    **dict.fromkeys(("Dense", "EinsumDense"), "linear"),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"), "convolution"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), "convolution"),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), "transposed convolution"),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D"), "recurrent"),
    **dict.fromkeys(("MultiHeadAttention", "GroupQueryAttention", "Attention", "AdditiveAttention"), "attention"),
    **dict.fromkeys(("Matmul", "Einsum", "Dot"), "product"),
    **dict.fromkeys(("UpSampling1D", "UpSampling2D", "UpSampling3D", "Resizing", "Resize"), "upsample"),
    **dict.fromkeys(("Flatten", "Reshape", "Permute", "RepeatVector", "Transpose", "Squeeze", "ExpandDims"), "moves"),
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "Masking"), "moves"),
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "GetItem", "Identity"), "moves"),
    **dict.fromkeys(("Mean", "Sum", "Rescaling", "Average", "Subtract"), "moves"),
    "Embedding": "embedding",
    "Add": "add",
    "Concatenate": "concatenate",
    "Softmax": "softmax",
}


def read(model: Any) -> Flow | None:
    """The flow of a functional or sequential model; None for a subclass, whose `call` could do anything."""
    inside = _functional(model)
    if inside is None:
        return None
    ops: list[Op] = []
    _inline(inside, [], ops)
    return flow(ops)


def _functional(model: Any) -> Any:
    inner = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    plain = type(model) in (keras.Model, keras.Sequential) or type(model).__name__ == "Functional"
    return inner if plain and hasattr(inner, "_nodes_by_depth") else None


def _inline(model: Any, given: list[int], ops: list[Op]) -> list[int]:
    """Appends the operations of a model whose inputs are already there, or to be; returns the places of its outputs."""
    places: dict[int, int] = {}
    inputs = list(given)
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                if given:
                    place = inputs.pop(0) if inputs else given[0]
                else:
                    ops.append(Op("input"))
                    place = len(ops) - 1
            else:
                before = tuple(dict.fromkeys(places[id(t)] for t in node.input_tensors if id(t) in places))
                place = _append(node.operation, before, ops)
            places.update({id(t): place for t in node.output_tensors})
    return [places[id(t)] for t in model.outputs]


def _append(operation: Any, before: tuple[int, ...], ops: list[Op]) -> int:
    """Appends what an operation does, and returns the place of its result."""
    inner = _functional(operation)
    if inner is not None and len(inner.outputs) == 1:
        return _inline(inner, list(before), ops)[0]
    name = type(operation).__name__
    kind = _kind(operation, name)
    strides = getattr(operation, "strides", 1)
    shrinks = kind == "convolution" and max(strides if isinstance(strides, (tuple, list)) else (strides,)) > 1
    ops.append(Op(kind, before, id(operation), shrinks))
    activation = getattr(getattr(operation, "activation", None), "__name__", "linear")
    if kind in ("linear", "convolution", "transposed convolution") and activation != "linear":
        ops.append(Op("nonlinear", (len(ops) - 1,)))
    return len(ops) - 1


def _kind(operation: Any, name: str) -> str:
    if not type(operation).__module__.startswith("keras."):
        return "unknown"  # a person's own layer
    if name in KINDS:
        return KINDS[name]
    if "Pool" in name:
        return "pool"
    if "Normalization" in name:
        return "norm"
    return "unknown" if getattr(operation, "weights", None) or name == "Lambda" else "nonlinear"
