"""Which optimizer of Keras is one of our rules, and in which words. Imports no Keras: code for it is written with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.frameworks.running import check
from optadvisor.kernels.rules.record import Value

OURS = "our rule on Keras variables"
_THEIRS = {
    "muon": "keras.optimizers.Muon scales matrices in another way, and its Adam has the epsilon hat, so it is another rule",
    "lamb": "keras.optimizers.Lamb decays weights outside of its trust ratio, so with weight_decay it is another rule",
    "nag": "nag in convention 'paper' takes its gradient at the look-ahead point, and Keras gives the gradient",
}


def translate(
    rule: str, hyperparameters: Mapping[str, Value], convention: str, *, constant_lr: bool
) -> tuple[str, dict[str, Any]] | None:
    """Keras' class and its keywords (but the learning rate) that take the very steps of a rule; None where ours does.

    hyperparameters: all of the rule's. constant_lr: whether the learning rate stays what it is.

    Errors: Inexpressible with the reason.
    """
    h: dict[str, Any] = dict(hyperparameters)
    decay = h.get("weight_decay") or None
    b1, b2 = h.get("betas", (0.0, 0.0))
    if rule == "sgd":
        return "SGD", {"weight_decay": decay}
    if rule in ("momentum", "nag") and convention != "paper":
        same = constant_lr and not decay and not h.get("dampening")
        if convention == "keras" or same:
            return "SGD", {"momentum": h["momentum"], "nesterov": rule == "nag", "weight_decay": decay}
    if rule == "lion":
        return "Lion", {"beta_1": b1, "beta_2": b2, "weight_decay": decay}
    if rule == "lamb" and not decay:
        return "Lamb", {"beta_1": b1, "beta_2": b2, "epsilon": h["eps"]}
    if convention == "keras" and rule == "ftrl":
        return "Ftrl", {
            "learning_rate_power": -0.5,
            "initial_accumulator_value": 0.0,
            "l1_regularization_strength": h["l1"],
            "l2_regularization_strength": h["l2"],
            "beta": h["beta"],
        }
    if convention == "keras" and rule == "adagrad" and not h["lr_decay"]:
        start = h["initial_accumulator_value"]
        return "Adagrad", {"initial_accumulator_value": start, "epsilon": h["eps"], "weight_decay": decay}
    if convention == "keras" and rule == "rmsprop":
        keywords = {"rho": h["alpha"], "momentum": h["momentum"], "centered": h["centered"]}
        return "RMSprop", {**keywords, "epsilon": h["eps"], "weight_decay": decay}
    if convention == "keras" and rule in ("adam", "adamw"):
        keywords = {"beta_1": b1, "beta_2": b2, "epsilon": h["eps"], "amsgrad": h["amsgrad"]}
        return "Adam" if rule == "adam" or not decay else "AdamW", {**keywords, "weight_decay": decay}
    try:
        check(rule, hyperparameters, convention)
    except Inexpressible as error:
        raise Inexpressible(_THEIRS.get(rule, str(error))) from None
    return None
