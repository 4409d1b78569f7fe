"""A PyTorch model as `Parameter` records: each tensor once, with its role and what the role was told from."""

from __future__ import annotations

import fnmatch
from typing import Any

import torch
from torch import nn

from optadvisor.frameworks import naming
from optadvisor.frameworks.parameters import Parameter
from optadvisor.kernels.errors import InputError

_NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,
)
_WEIGHING = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
_COMPILED = "_orig_mod."


def unwrap(model: nn.Module) -> nn.Module:
    """The person's own model inside (Distributed)DataParallel, torch.compile and averaged models."""
    return _unwrapped(model)[0]


def wrappers(model: nn.Module) -> list[str]:
    """The classes that are wrapped around the person's own model, the outermost first."""
    return _unwrapped(model)[1]


def _unwrapped(model: nn.Module) -> tuple[nn.Module, list[str]]:
    found: list[str] = []
    while True:
        inner = model.module if isinstance(model, _WRAPPERS) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model, found
        found.append(type(model).__name__ if isinstance(model, _WRAPPERS) else "torch.compile")
        model = inner


def parameters(model: nn.Module) -> list[Parameter]:
    """Every parameter of a model, each tensor once, in the order of `named_parameters`; frozen ones too.

    A role is told from the module that holds the tensor, then from its name and shape. A tied tensor has all of its
    names, and the role of an embedding where one of its places is one. Weight decay leaves alone norms, biases and
    vectors, what `no_weight_decay()` or `no_weight_decay_keywords()` of a module lists (timm's convention), and a
    parameter with the attribute `_no_weight_decay`.

    Errors: InputError for what is no model, for a lazy parameter that has no shape yet, and for one that FSDP has
    flattened.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is {type(model).__name__}; it takes a torch.nn.Module")
    model = unwrap(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    listed = _listed(modules)
    names: dict[int, list[str]] = {}
    tensors: dict[int, nn.Parameter] = {}
    for path, module in modules.items():
        for own, tensor in module._parameters.items():
            if tensor is not None:
                name = f"{path}.{own}" if path else own
                _check(name, tensor)
                names.setdefault(id(tensor), []).append(name)
                tensors[id(tensor)] = tensor
    found = []
    for key, own_names in names.items():
        tensor = tensors[key]
        roles = [_role(modules, name, tensor) for name in own_names]
        role, why = next((r for r in roles if "embedding" in r[0]), roles[0])
        left = (
            role in ("norm", "bias")
            or (role == "other" and naming.is_vector(tensor.shape))
            or getattr(tensor, "_no_weight_decay", False)
            or any(listed(name) for name in own_names)
        )
        shown = tuple(name.replace(_COMPILED, "") for name in own_names)
        found.append(Parameter(shown[0], tuple(tensor.shape), role, why, tensor, tensor.requires_grad, not left, shown))
    return found


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation: one of PyTorch's, or a class of a person's that is called so."""
    return isinstance(module, _NORMS) or (naming.is_norm(type(module).__name__) and not isinstance(module, _WEIGHING))


def _check(name: str, tensor: nn.Parameter) -> None:
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        raise InputError(f"{name} has no shape yet (a lazy module): run the model on one batch first")
    if type(tensor).__name__ == "FlatParameter":
        raise InputError(f"{name} is several parameters that FSDP made one: wrap the model with use_orig_params=True")


def _role(modules: dict[str, nn.Module], name: str, tensor: nn.Parameter) -> tuple[str, str]:
    """Role and reason of one place where a tensor stands."""
    path, own = place(modules, name)
    module = modules[path]
    kind = type(module).__name__
    where = f"{own} of {kind}"
    small = naming.is_vector(tensor.shape)
    weighs = isinstance(module, _WEIGHING)
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return ("sparse embedding", f"{kind} with sparse=True") if module.sparse else ("embedding", kind)
    if isinstance(module, _NORMS) or (is_norm(module) and small):
        return ("norm", where)
    if naming.is_bias(own) or (own == "b" and small):
        return ("bias", where)
    if _is_scale_of_weight_norm(modules, name):
        return ("norm", f"{where}, the lengths of weight norm")
    if isinstance(module, nn.modules.conv._ConvNd):
        return ("convolution", where)
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return ("recurrent", where)
    if isinstance(module, nn.MultiheadAttention):
        return ("attention", where)
    if weighs or not small:
        holding = _around(modules, path, naming.is_attention) or _around(modules, path, naming.is_recurrent)
        if holding:
            role = "attention" if naming.is_attention(holding) else "recurrent"
            return (role, where if holding == kind else f"{where} in {holding}")
        if _projects(modules, path, own):
            return ("attention", f"{where}, a projection of an attention")
    if weighs:
        return ("matrix", where)
    if tensor.ndim == 2 and (naming.is_embedding(own) or (naming.is_embedding(kind) and own == "weight")):
        return ("embedding", where)
    if small:
        return ("other", f"{where}, a {'vector' if tensor.ndim else 'scalar'}")
    if tensor.ndim == 2 and not naming.is_whole(own):
        return ("matrix", f"{where}, two dimensions")
    return ("other", f"{where}, {tensor.ndim} dimensions")


def place(modules: dict[str, nn.Module], name: str) -> tuple[str, str]:
    """Path of the module that a parameter belongs to, and its name there.

    A parametrization (weight norm, spectral norm, LoRA) stands where the tensor stands that it makes, an entry of a
    ParameterList or ParameterDict where the list does.
    """
    parts = name.split(".")
    if "parametrizations" in parts[:-1]:
        at = parts.index("parametrizations")
        return ".".join(parts[:at]), parts[at + 1]
    path, own = parts[:-1], parts[-1]
    while path and isinstance(modules[".".join(path)], (nn.ParameterList, nn.ParameterDict)):
        path, own = path[:-1], path[-1]
    return ".".join(path), own


def _is_scale_of_weight_norm(modules: dict[str, nn.Module], name: str) -> bool:
    """Whether a parameter is g of weight = g * v / |v|, in the form of parametrizations or in the older one."""
    path, _, own = name.rpartition(".")
    holder = modules[path]
    if isinstance(holder, nn.utils.parametrize.ParametrizationList):
        return own == "original0" and type(holder[0]).__name__ == "_WeightNorm"
    return own.endswith("_g") and own[:-2] + "_v" in holder._parameters


def _around(modules: dict[str, nn.Module], path: str, test: Any) -> str:
    """The class of the nearest module that a test of its name takes, the holder or one of the two around it, or ""."""
    for _ in range(3):
        kind = type(modules[path]).__name__
        if test(kind) and not (test is naming.is_recurrent and _has_recurrent_layer(modules[path])):
            return kind
        if not path:
            break
        path = path.rpartition(".")[0]
    return ""


def _has_recurrent_layer(module: nn.Module) -> bool:
    """Whether a module only holds a recurrent layer of PyTorch, beside a head that is not recurrent."""
    return any(isinstance(inner, (nn.RNNBase, nn.RNNCellBase)) for inner in module.modules())


def _projects(modules: dict[str, nn.Module], path: str, own: str) -> bool:
    """Whether a parameter is a projection of an attention that is written by hand."""
    if naming.projects(own, modules[path]._parameters):
        return True
    above, _, holder = path.rpartition(".")
    return bool(path) and naming.projects(holder, modules[above]._modules)


def _listed(modules: dict[str, nn.Module]) -> Any:
    """Whether a name, as the whole model spells it, is one that a module wants no weight decay for."""
    names: set[str] = set()
    keywords: set[tuple[str, str]] = set()
    for path, module in modules.items():
        start = f"{path}." if path else ""
        names.update(start + name for name in _asked(module, "no_weight_decay"))
        keywords.update((start, word) for word in _asked(module, "no_weight_decay_keywords"))

    def listed(name: str) -> bool:
        if name in names or any(fnmatch.fnmatchcase(name, pattern) for pattern in names):
            return True
        return any(name.startswith(start) and word in name[len(start) :] for start, word in keywords)

    return listed


def _asked(module: nn.Module, attribute: str) -> list[str]:
    """What a module lists under an attribute or method; True is everything in it."""
    given: Any = getattr(module, attribute, ())
    given = given() if callable(given) else given
    if isinstance(given, bool):
        return ["*"] if given else []
    return [given] if isinstance(given, str) else [str(name) for name in given or ()]
