"""The operations of a PyTorch model without a batch, by symbolic tracing."""

from __future__ import annotations

from typing import Any

import torch.fx
from torch import nn

from optadvisor.frameworks.flow import Flow, Op, flow
from optadvisor.frameworks.torch import operations

_MODULES: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    (
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        "transposed convolution",
    ),
    ((nn.modules.conv._ConvNd,), "convolution"),
    ((nn.Linear, nn.Bilinear), "linear"),
    ((nn.Embedding, nn.EmbeddingBag), "embedding"),
    ((nn.RNNBase, nn.RNNCellBase), "recurrent"),
    (
        (nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder),
        "attention",
    ),
    ((nn.TransformerEncoderLayer, nn.TransformerDecoderLayer), "attention"),
    ((nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm), "norm"),
    ((nn.Softmax,), "softmax"),
    ((nn.Upsample, nn.PixelShuffle), "upsample"),
    (
        (
            nn.modules.pooling._MaxPoolNd,
            nn.modules.pooling._AvgPoolNd,
            nn.modules.pooling._AdaptiveAvgPoolNd,
            nn.modules.pooling._AdaptiveMaxPoolNd,
        ),
        "pool",
    ),
    ((nn.Flatten, nn.Unflatten, nn.Identity, nn.modules.dropout._DropoutNd), "moves"),
)


def traced(model: nn.Module) -> Flow | None:
    """The flow of a model without a batch, by symbolic tracing; None where it cannot be traced.

    That is wherever the forward pass asks for sizes, or decides by values.
    """
    try:
        graph = torch.fx.Tracer().trace(model)
    except Exception:  # noqa: BLE001  # the person's forward, on values that only stand for tensors: anything may fail
        return None
    modules = dict(model.named_modules(remove_duplicate=False))
    places: dict[Any, int] = {}
    ops: list[Op] = []
    for node in graph.nodes:
        if node.op == "output":
            continue
        inputs = tuple(dict.fromkeys(places[n] for n in node.all_input_nodes if ops[places[n]].kind != "constant"))
        constant = len(inputs) < len(node.all_input_nodes)
        weight, shrinks = None, False
        if node.op == "placeholder":
            kind = "input"
        elif node.op == "get_attr":
            kind = "constant"
        elif node.op == "call_module":
            module = modules[node.target]
            kind = next((kind for classes, kind in _MODULES if isinstance(module, classes)), "nonlinear")
            weight = id(module)
            shrinks = kind == "convolution" and any(step > 1 for step in module.stride)
        else:
            kind = operations.kind(operations.name(node.target), len(inputs))
            shrinks = operations.strided(kind, node.args, node.kwargs)
            if kind == "product" and constant:
                kind = "linear"
            if not inputs:
                kind = "constant"
        places[node] = len(ops)
        ops.append(Op(kind, inputs, weight, shrinks))
    return flow(ops)
