"""RMSProp: Adagrad with a memory that fades."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

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


def root(square, eps):
    return math.sqrt(square) + eps


def variance(square, mean):
    # Rounding can push it below 0; `square - square` is a zero of the arrays' own dtype.
    # The difference magnifies the rounding of `mean`, so that is updated as torch.lerp does it: after 100 float32
    # steps 6e-7 from PyTorch instead of 1.3e-6.
    return max(square - mean * mean, square - square)


def plain(p, g, square, lr, alpha, take, eps, beta, weight_decay):
    g = g + weight_decay * p
    square = alpha * square + take * (g * g)
    return p - lr * (g / root(square, eps)), square


def centered(p, g, square, mean, lr, alpha, take, eps, beta, weight_decay):
    g = g + weight_decay * p
    square = alpha * square + take * (g * g)
    mean = mean + take * (g - mean)  # not alpha*mean + take*g: see variance
    return p - lr * (g / root(variance(square, mean), eps)), square, mean


def with_momentum(p, g, square, v, lr, alpha, take, eps, beta, weight_decay):
    g = g + weight_decay * p
    square = alpha * square + take * (g * g)
    v = beta * v + g / root(square, eps)
    return p - lr * v, square, v


def centered_with_momentum(p, g, square, mean, v, lr, alpha, take, eps, beta, weight_decay):
    g = g + weight_decay * p
    square = alpha * square + take * (g * g)
    mean = mean + take * (g - mean)  # not alpha*mean + take*g: see variance
    v = beta * v + g / root(variance(square, mean), eps)
    return p - lr * v, square, mean, v


# Keras and optax add eps inside the root and keep lr inside the velocity. `decay` is lr times Keras' decoupled weight
# decay, `l2` the coupled one of optax.


def increment(g, variance, lr, eps):
    return lr * (g / math.sqrt(variance + eps))


def inside(p, g, square, lr, alpha, take, eps, beta, l2, decay):
    g = g + l2 * p
    square = alpha * square + take * (g * g)
    return p - decay * p - increment(g, square, lr, eps), square


def inside_centered(p, g, square, mean, lr, alpha, take, eps, beta, l2, decay):
    g = g + l2 * p
    square = alpha * square + take * (g * g)
    mean = mean + take * (g - mean)
    return p - decay * p - increment(g, variance(square, mean), lr, eps), square, mean


def inside_with_momentum(p, g, square, v, lr, alpha, take, eps, beta, l2, decay):
    g = g + l2 * p
    square = alpha * square + take * (g * g)
    v = beta * v + increment(g, square, lr, eps)
    return p - decay * p - v, square, v


def inside_centered_with_momentum(p, g, square, mean, v, lr, alpha, take, eps, beta, l2, decay):
    g = g + l2 * p
    square = alpha * square + take * (g * g)
    mean = mean + take * (g - mean)
    v = beta * v + increment(g, variance(square, mean), lr, eps)
    return p - decay * p - v, square, mean, v


def coefficients(
    t: int, lr: float, alpha: float, eps: float, momentum: float, weight_decay: float
) -> tuple[float, ...]:
    return lr, alpha, 1.0 - alpha, eps, momentum, weight_decay


def keras_coefficients(
    t: int, lr: float, alpha: float, eps: float, momentum: float, weight_decay: float
) -> tuple[float, ...]:
    return lr, alpha, 1.0 - alpha, eps, momentum, 0.0, lr * weight_decay


def optax_coefficients(
    t: int, lr: float, alpha: float, eps: float, momentum: float, weight_decay: float
) -> tuple[float, ...]:
    return lr, alpha, 1.0 - alpha, eps, momentum, weight_decay, 0.0


SQUARE = State("square_avg", "moving average of squared gradients")
MEAN = State("grad_avg", "moving average of gradients (centered)")
VELOCITY = State("momentum_buffer", "velocity (momentum above 0)")
Function = Callable[..., tuple[Any, ...]]
# (centered, with momentum) -> name, eps outside the root, eps inside it, states.
SWITCHES: dict[tuple[bool, bool], tuple[str, Function, Function, tuple[State, ...]]] = {
    (False, False): ("rmsprop", plain, inside, (SQUARE,)),
    (True, False): ("rmsprop_centered", centered, inside_centered, (SQUARE, MEAN)),
    (False, True): ("rmsprop_momentum", with_momentum, inside_with_momentum, (SQUARE, VELOCITY)),
    (True, True): (
        "rmsprop_centered_momentum",
        centered_with_momentum,
        inside_centered_with_momentum,
        (SQUARE, MEAN, VELOCITY),
    ),
}
FORMS = {
    convention: {
        switches: Form(name + suffix, outside if convention == "pytorch" else within, function, states)
        for switches, (name, outside, within, states) in SWITCHES.items()
    }
    for convention, suffix, function in (
        ("pytorch", "", coefficients),
        ("keras", "_keras", keras_coefficients),
        ("optax", "_optax", optax_coefficients),
    )
}


def form(hyperparameters: Mapping[str, Value], convention: str) -> Form:
    return FORMS[convention][bool(hyperparameters["centered"]), hyperparameters["momentum"] != 0.0]


RMSPROP = Rule(
    id="rmsprop",
    title="RMSProp",
    formula="g <- g + weight_decay*p;  E <- alpha*E + (1-alpha)*g*g;  d = sqrt(E)+eps, or sqrt(E-a*a)+eps with "
    "a <- alpha*a + (1-alpha)*g if centered;  v <- momentum*v + g/d;  p <- p - lr*v",
    hyperparameters=(
        learning_rate(1e-2, 1e-5, 1e-1),
        Hyperparameter(
            "alpha",
            0.99,
            "share of the average of squares that stays each step",
            high=1.0,
            open_high=True,
            search=(Dimension("one_minus_alpha", 0.001, 0.3, complement=True),),
        ),
        epsilon(1e-8),
        weight_decay(0.0, "L2 penalty, added to the gradient", 1e-6, 1e-2),
        Hyperparameter("momentum", 0.0, "velocity on top of the scaled gradient", high=1.0, open_high=True),
        Hyperparameter("centered", False, "divide by the standard deviation instead of the root mean square"),
    ),
    form=form,
    families=(
        Family(
            row="G7",
            name="RMSProp",
            direction="the local gradient",
            step_size="one for each parameter, and it recovers: old squares fade (0.9 or 0.99)",
            fixes="Adagrad's dying learning rate",
            strengths="copes with non-stationary and noisy objectives and with long runs",
            weaknesses="learning rate and decay are set by hand, with little theory to help",
            use_for="reinforcement learning and non-stationary objectives",
        ),
    ),
    paper="Tieleman & Hinton 2012, Lecture 6.5 of Neural Networks for Machine Learning; centered: Graves 2013, eq. 40",
    adaptive=True,
    decay="coupled",
    conventions=("pytorch", "keras", "optax"),
    meanings={
        "pytorch": "torch.optim.RMSprop: eps outside the root, lr outside the velocity; weight_decay is an L2 penalty, "
        "added to the gradient",
        "keras": "keras.optimizers.RMSprop: d = sqrt(E+eps);  v <- momentum*v + lr*g/d;  p <- p - v; weight_decay is "
        "decoupled, p <- p*(1 - lr*weight_decay) before the step; alpha is rho, 0.9 there by default",
        "optax": "optax.add_decayed_weights, then optax.rmsprop: d = sqrt(E+eps);  v <- momentum*v + lr*g/d;  "
        "p <- p - v; alpha is decay, 0.9 there by default; initial_scale 0 (TensorFlow 1 starts E at 1, not offered)",
    },
)
