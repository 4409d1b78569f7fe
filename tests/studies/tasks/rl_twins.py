"""The reinforcement learning families once more, in plain NumPy: environments, what a step plays, its surrogate loss.

Nothing of the compiled code is used but the random numbers. Each `play_...` follows one step's play from theta and
returns what the gradient holds fixed: inputs of the network, actions, advantages, returns. `surrogate` is then the
loss as a function of theta, in NumPy or, given torch, in PyTorch.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks.layers.numbers import mix, normal, uniform
from tests.studies.tasks.checks import Point

MIX, UNIFORM, NORMAL = (specialise(function, "numbers") for function in (mix, uniform, normal))


class Played(NamedTuple):
    """One row a sample: the network's input, action, advantage (its weight in the loss included), return."""

    inputs: np.ndarray
    actions: np.ndarray
    weights: np.ndarray
    returns: np.ndarray | None
    entropy: float  # weight of the entropy in the mean over the samples


def below(key: int, counter: int, n: int) -> int:
    return min(int(UNIFORM(key, counter) * n), n - 1)


def network(theta: Any, sizes: list[int], x: Any, library: Any = np) -> Any:
    """Dense layers with tanh between them; theta: matrices, then biases."""
    w = 0
    b = sum(m * n for m, n in itertools.pairwise(sizes))
    for layer, (m, n) in enumerate(itertools.pairwise(sizes)):
        x = x @ theta[w : w + m * n].reshape(m, n) + theta[b : b + n]
        if layer < len(sizes) - 2:
            x = library.tanh(x)
        w, b = w + m * n, b + n
    return x


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def pick(p: np.ndarray, chance: float) -> int:
    return int(np.searchsorted(np.cumsum(p), chance, side="right"))


def surrogate(theta: Any, sizes: list[int], played: Played, actions: int, torch: Any = None) -> Any:
    """sum of -weight * log probability, + 0.5 * mean squared error of the value where there are returns, - entropy."""
    if torch is None:
        z = network(theta, sizes, played.inputs)
        log = z[:, :actions] - z[:, :actions].max(axis=1, keepdims=True)
        log = log - np.log(np.exp(log).sum(axis=1, keepdims=True))
        weights, returns, exponential = played.weights, played.returns, np.exp
    else:
        z = network(theta, sizes, torch.tensor(played.inputs), torch)
        log = torch.log_softmax(z[:, :actions], dim=1)
        weights, exponential = torch.tensor(played.weights), torch.exp
        returns = None if played.returns is None else torch.tensor(played.returns)
    loss = -(weights * log[range(len(log)), played.actions]).sum()
    if played.entropy:
        loss = loss + played.entropy * (exponential(log) * log).sum() / len(log)
    if returns is not None:
        loss = loss + 0.5 * ((returns - z[:, actions]) ** 2).mean()
    return loss


def real(value: float) -> float:
    """As the problem's float32 numbers hold it."""
    return float(np.float32(value))


# CartPole ------------------------------------------------------------------------------------------------------------


def push(state: np.ndarray, right: bool, length: float, wind: float = 0.0) -> tuple[np.ndarray, bool]:
    """As in Gym's cartpole.py (euler)."""
    x, x_dot, theta, theta_dot = state
    force = (10.0 if right else -10.0) + wind
    masscart, masspole = 1.0, 0.1
    total_mass, polemass_length = masscart + masspole, masspole * length
    temp = (force + polemass_length * theta_dot**2 * math.sin(theta)) / total_mass
    thetaacc = (9.8 * math.sin(theta) - math.cos(theta) * temp) / (
        length * (4.0 / 3.0 - masspole * math.cos(theta) ** 2 / total_mass)
    )
    xacc = temp - polemass_length * thetaacc * math.cos(theta) / total_mass
    new = np.array([x + 0.02 * x_dot, x_dot + 0.02 * xacc, theta + 0.02 * theta_dot, theta_dot + 0.02 * thetaacc])
    return new, not (-2.4 <= new[0] <= 2.4 and abs(new[2]) <= 12 * math.pi / 180)


def begin(key: int, episode: int) -> np.ndarray:
    return np.array([0.1 * UNIFORM(key, 4 * episode + j) - 0.05 for j in range(4)])


def episode(point: Point, sizes: list[int], key: int, number: int) -> tuple[list[np.ndarray], list[int]]:
    """States and actions of one episode."""
    values = point.task.values
    state = begin(MIX(key, 0), number)
    states, actions = [], []
    for t in range(values["horizon"]):
        counter = number * values["horizon"] + t
        p = softmax(network(point.theta, sizes, state[None])[:, :2])[0]
        action = int(UNIFORM(MIX(key, 1), counter) < p[1])
        states.append(state)
        actions.append(action)
        wind = real(values["wind"]) * NORMAL(MIX(key, 2), counter) if values["wind"] else 0.0
        state, fallen = push(state, bool(action), real(values["length"]), wind)
        if fallen:
            break
    return states, actions


def cartpole_sizes(values: dict[str, Any], outputs: int) -> list[int]:
    return [4, *[values["width"]] * values["depth"], outputs]


def play_cartpole_reinforce(point: Point) -> tuple[Played, list[int], int]:
    values, sizes = point.task.values, cartpole_sizes(point.task.values, 2)
    episodes = [episode(point, sizes, point.key, i) for i in range(values["episodes"])]
    discount = real(values["discount"])
    gains = np.zeros((values["horizon"], len(episodes)))
    for i, (states, _) in enumerate(episodes):
        for t in range(len(states)):
            gains[t, i] = sum(discount**k for k in range(len(states) - t))
    advantages = np.stack(
        [gains[:, i] - np.delete(gains, i, axis=1).mean(axis=1) for i in range(len(episodes))], axis=1
    )
    rows = [(s, a, advantages[t, i]) for i, (ss, aa) in enumerate(episodes) for t, (s, a) in enumerate(zip(ss, aa))]  # noqa: B905
    inputs, actions, found = (np.array(column) for column in zip(*rows, strict=True))
    weights = found / math.sqrt((found**2).mean() + 1e-8) / len(rows)
    return Played(inputs, actions, weights, None, 0.0), sizes, 2


class Carts:
    """cartpole-actor-critic's carts, from step to step."""

    def __init__(self, point: Point, key: int) -> None:
        self.states = [begin(MIX(key, 3), i) for i in range(point.task.values["carts"])]
        self.ages = [0] * len(self.states)

    def play(self, point: Point, key: int) -> tuple[Played, list[int], int]:
        values, sizes = point.task.values, cartpole_sizes(point.task.values, 3)
        moves, count, discount = values["moves"], values["carts"], real(values["discount"])
        out = lambda state: network(point.theta, sizes, state[None])[0]  # noqa: E731
        rows, gains = [[None] * count for _ in range(moves)], np.zeros((moves, count))
        for i in range(count):
            pending, path = [], []
            for t in range(moves):
                counter = t * count + i
                state = self.states[i]
                p = softmax(out(state)[None, :2])[0]
                action = int(UNIFORM(MIX(key, 1), counter) < p[1])
                rows[t][i] = (state, action)
                wind = real(values["wind"]) * NORMAL(MIX(key, 2), counter) if values["wind"] else 0.0
                self.states[i], fallen = push(state, bool(action), real(values["length"]), wind)
                self.ages[i] += 1
                pending.append(t)
                if fallen or self.ages[i] >= values["horizon"]:
                    path.append((pending, -1.0 if fallen else discount * out(self.states[i])[2]))
                    pending = []
                    self.states[i], self.ages[i] = begin(MIX(key, 0), counter), 0
            path.append((pending, discount * out(self.states[i])[2]))
            for times, last in path:
                for t in times:
                    gains[t, i] = discount ** (times[-1] - t) * last
        inputs, actions = (np.array(column) for column in zip(*[r for row in rows for r in row], strict=True))
        advantages = gains.reshape(-1) - network(point.theta, sizes, inputs)[:, 2]
        return Played(inputs, actions, advantages / len(inputs), gains.reshape(-1), 0.01), sizes, 2


# Grid world ----------------------------------------------------------------------------------------------------------


class Grid:
    """The grid of a task, by rows and columns: built from what `maze` says of the cells, moves checked beside."""

    def __init__(self, point: Point) -> None:
        problem, values = point.problem, point.task.values
        self.neighbour = problem.integers.reshape(-1, 4)
        self.cells, self.goal = len(self.neighbour), int(problem.dims[1])
        self.wind, self.horizon = real(values["wind"]), values["horizon"]

    def start(self, key: int, counter: int) -> int:
        cells = [cell for cell in range(self.cells) if cell != self.goal]
        return cells[below(key, counter, len(cells))]

    def move(self, cell: int, action: int, key: int, counter: int) -> int:
        if self.wind and UNIFORM(key, 2 * counter) < self.wind:
            action = below(key, 2 * counter + 1, 4)
        return int(self.neighbour[cell, action])

    def transitions(self, policy: np.ndarray) -> np.ndarray:
        """T[a, b]: chance to get from a to b in a step; nowhere from the goal."""
        found = np.zeros((self.cells, self.cells))
        for cell in range(self.cells):
            for action in range(4):
                chance = (1 - self.wind) * policy[cell, action] + self.wind / 4
                found[cell, self.neighbour[cell, action]] += chance
        found[self.goal] = 0
        found[:, self.goal] = 0
        return found

    def expected_steps(self, policy: np.ndarray) -> float:
        starts = np.full(self.cells, 1 / (self.cells - 1))
        starts[self.goal] = 0
        total, transitions = 0.0, self.transitions(policy)
        for _ in range(self.horizon):
            total += starts.sum()
            starts = starts @ transitions
        return float(total)


def play_gridworld_reinforce(point: Point) -> tuple[Played, list[int], int]:
    values, grid = point.task.values, Grid(point)
    sizes = [grid.cells, values["width"], 4]
    policy = softmax(network(point.theta, sizes, np.eye(grid.cells)))
    starts, draws, winds = (MIX(point.key, k) for k in range(3))
    gains, rows = np.zeros((grid.horizon, values["episodes"])), []
    for i in range(values["episodes"]):
        cell, path = grid.start(starts, i), []
        for t in range(grid.horizon):
            counter = i * grid.horizon + t
            action = pick(policy[cell], UNIFORM(draws, counter))
            path.append((cell, action, t, i))
            cell = grid.move(cell, action, winds, counter)
            if cell == grid.goal:
                break
        for *_, t, _ in path:
            gains[t, i] = -(len(path) - t) / grid.horizon
        rows += path
    weights = [gains[t, i] - np.delete(gains[t], i).mean() for _, _, t, i in rows]
    cells, actions = np.array([row[:2] for row in rows]).T
    return Played(np.eye(grid.cells)[cells], actions, np.array(weights) / values["episodes"], None, 0.0), sizes, 4


class Worlds:
    """gridworld-actor-critic's worlds, from step to step."""

    def __init__(self, point: Point, key: int) -> None:
        self.grid = Grid(point)
        self.places = [self.grid.start(MIX(key, 3), i) for i in range(point.task.values["worlds"])]
        self.ages = [0] * len(self.places)

    def play(self, point: Point, key: int) -> tuple[Played, list[int], int]:
        values, grid = point.task.values, self.grid
        sizes = [grid.cells, values["width"], 5]
        z = network(point.theta, sizes, np.eye(grid.cells))
        policy, worth = softmax(z[:, :4]), z[:, 4]
        starts, draws, winds = (MIX(key, k) for k in range(3))
        discount = real(values["discount"])
        rows = []
        for i in range(len(self.places)):
            path, ends = [], []
            for t in range(values["moves"]):
                counter = i * values["moves"] + t
                cell = self.places[i]
                action = pick(policy[cell], UNIFORM(draws, counter))
                after = grid.move(cell, action, winds, counter)
                self.ages[i] += 1
                path.append((cell, action))
                if after == grid.goal or self.ages[i] >= grid.horizon:
                    ends.append((t, 0.0 if after == grid.goal else worth[after]))
                    after, self.ages[i] = grid.start(starts, counter), 0
                self.places[i] = after
            ends.append((values["moves"] - 1, worth[self.places[i]]))
            for t, (cell, action) in enumerate(path):
                end, last = next(e for e in ends if e[0] >= t)
                steps = end - t + 1
                gain = sum(-0.1 * discount**k for k in range(steps)) + discount**steps * last
                rows.append((cell, action, gain))
        cells, actions = np.array([row[:2] for row in rows]).T
        gains = np.array([row[2] for row in rows])
        return Played(np.eye(grid.cells)[cells], actions, (gains - worth[cells]) / len(rows), gains, 0.01), sizes, 4


# Bandit --------------------------------------------------------------------------------------------------------------


def play_bandit(point: Point, step: int, baseline: float) -> tuple[Played, list[int], int, float, float]:
    """What is played, and the mean reward and the regret."""
    values, reals = point.task.values, point.problem.reals.astype(np.float64)
    features, arms, n = values["features"], values["arms"], values["batch"]
    scales = reals[1 : 1 + features]
    u, v = reals[1 + features :].reshape(2, features, arms)
    contexts = MIX(point.key, 0)
    flat = np.array([UNIFORM(contexts, i) for i in range(n * features)])
    x = scales * math.sqrt(12) * (flat.reshape(n, features) - 0.5)
    angle = 2 * math.pi * step / values["period"]
    means = x @ (math.cos(angle) * u + math.sin(angle) * v)
    sizes = [features, arms]
    policy = softmax(network(point.theta, sizes, x))
    taken = np.array([pick(policy[i], UNIFORM(MIX(point.key, 2), i)) for i in range(n)])
    noise = np.array([NORMAL(MIX(point.key, 1), i) for i in range(n)])
    rewards = means[range(n), taken] + reals[0] * noise
    regret = (policy * (means.max(axis=1, keepdims=True) - means)).sum(axis=1).mean()
    return Played(x, taken, (rewards - baseline) / n, None, 0.1), sizes, arms, float(rewards.mean()), float(regret)
