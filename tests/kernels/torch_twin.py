"""The PyTorch optimizer that does the same as a rule of this package. Imports torch only when asked for one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .cases import CASES, Case

# Rule -> class in torch.optim and the keywords that PyTorch needs besides those of the rule.
TWINS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("sgd", "pytorch"): ("SGD", {}),
    ("momentum", "pytorch"): ("SGD", {}),
    ("nag", "pytorch"): ("SGD", {"nesterov": True}),
    ("adagrad", "pytorch"): ("Adagrad", {}),
    ("rmsprop", "pytorch"): ("RMSprop", {}),
    ("adam", "pytorch"): ("Adam", {}),
    ("adamw", "pytorch"): ("AdamW", {}),
}
WITHOUT_TWIN = {("nag", "paper"), ("adamw", "paper"), ("ftrl", "pytorch")}
TWIN_CASES = [case for case in CASES if (case.rule, case.convention) in TWINS]


def twin(case: Case, params: Iterable[Any]) -> Any:
    """The torch optimizer over tensors, or over torch's parameter groups."""
    import torch

    name, extra = TWINS[case.rule, case.convention]
    return getattr(torch.optim, name)(params, **case.complete, **extra)
