"""Mini-batches as people have them: how many examples, how many samples behind them, how a model is called on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from optadvisor.frameworks.torch.forward import tensors
from optadvisor.frameworks.torch.keeping import unmoved_randomness
from optadvisor.frameworks.torch.losses import is_criterion
from optadvisor.frameworks.torch.subject import many


def first(batches: Any) -> Any:
    """The first of many batches, or the one batch; None where there is none. Moves no random state."""
    given = many(batches)
    if given is None:
        return None
    with unmoved_randomness(*generators(batches)):
        return next(iter(given), None)


def generators(batches: Any) -> list[torch.Generator]:
    """The generators of a loader's own, which reading it moves."""
    sampler = getattr(batches, "batch_sampler", None)
    holders = (batches, getattr(batches, "sampler", None), sampler, getattr(sampler, "sampler", None))
    found = {id(g): g for h in holders if isinstance(g := getattr(h, "generator", None), torch.Generator)}
    return list(found.values())


def examples(batch: Any) -> int | None:
    """The length that all tensors of a batch share; None where they do not."""
    sizes = {part.shape[0] for part in tensors(batch) if part.ndim}
    return sizes.pop() if len(sizes) == 1 else None


def distinct(ids: Tensor) -> float:
    """Different ids in a row, on average. ids: examples x ids."""
    ordered = ids.sort(dim=1).values
    changes = (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1)
    return 1.0 + float(changes.double().mean())


def size(batches: Any, batch: Any) -> tuple[int | None, str]:
    """Examples a step, and where that is said."""
    sampler = getattr(batches, "batch_sampler", None)
    for source in (batches, sampler):
        declared = getattr(source, "batch_size", None)
        if isinstance(declared, int) and declared > 0:
            return declared, "of the loader"
    return examples(batch), "the length of the batch"


def samples(batches: Any) -> tuple[int | None, str]:
    """Training examples behind a loader, and where that is said."""
    sampler = getattr(batches, "sampler", None)
    if isinstance(sampler, torch.utils.data.SubsetRandomSampler):
        return len(sampler), "of the loader's sampler"
    try:
        return len(batches.dataset), "the length of the loader's data set"
    except (AttributeError, TypeError, NotImplementedError):
        return None, ""


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [moved(value, device) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch.to(device) if hasattr(batch, "to") else batch


def calls(model: nn.Module, batch: Any, loss_fn: Callable[..., Any] | None) -> Iterator[Callable[[], Any]]:
    """The ways in which a batch may go into a model, the likeliest first.

    By loss_fn(model, batch) where that is given; else its parts but the last, the target; all of them; the inputs in a
    tuple of their own; a mapping as keywords.
    """
    if loss_fn is not None and not is_criterion(loss_fn):
        yield lambda: loss_fn(model, batch)
    elif isinstance(batch, Mapping):
        yield lambda: model(**batch)
        yield lambda: model(
            **{name: value for name, value in batch.items() if name not in ("label", "labels", "target")}
        )
        yield lambda: model(batch)
    elif isinstance(batch, (tuple, list)) and batch:
        if len(batch) > 1:
            yield lambda: model(*batch[:-1])
        yield lambda: model(*batch)
        if isinstance(batch[0], (tuple, list)):
            yield lambda: model(*batch[0])
    else:
        yield lambda: model(batch)
