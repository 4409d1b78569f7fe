"""Which transformation of optax is one of our rules, and in which words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optax

from optadvisor.frameworks.optax.limits import refuse
from optadvisor.frameworks.optax.running import by_rule, rate
from optadvisor.kernels.rules.record import Value
from optadvisor.kernels.schedules import Schedule

OURS = "our rule on JAX arrays"


def translate(
    rule: str, hyperparameters: Mapping[str, Value], convention: str, schedule: Schedule
) -> tuple[optax.GradientTransformation, str]:
    """The transformation that takes the very steps of a rule in a convention, and of what it is made.

    hyperparameters: all of the rule's. schedule: as `resolve` returned it.

    Errors: Inexpressible with the reason.
    """
    refuse(rule, hyperparameters, convention)
    h: dict[str, Any] = dict(hyperparameters)
    if (rule, convention) == ("adamw", "paper"):
        decay = h["weight_decay"] / h["lr"] if h["lr"] else 0.0
        found, how = translate(rule, {**h, "weight_decay": decay}, "pytorch", schedule)
        return found, f"{how}, weight_decay / lr"
    if convention == "pytorch" or (rule, convention) == ("sgd", "keras"):
        stock = _as_pytorch(rule, h, rate(h["lr"], schedule))
    else:
        stock = _as_optax(rule, h, rate(h["lr"], schedule)) if convention == "optax" else None
    return stock or (by_rule(rule, h, convention, schedule), OURS)


def _l2(decay: float, rule: optax.GradientTransformation, how: str) -> tuple[optax.GradientTransformation, str]:
    """With an L2 penalty added to the gradient."""
    if not decay:
        return rule, how
    return optax.chain(optax.add_decayed_weights(decay), rule), f"add_decayed_weights, {how}"


def _as_pytorch(rule: str, h: dict[str, Any], lr: Any) -> tuple[optax.GradientTransformation, str] | None:
    """What optax has in PyTorch's form, or None."""
    if rule == "rmsprop" and not h["centered"]:
        parts = [optax.scale_by_rms(h["alpha"], h["eps"], eps_in_sqrt=False)]
        parts += [optax.trace(h["momentum"])] if h["momentum"] else []
        how = f"scale_by_rms(eps_in_sqrt=False){', trace' if h['momentum'] else ''}, scale_by_learning_rate"
        return _l2(h["weight_decay"], optax.chain(*parts, optax.scale_by_learning_rate(lr)), how)
    if rule == "lion":
        return optax.lion(lr, *h["betas"], weight_decay=h["weight_decay"]), "lion"
    if rule == "lamb":
        return optax.lamb(lr, *h["betas"], eps=h["eps"], weight_decay=h["weight_decay"]), "lamb"
    same = rule in ("sgd", "momentum", "nag", "adam", "adamw")
    return _as_optax(rule, h, lr) if same and not h.get("dampening") and not h.get("amsgrad") else None


def _as_optax(rule: str, h: dict[str, Any], lr: Any) -> tuple[optax.GradientTransformation, str] | None:
    """optax's own form, or None where it has not the rule."""
    if rule in ("sgd", "momentum", "nag"):
        return _l2(h["weight_decay"], optax.sgd(lr, h.get("momentum"), nesterov=rule == "nag"), "sgd")
    if rule == "adagrad":
        if h["lr_decay"]:
            peak, fade = lr, h["lr_decay"]
            lr = lambda count: (peak(count) if callable(peak) else peak) / (1 + count * fade)  # noqa: E731
        return _l2(h["weight_decay"], optax.adagrad(lr, h["initial_accumulator_value"], h["eps"]), "adagrad")
    if rule == "rmsprop":
        momentum = h["momentum"] or None
        found = optax.rmsprop(lr, h["alpha"], h["eps"], centered=h["centered"], momentum=momentum)
        return _l2(h["weight_decay"], found, "rmsprop")
    if rule == "adam":
        return _l2(
            h["weight_decay"], (optax.amsgrad if h["amsgrad"] else optax.adam)(lr, *h["betas"], h["eps"]), "adam"
        )
    if rule == "adamw" and not h["amsgrad"]:
        return optax.adamw(lr, *h["betas"], h["eps"], weight_decay=h["weight_decay"]), "adamw"
    if rule == "adamw":
        parts = optax.scale_by_amsgrad(*h["betas"], h["eps"]), optax.add_decayed_weights(h["weight_decay"])
        return optax.chain(*parts, optax.scale_by_learning_rate(lr)), "scale_by_amsgrad, add_decayed_weights"
    return None
