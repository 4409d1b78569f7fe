"""How a loss is asked for: one convention for everything that trains or measures a PyTorch model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from optadvisor.kernels.errors import InputError


def loss_of(loss_fn: Callable[..., Any], model: torch.nn.Module, batch: Any) -> torch.Tensor:
    """The loss of a batch, one number.

    loss_fn is called as loss_fn(model, batch). A criterion, that is a module such as nn.CrossEntropyLoss() or a function of
    torch.nn.functional, is called as criterion(model(*inputs), target), with batch = (*inputs, target).

    Errors: InputError for a batch that a criterion cannot be given, and for a loss that is not one number.
    """
    if is_criterion(loss_fn):
        if isinstance(batch, Mapping) or not isinstance(batch, Sequence) or len(batch) < 2:
            raise InputError(
                f"a batch is {type(batch).__name__}, and {_name(loss_fn)} needs (inputs, target): "
                "pass a function loss_fn(model, batch) that returns the loss"
            )
        *inputs, target = batch
        loss = loss_fn(model(*inputs), target)
    else:
        loss = loss_fn(model, batch)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        what = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise InputError(f"{_name(loss_fn)} returned {what}; a loss is a tensor with one number: average it")
    return loss.reshape(())


def is_criterion(loss_fn: object) -> bool:
    """Whether it takes (output, target), as PyTorch's own losses do, rather than (model, batch)."""
    module = getattr(loss_fn, "__module__", "") or ""
    functional = callable(loss_fn) and (
        module.startswith("torch.nn.functional")
        or (module.startswith("torch") and not module.startswith("torchvision"))
    )
    return isinstance(loss_fn, torch.nn.Module) or bool(functional)


def _name(loss_fn: Any) -> str:
    return str(getattr(loss_fn, "__name__", type(loss_fn).__name__))
