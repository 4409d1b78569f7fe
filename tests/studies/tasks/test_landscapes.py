"""What the landscapes say of themselves: their minima, their conditioning, their noise, how they move."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from optadvisor.config import OptimizerConfig
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.landscapes import FAMILIES
from optadvisor.studies.tasks.landscapes.drifting import DRIFTING_MINIMUM, MOTIONS, PERIOD
from optadvisor.studies.tasks.landscapes.surface import ILL_CONDITIONED
from optadvisor.studies.tasks.registry import get
from tests.studies.tasks.checks import Point, check_gradient

BY_NAME = {family.name: family for family in FAMILIES}
FIXED = [name for name in BY_NAME if name != "drifting-minimum"]


def point(name: str, **values: object) -> Point:
    return Point(BuiltinTask(BY_NAME[name], values))


def descend(at: Point, steps: int = 60) -> np.ndarray:
    """A minimum, by Newton's method with a Hessian from differences of the gradient, kept positive."""
    theta = at.theta.copy()
    for _ in range(steps):
        loss, grad = at.loss_and_gradient(theta)
        values, vectors = np.linalg.eigh(hessian(at, theta))
        step = vectors @ ((vectors.T @ grad) / np.maximum(np.abs(values), 1e-9))
        while at.loss(theta - step) > loss and np.linalg.norm(step) > 1e-14:
            step /= 2
        theta -= step
    return theta


def hessian(at: Point, theta: np.ndarray, width: float = 1e-5) -> np.ndarray:
    rows = [
        (at.loss_and_gradient(theta + width * e)[1] - at.loss_and_gradient(theta - width * e)[1]) / (2 * width)
        for e in np.eye(theta.size)
    ]
    return (np.array(rows) + np.array(rows).T) / 2


def variants(name: str) -> list[dict[str, object]]:
    """Two small sizes with every value of the axes that shape the surface."""
    shape = {
        "quadratic": {"dimensions": (2, 8), "condition": (1.0, 1e3, 1e5), "spectrum": ("even", "outliers")},
        "quadratic-heavy-tail": {"dimensions": (8,), "condition": (100.0, 1e3)},
        "ravine": {
            "dimensions": (2, 8),
            "bend": (0.0, 0.5, 1.5),
            "length": (2.0, 5.0, 20.0),
            "steepness": (10.0, 100.0, 1e3, 1e4),
        },
        "saddle": {"dimensions": (8,), "curvature": (1e-4, 0.1, 1.0)},
        "rosenbrock": {"dimensions": (2, 3, 10), "steepness": (1.0, 10.0, 100.0), "start": ("origin",)},
    }[name]
    return [dict(zip(shape, chosen, strict=True)) for chosen in itertools.product(*shape.values())]


@pytest.mark.parametrize("name", ["quadratic", "ravine", "saddle", "rosenbrock"])
def test_the_loss_is_zero_at_the_minimum_and_the_profile_knows_its_conditioning(name: str):
    seen = set()
    for values in variants(name):
        at = point(name, noise=0.0, **values)
        if name == "rosenbrock":
            theta = np.ones(at.theta.size)
        elif name == "ravine":  # its minimum is far down the valley
            at.theta = minimum_of_ravine(at)
            theta = descend(at, 5)
        else:
            theta = descend(at)
        loss, grad = at.loss_and_gradient(theta)
        assert abs(loss) < 1e-10, values
        assert np.linalg.norm(grad) < 1e-6, values
        at.theta = theta
        assert at.scores()[0] == -8, values
        curvatures = np.linalg.eigvalsh(hessian(at, theta))
        condition = curvatures[-1] / curvatures[0]
        assert curvatures[0] > 0, values
        if abs(condition / ILL_CONDITIONED - 1) > 0.01:  # the differences are not exact
            assert at.task.profile.ill_conditioned == (condition > ILL_CONDITIONED), (values, condition)
        elif name == "quadratic":
            assert at.task.profile.ill_conditioned
        seen.add(at.task.profile.ill_conditioned)
    assert seen == {True, False}


def minimum_of_ravine(at: Point) -> np.ndarray:
    """Of one that is not rotated."""
    bend, length = at.problem.reals[3:5].astype(float)
    found = np.where(np.arange(at.theta.size) % 2, bend * np.sin(length), bend * (np.cos(length) - 1))
    found[0] = length
    return found


@pytest.mark.parametrize("name", ["quadratic", "quadratic-heavy-tail", "ravine", "saddle", "rosenbrock", "deep-linear"])
def test_convex_is_said_where_it_is_so(name: str):
    """The Hessians at 20 random places have no negative eigenvalue, or some do."""
    cases = [{}] if name == "deep-linear" else variants(name)[:: 1 if name != "ravine" else 5]
    for values in cases:
        at = point(name, **({"noise": 0.0} if name != "quadratic-heavy-tail" else {}), **values)
        rng = np.random.default_rng(0)
        least = min(np.linalg.eigvalsh(hessian(at, at.theta + rng.normal(size=at.theta.size)))[0] for _ in range(20))
        assert (least > -1e-7) == at.task.profile.convex, (values, least)


@pytest.mark.parametrize("name", FIXED)
def test_the_noise_has_no_mean_and_the_value_has_no_noise(name: str):
    """The loss with noise is the loss plus a random slope, so its gradient is exact; slopes cancel in the mean."""
    choices = BY_NAME[name].axes["noise"].choices
    # Without noise; of heavy-tailed noise with next to none, and of a variance that there is.
    quiet, noisy = ({"noise": noise} for noise in (choices[0], choices[-1]))
    more = {"tail": 5.0} if name == "quadratic-heavy-tail" else {}
    at, other = point(name, **noisy, **more), point(name, **quiet, **more)
    found = []
    for at.key in range(400):
        found.append(at.loss_and_gradient()[1])
    errors = np.mean(found, axis=0) - other.loss_and_gradient()[1]
    shares = errors / (np.std(found, axis=0) / np.sqrt(len(found)))
    assert np.abs(shares).max() < 6
    assert 0.5 < np.sqrt((shares**2).mean()) < 1.6
    assert at.scores()[0] == pytest.approx(other.scores()[0], abs=1e-12)


def test_heavy_tails_are_heavy():
    """The largest of 3,000 random slopes against their median: what tells 1.1 from 5 degrees of freedom."""
    ratios = []
    for tail in (5.0, 3.0, 2.0, 1.5, 1.1):
        at = point("quadratic-heavy-tail", tail=tail)
        slopes = []
        for key in range(100):
            at.key = key
            slopes.append(at.loss_and_gradient()[1])
        slopes = np.abs(np.array(slopes) - np.median(slopes, axis=0))
        ratios.append(slopes.max() / np.median(slopes))
    assert ratios == sorted(ratios)
    assert ratios[0] < 40
    assert ratios[-1] > 400


def test_adaptive_rules_undo_the_scaling_of_coordinates_but_no_rotation():
    config = OptimizerConfig.of("adam", {"lr": 0.03})
    straight, turned = (
        np.median([get(f"quadratic:noise=0{more}").train(config, seed).value for seed in range(5)])
        for more in (",rotated=False", "")
    )
    assert straight < turned - 1


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_moving_minimum_has_an_exact_gradient_without_noise(motion: str):
    for step, key in ((0, 1), (3, 99), (PERIOD, 5)):
        task = BuiltinTask(DRIFTING_MINIMUM, {"motion": motion, "noise": 0.0})
        check_gradient(Point(task, seed=step, step=step, key=key))


def path(motion: str, steps: int = 400, speed: float = 0.1) -> np.ndarray:
    """The minimum at every step."""
    at = Point(BuiltinTask(DRIFTING_MINIMUM, {"motion": motion, "speed": speed, "dimensions": 128, "noise": 0.3}))
    work, grad = np.zeros(at.problem.work), np.empty(at.theta.size)
    found = []
    for step in range(steps):
        key = 1000 + 17 * step
        reals = at.problem.reals.astype(float)
        problem = at.problem
        at.gradient(at.theta, reals, problem.integers, problem.dims, at.rows, step, key, grad, work)
        found.append(work[: at.theta.size].copy())
    return np.array(found)


def test_the_motions_are_what_they_are_called_and_as_fast_as_said():
    moves = {motion: np.diff(path(motion), axis=0) for motion in MOTIONS}
    np.testing.assert_allclose(moves["linear"], np.broadcast_to(moves["linear"][0], moves["linear"].shape), atol=1e-9)
    correlation = (moves["walk"][1:] * moves["walk"][:-1]).mean() / (moves["walk"] ** 2).mean()
    assert abs(correlation) < 0.05
    jumped = np.flatnonzero(np.abs(moves["jumps"]).max(axis=1)) + 1
    assert jumped.tolist() == list(range(PERIOD, 400, PERIOD))
    for motion in MOTIONS:
        size = np.sqrt((moves[motion][moves[motion].any(axis=1)] ** 2).mean())
        assert size == pytest.approx(0.1 * (PERIOD if motion == "jumps" else 1), rel=0.15), motion


def test_the_drifting_value_is_the_mean_loss_of_the_last_fifth_without_noise():
    """With a step size of almost nothing the loss is the minimum's way alone, the same with and without noise."""
    config = OptimizerConfig.of("sgd", {"lr": 1e-12})
    with_noise, without = (get(f"drifting-minimum:noise={noise}").train(config, 3) for noise in (1, 0))
    assert with_noise.value == pytest.approx(without.value, rel=1e-5)
    assert [step for step, _ in with_noise.curve] == [100, 200, 300, 400, 500]


def test_following_a_fast_minimum_takes_larger_steps():
    """The best learning rate rises with the speed of the minimum and falls with the noise."""

    def best(**values: object) -> float:
        task = BuiltinTask(DRIFTING_MINIMUM, {"condition": 1.0, **values})
        rates = np.geomspace(0.003, 1.0, 9)
        found = [
            np.mean([task.train(OptimizerConfig.of("sgd", {"lr": float(lr)}), seed).value for seed in range(3)])
            for lr in rates
        ]
        return float(rates[np.argmin(found)])

    assert best(speed=0.01) < best(speed=0.1)
    assert best(noise=1.0) < best(noise=0.1)


def test_momentum_is_at_home_in_the_ravine():
    """The best of each rule's learning rates, noise-free: momentum is far ahead of gradient descent."""
    task = get("ravine:noise=0,steepness=1000,steps=1000")
    rates = np.geomspace(0.01, 1.5, 8)
    best = {
        rule: min(task.train(OptimizerConfig.of(rule, {"lr": float(lr)}), 0).value for lr in rates)
        for rule in ("sgd", "momentum")
    }
    assert best["momentum"] < best["sgd"] - 0.5


def test_the_nearer_the_saddle_the_longer_the_escape():
    config = OptimizerConfig.of("sgd", {"lr": 0.5})

    def escaped(near: str) -> int:
        record = get(f"saddle:near={near},noise=0,steps=2000").train(config, 1, 2000)
        return next(step for step, value in record.curve if value < -1)

    assert get("saddle:near=0.0001,noise=0,steps=100").train(config, 1).metrics["still_there"] == 1
    assert escaped("0.1") <= escaped("0.0001")
    short = [get(f"saddle:near={near},noise=0,steps=100").train(config, 1).value for near in ("0.1", "0.01", "0.0001")]
    assert short == sorted(short)


def test_the_deep_linear_plateau_grows_with_depth():
    """At a small gain a shallow product is fitted in the time in which a deep one has not begun."""
    config = OptimizerConfig.of("sgd", {"lr": 0.1})
    shallow, deep = (get(f"deep-linear:depth={depth},gain=0.25").train(config, 0).value for depth in (2, 6))
    assert shallow < -1
    assert deep > -0.01
