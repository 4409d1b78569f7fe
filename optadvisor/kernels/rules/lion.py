"""Lion: the sign of an interpolated momentum."""

from __future__ import annotations

from optadvisor.kernels.rules.record import (
    OUTSIDE,
    Dimension,
    Family,
    Form,
    Hyperparameter,
    Rule,
    State,
    learning_rate,
    weight_decay,
)


def update(p, g, m, lr, keep1, take1, keep2, take2, decay, zero):
    c = keep1 * m + take1 * g
    move = lr if c > zero else (-lr if c < zero else zero)
    return p - (move + decay * p), keep2 * m + take2 * g


def coefficients(t: int, lr: float, beta1: float, beta2: float, weight_decay: float) -> tuple[float, ...]:
    return lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, lr * weight_decay, 0.0


FORM = Form("lion", update, coefficients, (State("exp_avg", "moving average of gradients"),))

LION = Rule(
    id="lion",
    title="Lion (sign of an interpolated momentum)",
    formula="p <- p - lr*(sign(b1*m + (1-b1)*g) + weight_decay*p);  m <- b2*m + (1-b2)*g",
    hyperparameters=(
        learning_rate(1e-4, 1e-6, 3e-2),
        Hyperparameter(
            "betas",
            (0.9, 0.99),
            "share of the moving average in the direction, and share of it that stays each step",
            high=1.0,
            open_high=True,
            search=(
                Dimension("one_minus_beta1", 0.01, 0.5, complement=True, index=0),
                Dimension("one_minus_beta2", 0.001, 0.2, complement=True, index=1),
            ),
        ),
        weight_decay(1e-3, "decoupled weight decay: p shrinks by lr*weight_decay a step", 1e-4, 10.0),
    ),
    form=lambda hyperparameters, convention: FORM,
    families=(),
    beyond=Family(
        row=OUTSIDE,
        name="Lion",
        direction="history: the sign of a mix of the gradient and its moving average",
        step_size="the same for every parameter in every step: lr",
        fixes="Adam's second state, and its division",
        strengths="half of Adam's state; at or above AdamW on large vision and language models in its paper",
        weaknesses="wants lr 3 to 10 times smaller and decay as much larger than AdamW's; weak at small batches",
        use_for="large models and batches where AdamW's state is too large",
    ),
    paper="Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, Algorithm 2",
    adaptive=True,
    decay="decoupled",
    notes="The defaults are optax's. Where the mix is exactly 0, nothing but decay moves the parameter.",
)
