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


def stride(m, s, lr, root_scale, eps):
    return lr * (m / (math.sqrt(s) * root_scale + eps))


def step(p, m, s, lr, root_scale, eps):
    return p - stride(m, s, lr, root_scale, eps)


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


# Decoupled decay elsewhere is `decay` times p: Keras subtracts it first, optax and the paper together with the step.
# In float32 each form rounds in its own way: 1 - decay alone puts 100 steps 3e-6 apart.


def decaying(p, g, m, s, lr, root_scale, keep1, take1, keep2, take2, eps, decay):
    m, s = moments(g, m, s, keep1, take1, keep2, take2)
    return step(p - decay * p, m, s, lr, root_scale, eps), m, s


def decaying_amsgrad(p, g, m, s, top, lr, root_scale, keep1, take1, keep2, take2, eps, decay):
    m, s = moments(g, m, s, keep1, take1, keep2, take2)
    top = max(top, s)
    return step(p - decay * p, m, top, lr, root_scale, eps), m, s, top


def decaying_at_once(p, g, m, s, lr, root_scale, keep1, take1, keep2, take2, eps, decay):
    m, s = moments(g, m, s, keep1, take1, keep2, take2)
    return p - (stride(m, s, lr, root_scale, eps) + decay * p), m, s


def decaying_at_once_amsgrad(p, g, m, s, top, lr, root_scale, keep1, take1, keep2, take2, eps, decay):
    m, s = moments(g, m, s, keep1, take1, keep2, take2)
    top = max(top, s)
    return p - (stride(m, top, lr, root_scale, eps) + decay * p), m, s, top


# optax takes the largest of the corrected averages, so root_scale multiplies inside the comparison, as its square.


def corrected_amsgrad(p, g, m, s, top, lr, square_scale, keep1, take1, keep2, take2, eps, l2, decay):
    m, s = moments(g + l2 * p, m, s, keep1, take1, keep2, take2)
    top = max(top, square_scale * s)
    return p - (lr * (m / (math.sqrt(top) + eps)) + decay * p), m, s, top


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


def paper_coefficients(
    t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, lr_max: float
) -> tuple[float, ...]:
    multiplier = lr / lr_max if lr_max > 0.0 else 0.0
    return bias_corrected(t, lr, beta1, beta2, eps) + (multiplier * weight_decay,)  # noqa: RUF005


def optax_adamw_coefficients(
    t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> tuple[float, ...]:
    return bias_corrected(t, lr, beta1, beta2, eps) + (lr * weight_decay,)  # noqa: RUF005


def keras_coefficients(
    t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> tuple[float, ...]:
    # eps beside the uncorrected root ("epsilon hat") is eps/sqrt(1-beta2^t) beside the corrected one.
    return bias_corrected(t, lr, beta1, beta2, eps / math.sqrt(1.0 - beta2**t)) + (lr * weight_decay,)  # noqa: RUF005


def squared_correction(t: int, lr: float, beta1: float, beta2: float, eps: float) -> tuple[float, ...]:
    return lr / (1.0 - beta1**t), 1.0 / (1.0 - beta2**t), beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps


def optax_amsgrad_coefficients(
    t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> tuple[float, ...]:
    return squared_correction(t, lr, beta1, beta2, eps) + (weight_decay, 0.0)  # noqa: RUF005


def optax_amsgradw_coefficients(
    t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> tuple[float, ...]:
    return squared_correction(t, lr, beta1, beta2, eps) + (0.0, lr * weight_decay)  # noqa: RUF005


M = State("exp_avg", "moving average of gradients")
S = State("exp_avg_sq", "moving average of squared gradients")
TOP = State("max_exp_avg_sq", "largest average of squares so far (amsgrad)")
CORRECTED_TOP = State("max_exp_avg_sq", "largest bias-corrected average of squares so far (amsgrad)")
PLAIN_ADAM = Form("adam", adam, adam_coefficients, (M, S))
# Without amsgrad, and with it.
KERAS_FORMS = (
    Form("adam_keras", decaying, keras_coefficients, (M, S)),
    Form("adam_amsgrad_keras", decaying_amsgrad, keras_coefficients, (M, S, TOP)),
)
ADAM_FORMS = {
    "pytorch": (PLAIN_ADAM, Form("adam_amsgrad", adam_amsgrad, adam_coefficients, (M, S, TOP))),
    "keras": KERAS_FORMS,
    "optax": (
        PLAIN_ADAM,
        Form("adam_amsgrad_optax", corrected_amsgrad, optax_amsgrad_coefficients, (M, S, CORRECTED_TOP)),
    ),
}
ADAMW_FORMS = {
    "pytorch": (
        Form("adamw", adamw, adamw_coefficients, (M, S)),
        Form("adamw_amsgrad", adamw_amsgrad, adamw_coefficients, (M, S, TOP)),
    ),
    "paper": (
        Form("adamw_paper", decaying_at_once, paper_coefficients, (M, S)),
        Form("adamw_amsgrad_paper", decaying_at_once_amsgrad, paper_coefficients, (M, S, TOP)),
    ),
    "keras": KERAS_FORMS,
    "optax": (
        Form("adamw_optax", decaying_at_once, optax_adamw_coefficients, (M, S)),
        Form("adamw_amsgrad_optax", corrected_amsgrad, optax_amsgradw_coefficients, (M, S, CORRECTED_TOP)),
    ),
}


def adam_form(hyperparameters: Mapping[str, Value], convention: str) -> Form:
    return ADAM_FORMS[convention][bool(hyperparameters["amsgrad"])]


def adamw_form(hyperparameters: Mapping[str, Value], convention: str) -> Form:
    return ADAMW_FORMS[convention][bool(hyperparameters["amsgrad"])]


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
    conventions=("pytorch", "keras", "optax"),
    meanings={
        "pytorch": "torch.optim.Adam, and the paper's Algorithm 1: eps beside the bias-corrected root; weight_decay is "
        "an L2 penalty, added to the gradient",
        "keras": "keras.optimizers.Adam: eps beside the uncorrected root (the paper's epsilon hat), so "
        "eps_hat = eps*sqrt(1-b2^t); weight_decay is decoupled, p <- p*(1 - lr*weight_decay) before the step",
        "optax": "optax.add_decayed_weights, then optax.adam: as pytorch; amsgrad (optax.amsgrad) keeps the largest of "
        "the bias-corrected averages",
    },
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
    conventions=("pytorch", "paper", "keras", "optax"),
    meanings={
        "pytorch": "torch.optim.AdamW: p shrinks by lr*weight_decay a step; weight_decay is 1e-2 by default",
        "paper": "Algorithm 2: p shrinks by weight_decay times the schedule's factor (lr over its peak), not times lr; "
        "pytorch's weight_decay is this one divided by the peak lr",
        "keras": "keras.optimizers.AdamW: eps beside the uncorrected root (the paper's epsilon hat); weight_decay is "
        "4e-3 there by default",
        "optax": "optax.adamw: as pytorch, weight_decay is 1e-4 there by default; amsgrad (scale_by_amsgrad) keeps "
        "the largest of the bias-corrected averages",
    },
)
