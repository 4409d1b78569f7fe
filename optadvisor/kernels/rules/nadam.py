"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

import math

from optadvisor.kernels.rules.adam import BETAS, M, S, moments
from optadvisor.kernels.rules.record import (
    OUTSIDE,
    Family,
    Form,
    Hyperparameter,
    Rule,
    epsilon,
    learning_rate,
    weight_decay,
)

DECAY = 0.96  # of the momentum's schedule, as in the paper
TERMS = 60  # of a series whose k-th term is below 2**-k: rounding of float64


def update(p, g, m, s, of_gradient, of_average, root_scale, keep1, take1, keep2, take2, eps, l2):
    g = g + l2 * p
    m, s = moments(g, m, s, keep1, take1, keep2, take2)
    return p - (of_gradient * g + of_average * m) / (math.sqrt(s) * root_scale + eps), m, s


def momentum_at(t, beta1, momentum_decay):
    return beta1 * (1.0 - 0.5 * DECAY ** (t * momentum_decay))


def momentum_product(t, beta1, momentum_decay):
    """The product of momentum_at(1 .. t), in closed form so that a step needs no memory of those before.

    With q = DECAY**momentum_decay, log(1 - q**i/2) is a power series in q**i; summed over i it is geometric.
    """
    log_q = momentum_decay * math.log(DECAY)
    total = 0.0
    power = 1.0
    for k in range(1, TERMS):
        power *= 0.5
        series = float(t) if log_q == 0.0 else math.exp(k * log_q) * math.expm1(k * t * log_q) / math.expm1(k * log_q)
        total += power / k * series
    return beta1**t * math.exp(-total)


def coefficients(
    t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, momentum_decay: float
) -> tuple[float, ...]:
    now = momentum_at(t, beta1, momentum_decay)
    after = momentum_at(t + 1, beta1, momentum_decay)
    product = momentum_product(t, beta1, momentum_decay)
    return (
        lr * (1.0 - now) / (1.0 - product),
        lr * after / (1.0 - product * after),
        1.0 / math.sqrt(1.0 - beta2**t),
        beta1,
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        eps,
        weight_decay,
    )


FORM = Form("nadam", update, coefficients, (M, S))

NADAM = Rule(
    id="nadam",
    title="NAdam (Adam with Nesterov momentum)",
    formula="g <- g + weight_decay*p;  m <- b1*m + (1-b1)*g;  s <- b2*s + (1-b2)*g*g;  "
    "mu_t = b1*(1 - 0.96^(t*momentum_decay)/2), M_t = mu_1*...*mu_t;  "
    "p <- p - lr * ((1-mu_t)/(1-M_t)*g + mu_(t+1)/(1-M_(t+1))*m) / (sqrt(s/(1-b2^t)) + eps)",
    hyperparameters=(
        learning_rate(2e-3, 1e-5, 1e-1),
        BETAS,
        epsilon(1e-8),
        weight_decay(0.0, "L2 penalty, added to the gradient", 1e-6, 1e-2),
        Hyperparameter("momentum_decay", 4e-3, "how fast the momentum rises from b1/2 to b1"),
    ),
    form=lambda hyperparameters, convention: FORM,
    families=(),
    beyond=Family(
        row=OUTSIDE,
        name="NAdam",
        direction="history and look-ahead: the next step's momentum, applied now",
        step_size="one for each parameter, as Adam's",
        fixes="Adam's heavy ball: Nesterov's brake in its place, with a momentum that warms up",
        strengths="often a little faster than Adam at the same settings",
        weaknesses="two states a parameter, one more hyperparameter; L2 acts inside, as in Adam",
        use_for="where Adam does well and the number of steps is short",
    ),
    paper="Dozat 2016, Incorporating Nesterov Momentum into Adam, in PyTorch's form",
    adaptive=True,
    decay="coupled",
)
