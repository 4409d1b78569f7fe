"""Gradient descent: one rule for full batch, single sample and mini-batch."""

from __future__ import annotations

from optadvisor.kernels.rules.record import Family, Form, Rule, learning_rate, weight_decay


def update(p, g, lr, weight_decay):
    g = g + weight_decay * p
    return (p - lr * g,)


def coefficients(t: int, lr: float, weight_decay: float) -> tuple[float, ...]:
    return lr, weight_decay


FORM = Form("sgd", update, coefficients)

SGD = Rule(
    id="sgd",
    title="Gradient descent (full batch, single sample or mini-batch: the same rule)",
    formula="g <- g + weight_decay*p;  p <- p - lr*g",
    hyperparameters=(
        learning_rate(1e-3, 1e-3, 3.0),
        weight_decay(0.0, "L2 penalty, added to the gradient", 1e-6, 1e-2),
    ),
    form=lambda hyperparameters, convention: FORM,
    families=(
        Family(
            row="G1",
            name="batch gradient descent (BGD)",
            direction="the exact gradient of the whole training set",
            step_size="one for all parameters",
            fixes="nothing: it is where the lineage starts",
            strengths="a stable direction and good theory",
            weaknesses="every step costs a pass over all N samples; rests at saddles of non-convex losses",
            use_for="small data sets and convex problems",
        ),
        Family(
            row="G2",
            name="stochastic gradient descent (SGD), one sample a step",
            direction="an unbiased estimate of the gradient, with huge variance",
            step_size="one for all parameters",
            fixes="the cost of a full pass: O(1) a step instead of O(N), and the noise is useful",
            strengths="the cheapest step there is; its noise leaves local minima and saddles",
            weaknesses="the loss oscillates, and the learning rate is delicate",
            use_for="theory, and the base of all the others",
        ),
        Family(
            row="G3",
            name="mini-batch gradient descent (what 'SGD' usually means)",
            direction="the gradient of a mini-batch: variance cut by the batch size",
            step_size="one for all parameters",
            fixes="the variance of single-sample steps, and idle parallel hardware",
            strengths="cheap, parallel, no optimizer state: the standard base case",
            weaknesses="zig-zags across ill-conditioned ravines",
            use_for="deep learning's base case, and where not one byte of state fits",
        ),
    ),
    paper="Robbins & Monro 1951, A Stochastic Approximation Method",
    adaptive=False,
    decay="coupled",
    sparse=True,
    conventions=("pytorch", "keras", "optax"),
    meanings={
        "pytorch": "torch.optim.SGD: weight_decay is an L2 penalty, added to the gradient",
        "keras": "keras.optimizers.SGD: weight_decay is decoupled, p <- p*(1 - lr*weight_decay) before the step; "
        "without momentum that is the same update",
        "optax": "optax.add_decayed_weights, then optax.sgd: as pytorch",
    },
)
