"""Row-wise Adagrad: one accumulator for each row of an embedding table."""

from __future__ import annotations

import math
from typing import Any

from optadvisor.kernels.rules.record import OUTSIDE, Family, Form, Rule, State, epsilon, learning_rate, weight_decay

SQUARES: Any = None


def update(p, g, lr, eps, weight_decay):
    return (g + weight_decay * p,)


def divisor(mean, total, lr, eps, weight_decay):
    total = total + mean
    return math.sqrt(total) + eps, total


def move(p, direction, divisor, lr, eps, weight_decay):
    return (p - lr * (direction / divisor),)


def stage(p, direction, memory, lr, eps, weight_decay):
    for row in range(p.shape[0]):
        g = direction[row]
        by, memory[0, row] = divisor(p.dtype.type(SQUARES(g) / g.size), memory[0, row], lr, eps, weight_decay)
        for i in range(g.size):
            (p[row, i],) = move(p[row, i], g[i], by, lr, eps, weight_decay)


def coefficients(t: int, lr: float, eps: float, weight_decay: float) -> tuple[float, ...]:
    return lr, eps, weight_decay


FORM = Form(
    "rowwise_adagrad",
    update,
    coefficients,
    stage=stage,
    row_number=divisor,
    row_move=move,
    row_states=(State("sum", "sum over the steps of the mean of g*g over the row, one number a row"),),
)

ROWWISE_ADAGRAD = Rule(
    id="rowwise_adagrad",
    title="Row-wise Adagrad (one accumulator a row)",
    formula="g <- g + weight_decay*p;  sum[row] <- sum[row] + mean(g*g over the row);  p <- p - lr*g/(sqrt(sum[row])+eps)",
    hyperparameters=(
        learning_rate(1e-2, 1e-4, 1.0),
        epsilon(1e-8, 1e-12, 1e-6),
        weight_decay(0.0, "L2 penalty, added to the gradient", 1e-6, 1e-2),
    ),
    form=lambda hyperparameters, convention: FORM,
    families=(),
    beyond=Family(
        row=OUTSIDE,
        name="row-wise Adagrad",
        direction="the local gradient",
        step_size="one for each row, and it only ever shrinks",
        fixes="Adagrad's state, as large as the embedding table itself: one number a row in its place",
        strengths="embedding tables at next to no memory; rare rows still get large steps",
        weaknesses="the elements of a row share one step size, which goes to 0 as Adagrad's does",
        use_for="embedding tables too large for a state of their own size",
    ),
    paper="Mudigere et al. 2022, Software-Hardware Co-design for Fast and Scalable Training of Deep Learning Recommendation "
    "Models; FBGEMM's EXACT_ROWWISE_ADAGRAD for the form",
    adaptive=True,
    decay="coupled",
    sparse=True,
    notes="A row is what one index of the first axis holds; of a vector each element is a row, which is Adagrad. The state is "
    "4 bytes a row in float32, and nothing for each parameter.",
)
