"""digits-vae and diffusion-ring against PyTorch: loss and gradient from the same weights and random numbers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks.generative import diffusion, ring
from optadvisor.studies.tasks.layers.numbers import below, fill_normal, mix
from optadvisor.studies.tasks.registry import get
from tests.studies.tasks.checks import Point

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
MIX, BELOW, FILL = (specialise(function, "numbers") for function in (mix, below, fill_normal))


def normals(key: int, *shape: int) -> Any:
    out = np.empty(int(np.prod(shape)))
    FILL(key, out)
    return torch.tensor(out.reshape(shape))


def relu_network(weights: Any, biases: Any, sizes: list[int], x: Any) -> Any:
    w = b = 0
    for layer, (m, n) in enumerate(itertools.pairwise(sizes)):
        x = torch.nn.functional.linear(x, weights[w : w + m * n].reshape(m, n).T, biases[b : b + n])
        x = torch.relu(x) if layer < len(sizes) - 2 else x
        w, b = w + m * n, b + n
    return x


def counts(sizes: list[int]) -> tuple[int, int]:
    return sum(m * n for m, n in itertools.pairwise(sizes)), sum(sizes[1:])


def check(point: Point, theta: Any, wanted: Any) -> None:
    loss, grad = point.loss_and_gradient()
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), rel=1e-10)
    np.testing.assert_allclose(grad, theta.grad.numpy(), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", ["digits-vae", "digits-vae:depth=2,beta=4,latent=2,batch=16"])
def test_digits_vae(name: str):
    point = Point(get(name), seed=1)
    values, n = point.task.values, len(point.rows)
    hidden = [values["width"]] * values["depth"]
    encoder, decoder = [64, *hidden, 2 * values["latent"]], [values["latent"], *hidden, 64]
    theta = torch.tensor(point.theta, requires_grad=True)
    ends = np.cumsum([0, counts(encoder)[0], counts(decoder)[0], counts(encoder)[1], counts(decoder)[1]])
    we, wd, be, bd = (theta[a:b] for a, b in itertools.pairwise(ends))
    images = torch.tensor(point.problem.reals[1:].reshape(-1, 64)[point.rows].astype(np.float64))
    mean, log_variance = relu_network(we, be, encoder, images).chunk(2, dim=1)
    normal = torch.distributions.Normal
    posterior = normal(mean, (0.5 * log_variance).exp())
    code = mean + posterior.scale * normals(point.key, n, values["latent"])
    logits = relu_network(wd, bd, decoder, code)
    pixels = torch.nn.functional.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    prior = torch.distributions.kl_divergence(posterior, normal(torch.zeros_like(mean), torch.ones_like(mean))).sum()
    check(point, theta, (pixels + values["beta"] * prior) / n)


@pytest.mark.parametrize("name", ["diffusion-ring", "diffusion-ring:depth=3,levels=1000,batch=16,width=16"])
def test_diffusion_ring(name: str):
    point = Point(get(name), seed=1)
    values, n = point.task.values, len(point.rows)
    levels, reals = values["levels"], point.problem.reals.astype(np.float64)
    sizes = [2 + diffusion.FEATURES, *[values["width"]] * values["depth"], 2]
    theta = torch.tensor(point.theta, requires_grad=True)
    cut = counts(sizes)[0]
    t = np.array([1 + BELOW(MIX(point.key, 1), i, levels) for i in range(n)])

    # the cosine schedule and the features anew
    def alpha(t: np.ndarray) -> np.ndarray:
        f = lambda u: np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2  # noqa: E731
        return (f(t / levels) / f(0)).clip(1e-3, 1 - 1e-6)

    turns = np.pi * (t / levels)[:, None] * [1, 2, 4, 8]
    table = np.concatenate(
        [np.sqrt(alpha(t))[:, None], np.sqrt(1 - alpha(t))[:, None], np.sin(turns), np.cos(turns)], 1
    )
    table = torch.tensor(table.astype(np.float32).astype(np.float64))
    data = torch.tensor(reals[-2 * values["samples"] :].reshape(-1, 2)[point.rows])
    noise = normals(MIX(point.key, 0), n, 2)
    x = torch.cat([table[:, :1] * data + table[:, 1:2] * noise, table[:, 2:]], dim=1)
    predicted = relu_network(theta[:cut], theta[cut:], sizes, x)
    check(point, theta, torch.nn.functional.mse_loss(predicted, noise))
    assert len(reals) == 3 + 10 * (levels + 1) + 4 * ring.REFERENCE + 2 * values["samples"]
