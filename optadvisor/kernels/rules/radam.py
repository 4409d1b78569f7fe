"""RAdam: Adam that waits with its step sizes until their variance is known."""

from __future__ import annotations

import math

from optadvisor.kernels.rules.adam import BETAS, M, S, moments
from optadvisor.kernels.rules.record import OUTSIDE, Family, Form, Rule, epsilon, learning_rate, weight_decay


def update(p, g, m, s, adaptive, plain, keep1, take1, keep2, take2, eps, l2):
    m, s = moments(g + l2 * p, m, s, keep1, take1, keep2, take2)
    return p - (adaptive * (m / (math.sqrt(s) + eps)) + plain * m), m, s


def coefficients(t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float) -> tuple[float, ...]:
    rate = lr / (1.0 - beta1**t)
    correction = 1.0 - beta2**t
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * t * beta2**t / correction
    adaptive, plain = 0.0, rate
    if length > 5.0:
        rectified = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
        adaptive, plain = rate * math.sqrt(rectified) * math.sqrt(correction), 0.0
    return adaptive, plain, beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps, weight_decay


FORM = Form("radam", update, coefficients, (M, S))

RADAM = Rule(
    id="radam",
    title="RAdam (rectified Adam)",
    formula="g <- g + weight_decay*p;  m <- b1*m + (1-b1)*g;  s <- b2*s + (1-b2)*g*g;  "
    "rho = 2/(1-b2)-1, rho_t = rho - 2*t*b2^t/(1-b2^t);  "
    "rho_t <= 5: p <- p - lr*m/(1-b1^t);  "
    "else p <- p - lr * r_t * m/(1-b1^t) * sqrt(1-b2^t)/(sqrt(s)+eps), "
    "r_t = sqrt((rho_t-4)*(rho_t-2)*rho / ((rho-4)*(rho-2)*rho_t))",
    hyperparameters=(
        learning_rate(1e-3, 1e-5, 0.3),
        BETAS,
        epsilon(1e-8),
        weight_decay(0.0, "L2 penalty, added to the gradient", 1e-6, 1e-2),
    ),
    form=lambda hyperparameters, convention: FORM,
    families=(),
    beyond=Family(
        row=OUTSIDE,
        name="RAdam",
        direction="history: a moving average of gradients",
        step_size="one for each parameter, scaled by how well its second moment is known; none in the first steps",
        fixes="Adam's first steps, whose sizes rest on a handful of gradients: a warm-up that follows from beta2",
        strengths="needs no warm-up schedule, forgiving about lr",
        weaknesses="two states a parameter; the first steps are plain momentum, as large as the gradients are",
        use_for="where Adam needs a warm-up that nobody wants to tune",
    ),
    paper="Liu et al. 2020, On the Variance of the Adaptive Learning Rate and Beyond, Algorithm 2, in PyTorch's form",
    adaptive=True,
    decay="coupled",
)
