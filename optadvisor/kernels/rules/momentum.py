"""Heavy-ball momentum and Nesterov's accelerated gradient."""

from __future__ import annotations

from collections.abc import Mapping

from optadvisor.kernels.errors import InputError
from optadvisor.kernels.rules.record import (
    Dimension,
    Family,
    Form,
    Hyperparameter,
    Rule,
    State,
    Value,
    learning_rate,
    weight_decay,
)


def heavy_ball(p, g, v, lr, beta, take, weight_decay):
    g = g + weight_decay * p
    v = beta * v + take * g
    return p - lr * v, v


def heavy_ball_coefficients(
    t: int, lr: float, momentum: float, dampening: float, weight_decay: float
) -> tuple[float, ...]:
    # PyTorch starts the velocity at the first gradient, undampened.
    take = 1.0 if t == 1 else 1.0 - dampening
    return lr, momentum, take, weight_decay


def nesterov(p, g, v, lr, beta, weight_decay):
    g = g + weight_decay * p
    v = beta * v + g
    return p - lr * (g + beta * v), v


def nesterov_lookahead(p, g, v, lr, beta, weight_decay):
    # g was taken at the look-ahead point, so the L2 term belongs to that point too.
    ahead = beta * v
    g = g + weight_decay * (p - lr * ahead)
    v = ahead + g
    return p - lr * v, v


def nesterov_coefficients(t: int, lr: float, momentum: float, weight_decay: float) -> tuple[float, ...]:
    return lr, momentum, weight_decay


# Keras moves by its velocity, so it holds the learning rates of the past; `decay` is lr times its decoupled weight
# decay.


def keras_velocity(g, v, lr, beta):
    return beta * v - lr * g


def keras_heavy_ball(p, g, v, lr, beta, decay):
    v = keras_velocity(g, v, lr, beta)
    return p - decay * p + v, v


def keras_nesterov(p, g, v, lr, beta, decay):
    v = keras_velocity(g, v, lr, beta)
    return p - decay * p + keras_velocity(g, v, lr, beta), v


def keras_coefficients(t: int, lr: float, momentum: float, weight_decay: float) -> tuple[float, ...]:
    return lr, momentum, lr * weight_decay


VELOCITY = State("momentum_buffer", "velocity: decayed sum of gradients")
HEAVY_BALL = Form("momentum", heavy_ball, heavy_ball_coefficients, (VELOCITY,))
EVALUATED = Form("nag", nesterov, nesterov_coefficients, (VELOCITY,))
DISPLACEMENT = State("momentum_buffer", "velocity times learning rate: what the next step starts from")
KERAS_HEAVY_BALL = Form("momentum_keras", keras_heavy_ball, keras_coefficients, (DISPLACEMENT,))
KERAS_EVALUATED = Form("nag_keras", keras_nesterov, keras_coefficients, (DISPLACEMENT,))
LOOKAHEAD = Form("nag_lookahead", nesterov_lookahead, nesterov_coefficients, (VELOCITY,), lookahead=True)


def momentum_form(hyperparameters: Mapping[str, Value], convention: str) -> Form:
    if convention == "pytorch":
        return HEAVY_BALL
    if hyperparameters["dampening"] != 0.0:
        raise InputError(
            f"momentum: dampening is {hyperparameters['dampening']!r}; convention {convention!r} has none: "
            "set dampening=0, or use convention 'pytorch'"
        )
    return KERAS_HEAVY_BALL if convention == "keras" else HEAVY_BALL


def nag_form(hyperparameters: Mapping[str, Value], convention: str) -> Form:
    return {"paper": LOOKAHEAD, "keras": KERAS_EVALUATED}.get(convention, EVALUATED)


BETA = Hyperparameter(
    "momentum",
    0.9,
    "share of the velocity that stays each step (beta)",
    high=1.0,
    open_high=True,
    search=(Dimension("one_minus_momentum", 0.005, 0.5, complement=True),),
)
L2 = weight_decay(0.0, "L2 penalty, added to the gradient", 1e-6, 1e-2)

MOMENTUM = Rule(
    id="momentum",
    title="SGD with heavy-ball momentum",
    formula="g <- g + weight_decay*p;  v <- momentum*v + (1-dampening)*g (v <- g at the first step);  p <- p - lr*v",
    hyperparameters=(
        learning_rate(1e-2, 1e-4, 1.0),
        BETA,
        Hyperparameter(
            "dampening",
            0.0,
            "share of a new gradient left out; equal to momentum it makes v a moving average",
            high=1.0,
        ),
        L2,
    ),
    form=momentum_form,
    families=(
        Family(
            row="G4",
            name="momentum (heavy ball)",
            direction="history: a decayed sum of past gradients, momentum about 0.9",
            step_size="one for all parameters",
            fixes="mini-batch descent's zig-zag across ravines",
            strengths="much faster on ill-conditioned problems, and tolerates a larger learning rate",
            weaknesses="one more hyperparameter; a large momentum overshoots",
            use_for="vision, together with cosine decay",
        ),
    ),
    paper="Polyak 1964, Some methods of speeding up the convergence of iteration methods; PyTorch's SGD for the form",
    adaptive=False,
    decay="coupled",
    conventions=("pytorch", "keras", "optax"),
    meanings={
        "pytorch": "torch.optim.SGD: lr outside the velocity; weight_decay is an L2 penalty, added to the gradient",
        "keras": "keras.optimizers.SGD: v <- momentum*v - lr*g;  p <- p + v: another path while lr changes; "
        "weight_decay is decoupled, p <- p*(1 - lr*weight_decay) before the step; no dampening",
        "optax": "optax.add_decayed_weights, then optax.sgd: as pytorch, but no dampening",
    },
)

NAG = Rule(
    id="nag",
    title="SGD with Nesterov's accelerated gradient",
    formula="g <- g + weight_decay*p;  v <- momentum*v + g;  p <- p - lr*(g + momentum*v)",
    hyperparameters=(learning_rate(1e-2, 1e-4, 1.0), BETA, L2),
    form=nag_form,
    families=(
        Family(
            row="G5",
            name="Nesterov accelerated gradient (NAG)",
            direction="history and look-ahead: the gradient where the velocity is about to arrive",
            step_size="one for all parameters",
            fixes="the heavy ball's overshoot",
            strengths="brakes early: faster and steadier, with guarantees on convex problems",
            weaknesses="one more hyperparameter, as momentum",
            use_for="as momentum: vision, together with cosine decay",
        ),
    ),
    paper="Nesterov 1983; Sutskever et al. 2013, On the importance of initialization and momentum, section 2",
    adaptive=False,
    decay="coupled",
    conventions=("pytorch", "paper", "keras", "optax"),
    meanings={
        "pytorch": "torch.optim.SGD(nesterov=True): lr outside the velocity; weight_decay is an L2 penalty, added to "
        "the gradient",
        "paper": "Nesterov 1983, Sutskever et al. 2013: g is taken at the look-ahead point q = p - lr*momentum*v;  "
        "v <- momentum*v + g;  p <- p - lr*v",
        "keras": "keras.optimizers.SGD(nesterov=True): v <- momentum*v - lr*g;  p <- p + momentum*v - lr*g: another "
        "path while lr changes; weight_decay is decoupled, p <- p*(1 - lr*weight_decay) before the step",
        "optax": "optax.add_decayed_weights, then optax.sgd(nesterov=True): as pytorch",
    },
    notes="At a constant lr the look-ahead point of convention 'paper' is the parameter of the default form.",
)
