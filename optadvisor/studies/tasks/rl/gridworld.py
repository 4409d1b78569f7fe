"""A grid world: walls, a goal, a start anywhere; four moves, the wind may turn a move into a random one.

Every step costs the same until the goal is reached (the mazes of Sutton & Barto 2018, Reinforcement learning, chapter
8). A policy's value is exact, without playing: the mean number of steps to the goal, at most `horizon`, over the
starts, as a share of the way from the best policy (0) to one that never arrives (1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies import seeds
from optadvisor.studies.tasks.layers.numbers import below, uniform

ACTIONS = 4
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


def maze(size: int, walls: float, data: int) -> tuple[NDArray[np.int64], int]:
    """neighbour[cell, action] for the cells of a size x size grid from which the goal can be reached, and the goal.

    Cells that are walls or cut off are left out; at least half of the grid is left. walls: the share of the cells that
    are to be walls. A move against a wall stays where it is; so does every move from the goal.
    """
    rng = np.random.default_rng(seeds.derive(data, seeds.TASKS))
    seen: set[int] = set()
    while 2 * len(seen) < size * size:  # not a goal in a closed chamber
        wall = np.zeros(size * size, dtype=bool)
        wall[rng.permutation(size * size)[: round(walls * size * size)]] = True
        goal = int(rng.choice(np.flatnonzero(~wall)))
        seen, queue = {goal}, [goal]
        for cell in queue:
            for other in _around(cell, size, wall):
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
    number = {cell: i for i, cell in enumerate(sorted(seen))}
    found = np.array([[number[other] for other in _around(cell, size, wall)] for cell in sorted(seen)])
    found[number[goal]] = number[goal]
    return found, number[goal]


def _around(cell: int, size: int, wall: NDArray[np.bool_]) -> list[int]:
    """Where each of the four moves leads."""
    row, column = divmod(cell, size)
    found = []
    for down, right in MOVES:
        r, c = row + down, column + right
        inside = 0 <= r < size and 0 <= c < size and not wall[r * size + c]
        found.append(r * size + c if inside else cell)
    return found


def least_steps(neighbour: NDArray[np.int64], goal: int, wind: float, horizon: int) -> float:
    """Mean over the starts of the expected steps, at most horizon, of the best policy: by dynamic programming."""
    steps = np.zeros(len(neighbour))
    for _ in range(horizon):
        after = steps[neighbour]
        steps = 1 + (1 - wind) * after.min(axis=1) + wind * after.mean(axis=1)
        steps[goal] = 0
    return float(np.delete(steps, goal).mean())


def expected_steps(policy, neighbour, goal, wind, horizon, here, there):
    """Mean over the starts of the expected steps, at most horizon, of a policy (cells, actions), by following where
    it may be. here, there: buffers of a number for each cell. The starts: every cell but the goal, equally likely."""
    cells = policy.shape[0]
    for cell in range(cells):
        here[cell] = 1.0 / (cells - 1)
    here[goal] = 0
    total = 0.0
    for _ in range(horizon):
        there[:] = 0
        for cell in range(cells):
            total += here[cell]
            for action in range(ACTIONS):
                chance = (1 - wind) * policy[cell, action] + wind / ACTIONS
                there[neighbour[cell, action]] += here[cell] * chance
        there[goal] = 0
        here[:] = there
    return total


def random_start(key, counter, cells, goal):
    """Any cell but the goal."""
    cell = below(key, counter, cells - 1)
    return cell + 1 if cell >= goal else cell


def move(neighbour, cell, action, wind, key, counter):
    """The next cell. Uses the counters 2*counter and 2*counter + 1."""
    if wind > 0 and uniform(key, 2 * counter) < wind:
        action = below(key, 2 * counter + 1, ACTIONS)
    return neighbour[cell, action]
