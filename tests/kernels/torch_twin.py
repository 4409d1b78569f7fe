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
    ("nadam", "pytorch"): ("NAdam", {}),
    ("radam", "pytorch"): ("RAdam", {}),
}
# test_beyond.py compares those that optax, the reference implementation of schedule-free, or a patched Muon has.
WITHOUT_TWIN = {
    ("nag", "paper"),
    ("adamw", "paper"),
    *((rule, "pytorch") for rule in ("ftrl", "rowwise_adagrad", "lamb", "lion", "muon", "schedule_free_adamw")),
}
TWIN_CASES = [case for case in CASES if (case.rule, case.convention) in TWINS]


def twin(case: Case, params: Iterable[Any]) -> Any:
    """The torch optimizer over tensors, or over torch's parameter groups."""
    import torch

    name, extra = TWINS[case.rule, case.convention]
    optimizer = getattr(torch.optim, name)(params, **case.complete, **extra)
    if name == "NAdam":  # it keeps the product of momenta in float32, whatever the parameters are
        for group in optimizer.param_groups:
            for p in group["params"]:
                optimizer.state[p] = {
                    "step": torch.tensor(0.0),
                    "mu_product": torch.ones((), dtype=torch.float64),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
    return optimizer
