"""`Subject`: a model with what it is trained on, from FILE.py:FACTORY."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from optadvisor.kernels.errors import InputError
from optadvisor.studies.tasks.function import declared_profile, explained, loaded

_FORM = "it must return a torch.nn.Module, (model, batch) or (model, batches, loss_fn)"


@dataclass(frozen=True)
class Subject:
    """A model, its mini-batches where they are known (iterated anew as often as needed), and its loss.

    declared: the file's PROFILE, which wins over what is read from the model.
    """

    name: str
    model: nn.Module
    batches: Iterable[Any] | None = None
    loss_fn: Callable[..., Any] | None = None
    declared: Mapping[str, Any] | None = None


def load(target: str) -> Subject:
    """The subject of FILE.py:FACTORY: a function without arguments, or a model as it is.

    FACTORY returns model, (model, batch) or (model, batches, loss_fn); batches is a DataLoader or another iterable that
    starts anew each time, or one batch; loss_fn as `losses.loss_of` calls it.

    Errors: InputError, one line, for what is not there, fails, or returns something else.
    """
    path, name, module = loaded(target)
    factory = getattr(module, name)
    made = factory
    if not isinstance(factory, (nn.Module, tuple)):
        try:
            made = factory()
        except Exception as error:
            raise InputError(f"{path}: {name}() failed: {explained(error, factory)}") from error
    parts = made if isinstance(made, tuple) else (made,)
    if not 1 <= len(parts) <= 3 or not isinstance(parts[0], nn.Module):
        shown = f"({', '.join(type(p).__name__ for p in parts)})" if isinstance(made, tuple) else type(made).__name__
        raise InputError(f"{path}: {name}() returned {shown}; {_FORM}")
    model, data, loss_fn = (*parts, None, None)[:3]
    if loss_fn is not None and not callable(loss_fn):
        raise InputError(
            f"{path}: the loss_fn of {name}() is {type(loss_fn).__name__}; it takes a function or a criterion"
        )
    declared = declared_profile(getattr(module, "PROFILE", None), str(path))
    return Subject(f"{path}:{name}", model, many(data), loss_fn, declared)


def many(data: Any) -> Iterable[Any] | None:
    """Batches as something that can be iterated again and again; one batch as a list of one.

    A list whose entries are tuples, lists or dicts is batches; a tensor, a dict, or a tuple or list of tensors is a batch.

    Errors: InputError for an iterator, which can be read once only.
    """
    if data is None:
        return None
    if isinstance(data, (Tensor, Mapping)) or (
        isinstance(data, (tuple, list)) and data and all(isinstance(part, Tensor) for part in data)
    ):
        return [data]
    if hasattr(data, "__next__"):
        raise InputError(
            f"batches are {type(data).__name__}, which can be read once only: pass the DataLoader itself or a list"
        )
    if not hasattr(data, "__iter__"):
        return [data]
    return data  # type: ignore[no-any-return]
