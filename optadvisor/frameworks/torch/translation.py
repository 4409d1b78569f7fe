"""Which class of torch.optim is one of our rules, and in which words. Imports no torch: code for PyTorch is written with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.rules.record import Value

# Our rule -> PyTorch's class, and what of it is fixed. Its keywords are the rule's.
CLASSES: dict[str, tuple[str, dict[str, Value]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {}),
    "nag": ("SGD", {"nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
}
_OTHER_MATHS = {"muon": "torch.optim.Muon iterates in bfloat16 and takes matrices alone, so it is another rule"}

# Other conventions whose update is PyTorch's own (with amsgrad optax's is not).
AGREES = {
    ("sgd", "keras"),
    ("sgd", "optax"),
    ("momentum", "optax"),
    ("nag", "optax"),
    ("adam", "optax"),
    ("adamw", "optax"),
}


def refuse(rule: str, hyperparameters: Mapping[str, Value], convention: str) -> None:
    """InputError for what no optimizer of PyTorch can be, neither its own nor ours."""
    if rules.get(rule).form(hyperparameters, convention).lookahead:
        raise InputError(
            f"{rule} in convention {convention!r} takes its gradient at the look-ahead point, and in PyTorch the "
            "gradient is there before the step: use convention 'pytorch', the same path while lr is constant"
        )


@dataclass(frozen=True)
class Translated:
    """A class of torch.optim with its keywords. how: what is written in other words than the config's, or ""."""

    name: str
    keywords: dict[str, Value] = field(default_factory=dict)
    how: str = ""


def translate(rule: str, hyperparameters: Mapping[str, Value], convention: str, *, constant_lr: bool) -> Translated:
    """The class of torch.optim, and its keywords, that takes the very steps of a rule in a convention.

    hyperparameters: all of the rule's. constant_lr: whether the learning rate stays what it is: the velocities of some
    conventions agree only then.

    Errors: Inexpressible with the reason.
    """
    if rule not in CLASSES:
        raise Inexpressible(_OTHER_MATHS.get(rule, f"torch.optim has no {rule}"))
    name, fixed = CLASSES[rule]
    values, how = dict(hyperparameters), ""
    if convention != "pytorch" and ((rule, convention) not in AGREES or values.get("amsgrad")):
        values, how = _converted(rule, values, convention, constant_lr=constant_lr)
    return Translated(name, {**values, **fixed}, how)


def _converted(
    rule: str, values: dict[str, Value], convention: str, *, constant_lr: bool
) -> tuple[dict[str, Value], str]:
    lr, decay = float(values["lr"]), float(values["weight_decay"])  # type: ignore[arg-type]
    if (rule, convention) == ("adamw", "paper"):
        return {**values, "weight_decay": decay / lr if lr else 0.0}, "weight_decay / lr"
    if rule == "adagrad" and (decay == 0.0 or convention == "optax"):
        # sqrt(sum + eps) is the root of a sum that started eps higher.
        begin = float(values["initial_accumulator_value"]) + float(values["eps"])  # type: ignore[arg-type]
        how = "initial_accumulator_value + eps, then eps=0"
        return {**values, "initial_accumulator_value": begin, "eps": 0.0}, how
    if (rule, convention) in (("momentum", "keras"), ("nag", "keras")) and constant_lr and decay == 0.0:
        return values, "the same while lr is constant"
    meaning = rules.get(rule).meanings[convention]
    raise Inexpressible(f"torch.optim has no {rule} in convention {convention!r}, which is {meaning}")
