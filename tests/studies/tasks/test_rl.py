"""The reinforcement learning families against their twins in plain NumPy: the surrogate's gradient, with actions and
advantages held fixed, against finite differences and PyTorch; environments, evaluations, and the expected gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.registry import get
from optadvisor.studies.tasks.rl import cartpole, gridworld
from tests.studies.tasks import rl_twins as twins
from tests.studies.tasks.checks import Point, slope

EPISODES = [
    "cartpole-reinforce",
    "cartpole-reinforce:discount=1,episodes=4,length=1,wind=0,depth=2",
    "gridworld-reinforce",
    "gridworld-reinforce:size=5,wind=0,walls=0,horizon=25",
]
GOING_ON = [
    "cartpole-actor-critic",
    "cartpole-actor-critic:horizon=100,wind=0,carts=4,depth=2",
    "gridworld-actor-critic",
    "gridworld-actor-critic:size=5,wind=0,moves=4,horizon=25,discount=0.9",
]


def point_of(name: str, **values: Any) -> Point:
    task = get(name)
    return Point(BuiltinTask(task.family, {**task.values, **values}), seed=2, key=4321)


def play(point: Point) -> tuple[twins.Played, list[int], int]:
    cart = point.task.family.name.startswith("cartpole")
    return (twins.play_cartpole_reinforce if cart else twins.play_gridworld_reinforce)(point)


def going_on(point: Point) -> twins.Carts | twins.Worlds:
    cart = point.task.family.name.startswith("cartpole")
    return (twins.Carts if cart else twins.Worlds)(point, point.key)


def step_of(point: Point, step: int, key: int, work: np.ndarray) -> tuple[float, np.ndarray]:
    """Loss and gradient of a step, with what the steps before left in work."""
    problem, grad = point.problem, np.full_like(point.theta, np.nan)
    reals = problem.reals.astype(np.float64)
    loss = point.gradient(point.theta, reals, problem.integers, problem.dims, point.rows, step, key, grad, work)
    return float(loss), grad


def check(point: Point, loss: float, grad: np.ndarray, played: tuple[twins.Played, list[int], int]) -> None:
    """Of the surrogate: its value, and its derivatives by finite differences."""
    what, sizes, actions = played
    value = lambda theta: twins.surrogate(theta, sizes, what, actions)  # noqa: E731
    assert loss == pytest.approx(value(point.theta), rel=1e-8, abs=1e-10)
    check_slopes(value, point, grad)


def check_slopes(value: Any, point: Point, grad: np.ndarray) -> None:
    assert np.linalg.norm(grad) > 1e-4
    rng = np.random.default_rng(5)
    dense = point.problem.layout.dense
    for part in (slice(None), slice(0, dense), slice(dense, None)):
        for _ in range(3):
            direction = np.zeros_like(grad)
            direction[part] = rng.standard_normal(direction[part].size)
            direction /= np.linalg.norm(direction)
            wanted = slope(value, point.theta, direction, 1e-3)
            assert grad @ direction == pytest.approx(wanted, rel=1e-6, abs=1e-8 * (1 + np.linalg.norm(grad)))


def torch_gradient(theta: np.ndarray, played: tuple[twins.Played, list[int], int]) -> np.ndarray:
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(theta, requires_grad=True)
    what, sizes, actions = played
    twins.surrogate(leaf, sizes, what, actions, torch).backward()
    return leaf.grad.numpy()


@pytest.mark.parametrize("name", EPISODES)
def test_reinforce_s_gradient_is_the_surrogate_s(name: str):
    point = point_of(name)
    check(point, *point.loss_and_gradient(), play(point))


@pytest.mark.parity
@pytest.mark.parametrize("name", EPISODES)
def test_reinforce_s_gradient_is_pytorch_s(name: str):
    point = point_of(name)
    _, grad = point.loss_and_gradient()
    np.testing.assert_allclose(grad, torch_gradient(point.theta, play(point)), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", GOING_ON)
def test_actor_critic_s_gradient_is_the_surrogate_s_from_step_to_step(name: str):
    """With an evaluation in between, which must leave the environments where they are; long enough to be cut off."""
    point = point_of(name)
    environments, work = going_on(point), np.zeros(point.problem.work)
    steps = 2 + point.task.values["horizon"] // point.task.values["moves"]
    for step in range(steps):
        key = point.key + step
        found = step_of(point, step, key, work)
        played = environments.play(point, key)
        if step % 7 == 0 or step == steps - 1:
            check(point, *found, played)
            point.scores(0, work)
        else:
            assert found[0] == pytest.approx(twins.surrogate(point.theta, played[1], played[0], played[2]), rel=1e-8)


@pytest.mark.parity
@pytest.mark.parametrize("name", GOING_ON)
def test_actor_critic_s_gradient_is_pytorch_s(name: str):
    point = point_of(name)
    environments, work = going_on(point), np.zeros(point.problem.work)
    for step in range(5):
        _, grad = step_of(point, step, point.key + step, work)
        played = environments.play(point, point.key + step)
        np.testing.assert_allclose(grad, torch_gradient(point.theta, played), rtol=1e-7, atol=1e-10)


BANDITS = ["bandit-drift", "bandit-drift:noise=0,arms=2,features=4,conditioning=100,batch=64,period=2000"]


@pytest.mark.parametrize("name", BANDITS)
def test_the_bandit_s_gradient_is_the_surrogate_s_and_its_loss_the_regret(name: str):
    point, baseline = point_of(name), 0.0
    work = np.zeros(point.problem.work)
    for step in range(4):
        regret, grad = step_of(point, step, point.key, work)
        what, sizes, arms, mean, wanted = twins.play_bandit(point, step, baseline)
        assert regret == pytest.approx(wanted, rel=1e-10)
        check_slopes(lambda theta, what=what: twins.surrogate(theta, sizes, what, arms), point, grad)  # noqa: B023
        baseline = mean if step == 0 else 0.95 * baseline + 0.05 * mean
        assert work[0] == pytest.approx(baseline, rel=1e-10)
        point.scores(0, work)


@pytest.mark.parity
@pytest.mark.parametrize("name", BANDITS)
def test_the_bandit_s_gradient_is_pytorch_s(name: str):
    point = point_of(name)
    _, grad = point.loss_and_gradient()
    np.testing.assert_allclose(grad, torch_gradient(point.theta, twins.play_bandit(point, 0, 0.0)[:3]), rtol=1e-8)


def test_the_bandit_s_rewards_turn():
    """Half a period reverses every arm's reward, a whole one brings it back."""
    point = point_of("bandit-drift", noise=0.0)
    rewards = [twins.play_bandit(point, step, 0.0)[3] for step in (0, 2000, 4000)]
    assert rewards[1] == pytest.approx(-rewards[0], rel=1e-6)
    assert rewards[2] == pytest.approx(rewards[0], rel=1e-6)


def test_cartpole_s_steps_are_gym_s():
    """Against the same equations in plain Python, over states far and near, and to the end of falls."""
    push = specialise(cartpole.push, "cartpole")
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(300):
        state = rng.uniform(-1, 1, 4) * (2.4, 3, 0.21, 3)
        for right in (False, True):
            wind = float(rng.normal())
            wanted, over = twins.push(state, right, 0.5, wind)
            found = state.copy()
            assert push(found, right, 0.5, wind) == over
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)
            ends += over
    assert 20 < ends < 500


def test_cartpole_s_known_step():
    """Gym's CartPole-v1 from rest at angle 0.05 pushed right, worked out by hand from the equations."""
    state = np.array([0.0, 0.0, 0.05, 0.0])
    specialise(cartpole.push, "cartpole")(state, True, 0.5, 0.0)
    angular = (9.8 * np.sin(0.05) - np.cos(0.05) * 10 / 1.1) / (0.5 * (4 / 3 - 0.1 * np.cos(0.05) ** 2 / 1.1))
    linear = 10 / 1.1 - 0.05 * angular * np.cos(0.05) / 1.1
    np.testing.assert_allclose(state, [0, 0.02 * linear, 0.05, 0.02 * angular], rtol=1e-12)


@pytest.mark.parametrize("name", ["cartpole-reinforce:horizon=100", "cartpole-actor-critic:wind=0,horizon=100"])
def test_cartpole_s_value_is_the_mean_return_of_the_policy(name: str):
    point = point_of(name)
    sizes = twins.cartpole_sizes(point.task.values, 3 if "critic" in name else 2)
    steps = np.mean([len(twins.episode(point, sizes, point.key, i)[0]) for i in range(cartpole.EPISODES)])
    np.testing.assert_allclose(point.scores(), [1 - steps / 100, steps], rtol=1e-12)


@pytest.mark.parametrize("size", [5, 7, 9])
@pytest.mark.parametrize("walls", [0.0, 0.1, 0.3])
def test_mazes_are_grids_joined_to_the_goal(size: int, walls: float):
    for data in range(5):
        neighbour, goal = gridworld.maze(size, walls, data)
        cells = len(neighbour)
        assert size * size / 2 <= cells <= size * size - round(walls * size * size)
        assert walls or cells == size * size
        away = np.full(cells, np.inf)
        away[goal] = 0
        for _ in range(cells):
            away = np.minimum(away, 1 + away[neighbour].min(axis=1))
        assert np.isfinite(away).all(), "the goal can be reached"
        for cell in range(cells):
            for action, back in ((0, 2), (1, 3), (2, 0), (3, 1)):
                other = neighbour[cell, action]
                if goal not in (cell, other) and other != cell:
                    assert neighbour[other, back] == cell, "the opposite move leads back"
        assert (neighbour[goal] == goal).all()
        assert gridworld.least_steps(neighbour, goal, 0.0, 200) == pytest.approx(np.delete(away, goal).mean())
    if not walls:  # the plain grid, by its coordinates
        plain, _ = gridworld.maze(size, 0.0, 0)
        for cell in range(size * size):
            row, column = divmod(cell, size)
            beside = [(max(row - 1, 0), column), (row, min(column + 1, size - 1))]
            beside += [(min(row + 1, size - 1), column), (row, max(column - 1, 0))]
            if cell != gridworld.maze(size, 0.0, 0)[1]:
                np.testing.assert_array_equal(plain[cell], [r * size + c for r, c in beside])


@pytest.mark.parametrize("name", ["gridworld-reinforce", "gridworld-actor-critic:wind=0.3,horizon=25"])
def test_gridworld_s_value_is_the_exact_number_of_steps(name: str):
    """By powers of the transition matrix; the best policy's by trying a policy iteration's result out."""
    point = point_of(name)
    grid = twins.Grid(point)
    sizes = [grid.cells, point.task.values["width"], 5 if "critic" in name else 4]
    policy = twins.softmax(twins.network(point.theta, sizes, np.eye(grid.cells))[:, :4])
    value, steps = point.scores()
    assert steps == pytest.approx(grid.expected_steps(policy), rel=1e-9)
    best = float(point.problem.reals[1])
    assert value == pytest.approx((steps - best) / (grid.horizon - best), rel=1e-6)
    assert value > 0
    # Greedy for the distance without a horizon: no better than the best with one, and near it.
    away = np.zeros(grid.cells)
    for _ in range(1000):
        after = away[grid.neighbour]
        away = 1 + (1 - grid.wind) * after.min(axis=1) + grid.wind * after.mean(axis=1)
        away[grid.goal] = 0
    greedy = np.eye(4)[away[grid.neighbour].argmin(axis=1)]
    assert best - 1e-4 <= grid.expected_steps(greedy) <= best + 0.3


def test_the_policy_gradient_s_mean_is_the_derivative_of_the_exact_return():
    """40,000 gradients of a small grid: their mean is within chance of the derivative of the expected steps, and
    the surrogate's baseline does not change it."""
    point = point_of("gridworld-reinforce:size=5,horizon=25,width=8,episodes=4")
    grid = twins.Grid(point)
    sizes = [grid.cells, 8, 4]

    def share(theta: np.ndarray) -> float:
        return grid.expected_steps(twins.softmax(twins.network(theta, sizes, np.eye(grid.cells)))) / grid.horizon

    rng = np.random.default_rng(0)
    work, n = np.zeros(point.problem.work), 40_000
    grad = np.empty_like(point.theta)
    directions = rng.standard_normal((6, point.theta.size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    along, mean = np.empty((n, 6)), np.zeros_like(grad)
    problem, reals = point.problem, point.problem.reals.astype(np.float64)
    for k in range(n):
        point.gradient(point.theta, reals, problem.integers, problem.dims, point.rows, 0, k, grad, work)
        along[k] = directions @ grad
        mean += grad / n
    exact = np.array([slope(share, point.theta, direction, 1e-3) for direction in directions])
    error = along.std(axis=0) / np.sqrt(n)
    assert (np.abs(along.mean(axis=0) - exact) < 4 * error).all(), (along.mean(axis=0), exact, error)
    # Along the gradient itself the error is small beside the derivative.
    steepest = mean / np.linalg.norm(mean)
    assert mean @ steepest == pytest.approx(slope(share, point.theta, steepest, 1e-3), rel=0.05)
