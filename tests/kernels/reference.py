"""Each rule once more, on whole float64 arrays and straight from its paper or from the libraries' documentation.

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


# Keras (keras.io/api/optimizers): the base class decays every variable before the rule sees it.


def keras_decay(p: Array, lr: float, h: dict[str, Any]) -> Array:
    return p - p * h["weight_decay"] * lr


def keras_sgd(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    return keras_decay(p, lr, h) - lr * g


def keras_momentum(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    v = h["momentum"] * state.get("momentum_buffer", np.zeros_like(p)) - lr * g
    state["momentum_buffer"] = v
    return keras_decay(p, lr, h) + v


def keras_nag(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    v = h["momentum"] * state.get("momentum_buffer", np.zeros_like(p)) - lr * g
    state["momentum_buffer"] = v
    return keras_decay(p, lr, h) + h["momentum"] * v - lr * g


def keras_adagrad(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    lr = lr / (1 + h["lr_decay"] * (t - 1))  # schedules.InverseTimeDecay
    state["sum"] = state.get("sum", np.full_like(p, h["initial_accumulator_value"])) + g**2
    return keras_decay(p, lr, h) - lr * g / np.sqrt(state["sum"] + h["eps"])


def keras_rmsprop(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    rho, nothing = h["alpha"], np.zeros_like(p)
    state["square_avg"] = rho * state.get("square_avg", nothing) + (1 - rho) * g**2
    denominator = state["square_avg"]
    if h["centered"]:
        state["grad_avg"] = rho * state.get("grad_avg", nothing) + (1 - rho) * g
        denominator = np.maximum(denominator - state["grad_avg"] ** 2, 0)
    increment = lr * g / np.sqrt(denominator + h["eps"])
    if h["momentum"] > 0:
        increment = h["momentum"] * state.get("momentum_buffer", nothing) + increment
        state["momentum_buffer"] = increment
    return keras_decay(p, lr, h) - increment


def keras_adam(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    (b1, b2), nothing = h["betas"], np.zeros_like(p)
    alpha = lr * np.sqrt(1 - b2**t) / (1 - b1**t)
    m, v = state.get("exp_avg", nothing), state.get("exp_avg_sq", nothing)
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2  # m += (g - m)*(1 - b1) there: the same but for rounding
    state["exp_avg"], state["exp_avg_sq"] = m, v
    if h["amsgrad"]:
        v = np.maximum(state.get("max_exp_avg_sq", nothing), v)
        state["max_exp_avg_sq"] = v
    return keras_decay(p, lr, h) - m * alpha / (np.sqrt(v) + h["eps"])


def keras_ftrl(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    """learning_rate_power=-0.5, initial_accumulator_value=0, no shrinkage; 0/0 leaves the weight."""
    l2 = h["l2"] + h["beta"] / (2 * lr)
    n, z = state.get("n", np.zeros_like(p)), state.get("z", np.zeros_like(p))
    z = z + g - (np.sqrt(n + g**2) - np.sqrt(n)) / lr * p
    n = n + g**2
    state["z"], state["n"] = z, n
    quadratic = np.sqrt(n) / lr + 2 * l2
    seen = quadratic > 0
    return np.where(seen, (np.clip(z, -h["l1"], h["l1"]) - z) / np.where(seen, quadratic, 1), p)


# optax (optax.readthedocs.io): chains of transformations; weight decay is add_decayed_weights in front, except adamw's.


def optax_momentum(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    trace = g + h["weight_decay"] * p + h["momentum"] * state.get("momentum_buffer", np.zeros_like(p))
    state["momentum_buffer"] = trace
    return p + -lr * trace


def optax_nag(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    trace = g + h["momentum"] * state.get("momentum_buffer", np.zeros_like(p))
    state["momentum_buffer"] = trace
    return p + -lr * (g + h["momentum"] * trace)


def optax_adagrad(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    total = state.get("sum", np.full_like(p, h["initial_accumulator_value"])) + g**2
    state["sum"] = total
    inverse = np.where(total > 0, 1 / np.sqrt(total + h["eps"]), 0)
    return p + -lr / (1 + h["lr_decay"] * (t - 1)) * inverse * g


def optax_rmsprop(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    decay, nothing = h["alpha"], np.zeros_like(p)
    nu = (1 - decay) * g**2 + decay * state.get("square_avg", nothing)
    state["square_avg"] = nu
    if h["centered"]:  # scale_by_stddev
        mu = (1 - decay) * g + decay * state.get("grad_avg", nothing)
        state["grad_avg"] = mu
        nu = np.maximum(nu - mu**2, 0)
    update = -lr * g / np.sqrt(nu + h["eps"])
    if h["momentum"] > 0:  # optax keeps the trace with its sign
        update = update - h["momentum"] * state.get("momentum_buffer", nothing)
        state["momentum_buffer"] = -update
    return p + update


def optax_adam_update(g: Array, state: dict[str, Array], t: int, h: dict[str, Any]) -> Array:
    (b1, b2), nothing = h["betas"], np.zeros_like(g)
    mu = (1 - b1) * g + b1 * state.get("exp_avg", nothing)
    nu = (1 - b2) * g**2 + b2 * state.get("exp_avg_sq", nothing)
    state["exp_avg"], state["exp_avg_sq"] = mu, nu
    nu_hat = nu / (1 - b2**t)
    if h["amsgrad"]:  # scale_by_amsgrad
        nu_hat = np.maximum(state.get("max_exp_avg_sq", nothing), nu_hat)
        state["max_exp_avg_sq"] = nu_hat
    return mu / (1 - b1**t) / (np.sqrt(nu_hat) + h["eps"])


def optax_adam(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    return p + -lr * optax_adam_update(g + h["weight_decay"] * p, state, t, h)


def optax_adamw(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    return p + -lr * (optax_adam_update(g, state, t, h) + h["weight_decay"] * p)


# Papers


def paper_adamw(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    """Algorithm 2, line 12: eta_t multiplies alpha (the peak lr) and lambda alike."""
    alpha = h["lr"]
    eta = lr / alpha if alpha > 0 else 0.0
    step = adam_step(np.zeros_like(p), g, state, t, 1.0, h)
    return p + eta * (alpha * step - h["weight_decay"] * p)


def rowwise_adagrad(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    table = g.reshape(g.shape[0] if g.ndim else 1, -1)
    total = state.get("sum", np.zeros(len(table))) + (table**2).mean(axis=1)
    state["sum"] = total
    return p - lr * (table / (np.sqrt(total) + h["eps"])[:, None]).reshape(p.shape)


def nadam(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    (b1, b2), nothing = h["betas"], np.zeros_like(p)
    mu = [b1 * (1 - 0.5 * 0.96 ** (i * h["momentum_decay"])) for i in range(1, t + 2)]
    m = b1 * state.get("exp_avg", nothing) + (1 - b1) * g
    s = b2 * state.get("exp_avg_sq", nothing) + (1 - b2) * g**2
    state["exp_avg"], state["exp_avg_sq"] = m, s
    mean = mu[t] * m / (1 - np.prod(mu)) + (1 - mu[t - 1]) * g / (1 - np.prod(mu[:t]))
    return p - lr * mean / (np.sqrt(s / (1 - b2**t)) + h["eps"])


def radam(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    g = g + h["weight_decay"] * p
    (b1, b2), nothing = h["betas"], np.zeros_like(p)
    m = b1 * state.get("exp_avg", nothing) + (1 - b1) * g
    s = b2 * state.get("exp_avg_sq", nothing) + (1 - b2) * g**2
    state["exp_avg"], state["exp_avg_sq"] = m, s
    rho = 2 / (1 - b2) - 1
    rho_t = rho - 2 * t * b2**t / (1 - b2**t)
    if rho_t <= 5:
        return p - lr * m / (1 - b1**t)
    r = np.sqrt((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t))
    return p - lr * r * m / (1 - b1**t) * np.sqrt(1 - b2**t) / (np.sqrt(s) + h["eps"])


def lamb(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    (b1, b2), nothing = h["betas"], np.zeros_like(p)
    m = b1 * state.get("exp_avg", nothing) + (1 - b1) * g
    s = b2 * state.get("exp_avg_sq", nothing) + (1 - b2) * g**2
    state["exp_avg"], state["exp_avg_sq"] = m, s
    u = (m / (1 - b1**t)) / (np.sqrt(s / (1 - b2**t)) + h["eps"]) + h["weight_decay"] * p
    sizes = np.sqrt((p**2).sum()), np.sqrt((u**2).sum())
    return p - lr * (sizes[0] / sizes[1] if min(sizes) > 0 else 1.0) * u


def lion(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    (b1, b2), m = h["betas"], state.get("exp_avg", np.zeros_like(p))
    state["exp_avg"] = b2 * m + (1 - b2) * g
    return p - lr * (np.sign(b1 * m + (1 - b1) * g) + h["weight_decay"] * p)


def muon(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    if p.ndim != 2:
        return adamw(p, g, state, t, lr * h["adam_lr_factor"], {**h, "amsgrad": False})
    beta = h["momentum"]
    v = beta * state.get("momentum_buffer", np.zeros_like(p)) + (1 - beta) * g
    state["momentum_buffer"] = v
    x = beta * v + (1 - beta) * g if h["nesterov"] else v
    x = x / max(np.linalg.norm(x), 1e-7)
    # As the paper has it: an odd polynomial of the singular values. The kernel never decomposes anything.
    left, values, right = np.linalg.svd(x, full_matrices=False)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    height, width = p.shape
    ratio = 0.2 * np.sqrt(max(height, width)) if h["match_rms"] else np.sqrt(max(1, height / width))
    return p * (1 - lr * h["weight_decay"]) - lr * ratio * (left * values) @ right


def schedule_free_adamw(p: Array, g: Array, state: dict[str, Array], t: int, lr: float, h: dict[str, Any]) -> Array:
    """Algorithm 1 of the paper with x, y and z all written out; p is y."""
    b1, b2 = h["betas"]
    z = state.get("z", p)
    x = (p - (1 - b1) * z) / b1
    s = b2 * state.get("exp_avg_sq", np.zeros_like(p)) + (1 - b2) * g**2
    rates = [min(1.0, i / h["warmup_steps"]) if h["warmup_steps"] else 1.0 for i in range(1, t + 1)]
    z = z - lr * rates[-1] * (g / (np.sqrt(s / (1 - b2**t)) + h["eps"]) + h["weight_decay"] * p)
    c = rates[-1] ** 2 / sum(rate**2 for rate in rates)
    x = (1 - c) * x + c * z
    state["z"], state["exp_avg_sq"] = z, s
    return b1 * x + (1 - b1) * z


ORACLES: dict[tuple[str, str], Oracle] = {
    ("sgd", "pytorch"): sgd,
    ("sgd", "keras"): keras_sgd,
    ("sgd", "optax"): sgd,
    ("momentum", "pytorch"): momentum,
    ("momentum", "keras"): keras_momentum,
    ("momentum", "optax"): optax_momentum,
    ("nag", "pytorch"): nag,
    ("nag", "paper"): nag_lookahead,
    ("nag", "keras"): keras_nag,
    ("nag", "optax"): optax_nag,
    ("adagrad", "pytorch"): adagrad,
    ("adagrad", "keras"): keras_adagrad,
    ("adagrad", "optax"): optax_adagrad,
    ("rmsprop", "pytorch"): rmsprop,
    ("rmsprop", "keras"): keras_rmsprop,
    ("rmsprop", "optax"): optax_rmsprop,
    ("adam", "pytorch"): adam,
    ("adam", "keras"): keras_adam,
    ("adam", "optax"): optax_adam,
    ("adamw", "pytorch"): adamw,
    ("adamw", "paper"): paper_adamw,
    ("adamw", "keras"): keras_adam,
    ("adamw", "optax"): optax_adamw,
    ("ftrl", "pytorch"): ftrl,
    ("ftrl", "keras"): keras_ftrl,
    ("rowwise_adagrad", "pytorch"): rowwise_adagrad,
    ("nadam", "pytorch"): nadam,
    ("radam", "pytorch"): radam,
    ("lamb", "pytorch"): lamb,
    ("lion", "pytorch"): lion,
    ("muon", "pytorch"): muon,
    ("schedule_free_adamw", "pytorch"): schedule_free_adamw,
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
