"""Look at a PyTorch model: what it is made of, what it is, and what that says about its training."""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from optadvisor.frameworks import naming
from optadvisor.frameworks.guessing import Description, Input, Layer, sparse_inputs
from optadvisor.frameworks.looking import Look, look
from optadvisor.frameworks.parameters import Parameter
from optadvisor.frameworks.torch import batches as data
from optadvisor.frameworks.torch.forward import Seen, tensors, watch
from optadvisor.frameworks.torch.keeping import untouched
from optadvisor.frameworks.torch.reading import is_norm, parameters, place, unwrap, wrappers
from optadvisor.frameworks.torch.subject import Subject
from optadvisor.frameworks.torch.symbolic import traced
from optadvisor.profile import TaskProfile
from optadvisor.studies.tasks.function import explained

# Losses that are convex in the output of the model.
_CONVEX = (
    "CrossEntropyLoss",
    "MSELoss",
    "L1Loss",
    "SmoothL1Loss",
    "HuberLoss",
    "BCEWithLogitsLoss",
    "MultiLabelSoftMarginLoss",
    "SoftMarginLoss",
    "MultiMarginLoss",
    "cross_entropy",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy_with_logits",
    "soft_margin_loss",
    "multi_margin_loss",
)


def profile(
    model: nn.Module | Subject, batch: Any = None, loss_fn: Callable[..., Any] | None = None, **declared: Any
) -> Look:
    """What a model is, as far as it can be told: parameters by role, architecture, domain, norms, tied and frozen weights.

    batch: a mini-batch, (*inputs, target) or whatever the model or loss_fn takes, or a DataLoader, which also knows
    samples and batch size. One forward pass in evaluation mode then shows how the layers are joined; nothing of the model
    and no random state is changed by it. Without a batch the model is traced where that is possible. loss_fn: as
    `losses.loss_of` takes it. declared: fields of TaskProfile, which win over what is read, and epochs, which become steps.

    Errors: InputError for what is no model and for a declared field or value that does not exist. A forward pass that
    fails is a note in the result.
    """
    if isinstance(model, Subject):
        batch = model.batches if batch is None else batch
        loss_fn = model.loss_fn if loss_fn is None else loss_fn
        declared = {**(model.declared or {}), **{name: v for name, v in declared.items() if v is not None}}
        model = model.model
    TaskProfile.from_dict(
        {name: value for name, value in declared.items() if name != "epochs"}
    )  # refused before any work
    members = parameters(model)
    inner = unwrap(model)
    one = data.first(batch)
    seen, notes = (None, []) if one is None else _forward(inner, one, loss_fn)
    flow = seen.flow if seen else None
    unseen = "" if seen else "no batch was given, and its forward pass cannot be traced without one"
    if seen is None:
        with untouched(inner):
            flow = traced(inner)
        unseen = notes[0] if notes else unseen
    description = Description(
        type(inner).__name__,
        _layers(inner, members),
        members,
        flow,
        unseen,
        _names(inner),
        _arguments(inner),
        [Input(tuple(t.shape), t.is_floating_point()) for t in seen.inputs] if seen else (),
        seen.output if seen else None,
    )
    loss = "" if loss_fn is None else str(getattr(loss_fn, "__name__", type(loss_fn).__name__))
    return look(
        description,
        declared,
        {} if one is None else _of_the_data(batch, one, description, seen),
        convex_loss=loss if loss in _CONVEX else "",
        norms=_norms(inner),
        wrappers=wrappers(model),
        notes=notes,
    )


def _arguments(model: nn.Module) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):  # compiled code does not say
        return ()


def _forward(model: nn.Module, batch: Any, loss_fn: Callable[..., Any] | None) -> tuple[Seen | None, list[str]]:
    """One forward pass on a batch, or None and why none succeeded."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    failed = ""
    for call in data.calls(model, data.moved(batch, device), loss_fn):
        with untouched(model), _uncompiled(model):
            try:
                return watch(model, call, tensors(batch)), []
            except Exception as error:  # noqa: BLE001  # the person's own code
                failed = failed or f"the forward pass on the batch failed: {explained(error)}"
    return None, [failed]


def _uncompiled(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Compiled parts run as they were written; what compiles is imported only where there is one, as that takes seconds."""
    compiled = any(hasattr(m, "_orig_mod") or m._compiled_call_impl for m in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()


def _layers(model: nn.Module, members: Sequence[Parameter]) -> list[Layer]:
    """The layers that hold parameters, with what they do; the projections of one attention are one layer."""
    modules = {
        path.replace("_orig_mod.", "").removesuffix("_orig_mod").rstrip("."): module
        for path, module in model.named_modules(remove_duplicate=False)
    }
    sizes: Counter[str] = Counter()
    does: dict[str, str] = {}
    for parameter in members:
        path, _ = place(modules, parameter.name)
        role = parameter.role
        if role == "attention" and not isinstance(modules[path], nn.MultiheadAttention):
            path = path.rpartition(".")[0]
        if role not in ("bias", "norm", "other") or path not in does:
            does[path] = role
        sizes[path] += parameter.size
    return [_layer(path, modules[path], does[path], size) for path, size in sizes.items() if does[path] != "bias"]


def _layer(path: str, module: nn.Module, role: str, size: int) -> Layer:
    kind = type(module).__name__
    if isinstance(module, nn.modules.conv._ConvNd):
        tiles = module.kernel_size == module.stride and min(module.stride) > 1 and not module.transposed
        does = "transposed convolution" if module.transposed else "patches" if tiles else "convolution"
        return Layer(path, kind, does, size, module.in_channels, module.out_channels, len(module.kernel_size))
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return Layer(path, kind, "embedding", size, module.num_embeddings, module.embedding_dim)
    if isinstance(module, nn.Linear):
        return Layer(
            path, kind, "linear" if role != "recurrent" else role, size, module.in_features, module.out_features
        )
    does = {"matrix": "linear", "sparse embedding": "embedding"}.get(role, role)
    return Layer(path, kind, does, size)


def _names(model: nn.Module) -> list[str]:
    """The names of a model's parts and of their classes, but for PyTorch's own classes."""
    found: dict[str, None] = {}
    for path, module in model.named_modules():
        if path:
            found[path.rpartition(".")[2]] = None
            if not type(module).__module__.startswith("torch."):
                found[type(module).__name__] = None
    found.update(dict.fromkeys(name.rpartition(".")[2] for name, _ in model.named_parameters()))
    return list(found)


def _norms(model: nn.Module) -> dict[str, int]:
    """Kind of normalisation -> layers."""
    kinds = [type(module).__name__ for module in model.modules() if is_norm(module)]
    return dict(Counter(naming.norm(kind) for kind in kinds))


def _of_the_data(batches: Any, batch: Any, description: Description, seen: Seen | None) -> dict[str, tuple[Any, str]]:
    """Batch size, samples and sparsity, with where they were read."""
    graph = description.flow is not None and description.flow.graph > 0
    found: dict[str, tuple[Any, str]] = {"samples": data.samples(batches)}
    if not graph:  # the rows of a whole graph are no examples
        found["batch_size"] = data.size(batches, batch)
        found["sparse_fraction"] = _sparse_fraction(batch, description, seen)
    return found


def _sparse_fraction(batch: Any, description: Description, seen: Seen | None) -> tuple[float | None, str]:
    """Share of zeros among the features of an example: numbers that are 0, and rows of tables that it does not look up.

    Only where they are features that are absent (`guessing.sparse_inputs`).
    """
    examples = data.examples(batch)
    if seen is None or not examples or not sparse_inputs(description):
        return None, ""
    dense = [t for t in seen.inputs if t.is_floating_point() and t.ndim == 2 and t.shape[0] == examples]
    if any(t.is_floating_point() and t.ndim != 2 for t in seen.inputs):
        return None, ""
    rows: dict[Tensor, float] = {}
    for table, ids in seen.lookups:
        rows[table] = rows.get(table, 0.0) + _distinct(ids, examples)
    total = sum(t.shape[1] for t in dense) + sum(table.shape[0] for table in rows)
    if not total:
        return None, ""
    used = sum(_nonzero(t) / examples for t in dense) + sum(min(n, t.shape[0]) for t, n in rows.items())
    parts = [f"{sum(t.shape[1] for t in dense):,} numbers"] if dense else []
    parts += [f"{sum(t.shape[0] for t in rows):,} rows of embedding tables"] if rows else []
    return 1.0 - used / total, f"zeros among the inputs of an example: {' and '.join(parts)}"


def _nonzero(tensor: Tensor) -> int:
    return int(tensor._nnz()) if tensor.layout != torch.strided else int(torch.count_nonzero(tensor))


def _distinct(ids: Tensor, examples: int) -> float:
    """Distinct ids that an example looks up in one call, on average."""
    if ids.shape[:1] != (examples,):
        return float(ids.numel() / examples)  # a bag: ids of all examples in one line
    return data.distinct(ids.reshape(examples, -1))
