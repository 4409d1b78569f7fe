"""FTRL-Proximal: exact zeros on huge sparse features."""

from __future__ import annotations

import math

from optadvisor.kernels.rules.record import Dimension, Family, Form, Hyperparameter, Rule, State, learning_rate


def update(p, g, z, n, inverse_lr, beta, l1, l2, zero):
    total = n + g * g
    root = math.sqrt(total)
    z = z + g - (root - math.sqrt(n)) * inverse_lr * p
    denominator = (beta + root) * inverse_lr + l2
    # z clipped to [-l1, l1] minus z is the soft threshold without a branch: exactly 0 inside the interval.
    # A coordinate that never saw a gradient has nothing to divide by if beta and l2 are 0: it stays.
    p = (min(max(z, -l1), l1) - z) / denominator if denominator > zero else p
    return p, z, total


def coefficients(t: int, lr: float, beta: float, l1: float, l2: float) -> tuple[float, ...]:
    return 1.0 / lr, beta, l1, l2, 0.0


def initial_z(p, lr, beta):
    # From z = 0 a zero gradient would erase the initial weights; this z is the one that stands for p.
    return -p * (beta / lr)


FORM = Form(
    "ftrl",
    update,
    coefficients,
    (
        State("z", "sum of gradients minus the proximal terms", initial_z),
        State("n", "sum of squared gradients"),
    ),
)

FTRL = Rule(
    id="ftrl",
    title="FTRL-Proximal",
    formula="sigma = (sqrt(n+g*g)-sqrt(n))/lr;  z <- z + g - sigma*p;  n <- n + g*g;  "
    "p <- 0 if |z| <= l1, else -(z - sign(z)*l1)/((beta+sqrt(n))/lr + l2)",
    hyperparameters=(
        # The rule divides by lr: 0, and what float32 would make infinite, are out.
        learning_rate(0.1, 1e-3, 3.0, least=1e-12),
        Hyperparameter(
            "beta", 1.0, "added to the root of n, tames the first steps", search=(Dimension("beta", 1e-2, 10.0),)
        ),
        Hyperparameter("l1", 0.0, "L1 strength: sets small weights to exactly 0", search=(Dimension("l1", 1e-6, 1.0),)),
        Hyperparameter("l2", 0.0, "L2 strength, as in the paper", search=(Dimension("l2", 1e-6, 1.0),)),
    ),
    form=lambda hyperparameters, convention: FORM,
    families=(
        Family(
            row="G10",
            name="FTRL-Proximal",
            direction="the local gradient, through the sum of all of them",
            step_size="one for each coordinate, shrinking as Adagrad's does",
            fixes="dense weights on sparse data: L1 gives exact zeros",
            strengths="small, sparse models from huge sparse features",
            weaknesses="more hyperparameters than Adagrad",
            use_for="huge sparse id features",
        ),
    ),
    paper="McMahan et al. 2013, Ad Click Prediction: a View from the Trenches, Algorithm 1",
    adaptive=True,
    decay="none",
    sparse=True,
    constant_lr=True,
    notes="Its state is in units of 1/lr, so a changing learning rate would rescale the weights: the schedule stays constant.",
)
