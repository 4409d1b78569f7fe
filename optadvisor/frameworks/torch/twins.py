"""Keywords and state of the class of torch.optim that is a rule, so that state_dicts can be exchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from optadvisor.frameworks.torch.translation import CLASSES
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.rules import RULES, Rule
from optadvisor.kernels.rules.nadam import momentum_product

# Keywords of torch.optim that choose between its implementations of the same maths: ours takes their place.
IMPLEMENTATIONS = ("foreach", "fused")
# What these do, capture in a graph and derivatives through a step, the kernels cannot.
IMPOSSIBLE = {
    "capturable": "its step runs outside of CUDA graphs and torch.compile",
    "differentiable": "autograd does not see its step",
}


# Keywords of torch's class that a rule has no name for, each at the value that makes it the rule; the rest is in CLASSES.
_FIXED: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.0, "dampening": 0.0, "nesterov": False},
    "momentum": {"nesterov": False},
    "nag": {"dampening": 0.0},
    "adam": {"decoupled_weight_decay": False},
    "adamw": {"decoupled_weight_decay": True},
    "nadam": {"decoupled_weight_decay": False},
    "radam": {"decoupled_weight_decay": False},
}
_UNCOUNTED = ("SGD",)  # keeps no step count


def plain(value: Any, name: str) -> Any:
    """A number for a tensor of one element, wherever PyTorch takes one (lr, betas)."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise InputError(f"{name} is a tensor of {value.numel()} elements: Tensor {name} must be 1-element")
        return value.item()
    if isinstance(value, (tuple, list)):
        return tuple(plain(one, name) for one in value)
    return value


def fixed(rule: Rule) -> dict[str, Any]:
    """The keywords of torch's class that the rule has no name for."""
    return {**_FIXED.get(rule.id, {}), **CLASSES[rule.id][1]} if rule.id in CLASSES else {}


def counts(rule: Rule) -> bool:
    """Whether the state of a parameter holds its step count. The names of all other states are those of the rule."""
    return rule.id not in CLASSES or CLASSES[rule.id][0] not in _UNCOUNTED


def check_fixed(rule: Rule, group: Mapping[str, Any], where: str) -> None:
    """InputError where a keyword of torch's class makes it another rule than this one."""
    for name, value in fixed(rule).items():
        if group.get(name, value) != value:
            twin = CLASSES[rule.id][0]
            family = twin.removesuffix("W")  # AdamW is Adam with decoupled decay
            same = [other for other in CLASSES if CLASSES[other][0].removesuffix("W") == family]
            fits = [o for o in same if all(group.get(k, v) == v for k, v in fixed(RULES[o]).items())]
            remedy = f"that is rule {fits[0]!r}" if fits else f"use torch.optim.{twin} for that"
            raise InputError(f"{where}: {name} is {group[name]!r}, and {rule.id} has {value!r}: {remedy}")
    for name, why in IMPOSSIBLE.items():
        if group.get(name):
            raise InputError(f"{where}: {name} is {group[name]!r}, which {rule.id} here cannot: {why}; leave it out")


def derived(rule: Rule, hyperparameters: Mapping[str, Any], step: float) -> dict[str, float]:
    """What torch's class keeps besides and the rule has in closed form, after so many steps."""
    if rule.id != "nadam":
        return {}
    beta1, decay = (
        plain(hyperparameters["betas"][0], "betas"),
        plain(hyperparameters["momentum_decay"], "momentum_decay"),
    )
    return {"mu_product": momentum_product(step, beta1, decay)}  # type: ignore[no-untyped-call]
