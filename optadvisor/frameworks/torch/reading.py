"""A PyTorch model as `Parameter` records: each tensor once, with its role and what the role was told from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from optadvisor.frameworks.parameters import Parameter
from optadvisor.kernels.errors import InputError

_NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,
)
_COMPILED = "_orig_mod."


def unwrap(model: nn.Module) -> nn.Module:
    """The person's own model inside (Distributed)DataParallel, torch.compile and averaged models."""
    while True:
        wrapper = isinstance(
            model, (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
        )
        inner = model.module if wrapper else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def parameters(model: nn.Module) -> list[Parameter]:
    """Every parameter of a model, each tensor once, in the order of `named_parameters`; frozen ones too.

    A role is told from the module that holds the tensor, then from its name and shape. A tied tensor has all of its
    names, and the role of an embedding where one of its places is one. Weight decay leaves alone norms, biases and
    vectors, what `no_weight_decay()` or `no_weight_decay_keywords()` of a module lists (timm's convention), and a
    parameter with the attribute `_no_weight_decay`.

    Errors: InputError for what is no model, and for a lazy parameter that has no shape yet.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is {type(model).__name__}; it takes a torch.nn.Module")
    model = unwrap(model)
    modules = dict(model.named_modules())
    listed = _listed(modules)
    keywords = _keywords(modules)
    names: dict[int, list[str]] = {}
    tensors: dict[int, nn.Parameter] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise InputError(f"{name} has no shape yet (a lazy module): run the model on one batch first")
        names.setdefault(id(tensor), []).append(name)
        tensors[id(tensor)] = tensor
    found = []
    for key, own in names.items():
        tensor = tensors[key]
        roles = [_role(modules, name, tensor) for name in own]
        role, why = next((r for r in roles if "embedding" in r[0]), roles[0])
        left = (
            role in ("norm", "bias")
            or (tensor.ndim < 2 and "embedding" not in role)
            or getattr(tensor, "_no_weight_decay", False)
            or any(name in listed or any(word in name for word in keywords) for name in own)
        )
        shown = tuple(name.replace(_COMPILED, "") for name in own)
        found.append(Parameter(shown[0], tuple(tensor.shape), role, why, tensor, tensor.requires_grad, not left, shown))
    return found


def _role(modules: dict[str, nn.Module], name: str, tensor: nn.Parameter) -> tuple[str, str]:
    """Role and reason of one place where a tensor stands."""
    path, _, own = name.rpartition(".")
    # A parametrization (weight norm, spectral norm, LoRA) stands where the tensor would that it makes.
    parametrized = ".parametrizations." in f".{name}"
    if parametrized:
        path, _, own = name.partition("parametrizations.")
        path, own = path.rstrip("."), own.split(".")[0]
    module = modules[path]
    kind = type(module).__name__
    where = f"{own} of {kind}"
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return ("sparse embedding", f"{kind} with sparse=True") if module.sparse else ("embedding", kind)
    if isinstance(module, _NORMS) or ("norm" in kind.lower() and tensor.ndim < 2):
        return ("norm", where)
    if own.endswith("bias") or own.startswith("bias_") or own in ("bias_k", "bias_v"):
        return ("bias", where)
    if parametrized and sum(n > 1 for n in tensor.shape) < 2 and tensor.numel() < _parametrized_size(module, own):
        return ("norm", f"the scale of a parametrized {own} of {kind}")
    if isinstance(module, nn.modules.conv._ConvNd):
        return ("convolution", where)
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return ("recurrent", where)
    if isinstance(module, nn.MultiheadAttention):
        return ("attention", where)
    attending = _attention(modules, path)
    if attending and tensor.ndim >= 2:
        return ("attention", f"{where} in {attending}")
    if isinstance(module, (nn.Linear, nn.Bilinear)):
        return ("matrix", where)
    if tensor.ndim < 2:
        return ("other", f"{where}, a {'scalar' if tensor.ndim == 0 else 'vector'}")
    if tensor.ndim == 2:
        return ("matrix", f"{where}, two dimensions")
    return ("other", f"{where}, {tensor.ndim} dimensions")


def _parametrized_size(module: nn.Module, own: str) -> int:
    made = getattr(module, own, None)
    return made.numel() if isinstance(made, torch.Tensor) else 0


def _attention(modules: dict[str, nn.Module], path: str) -> str:
    """The class of the nearest module around a path that is an attention by its name, or ""."""
    while path:
        kind = type(modules[path]).__name__
        if "attention" in kind.lower() or "attn" in kind.lower():
            return kind
        path = path.rpartition(".")[0]
    return ""


def _listed(modules: dict[str, nn.Module]) -> set[str]:
    """Names that `no_weight_decay` of a module lists, as the whole model spells them."""
    found: set[str] = set()
    for path, module in modules.items():
        listed = _asked(module, "no_weight_decay")
        found.update(f"{path}.{name}" if path else name for name in listed)
    return found


def _keywords(modules: dict[str, nn.Module]) -> list[str]:
    return [word for module in modules.values() for word in _asked(module, "no_weight_decay_keywords")]


def _asked(module: nn.Module, attribute: str) -> list[str]:
    given: Any = getattr(module, attribute, ())
    given = given() if callable(given) else given
    return [given] if isinstance(given, str) else [str(name) for name in given]
