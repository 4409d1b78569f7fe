"""Adam and AdamW: momentum and a step size for each parameter, bias-corrected."""

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


def moments(g, m, s, keep1, take1, keep2, take2):
    return keep1 * m + take1 * g, keep2 * s + take2 * (g * g)


def step(p, m, s, lr, root_scale, eps):
    return p - lr * (m / (math.sqrt(s) * root_scale + eps))


# lr holds 1/(1-beta1^t) already, root_scale is 1/sqrt(1-beta2^t); `l2` is 0 for AdamW and `shrink` is 1 for Adam.


def adam(p, g, m, s, lr, root_scale, keep1, take1, keep2, take2, eps, l2):
    m, s = moments(g + l2 * p, m, s, keep1, take1, keep2, take2)
    return step(p, m, s, lr, root_scale, eps), m, s


def adam_amsgrad(p, g, m, s, top, lr, root_scale, keep1, take1, keep2, take2, eps, l2):
    m, s = moments(g + l2 * p, m, s, keep1, take1, keep2, take2)
    top = max(top, s)
    return step(p, m, top, lr, root_scale, eps), m, s, top


def adamw(p, g, m, s, lr, root_scale, keep1, take1, keep2, take2, eps, shrink):
    m, s = moments(g, m, s, keep1, take1, keep2, take2)
    return step(p * shrink, m, s, lr, root_scale, eps), m, s


def adamw_amsgrad(p, g, m, s, top, lr, root_scale, keep1, take1, keep2, take2, eps, shrink):
    m, s = moments(g, m, s, keep1, take1, keep2, take2)
    top = max(top, s)
    return step(p * shrink, m, top, lr, root_scale, eps), m, s, top


def bias_corrected(t: int, lr: float, beta1: float, beta2: float, eps: float) -> tuple[float, ...]:
    correction1 = 1.0 - beta1**t
    correction2 = 1.0 - beta2**t
    return lr / correction1, 1.0 / math.sqrt(correction2), beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps


def adam_coefficients(
    t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> tuple[float, ...]:
    # `+`, not unpacking: numba compiles this function as well.
    return bias_corrected(t, lr, beta1, beta2, eps) + (weight_decay,)  # noqa: RUF005


def adamw_coefficients(
    t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> tuple[float, ...]:
    return bias_corrected(t, lr, beta1, beta2, eps) + (1.0 - lr * weight_decay,)  # noqa: RUF005


M = State("exp_avg", "moving average of gradients")
S = State("exp_avg_sq", "moving average of squared gradients")
TOP = State("max_exp_avg_sq", "largest average of squares so far (amsgrad)")
ADAM_FORMS = {
    False: Form("adam", adam, adam_coefficients, (M, S)),
    True: Form("adam_amsgrad", adam_amsgrad, adam_coefficients, (M, S, TOP)),
}
ADAMW_FORMS = {
    False: Form("adamw", adamw, adamw_coefficients, (M, S)),
    True: Form("adamw_amsgrad", adamw_amsgrad, adamw_coefficients, (M, S, TOP)),
}


def adam_form(hyperparameters: Mapping[str, Value], convention: str) -> Form:
    return ADAM_FORMS[bool(hyperparameters["amsgrad"])]


def adamw_form(hyperparameters: Mapping[str, Value], convention: str) -> Form:
    return ADAMW_FORMS[bool(hyperparameters["amsgrad"])]


BETAS = Hyperparameter(
    "betas",
    (0.9, 0.999),
    "share of each moving average (gradients, squares) that stays each step",
    high=1.0,
    open_high=True,
    search=(
        Dimension("one_minus_beta1", 0.01, 0.5, complement=True, index=0),
        Dimension("one_minus_beta2", 0.0005, 0.2, complement=True, index=1),
    ),
)
AMSGRAD = Hyperparameter("amsgrad", False, "divide by the largest average of squares so far")
PAPER = "Kingma & Ba 2015, Adam: A Method for Stochastic Optimization, Algorithm 1; amsgrad: Reddi et al. 2018"

ADAM = Rule(
    id="adam",
    title="Adam",
    formula="g <- g + weight_decay*p;  m <- b1*m + (1-b1)*g;  s <- b2*s + (1-b2)*g*g;  "
    "p <- p - lr * (m/(1-b1^t)) / (sqrt(s/(1-b2^t)) + eps)",
    hyperparameters=(
        learning_rate(1e-3, 1e-5, 1e-1),
        BETAS,
        epsilon(1e-8),
        weight_decay(0.0, "L2 penalty, added to the gradient (see adamw)", 1e-6, 1e-2),
        AMSGRAD,
    ),
    form=adam_form,
    families=(
        Family(
            row="G8",
            name="Adam",
            direction="history: a moving average of gradients",
            step_size="one for each parameter, from a moving average of squared gradients; both bias-corrected",
            fixes="the choice between momentum and RMSProp: it unites them, with unbiased early steps",
            strengths="fast, and forgiving about its hyperparameters",
            weaknesses="on some vision tasks generalises slightly worse than tuned momentum; two states a parameter",
            use_for="reinforcement learning, GANs, unstable starts",
        ),
    ),
    paper=PAPER,
    adaptive=True,
    decay="coupled",
    sparse=True,
)

ADAMW = Rule(
    id="adamw",
    title="AdamW (Adam with decoupled weight decay)",
    formula="p <- p*(1 - lr*weight_decay);  m <- b1*m + (1-b1)*g;  s <- b2*s + (1-b2)*g*g;  "
    "p <- p - lr * (m/(1-b1^t)) / (sqrt(s/(1-b2^t)) + eps)",
    hyperparameters=(
        learning_rate(1e-3, 1e-5, 1e-1),
        BETAS,
        epsilon(1e-8),
        weight_decay(1e-2, "decoupled weight decay: p shrinks by lr*weight_decay a step", 1e-4, 1.0),
        AMSGRAD,
    ),
    form=adamw_form,
    families=(
        Family(
            row="G9",
            name="AdamW",
            direction="history: a moving average of gradients",
            step_size="one for each parameter, as Adam; weight decay acts on the weights directly",
            fixes="L2 inside Adam, which the second moment scales away where gradients are large",
            strengths="generalises better on large models; the default of modern deep learning",
            weaknesses="two states a parameter, as Adam",
            use_for="language models, transformers, dense towers",
        ),
    ),
    paper="Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization, Algorithm 2, in PyTorch's form (lr*weight_decay); "
    "amsgrad: Reddi et al. 2018",
    adaptive=True,
    decay="decoupled",
)
