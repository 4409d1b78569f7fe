"""Adagrad: a learning rate for each parameter that only ever shrinks."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optadvisor.kernels.rules.record import (
    Dimension,
    Family,
    Form,
    Hyperparameter,
    Rule,
    State,
    Value,
    epsilon,
    learning_rate,
    weight_decay,
)


def update(p, g, total, lr, eps, weight_decay):
    g = g + weight_decay * p
    total = total + g * g
    return p - lr * (g / (math.sqrt(total) + eps)), total


def coefficients(t: int, lr: float, lr_decay: float, eps: float, weight_decay: float) -> tuple[float, ...]:
    return lr / (1.0 + (t - 1) * lr_decay), eps, weight_decay


def initial(p, initial_accumulator_value):
    return initial_accumulator_value


# Keras and optax add eps inside the root. `floor` is 0 for optax, which moves nothing where the sum is 0, and below
# every sum for Keras; `decay` is lr times Keras' decoupled weight decay, `l2` the coupled one of optax.


def inside(p, g, total, lr, eps, floor, l2, decay):
    g = g + l2 * p
    total = total + g * g
    p = p - decay * p
    return (p - lr * (g / math.sqrt(total + eps)) if total > floor else p), total


def keras_coefficients(t: int, lr: float, lr_decay: float, eps: float, weight_decay: float) -> tuple[float, ...]:
    rate = lr / (1.0 + (t - 1) * lr_decay)
    return rate, eps, -1.0, 0.0, rate * weight_decay


def optax_coefficients(t: int, lr: float, lr_decay: float, eps: float, weight_decay: float) -> tuple[float, ...]:
    return lr / (1.0 + (t - 1) * lr_decay), eps, 0.0, weight_decay, 0.0


SUM = State("sum", "sum of squared gradients", initial)
FORMS = {
    "pytorch": Form("adagrad", update, coefficients, (SUM,)),
    "keras": Form("adagrad_keras", inside, keras_coefficients, (SUM,)),
    "optax": Form("adagrad_optax", inside, optax_coefficients, (SUM,)),
}


def form(hyperparameters: Mapping[str, Value], convention: str) -> Form:
    return FORMS[convention]


ADAGRAD = Rule(
    id="adagrad",
    title="Adagrad",
    formula="g <- g + weight_decay*p;  sum <- sum + g*g;  p <- p - lr/(1+(t-1)*lr_decay) * g/(sqrt(sum)+eps)",
    hyperparameters=(
        learning_rate(1e-2, 1e-4, 1.0),
        Hyperparameter("lr_decay", 0.0, "the learning rate is divided by 1 + (t-1)*lr_decay"),
        weight_decay(0.0, "L2 penalty, added to the gradient", 1e-6, 1e-2),
        Hyperparameter(
            "initial_accumulator_value",
            0.0,
            "where the sum starts; above 0 it tames the first steps",
            search=(Dimension("initial_accumulator_value", 1e-6, 1.0),),
        ),
        epsilon(1e-10, 1e-12, 1e-6),
    ),
    form=form,
    families=(
        Family(
            row="G6",
            name="Adagrad",
            direction="the local gradient",
            step_size="one for each parameter, and it only ever shrinks",
            fixes="one learning rate for all: rare features get large steps, frequent ones small steps",
            strengths="excellent on sparse features, robust early in training",
            weaknesses="the effective learning rate goes to 0, and a long training dies",
            use_for="sparse features and embeddings",
        ),
    ),
    paper="Duchi, Hazan & Singer 2011, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
    adaptive=True,
    decay="coupled",
    sparse=True,
    conventions=("pytorch", "keras", "optax"),
    meanings={
        "pytorch": "torch.optim.Adagrad: eps outside the root; the sum starts at 0; weight_decay is an L2 penalty, "
        "added to the gradient",
        "keras": "keras.optimizers.Adagrad: sqrt(sum+eps), and the sum starts at 0.1 there by default; weight_decay is "
        "decoupled, p <- p*(1 - lr*weight_decay) before the step; lr_decay is the schedule InverseTimeDecay",
        "optax": "optax.add_decayed_weights, then optax.adagrad: sqrt(sum+eps), nothing moves where the sum is 0, and "
        "the sum starts at 0.1 there by default; lr_decay is a schedule",
    },
)
