"""The class of torch.optim that does what a rule does: its keywords and its state, so that state_dicts can be exchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optadvisor.kernels.errors import InputError
from optadvisor.kernels.rules import Rule
from optadvisor.kernels.rules.nadam import momentum_product

# Keywords of torch.optim that choose between its implementations of the same maths: ours takes their place.
IMPLEMENTATIONS = ("foreach", "fused")
# What these do, capture in a graph and derivatives through a step, the kernels cannot.
IMPOSSIBLE = {
    "capturable": "its step runs outside of CUDA graphs and torch.compile",
    "differentiable": "autograd does not see its step",
}


@dataclass(frozen=True)
class Twin:
    """A class of torch.optim. fixed: its keywords that the rule has no name for, each at the value that makes it the rule.

    counts: whether its state has "step". The names of all other states are those of the rule's record.
    """

    name: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    counts: bool = True


TWINS = {
    "sgd": Twin("SGD", {"momentum": 0.0, "dampening": 0.0, "nesterov": False}, counts=False),
    "momentum": Twin("SGD", {"nesterov": False}, counts=False),
    "nag": Twin("SGD", {"dampening": 0.0, "nesterov": True}, counts=False),
    "adagrad": Twin("Adagrad"),
    "rmsprop": Twin("RMSprop"),
    "adam": Twin("Adam", {"decoupled_weight_decay": False}),
    "adamw": Twin("AdamW", {"decoupled_weight_decay": True}),
    "nadam": Twin("NAdam", {"decoupled_weight_decay": False}),
    "radam": Twin("RAdam", {"decoupled_weight_decay": False}),
}


def fixed(rule: Rule) -> Mapping[str, Any]:
    """The keywords of torch's class that the rule has no name for."""
    return TWINS[rule.id].fixed if rule.id in TWINS else {}


def counts(rule: Rule) -> bool:
    """Whether the state of a parameter holds its step count."""
    return rule.id not in TWINS or TWINS[rule.id].counts


def check_fixed(rule: Rule, group: Mapping[str, Any], where: str) -> None:
    """InputError where a keyword of torch's class makes it another rule than this one."""
    for name, value in fixed(rule).items():
        if group.get(name, value) != value:
            same = [other for other, twin in TWINS.items() if twin.name == TWINS[rule.id].name]
            fits = [other for other in same if all(group.get(k, v) == v for k, v in TWINS[other].fixed.items())]
            remedy = f"that is rule {fits[0]!r}" if fits else f"use torch.optim.{TWINS[rule.id].name} for that"
            raise InputError(f"{where}: {name} is {group[name]!r}, and {rule.id} has {value!r}: {remedy}")
    for name, why in IMPOSSIBLE.items():
        if group.get(name):
            raise InputError(f"{where}: {name} is {group[name]!r}, which {rule.id} here cannot: {why}; leave it out")


def derived(rule: Rule, hyperparameters: Mapping[str, Any], step: float) -> dict[str, float]:
    """What torch's class keeps besides and the rule has in closed form, after so many steps."""
    if rule.id != "nadam":
        return {}
    return {"mu_product": momentum_product(step, hyperparameters["betas"][0], hyperparameters["momentum_decay"])}
