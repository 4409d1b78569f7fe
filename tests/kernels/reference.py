"""Each rule once more, on whole float64 arrays and straight from its paper or from PyTorch's documentation.

An oracle knows nothing of the package: oracle(p, g, state, t, lr, h) takes the step t = 1, 2, ... with the keywords
`h`, keeps its arrays in the dict `state`, empty at first, and returns the new parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Array = np.ndarray
Oracle = Callable[[Array, Array, dict[str, Array], int, float, dict[str, Any]], Array]


def sgd(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    return p - lr * g


def momentum(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    v = g  # at the first step, as PyTorch
    if t > 1:
        v = h["momentum"] * state["momentum_buffer"] + (1 - h["dampening"]) * g
    state["momentum_buffer"] = v
    return p - lr * v


def nag(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    v = h["momentum"] * state.get("momentum_buffer", np.zeros_like(p)) + g
    state["momentum_buffer"] = v
    return p - lr * (g + h["momentum"] * v)


def nag_lookahead(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    """`g` was taken at q; so is the gradient of the L2 penalty."""
    v = state.get("momentum_buffer", np.zeros_like(p))
    q = p - lr * h["momentum"] * v
    v = h["momentum"] * v + (g + h["weight_decay"] * q)
    state["momentum_buffer"] = v
    return p - lr * v


def adagrad(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    total = state.get("sum", np.full_like(p, h["initial_accumulator_value"])) + g**2
    state["sum"] = total
    return p - lr / (1 + (t - 1) * h["lr_decay"]) * g / (np.sqrt(total) + h["eps"])


def rmsprop(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    alpha, nothing = h["alpha"], np.zeros_like(p)
    square = alpha * state.get("square_avg", nothing) + (1 - alpha) * g**2
    state["square_avg"] = square
    variance = square
    if h["centered"]:
        mean = alpha * state.get("grad_avg", nothing) + (1 - alpha) * g
        state["grad_avg"] = mean
        variance = np.maximum(square - mean**2, 0)
    scaled = g / (np.sqrt(variance) + h["eps"])
    if h["momentum"] == 0:
        return p - lr * scaled
    v = h["momentum"] * state.get("momentum_buffer", nothing) + scaled
    state["momentum_buffer"] = v
    return p - lr * v


def adam_step(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    (b1, b2), nothing = h["betas"], np.zeros_like(p)
    m = b1 * state.get("exp_avg", nothing) + (1 - b1) * g
    s = b2 * state.get("exp_avg_sq", nothing) + (1 - b2) * g**2
    state["exp_avg"], state["exp_avg_sq"] = m, s
    if h["amsgrad"]:
        s = np.maximum(state.get("max_exp_avg_sq", nothing), s)
        state["max_exp_avg_sq"] = s
    return p - lr * (m / (1 - b1**t)) / (np.sqrt(s / (1 - b2**t)) + h["eps"])


def adam(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    return adam_step(p, g + h["weight_decay"] * p, state, t, lr, h)


def adamw(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    return adam_step(p * (1 - lr * h["weight_decay"]), g, state, t, lr, h)


def ftrl(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    n = state.get("n", np.zeros_like(p))
    z = state.get("z", -p * (np.sqrt(n) + h["beta"]) / lr)  # stands for p, where l1 and l2 are 0
    sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / lr
    z = z + g - sigma * p
    n = n + g**2
    state["z"], state["n"] = z, n
    strength = (h["beta"] + np.sqrt(n)) / lr + h["l2"]
    seen = strength > 0  # beta = l2 = 0 and never a gradient: 0/0 in the paper, the weight stays here
    weight = -(z - np.sign(z) * h["l1"]) / np.where(seen, strength, 1)
    return np.where(seen, np.where(np.abs(z) <= h["l1"], 0, weight), p)


ORACLES: dict[tuple[str, str], Oracle] = {
    ("sgd", "pytorch"): sgd,
    ("momentum", "pytorch"): momentum,
    ("nag", "pytorch"): nag,
    ("nag", "paper"): nag_lookahead,
    ("adagrad", "pytorch"): adagrad,
    ("rmsprop", "pytorch"): rmsprop,
    ("adam", "pytorch"): adam,
    ("adamw", "pytorch"): adamw,
    ("ftrl", "pytorch"): ftrl,
}


def run(
    oracle: Oracle, p: Array, gradients: Iterable[Array], hyperparameters: dict[str, Any], rates: Iterable[float] = ()
) -> tuple[Array, dict[str, Array]]:
    """Parameters and state after all gradients; the rates of the steps, or lr throughout."""
    state: dict[str, Array] = {}
    p = p.astype(np.float64)
    given = iter(rates)
    for t, g in enumerate(gradients, 1):
        p = oracle(p, g.astype(np.float64), state, t, next(given, hyperparameters["lr"]), hyperparameters)
    return p, state
