"""`build_torch`: the optimizer and the scheduler of a config for a PyTorch model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from optadvisor.config import OptimizerConfig
from optadvisor.frameworks.grouping import Grouped, assign
from optadvisor.frameworks.parameters import Parameter
from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.frameworks.torch.hybrid import Hybrid
from optadvisor.frameworks.torch.reading import parameters
from optadvisor.frameworks.torch.scheduling import ScheduleLR
from optadvisor.frameworks.torch.translation import Translated, refuse, translate
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.kernels.schedules import Schedule

KERNELS = ("torch", "optadvisor")

# Its fused form on the CPU, measured on 10k to 1M parameters with one thread: 1.7 to 5.2 times as fast as PyTorch's default.
_FUSED_ON_CPU = ("SGD", "Adagrad", "Adam", "AdamW")
# Classes that take sparse gradients; of these SGD and Adagrad without weight decay.
_SPARSE = ("SGD", "Adagrad", "SparseAdam")


def build_torch(
    config: OptimizerConfig,
    model: nn.Module,
    total_steps: int | None = None,
    roles: Mapping[str, str] | None = None,
    kernels: str | None = None,
) -> tuple[torch.optim.Optimizer, ScheduleLR]:
    """The optimizer of a config for a model, and its scheduler: call scheduler.step() after each optimizer.step().

    total_steps: optimizer steps of the training, where the schedule needs it and the config does not carry it. roles: name or
    pattern -> "embedding", "dense" or "no_decay". kernels: whose code takes the steps. None: torch.optim's class
    where it has the config's rules, several of them in one `Hybrid`, and else `optadvisor.torch.Optimizer`; "torch": refused
    where torch.optim has them not; "optadvisor": ours. All take the same steps as our NumPy kernels, to rounding.

    Groups carry "role" and "rule" beside PyTorch's keys. An embedding with sparse gradients under adam is given to
    torch.optim.SparseAdam.

    Errors: InputError for a model, roles or a schedule as `param_groups` and `Schedule.resolve` say; for what torch.optim
    cannot express with kernels="torch"; for a sparse embedding whose rule takes no sparse gradients.
    """
    if kernels not in (None, *KERNELS):
        raise unknown("kernels", kernels, KERNELS)
    schedule = Schedule.from_dict(config.schedule).resolve(total_steps)
    groups = assign(config, parameters(model), roles)
    optimizer = None
    if kernels != "optadvisor":
        try:
            parts = [part for group in groups for part in _parts(config, group, schedule)]
            optimizer = _of_torch(parts)
        except Inexpressible as error:
            if kernels == "torch":
                raise InputError(f"{error}: leave kernels out, then it runs on ours") from None
    return (optimizer := optimizer or _of_ours(config, groups)), ScheduleLR(optimizer, schedule)


@dataclass(frozen=True)
class _Part:
    """A parameter group and the class of torch.optim that takes its steps."""

    chosen: Translated
    group: dict[str, Any]
    fused: bool


def _parts(config: OptimizerConfig, group: Grouped, schedule: Schedule) -> list[_Part]:
    """The parts of a group of the config: sparse embeddings may need a class of their own."""
    constant = schedule.name == "constant" or not rules.get(group.rule).scheduled
    chosen = translate(group.rule, group.hyperparameters, config.convention_of(group.rule), constant_lr=constant)
    sparse = [p for p in group.parameters if p.role == "sparse embedding"]
    dense = [p for p in group.parameters if p.role != "sparse embedding"]
    found = []
    if dense:
        found.append(_Part(chosen, _group(group, dense, chosen.keywords), _fusible(chosen.name, dense)))
    if sparse:
        lazy = _sparse(chosen, sparse[0])
        found.append(_Part(lazy, _group(group, sparse, lazy.keywords), fused=False))
    return found


def _group(group: Grouped, members: Sequence[Parameter], keywords: Mapping[str, Any]) -> dict[str, Any]:
    return {"params": [p.value for p in members], "role": group.role, "rule": group.rule, **keywords}


def _sparse(chosen: Translated, parameter: Parameter) -> Translated:
    """The class for parameters whose gradients are sparse."""
    if chosen.name == "Adam" and not chosen.keywords["weight_decay"] and not chosen.keywords["amsgrad"]:
        return Translated("SparseAdam", {key: chosen.keywords[key] for key in ("lr", "betas", "eps")})
    if chosen.name not in _SPARSE:
        raise _no_sparse(parameter, f"torch.optim.{chosen.name}")
    if chosen.keywords["weight_decay"]:
        raise _no_sparse(parameter, f"torch.optim.{chosen.name} with weight_decay", _UNDECAYED)
    return chosen


_OTHER_RULE = "use a hybrid config, whose embeddings get adagrad or ftrl"
_UNDECAYED = "set weight_decay=0 for the group it is in"


def _no_sparse(parameter: Parameter, what: str, remedy: str = _OTHER_RULE) -> InputError:
    return InputError(
        f"{parameter.name} has sparse gradients, which {what} does not take: {remedy}, "
        "or build the embedding with sparse=False"
    )


def _of_torch(parts: Sequence[_Part]) -> torch.optim.Optimizer:
    """One optimizer of torch.optim, or a Hybrid of several."""
    by_class: dict[Any, list[_Part]] = {}
    for part in parts:
        # Adagrad reads where its sum starts from its own arguments, not from the groups.
        start = part.chosen.keywords.get("initial_accumulator_value")
        by_class.setdefault((part.chosen.name, part.fused, start), []).append(part)
    made = []
    for first, *others in by_class.values():
        fused = {"fused": True} if first.fused else {}
        groups = [part.group for part in (first, *others)]
        made.append(getattr(torch.optim, first.chosen.name)(groups, **first.chosen.keywords, **fused))
    return made[0] if len(made) == 1 else Hybrid(made)


def _fusible(name: str, members: Sequence[Parameter]) -> bool:
    return name in _FUSED_ON_CPU and all(
        p.value.device.type == "cpu" and p.value.dtype in (torch.float32, torch.float64) for p in members
    )


def _of_ours(config: OptimizerConfig, groups: Sequence[Grouped]) -> torch.optim.Optimizer:
    """Our kernels on the groups of a config."""
    from optadvisor.frameworks.torch.optimizer import Optimizer

    made = []
    for group in groups:
        rule, convention = rules.get(group.rule), config.convention_of(group.rule)
        values = dict(group.hyperparameters)
        if (group.rule, convention) == ("adamw", "paper"):  # in PyTorch's words: a schedule moves lr, not its peak
            values, convention = dict(translate(group.rule, values, convention, constant_lr=False).keywords), "pytorch"
        refuse(group.rule, values, convention)
        for parameter in group.parameters:
            if parameter.role == "sparse embedding" and (not rule.sparse or values.get("weight_decay")):
                decayed = (f"{group.rule} with weight_decay", _UNDECAYED)
                raise _no_sparse(parameter, *(decayed if rule.sparse else (group.rule,)))
        made.append({**_group(group, group.parameters, values), "convention": convention})
    return Optimizer(groups[0].rule, made)
