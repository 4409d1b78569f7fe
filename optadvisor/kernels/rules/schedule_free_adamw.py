"""Schedule-free AdamW: an average of the weights takes the place of a learning-rate schedule."""

from __future__ import annotations

import math

from optadvisor.kernels.rules.adam import S
from optadvisor.kernels.rules.record import (
    OUTSIDE,
    Dimension,
    Family,
    Form,
    Hyperparameter,
    Rule,
    State,
    epsilon,
    learning_rate,
    weight_decay,
)


def update(p, g, z, s, lr, towards_z, of_step, root_scale, keep2, take2, eps, weight_decay):
    s = keep2 * s + take2 * (g * g)
    step = lr * (g / (math.sqrt(s) * root_scale + eps) + weight_decay * p)
    return p + towards_z * (z - p) - of_step * step, z - step, s


def coefficients(
    t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, warmup_steps: float
) -> tuple[float, ...]:
    # Step i weighs min(1, i/W)^2 in the average x, whose newest share is c; the sum of squares in closed form.
    n = math.floor(min(float(t), warmup_steps))
    rising = n * (n + 1.0) * (2.0 * n + 1.0) / 6.0 / (warmup_steps * warmup_steps) if warmup_steps > 1.0 else 0.0
    now = t / warmup_steps if t < warmup_steps else 1.0
    c = now * now / (rising + (t - n))
    return (
        lr * now,
        c,
        1.0 - beta1 * (1.0 - c),
        1.0 / math.sqrt(1.0 - beta2**t),
        beta2,
        1.0 - beta2,
        eps,
        weight_decay,
    )


def initial_z(p):
    return p


def evaluation(p, states, beta1):
    return p + p.dtype.type(1.0 - 1.0 / beta1) * (states[0] - p)


FORM = Form(
    "schedule_free_adamw",
    update,
    coefficients,
    (State("z", "the sequence that takes the plain steps", initial_z), S),
    evaluation=evaluation,
)

SCHEDULE_FREE_ADAMW = Rule(
    id="schedule_free_adamw",
    title="Schedule-free AdamW",
    formula="g is taken at y, which p holds: y = b1*x + (1-b1)*z;  s <- b2*s + (1-b2)*g*g;  "
    "u = g/(sqrt(s/(1-b2^t)) + eps) + weight_decay*y;  z <- z - lr_t*u, lr_t = lr*min(1, t/warmup_steps);  "
    "x <- (1-c)*x + c*z, c = lr_t^2 / (lr_1^2 + ... + lr_t^2);  evaluate at x = y + (1 - 1/b1)*(z - y)",
    hyperparameters=(
        learning_rate(2.5e-3, 1e-5, 1e-1),
        Hyperparameter(
            "betas",
            (0.9, 0.999),
            "share of the average x in y, and share of the squares that stays each step",
            low=0.01,
            high=1.0,
            open_high=True,
            search=(
                Dimension("one_minus_beta1", 0.01, 0.5, complement=True, index=0),
                Dimension("one_minus_beta2", 0.0005, 0.2, complement=True, index=1),
            ),
        ),
        epsilon(1e-8),
        weight_decay(0.0, "decoupled weight decay, taken at y", 1e-4, 1.0),
        Hyperparameter("warmup_steps", 0.0, "steps over which the learning rate rises to lr", high=1e12),
    ),
    form=lambda hyperparameters, convention: FORM,
    families=(),
    beyond=Family(
        row=OUTSIDE,
        name="schedule-free AdamW",
        direction="the gradient at a point between the average of all weights so far and the newest ones",
        step_size="one for each parameter, from a moving average of squared gradients",
        fixes="schedules that must know the length of the training in advance",
        strengths="may stop at any step, at or above a tuned cosine schedule in its paper",
        weaknesses="weights to evaluate must be asked for; batch statistics belong to another point than the weights",
        use_for="trainings of open length",
    ),
    paper="Defazio et al. 2024, The Road Less Scheduled, Algorithm 1, in the form of its reference implementation",
    adaptive=True,
    decay="decoupled",
    schedule_free=True,
    notes="The parameters hold y, where the gradient is taken; Optimizer.evaluation() returns x, the weights to evaluate and to "
    "keep. The schedule stays constant: warmup_steps is the rule's own, and the weights of the average assume it.",
)
