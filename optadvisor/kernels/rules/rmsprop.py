"""RMSProp: Adagrad with a memory that fades."""

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


def root(square, eps):
    return math.sqrt(square) + eps


def centered_root(square, mean, eps):
    # Rounding can push the variance below 0; `square - square` is a zero of the arrays' own dtype.
    # The difference magnifies the rounding of `mean`, so that is updated as torch.lerp does it: after 100 float32
    # steps 6e-7 from PyTorch instead of 1.3e-6.
    return math.sqrt(max(square - mean * mean, square - square)) + eps


def plain(p, g, square, lr, alpha, take, eps, beta, weight_decay):
    g = g + weight_decay * p
    square = alpha * square + take * (g * g)
    return p - lr * (g / root(square, eps)), square


def centered(p, g, square, mean, lr, alpha, take, eps, beta, weight_decay):
    g = g + weight_decay * p
    square = alpha * square + take * (g * g)
    mean = mean + take * (g - mean)  # not alpha*mean + take*g: see centered_root
    return p - lr * (g / centered_root(square, mean, eps)), square, mean


def with_momentum(p, g, square, v, lr, alpha, take, eps, beta, weight_decay):
    g = g + weight_decay * p
    square = alpha * square + take * (g * g)
    v = beta * v + g / root(square, eps)
    return p - lr * v, square, v


def centered_with_momentum(p, g, square, mean, v, lr, alpha, take, eps, beta, weight_decay):
    g = g + weight_decay * p
    square = alpha * square + take * (g * g)
    mean = mean + take * (g - mean)  # not alpha*mean + take*g: see centered_root
    v = beta * v + g / centered_root(square, mean, eps)
    return p - lr * v, square, mean, v


def coefficients(
    t: int, lr: float, alpha: float, eps: float, momentum: float, weight_decay: float
) -> tuple[float, ...]:
    return lr, alpha, 1.0 - alpha, eps, momentum, weight_decay


SQUARE = State("square_avg", "moving average of squared gradients")
MEAN = State("grad_avg", "moving average of gradients (centered)")
VELOCITY = State("momentum_buffer", "velocity (momentum above 0)")
FORMS = {
    (False, False): Form("rmsprop", plain, coefficients, (SQUARE,)),
    (True, False): Form("rmsprop_centered", centered, coefficients, (SQUARE, MEAN)),
    (False, True): Form("rmsprop_momentum", with_momentum, coefficients, (SQUARE, VELOCITY)),
    (True, True): Form("rmsprop_centered_momentum", centered_with_momentum, coefficients, (SQUARE, MEAN, VELOCITY)),
}


def form(hyperparameters: Mapping[str, Value], convention: str) -> Form:
    return FORMS[bool(hyperparameters["centered"]), hyperparameters["momentum"] != 0.0]


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
)
