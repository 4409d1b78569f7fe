"""cartpole-reinforce: the policy gradient of whole episodes of CartPole.

REINFORCE (Williams 1992) with discounted rewards to go. The baseline is what the step's other episodes got from the
same time on (layers/policies.py); the advantages are divided by their root mean square, as is usual, so that the
gradient's scale does not grow with the returns.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.layers.policies import add_policy_gradient, less_the_others, rewards_to_go, softmax
from optadvisor.studies.tasks.layers.stack import (
    stack_backward,
    stack_forward,
    stack_input,
    stack_output,
    stack_weights,
    stack_width,
)
from optadvisor.studies.tasks.layers.start import dense_counts, dense_start
from optadvisor.studies.tasks.rl.cartpole import EPISODES, STATE, play

ACTIONS = 2
PIECE = 64  # steps whose gradient is taken at once: larger products would start the BLAS's threads
LOG = STATE + 3
# dims: horizon, episodes a step, sizes of the policy. reals: half of the pole's length, wind, discount.
LENGTH, WIND, DISCOUNT = 0, 1, 2


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """The surrogate loss, mean over the steps taken of -advantage * log probability of the action, and its gradient.

    The advantages are constants to the gradient.
    """
    horizon, episodes, sizes = dims[0], dims[1], dims[2:]
    width = stack_width(sizes)
    cut = stack_weights(sizes)
    weights, biases = theta[:cut], theta[cut:]
    a, c = PIECE * width, horizon * episodes
    activations, deltas, part = work[:a], work[a : 2 * a], work[2 * a : 2 * a + theta.size]
    rest = work[2 * a + theta.size :]
    states = rest[: episodes * (STATE + 1)].reshape(episodes, STATE + 1)
    rest = rest[episodes * (STATE + 1) :]
    rewards, advantages = rest[:c].reshape(horizon, episodes), rest[c : 2 * c].reshape(horizon, episodes)
    log = rest[2 * c : (2 + LOG) * c].reshape(c, LOG)

    steps = play(sizes, weights, biases, reals[LENGTH], reals[WIND], horizon, key, states, activations, log)
    rewards[:] = 0
    for k in range(steps):
        rewards[int(log[k, STATE + 1]), int(log[k, STATE + 2])] = 1
    rewards_to_go(rewards, reals[DISCOUNT], advantages)
    less_the_others(advantages)
    total = 0.0
    for k in range(steps):
        total += advantages[int(log[k, STATE + 1]), int(log[k, STATE + 2])] ** 2
    scale = theta.dtype.type(1.0 / (steps * math.sqrt(total / steps + 1e-8)))

    grad[:] = 0
    loss = 0.0
    for first in range(0, steps, PIECE):
        n = min(PIECE, steps - first)
        x, z = stack_input(sizes, n, activations), stack_output(sizes, n, activations)
        delta = stack_output(sizes, n, deltas)
        for i in range(n):
            for j in range(STATE):
                x[i, j] = log[first + i, j]
        stack_forward(sizes, weights, biases, n, activations, True)
        softmax(z)
        delta[:] = 0
        for i in range(n):
            action = int(log[first + i, STATE])
            weight = scale * advantages[int(log[first + i, STATE + 1]), int(log[first + i, STATE + 2])]
            loss -= weight * math.log(z[i, action])
            add_policy_gradient(z[i], action, weight, delta[i])
        stack_backward(sizes, weights, n, activations, deltas, part[:cut], part[cut:], True, False)
        for k in range(theta.size):
            grad[k] += part[k]
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """1 - the share of the horizon that episodes of the policy last, the starts and chances always the same; steps."""
    horizon, sizes = dims[0], dims[2:]
    cut = stack_weights(sizes)
    size = EPISODES * (STATE + 1)
    states = work[:size].reshape(EPISODES, STATE + 1)
    none = work[:0].reshape(0, LOG)
    steps = play(sizes, theta[:cut], theta[cut:], reals[LENGTH], reals[WIND], horizon, key, states, work[size:], none)
    scores[1] = steps / EPISODES
    scores[0] = 1.0 - scores[1] / horizon


def _sizes(values: Values) -> list[int]:
    return [STATE, *[values["width"]] * values["depth"], ACTIONS]


def _initial(sizes: list[int], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    return np.concatenate(dense_start(rng, sizes))


def build(values: Values) -> Problem:
    sizes, horizon, episodes = _sizes(values), values["horizon"], values["episodes"]
    layout = Layout(0, *dense_counts(sizes))
    training = 2 * PIECE * sum(sizes) + layout.total + episodes * (STATE + 1) + (2 + LOG) * horizon * episodes
    return Problem(
        layout,
        functools.partial(_initial, sizes),
        reals=np.array([values["length"], values["wind"], values["discount"]], dtype=np.float32),
        dims=np.array([horizon, episodes, *sizes]),
        work=max(training, EPISODES * (STATE + 1 + sum(sizes))),
    )


def profile(values: Values) -> dict[str, Any]:
    return {"domain": "rl", "architecture": "policy", "parameters": sum(dense_counts(_sizes(values)))}


CARTPOLE_REINFORCE = Family(
    name="cartpole-reinforce",
    title="Policy gradient with baseline on CartPole",
    program=Program("cartpole_reinforce", gradient, evaluate),
    metric="1 - mean return of 32 episodes / the highest return",
    scores=("missed_return", "return"),
    higher=("return",),
    held_out=False,
    axes={
        "horizon": Axis(200, (100, 200, 500), "steps after which an episode ends"),
        "length": Axis(0.5, (0.25, 0.5, 1.0), "half of the pole, m"),
        "wind": Axis(10.0, (0.0, 5.0, 10.0, 15.0), "standard deviation of a random force, N"),
        "discount": Axis(0.98, (0.9, 0.95, 0.98, 1.0), "of later rewards"),
        "episodes": Axis(8, (2, 4, 8), "episodes a step"),
        "width": Axis(32, (8, 16, 32), "hidden units"),
        "depth": Axis(1, (1, 2), "hidden layers"),
        "steps": Axis(100, (25, 50, 100), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (CARTPOLE_REINFORCE,)
