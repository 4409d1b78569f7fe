"""gridworld-actor-critic: advantage actor-critic in a grid world, policy and value from one network.

Mnih et al. 2016, Asynchronous methods for deep reinforcement learning (algorithm S3 without the threads, known as
A2C): several worlds go on from step to step, a few moves each; n-step returns that end in the value of where they
stand; a bonus for the policy's entropy. A world whose episode is cut off at the horizon starts anew, and counts what
was to come by the value, too.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Problem, Program, Values
from optadvisor.studies.tasks.layers.numbers import mix, uniform
from optadvisor.studies.tasks.layers.policies import add_entropy_gradient, add_policy_gradient, choose, softmax
from optadvisor.studies.tasks.rl.cells import cell_backward, cell_forward, cell_initial, cell_layout
from optadvisor.studies.tasks.rl.gridworld import ACTIONS, expected_steps, least_steps, maze, move, random_start

# dims: cells, goal, horizon, worlds, moves a step, hidden units. reals: wind, steps of the best policy, discount.
# integers: where each action leads, (cells, actions).
WIND, BEST, DISCOUNT = 0, 1, 2
COST = 0.1  # of a move
ENTROPY, CRITIC = 0.01, 0.5  # weights in the loss


def _policy_and_values(theta, h, z, policy):
    """z (cells, actions + 1): logits and, last, the value; policy (cells, actions)."""
    cell_forward(theta, h, z)
    for cell in range(z.shape[0]):
        for action in range(ACTIONS):
            policy[cell, action] = z[cell, action]
    softmax(policy)


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean over worlds and moves of -advantage * log probability + CRITIC * (return - value)**2 - ENTROPY * entropy,
    and its gradient with the advantages and the returns held fixed.

    The front of work keeps each world's cell and how long its episode has lasted.
    """
    cells, goal, horizon, worlds, moves, hidden = dims[0], dims[1], dims[2], dims[3], dims[4], dims[5]
    neighbour = integers.reshape(cells, ACTIONS)
    places, ages = work[:worlds], work[worlds : 2 * worlds]
    rest = work[2 * worlds :]
    a, b, c = cells * hidden, cells * (ACTIONS + 1), cells * ACTIONS
    h, z = rest[:a].reshape(cells, hidden), rest[a : a + b].reshape(cells, ACTIONS + 1)
    delta = rest[a + b : a + 2 * b].reshape(cells, ACTIONS + 1)
    policy = rest[a + 2 * b : a + 2 * b + c].reshape(cells, ACTIONS)
    log = rest[a + 2 * b + c :].reshape(3, moves)  # cell * ACTIONS + action, value to go on with, whether to go on
    _policy_and_values(theta, h, z, policy)

    starts, draws, winds = mix(key, 0), mix(key, 1), mix(key, 2)
    delta[:] = 0
    loss = 0.0
    one = theta.dtype.type(1)
    scale = one / theta.dtype.type(worlds * moves)
    discount, cost = reals[DISCOUNT], theta.dtype.type(COST)
    bonus, critic = theta.dtype.type(ENTROPY), theta.dtype.type(CRITIC)
    for i in range(worlds):
        if step == 0:
            places[i], ages[i] = random_start(mix(key, 3), i, cells, goal), 0
        for t in range(moves):
            draw = i * moves + t
            cell = np.int64(places[i])
            action = choose(policy[cell], uniform(draws, draw))
            after = move(neighbour, cell, action, reals[WIND], winds, draw)
            ages[i] += one
            ended = after == goal or ages[i] >= horizon
            log[0, t] = cell * ACTIONS + action
            log[1, t] = z[after, ACTIONS] if after != goal else 0
            log[2, t] = 0 if ended else 1
            if ended:
                after, ages[i] = random_start(starts, draw, cells, goal), 0
            places[i] = after
        gain = log[1, moves - 1]
        for t in range(moves - 1, -1, -1):
            if log[2, t] == 0:
                gain = log[1, t]
            gain = discount * gain - cost
            which = np.int64(log[0, t])
            cell, action = which // ACTIONS, which % ACTIONS
            advantage = gain - z[cell, ACTIONS]
            loss += scale * (critic * advantage * advantage - advantage * math.log(policy[cell, action]))
            add_policy_gradient(policy[cell], action, scale * advantage, delta[cell, :ACTIONS])
            loss -= scale * bonus * add_entropy_gradient(policy[cell], scale * bonus, delta[cell, :ACTIONS])
            delta[cell, ACTIONS] -= theta.dtype.type(2) * critic * scale * advantage
    cell_backward(theta, h, delta, grad)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """The policy's expected steps to the goal, as a share of the way from the best policy's to the horizon; as steps."""
    cells, goal, horizon, worlds, hidden = dims[0], dims[1], dims[2], dims[3], dims[5]
    rest = work[2 * worlds :]
    a, b, c = cells * hidden, cells * (ACTIONS + 1), cells * ACTIONS
    h, z = rest[:a].reshape(cells, hidden), rest[a : a + b].reshape(cells, ACTIONS + 1)
    here, there = rest[a + b : a + b + cells], rest[a + b + cells : a + b + 2 * cells]
    policy = rest[a + 2 * b : a + 2 * b + c].reshape(cells, ACTIONS)
    _policy_and_values(theta, h, z, policy)
    steps = expected_steps(policy, integers.reshape(cells, ACTIONS), goal, reals[WIND], horizon, here, there)
    scores[0], scores[1] = (steps - reals[BEST]) / (horizon - reals[BEST]), steps


def _initial(cells: int, hidden: int, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    return cell_initial(cells, hidden, ACTIONS + 1, rng)


def build(values: Values) -> Problem:
    neighbour, goal = maze(values["size"], values["walls"], values["data"])
    cells, hidden, horizon, worlds, moves = (
        len(neighbour),
        *(values[n] for n in ("width", "horizon", "worlds", "moves")),
    )
    best = least_steps(neighbour, goal, values["wind"], horizon)
    return Problem(
        cell_layout(cells, hidden, ACTIONS + 1),
        functools.partial(_initial, cells, hidden),
        reals=np.array([values["wind"], best, values["discount"]], dtype=np.float32),
        integers=neighbour.reshape(-1),
        dims=np.array([cells, goal, horizon, worlds, moves, hidden]),
        work=2 * worlds + cells * (hidden + 3 * ACTIONS + 2) + 3 * moves,
    )


def profile(values: Values) -> dict[str, Any]:
    cells = len(maze(values["size"], values["walls"], values["data"])[0])
    return {
        "domain": "rl",
        "architecture": "policy",
        "parameters": cell_layout(cells, values["width"], ACTIONS + 1).total,
        "sparse_fraction": 1 - 1 / cells,  # the input is a one-hot cell
    }


GRIDWORLD_ACTOR_CRITIC = Family(
    name="gridworld-actor-critic",
    title="Advantage actor-critic in a grid world",
    program=Program("gridworld_actor_critic", gradient, evaluate),
    metric="expected steps to the goal: 0 the best policy's, 1 the horizon",
    scores=("excess_steps", "expected_steps"),
    held_out=False,
    axes={
        "size": Axis(7, (5, 7, 9), "rows and columns"),
        "walls": Axis(0.2, (0.0, 0.1, 0.2, 0.3), "share of the cells"),
        "wind": Axis(0.1, (0.0, 0.1, 0.3), "chance that a move becomes a random one"),
        "horizon": Axis(50, (25, 50, 100), "steps after which an episode ends"),
        "worlds": Axis(16, (4, 16, 32), "worlds side by side"),
        "moves": Axis(8, (1, 4, 8, 16), "moves of each world a step"),
        "discount": Axis(0.95, (0.9, 0.95, 0.99), "of later costs"),
        "width": Axis(32, (8, 16, 32, 64), "hidden units"),
        "data": Axis(0, (0, 1, 2, 3, 4), "seed of walls and goal"),
        "steps": Axis(500, (150, 500, 1500), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (GRIDWORLD_ACTOR_CRITIC,)
