"""The generative families: the adversarial pair's two gradients, what samples are scored by, against plain NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks.family import views
from optadvisor.studies.tasks.generative import diffusion, ring
from optadvisor.studies.tasks.layers.numbers import fill_normal, mix
from optadvisor.studies.tasks.registry import get
from tests.studies.tasks.checks import Point, slope

NUMBERS = specialise(mix, "numbers"), specialise(fill_normal, "numbers")


def normals(key: int, n: int) -> np.ndarray:
    out = np.empty(n)
    NUMBERS[1](key, out)
    return out


def network(sizes: list[int], weights: np.ndarray, biases: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A stack of dense layers with tanh between them."""
    matrices = views(tuple(itertools.pairwise(sizes)), weights)
    offsets = views(tuple((size,) for size in sizes[1:]), biases)
    for layer, (w, b) in enumerate(zip(matrices, offsets, strict=True)):
        x = x @ w + b
        if layer < len(matrices) - 1:
            x = np.tanh(x)
    return x


class Pair:
    """gan-ring's losses in NumPy, from the same random numbers."""

    def __init__(self, point: Point) -> None:
        values, problem = point.task.values, point.problem
        hidden = [values["width"]] * values["depth"]
        self.generator, self.discriminator = [values["latent"], *hidden, 2], [2, *hidden, 1]
        counts = [[sum(a * b for a, b in itertools.pairwise(s)), sum(s[1:])] for s in self.networks]
        self.cuts = np.cumsum([0, counts[0][0], counts[1][0], counts[0][1], counts[1][1]])
        n = len(point.rows)
        data = problem.reals.astype(np.float64)[-2 * problem.samples :].reshape(-1, 2)
        self.z = normals(point.key, n * values["latent"]).reshape(n, -1)
        noise = float(np.float32(values["blur"])) * normals(NUMBERS[0](point.key, 1), 4 * n).reshape(2 * n, 2)
        self.blur, self.real = noise[:n], data[point.rows] + noise[n:]

    @property
    def networks(self) -> tuple[list[int], list[int]]:
        return self.generator, self.discriminator

    def parts(self, theta: np.ndarray) -> list[np.ndarray]:
        return [theta[a:b] for a, b in zip(self.cuts[:-1], self.cuts[1:], strict=True)]

    def mask(self, player: int) -> np.ndarray:
        """1 where theta is the generator's (0) or the discriminator's (1)."""
        found = np.zeros(self.cuts[-1])
        for part in (player, player + 2):
            found[self.cuts[part] : self.cuts[part + 1]] = 1
        return found

    def losses(self, theta: np.ndarray) -> tuple[float, float]:
        """Of the generator, of the discriminator."""
        wg, wd, bg, bd = self.parts(theta)
        fakes = network(self.generator, wg, bg, self.z) + self.blur
        fake, real = (network(self.discriminator, wd, bd, x) for x in (fakes, self.real))
        softplus = lambda x: np.logaddexp(0, x)  # noqa: E731
        return float(softplus(-fake).mean()), float(softplus(fake).mean() + softplus(-real).mean())


VARIANTS = ["gan-ring", "gan-ring:depth=1,batch=16,latent=16,blur=0,width=16"]


@pytest.mark.parametrize("name", VARIANTS)
def test_each_player_s_gradient_is_that_of_its_own_loss(name: str):
    point = Point(get(name), seed=3, key=77, scale=4.0)
    pair = Pair(point)
    loss, grad = point.loss_and_gradient()
    losses = pair.losses(point.theta)
    assert loss == pytest.approx(sum(losses), rel=1e-12)
    rng = np.random.default_rng(1)
    for player in (0, 1):
        own = pair.mask(player)
        assert np.linalg.norm(grad * own) > 1e-3
        for _ in range(6):
            direction = own * rng.standard_normal(grad.size)
            direction /= np.linalg.norm(direction)
            wanted = slope(lambda theta, player=player: pair.losses(theta)[player], point.theta, direction, 1e-4)
            assert grad @ direction == pytest.approx(wanted, rel=1e-7, abs=1e-9)


@pytest.mark.parity
@pytest.mark.parametrize("name", VARIANTS)
def test_both_players_gradients_are_pytorch_s(name: str):
    torch = pytest.importorskip("torch")
    point = Point(get(name), seed=3, key=77, scale=4.0)
    pair = Pair(point)
    _, grad = point.loss_and_gradient()
    theta = torch.tensor(point.theta, requires_grad=True)
    wg, wd, bg, bd = pair.parts(theta)

    def network(sizes, weights, biases, x):
        w = b = 0
        for layer, (m, n) in enumerate(itertools.pairwise(sizes)):
            x = x @ weights[w : w + m * n].reshape(m, n) + biases[b : b + n]
            w, b = w + m * n, b + n
            x = torch.tanh(x) if layer < len(sizes) - 2 else x
        return x

    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    fakes = network(pair.generator, wg, bg, torch.tensor(pair.z)) + torch.tensor(pair.blur)
    fake, real = (network(pair.discriminator, wd, bd, x) for x in (fakes, torch.tensor(pair.real)))
    ones, zeros = torch.ones_like(fake), torch.zeros_like(fake)
    (of_generator,) = torch.autograd.grad(entropy(fake, ones), theta, retain_graph=True)
    (of_discriminator,) = torch.autograd.grad(entropy(real, ones) + entropy(fake, zeros), theta)
    wanted = of_generator.numpy() * pair.mask(0) + of_discriminator.numpy() * pair.mask(1)
    np.testing.assert_allclose(grad, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["gan-ring", "gan-ring:modes=2", "diffusion-ring:modes=16,spread=0.02"])
def test_generated_points_are_scored_as_said(name: str):
    """Energy distance and coverage of what the generator makes, worked out with arrays of all pairs."""
    point = Point(get(name), scale=0.0)
    values, problem = point.task.values, point.problem
    if name.startswith("diffusion"):
        reals = problem.reals.astype(np.float64)
        first = diffusion.TABLE + (values["levels"] + 1) * diffusion.ROW
        made, reference = ddim(point), reals[first : first + 2 * ring.REFERENCE].reshape(-1, 2)
    else:
        pair = Pair(point)
        pieces = [
            normals(NUMBERS[0](point.key, first), 100 * values["latent"]).reshape(100, -1)
            for first in range(0, ring.REFERENCE, 100)
        ]
        wg, _, bg, _ = pair.parts(point.theta)
        made = network(pair.generator, wg, bg, np.concatenate(pieces))
        reference = problem.reals.astype(np.float64)[3 : 3 + 2 * ring.REFERENCE].reshape(-1, 2)

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a[:, None] - b[None], axis=2).mean())

    distance = 2 * apart(made, reference) - apart(made, made) - apart(reference, reference)
    assert point.scores()[-3] == pytest.approx(distance, rel=1e-5)
    assert distance > 0


def ddim(point: Point) -> np.ndarray:
    """diffusion-ring's generated points in NumPy, with relu between the layers."""
    values, problem = point.task.values, point.problem
    sizes = [2 + diffusion.FEATURES, *[values["width"]] * values["depth"], 2]
    count = sum(a * b for a, b in itertools.pairwise(sizes))
    matrices = views(tuple(itertools.pairwise(sizes)), point.theta[:count])
    offsets = views(tuple((size,) for size in sizes[1:]), point.theta[count:])
    levels = values["levels"]
    table = problem.reals.astype(np.float64)[3 : 3 + (levels + 1) * 10].reshape(levels + 1, 10)
    np.testing.assert_allclose(table[:, 0] ** 2 + table[:, 1] ** 2, 1, rtol=1e-6)
    x = np.concatenate([normals(NUMBERS[0](point.key, -1 - first), 100).reshape(50, 2) for first in range(0, 200, 50)])
    times = [levels * (16 - turn) // 16 for turn in range(17)]
    for t, after in itertools.pairwise(times):
        h = np.concatenate([x, np.tile(table[t, 2:], (len(x), 1))], axis=1)
        for layer, (w, b) in enumerate(zip(matrices, offsets, strict=True)):
            h = h @ w + b if layer == len(matrices) - 1 else np.maximum(h @ w + b, 0)
        clean = ((x - table[t, 1] * h) / table[t, 0]).clip(-2, 2)
        x = table[after, 0] * clean + table[after, 1] * (x - table[t, 0] * clean) / table[t, 1]
    return x


def test_coverage_counts_modes_and_points_near_them():
    covered = specialise(ring.covered, "ring")
    perfect = ring.points(400, 8, 0.05, np.random.default_rng(0)).astype(np.float64)
    held, near = covered(perfect, 8, 0.05)
    assert held == 1.0
    assert near > 0.97
    half = perfect[perfect[:, 0] > 0.3]
    assert covered(half, 8, 0.05)[0] == 3 / 8
    assert covered(np.zeros((10, 2)), 8, 0.05) == (0.0, 0.0)
    # a wide mode's disk reaches into its neighbours' sectors: each point counts once
    assert covered(perfect, 8, 0.5)[1] <= 1.0
    both = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.9], [0.9, -0.1]])
    assert covered(both, 2, 0.1) == (1.0, 0.75)


def test_ring_points_are_as_many_of_each_mode():
    points = ring.points(800, 8, 0.02, np.random.default_rng(0))
    angles = np.round(np.arctan2(points[:, 1], points[:, 0]) / (np.pi / 4)).astype(int) % 8
    np.testing.assert_array_equal(np.bincount(angles), [100] * 8)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=0.12)
