"""gridworld-reinforce: the policy gradient of whole episodes in a grid world.

REINFORCE (Williams 1992, Simple statistical gradient-following algorithms for connectionist reinforcement learning)
with rewards to go, and as a baseline what the step's other episodes got from the same time on: the gradient's mean is
that of the expected steps to the goal, exactly.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from optadvisor.studies.tasks.family import Axis, Family, Problem, Program, Values
from optadvisor.studies.tasks.layers.numbers import mix, uniform
from optadvisor.studies.tasks.layers.policies import (
    add_policy_gradient,
    choose,
    less_the_others,
    rewards_to_go,
    softmax,
)
from optadvisor.studies.tasks.rl.cells import cell_backward, cell_forward, cell_initial, cell_layout
from optadvisor.studies.tasks.rl.gridworld import (
    ACTIONS,
    expected_steps,
    least_steps,
    maze,
    move,
    random_start,
)

# dims: cells, goal, horizon, episodes a step, hidden units. reals: wind, steps of the best policy. integers: where
# each action leads, (cells, actions).
WIND, BEST = 0, 1


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """The surrogate loss, mean over episodes of the sum of -advantage * log probability of the action, and its gradient.

    Every step costs 1 / horizon. The advantages are constants to the gradient.
    """
    cells, goal, horizon, episodes, hidden = dims[0], dims[1], dims[2], dims[3], dims[4]
    neighbour = integers.reshape(cells, ACTIONS)
    a, b, c = cells * hidden, cells * ACTIONS, horizon * episodes
    h, policy = work[:a].reshape(cells, hidden), work[a : a + b].reshape(cells, ACTIONS)
    delta = work[a + b : a + 2 * b].reshape(cells, ACTIONS)
    rest = work[a + 2 * b :]
    costs, advantages = rest[:c].reshape(horizon, episodes), rest[c : 2 * c].reshape(horizon, episodes)
    taken = rest[2 * c : 3 * c].reshape(horizon, episodes)  # cell * ACTIONS + action; -1 after the end
    cell_forward(theta, h, policy)
    softmax(policy)

    starts, draws, winds = mix(key, 0), mix(key, 1), mix(key, 2)
    costs[:] = 0
    taken[:] = -1
    price = theta.dtype.type(1.0 / horizon)
    for i in range(episodes):
        cell = random_start(starts, i, cells, goal)
        for t in range(horizon):
            action = choose(policy[cell], uniform(draws, i * horizon + t))
            taken[t, i] = cell * ACTIONS + action
            costs[t, i] = -price
            cell = move(neighbour, cell, action, reals[WIND], winds, i * horizon + t)
            if cell == goal:
                break
    rewards_to_go(costs, theta.dtype.type(1), advantages)
    less_the_others(advantages)

    delta[:] = 0
    loss = 0.0
    scale = theta.dtype.type(1.0 / episodes)
    for t in range(horizon):
        for i in range(episodes):
            if taken[t, i] >= 0:
                which = np.int64(taken[t, i])
                cell, action = which // ACTIONS, which % ACTIONS
                weight = scale * advantages[t, i]
                loss -= weight * math.log(policy[cell, action])
                add_policy_gradient(policy[cell], action, weight, delta[cell])
    cell_backward(theta, h, delta, grad)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """The policy's expected steps to the goal, as a share of the way from the best policy's to the horizon; as steps."""
    cells, goal, horizon, hidden = dims[0], dims[1], dims[2], dims[4]
    a, b = cells * hidden, cells * ACTIONS
    h, policy = work[:a].reshape(cells, hidden), work[a : a + b].reshape(cells, ACTIONS)
    here, there = work[a + b : a + b + cells], work[a + b + cells : a + b + 2 * cells]
    cell_forward(theta, h, policy)
    softmax(policy)
    steps = expected_steps(policy, integers.reshape(cells, ACTIONS), goal, reals[WIND], horizon, here, there)
    scores[0], scores[1] = (steps - reals[BEST]) / (horizon - reals[BEST]), steps


def _cells(values: Values) -> int:
    return len(maze(values["size"], values["walls"], values["data"])[0])


def build(values: Values) -> Problem:
    neighbour, goal = maze(values["size"], values["walls"], values["data"])
    cells, hidden, horizon, episodes = len(neighbour), values["width"], values["horizon"], values["episodes"]
    return Problem(
        cell_layout(cells, hidden, ACTIONS),
        functools.partial(cell_initial, cells, hidden, ACTIONS),
        reals=np.array([values["wind"], least_steps(neighbour, goal, values["wind"], horizon)], dtype=np.float32),
        integers=neighbour.reshape(-1),
        dims=np.array([cells, goal, horizon, episodes, hidden]),
        work=cells * (hidden + 2 * ACTIONS) + max(3 * horizon * episodes, 2 * cells),
    )


def profile(values: Values) -> dict[str, Any]:
    cells = _cells(values)
    return {
        "domain": "rl",
        "architecture": "policy",
        "parameters": cell_layout(cells, values["width"], ACTIONS).total,
        "sparse_fraction": 1 - 1 / cells,  # the input is a one-hot cell
    }


GRIDWORLD_REINFORCE = Family(
    name="gridworld-reinforce",
    title="Policy gradient with baseline in a grid world",
    program=Program("gridworld_reinforce", gradient, evaluate),
    metric="expected steps to the goal: 0 the best policy's, 1 the horizon",
    scores=("excess_steps", "expected_steps"),
    held_out=False,
    axes={
        "size": Axis(7, (5, 7, 9), "rows and columns"),
        "walls": Axis(0.2, (0.0, 0.1, 0.2, 0.3), "share of the cells"),
        "wind": Axis(0.1, (0.0, 0.1, 0.3), "chance that a move becomes a random one"),
        "horizon": Axis(50, (25, 50, 100), "steps after which an episode ends"),
        "episodes": Axis(8, (4, 8, 16), "episodes a step"),
        "width": Axis(32, (8, 16, 32, 64), "hidden units"),
        "data": Axis(0, (0, 1, 2, 3, 4), "seed of walls and goal"),
        "steps": Axis(300, (100, 300, 1000), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (GRIDWORLD_REINFORCE,)
