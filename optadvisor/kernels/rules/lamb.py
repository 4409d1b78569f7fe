"""LAMB: Adam's direction, with a step as long as the tensor itself allows."""

from __future__ import annotations

import math
from typing import Any

from optadvisor.kernels.rules.adam import BETAS, M, S, moments
from optadvisor.kernels.rules.record import OUTSIDE, Family, Form, Rule, epsilon, learning_rate, weight_decay

SQUARES: Any = None


def update(p, g, m, s, lr, scale, root_scale, keep1, take1, keep2, take2, eps, weight_decay):
    m, s = moments(g, m, s, keep1, take1, keep2, take2)
    return (m * scale) / (math.sqrt(s) * root_scale + eps) + weight_decay * p, m, s


def stage(p, direction, memory, lr, scale, root_scale, keep1, take1, keep2, take2, eps, weight_decay):
    flat, towards = p.reshape(p.size), direction.reshape(p.size)
    weight, length = math.sqrt(SQUARES(flat)), math.sqrt(SQUARES(towards))
    trust = weight / length if weight > 0.0 and length > 0.0 else 1.0
    rate = p.dtype.type(lr * trust)
    for i in range(flat.size):
        flat[i] -= rate * towards[i]


def coefficients(t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float) -> tuple[float, ...]:
    return (
        lr,
        1.0 / (1.0 - beta1**t),
        1.0 / math.sqrt(1.0 - beta2**t),
        beta1,
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        eps,
        weight_decay,
    )


FORM = Form("lamb", update, coefficients, (M, S), stage=stage)

LAMB = Rule(
    id="lamb",
    title="LAMB (Adam with a trust ratio a tensor)",
    formula="m <- b1*m + (1-b1)*g;  s <- b2*s + (1-b2)*g*g;  "
    "u = (m/(1-b1^t)) / (sqrt(s/(1-b2^t)) + eps) + weight_decay*p;  "
    "p <- p - lr * |p|/|u| * u, norms over the tensor; the ratio is 1 where either is 0",
    hyperparameters=(
        learning_rate(1e-3, 1e-4, 1e-1),
        BETAS,
        epsilon(1e-6),
        weight_decay(1e-2, "decoupled weight decay, inside the direction u", 1e-4, 1.0),
    ),
    form=lambda hyperparameters, convention: FORM,
    families=(),
    beyond=Family(
        row=OUTSIDE,
        name="LAMB",
        direction="history: Adam's",
        step_size="one for each parameter as Adam's, then one for each tensor: the step is lr times the tensor's norm",
        fixes="layers whose steps are large against their weights once the batch and lr grow",
        strengths="batches of tens of thousands without loss of accuracy",
        weaknesses="two states a parameter, two passes a step; no gain at ordinary batch sizes",
        use_for="very large batches",
    ),
    paper="You et al. 2020, Large Batch Optimization for Deep Learning: Training BERT in 76 minutes, Algorithm 2",
    adaptive=True,
    decay="decoupled",
    notes="The scaling function of the paper is the identity, as in optax. A tensor whose weights are all 0 takes the step u.",
)
