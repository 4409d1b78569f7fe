"""cartpole-actor-critic: advantage actor-critic on CartPole, policy and value from one network.

As gridworld-actor-critic (Mnih et al. 2016): several carts go on from step to step, and n-step returns end in the
value of where they stand. The reward is that of Barto, Sutton & Anderson 1983: -1 for a fall, 0 else. A cart that
reaches the horizon starts anew, and counts what was to come by the value.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.layers.numbers import mix, normal
from optadvisor.studies.tasks.layers.policies import add_entropy_gradient, add_policy_gradient, n_step_returns, softmax
from optadvisor.studies.tasks.layers.stack import (
    stack_backward,
    stack_forward,
    stack_input,
    stack_output,
    stack_weights,
    stack_width,
)
from optadvisor.studies.tasks.layers.start import dense_counts, dense_start
from optadvisor.studies.tasks.rl.cartpole import EPISODES, STATE, act, begin, play, push

ACTIONS = 2
ENTROPY, CRITIC = 0.01, 0.5  # weights in the loss
PIECE = 64  # states whose gradient is taken at once: larger products would start the BLAS's threads
# dims: horizon, carts, moves a step, sizes of the network: logits of left and right, then the value. reals: half of
# the pole's length, wind, discount.
LENGTH, WIND, DISCOUNT, HEAD = 0, 1, 2, 3


def _roll(sizes, weights, biases, reals, horizon, step, key, carts, activations, x, chosen, gains, ended):
    """Every cart some moves on: states in x (moves, carts, 4), actions, n-step returns and ends (moves, carts).

    carts (carts, 5): their states, and how long their episodes have lasted.
    """
    moves, count = gains.shape
    starts, draws, winds = mix(key, 0), mix(key, 1), mix(key, 2)
    if step == 0:
        for i in range(count):
            begin(carts[i], mix(key, 3), i)
            carts[i, STATE] = 0
    size = count * stack_width(sizes)
    one = activations[size:]  # for a single row
    seen, z = stack_input(sizes, count, activations), stack_output(sizes, count, activations)
    for t in range(moves + 1):
        for i in range(count):
            for j in range(STATE):
                seen[i, j] = carts[i, j]
        stack_forward(sizes, weights, biases, count, activations, True)
        if t == moves:
            break
        for i in range(count):
            draw = t * count + i
            action = act(z[i], draws, draw)
            for j in range(STATE):
                x[t, i, j] = carts[i, j]
            wind = reals[WIND] * normal(winds, draw) if reals[WIND] > 0 else 0.0
            fallen = push(carts[i], action, reals[LENGTH], wind)
            carts[i, STATE] += 1
            chosen[t, i], gains[t, i], ended[t, i] = action, 0, 0
            if fallen or carts[i, STATE] >= horizon:
                gains[t, i], ended[t, i] = -1, 1
                if not fallen:
                    stack_input(sizes, 1, one)[0] = carts[i, :STATE]
                    stack_forward(sizes, weights, biases, 1, one, True)
                    gains[t, i] = reals[DISCOUNT] * stack_output(sizes, 1, one)[0, ACTIONS]
                begin(carts[i], starts, draw)
                carts[i, STATE] = 0
    n_step_returns(gains, ended, z[:, ACTIONS], reals[DISCOUNT])


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean over carts and moves of -advantage * log probability + CRITIC * (return - value)**2 - ENTROPY * entropy,
    and its gradient with the advantages and the returns held fixed.

    The front of work keeps each cart's state and how long its episode has lasted.
    """
    horizon, count, moves, sizes = dims[0], dims[1], dims[2], dims[HEAD:]
    cut, width, total = stack_weights(sizes), stack_width(sizes), moves * count
    weights, biases = theta[:cut], theta[cut:]
    carts = work[: count * (STATE + 1)].reshape(count, STATE + 1)
    rest = work[count * (STATE + 1) :]
    x, flat = rest[: total * STATE].reshape(moves, count, STATE), rest[: total * STATE].reshape(total, STATE)
    rest = rest[total * STATE :]
    chosen, gains = rest[:total], rest[total : 2 * total]
    ended, rest = rest[2 * total : 3 * total].reshape(moves, count), rest[3 * total :]
    part, rest = rest[: theta.size], rest[theta.size :]
    shape = (moves, count)
    _roll(
        *(sizes, weights, biases, reals, horizon, step, key, carts, rest),
        *(x, chosen.reshape(shape), gains.reshape(shape), ended),
    )

    a = PIECE * width
    activations, deltas, policy = rest[:a], rest[a : 2 * a], rest[2 * a : 2 * a + PIECE * ACTIONS]
    scale = theta.dtype.type(1.0 / total)
    bonus, critic = theta.dtype.type(ENTROPY) * scale, theta.dtype.type(CRITIC) * scale
    grad[:] = 0
    loss = 0.0
    for first in range(0, total, PIECE):
        n = min(PIECE, total - first)
        seen, z = stack_input(sizes, n, activations), stack_output(sizes, n, activations)
        delta, p = stack_output(sizes, n, deltas), policy[: n * ACTIONS].reshape(n, ACTIONS)
        for i in range(n):
            for j in range(STATE):
                seen[i, j] = flat[first + i, j]
        stack_forward(sizes, weights, biases, n, activations, True)
        for i in range(n):
            for j in range(ACTIONS):
                p[i, j] = z[i, j]
        softmax(p)
        delta[:] = 0
        for i in range(n):
            action = np.int64(chosen[first + i])
            advantage = gains[first + i] - z[i, ACTIONS]
            loss += critic * advantage * advantage - scale * advantage * math.log(p[i, action])
            add_policy_gradient(p[i], action, scale * advantage, delta[i])
            loss -= bonus * add_entropy_gradient(p[i], bonus, delta[i])
            delta[i, ACTIONS] -= theta.dtype.type(2) * critic * advantage
        stack_backward(sizes, weights, n, activations, deltas, part[:cut], part[cut:], True, False)
        for k in range(theta.size):
            grad[k] += part[k]
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """1 - the share of the horizon that episodes of the policy last, the starts and chances always the same; steps."""
    horizon, count, sizes = dims[0], dims[1], dims[HEAD:]
    cut = stack_weights(sizes)
    rest = work[count * (STATE + 1) :]
    size = EPISODES * (STATE + 1)
    states, none = rest[:size].reshape(EPISODES, STATE + 1), rest[:0].reshape(0, STATE + 3)
    steps = play(sizes, theta[:cut], theta[cut:], reals[LENGTH], reals[WIND], horizon, key, states, rest[size:], none)
    scores[1] = steps / EPISODES
    scores[0] = 1.0 - scores[1] / horizon


def _sizes(values: Values) -> list[int]:
    return [STATE, *[values["width"]] * values["depth"], ACTIONS + 1]


def _initial(sizes: list[int], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    return np.concatenate(dense_start(rng, sizes))


def build(values: Values) -> Problem:
    sizes, horizon, carts, moves = _sizes(values), values["horizon"], values["carts"], values["moves"]
    layout, width, total = Layout(0, *dense_counts(sizes)), sum(sizes), carts * moves
    pieces = max(PIECE * (2 * width + ACTIONS), (carts + 1) * width)
    training = total * (STATE + 3) + layout.total + pieces
    return Problem(
        layout,
        functools.partial(_initial, sizes),
        reals=np.array([values["length"], values["wind"], values["discount"]], dtype=np.float32),
        dims=np.array([horizon, carts, moves, *sizes]),
        work=carts * (STATE + 1) + max(training, EPISODES * (STATE + 1 + width)),
    )


def profile(values: Values) -> dict[str, Any]:
    return {"domain": "rl", "architecture": "policy", "parameters": sum(dense_counts(_sizes(values)))}


CARTPOLE_ACTOR_CRITIC = Family(
    name="cartpole-actor-critic",
    title="Advantage actor-critic on CartPole",
    program=Program("cartpole_actor_critic", gradient, evaluate),
    metric="1 - mean return of 32 episodes / the highest return",
    scores=("missed_return", "return"),
    higher=("return",),
    held_out=False,
    axes={
        "horizon": Axis(200, (100, 200, 500), "steps after which an episode ends"),
        "length": Axis(0.5, (0.25, 0.5, 1.0), "half of the pole, m"),
        "wind": Axis(10.0, (0.0, 5.0, 10.0, 15.0), "standard deviation of a random force, N"),
        "discount": Axis(0.98, (0.9, 0.95, 0.98, 0.99), "of later rewards"),
        "carts": Axis(16, (4, 8, 16), "carts side by side"),
        "moves": Axis(8, (4, 8, 16), "moves of each cart a step"),
        "width": Axis(32, (8, 16, 32), "hidden units"),
        "depth": Axis(1, (1, 2), "hidden layers"),
        "steps": Axis(400, (100, 200, 400), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (CARTPOLE_ACTOR_CRITIC,)
