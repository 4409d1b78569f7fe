"""The nets on images against PyTorch: whole gradients, and the losses of whole trainings, from the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from optadvisor.config import OptimizerConfig
from optadvisor.kernels.compiling import specialise
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies import training
from optadvisor.studies.tasks import get
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.family import views
from optadvisor.studies.tasks.layers.numbers import fill_normal
from optadvisor.studies.tasks.vision.autoencoder import destroy
from tests.studies.tasks.checks import Point, compiled

torch = pytest.importorskip("torch")
functional = torch.nn.functional
pytestmark = pytest.mark.parity

Loss = Callable[[list[Any], NDArray[np.int64]], Any]


def parameters(shapes: list[tuple[int, ...]], theta: NDArray[Any]) -> list[Any]:
    assert sum(math.prod(shape) for shape in shapes) == theta.size
    return [torch.tensor(part.copy(), requires_grad=True) for part in views(tuple(shapes), theta)]


def check_whole_gradient(task: BuiltinTask, shapes: list[tuple[int, ...]], loss: Loss) -> None:
    point = Point(task)
    found, grad = point.loss_and_gradient()
    twins = parameters(shapes, point.theta)
    expected = loss(twins, point.rows)
    expected.backward()
    assert found == pytest.approx(expected.item(), rel=1e-9)
    whole = np.concatenate([twin.grad.numpy().reshape(-1) for twin in twins])
    np.testing.assert_allclose(grad, whole, rtol=1e-6, atol=1e-9)


def check_training(task: BuiltinTask, shapes: list[tuple[int, ...]], loss: Loss, lr: float, steps: int = 50) -> None:
    """AdamW: the loss of every step within 1e-4 of PyTorch's, from the same weights and mini-batches, in float32."""
    problem = task.problem
    config = OptimizerConfig.of("adamw", {"lr": lr, "weight_decay": 0.1}, Schedule("constant", 0, steps))
    run = training.Run(task.family, problem, config, 1, steps, task.start(1))
    gradient, _ = compiled(task.family.program)
    twins = parameters(shapes, run.theta)
    split = next(i for i in range(len(shapes) + 1) if sum(map(math.prod, shapes[:i])) == problem.layout.dense)
    decayed, plain = twins[:split], twins[split:]
    twin = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=lr)
    grad, work = np.empty_like(run.theta), np.zeros(problem.work, np.float32)
    for step, rows in enumerate(training.batches(problem, 1, steps)):
        run.train_to(step)
        mine = gradient(run.theta, problem.reals, problem.integers, problem.dims, rows, step, 0, grad, work)
        twin.zero_grad()
        expected = loss(twins, rows)
        expected.backward()
        assert mine == pytest.approx(expected.item(), abs=1e-4)
        twin.step()


def cnn(task: BuiltinTask, normed: bool) -> tuple[list[tuple[int, ...]], Callable[[Any], Loss]]:
    width, depth = task.values["width"], task.values["depth"]
    channels = [1, width, *[2 * width] * (depth - 1)]
    filters = channels[1:]
    side = 4 if depth == 1 else 2
    shapes: list[tuple[int, ...]] = [(f, c, 3, 3) for c, f in zip(channels[:-1], filters, strict=True)]
    shapes.append((10, filters[-1] * side * side))
    for count in filters:
        shapes += [(count,)] * (1 + normed)
    shapes.append((10,))

    def of(x: Any) -> Loss:
        labels = torch.tensor(task.problem.integers)

        def loss(twins: list[Any], rows: NDArray[np.int64]) -> Any:
            h, biases = x[rows], twins[depth + 1 :]
            for layer in range(depth):
                if normed:
                    h = functional.conv2d(h, twins[layer], padding=1)
                    gain, shift = biases[2 * layer : 2 * layer + 2]
                    h = functional.batch_norm(h, None, None, gain, shift, training=True)
                else:
                    h = functional.conv2d(h, twins[layer], biases[layer], padding=1)
                h = h.relu()
                if layer in (0, depth - 1):
                    h = functional.max_pool2d(h, 2)
            # Our images lie in memory line by line, then by channel.
            z = functional.linear(h.permute(0, 2, 1, 3).flatten(1), twins[depth], biases[-1])
            return functional.cross_entropy(z, labels[rows])

        return loss

    return shapes, of


@pytest.mark.parametrize("name", ["digits-cnn", "digits-cnn-bn", "photo-textures"])
@pytest.mark.parametrize("variant", ["", ":depth=1", ":depth=3,width=4"])
def test_convolutional_nets(name: str, variant: str):
    task = get(name + variant)
    shapes, of = cnn(task, name == "digits-cnn-bn")
    x = torch.tensor(task.problem.reals).reshape(-1, 1, 8, 8)
    check_whole_gradient(task, shapes, of(x.double()))
    check_training(task, shapes, of(x), 3e-3)


@torch.no_grad()
def test_batch_norm_is_evaluated_with_precise_statistics():
    task = get("digits-cnn-bn")
    shapes, _ = cnn(task, True)
    point = Point(task)
    theta = parameters(shapes, point.theta)
    x, labels = torch.tensor(point.problem.reals).double().reshape(-1, 1, 8, 8), torch.tensor(point.problem.integers)

    def convolved(h: Any, layer: int, statistics: Any) -> tuple[Any, Any, Any]:
        h = functional.conv2d(h, theta[layer], padding=1)
        mean, square = h.mean((0, 2, 3)), (h**2).mean((0, 2, 3))
        used = (mean, square - mean**2) if statistics is None else statistics
        h = functional.batch_norm(h, *used, *theta[3 + 2 * layer : 5 + 2 * layer])
        return functional.max_pool2d(h.relu(), 2), mean, square

    sums = [[torch.zeros(f, dtype=torch.double) for _ in range(2)] for f in (8, 16)]
    for batch in x[:256].split(32):
        h = batch
        for layer in (0, 1):
            h, mean, square = convolved(h, layer, None)
            sums[layer][0] += mean / 8
            sums[layer][1] += square / 8
    h = x[1200:1497]
    for layer in (0, 1):
        mean, square = sums[layer]
        h, _, _ = convolved(h, layer, (mean, square - mean**2))
    z = functional.linear(h.permute(0, 2, 1, 3).flatten(1), theta[2], theta[-1])
    expected = functional.cross_entropy(z, labels[1200:1497]).item()
    accuracy = (z.argmax(1) == labels[1200:1497]).double().mean().item()
    assert point.scores(0) == pytest.approx([expected, accuracy], rel=1e-8)


@pytest.mark.parametrize("variant", ["", ":depth=1,width=4"])
def test_residual_nets(variant: str):
    task = get("digits-resnet" + variant)
    width, depth = task.values["width"], task.values["depth"]
    norms = 2 * depth + 1
    shapes = [(width, 1, 3, 3), *[(width, width, 3, 3)] * (2 * depth), (10, width), *[(width,)] * (2 * norms), (10,)]
    labels = torch.tensor(task.problem.integers)

    def of(x: Any) -> Loss:
        def loss(twins: list[Any], rows: NDArray[np.int64]) -> Any:
            gains = twins[2 * depth + 2 :]

            def active(h: Any, i: int) -> Any:
                return functional.batch_norm(h, None, None, *gains[2 * i : 2 * i + 2], training=True).relu()

            h = functional.max_pool2d(functional.conv2d(x[rows], twins[0], padding=1), 2)
            for i in range(0, 2 * depth, 2):
                inner = functional.conv2d(active(h, i), twins[1 + i], padding=1)
                h = h + functional.conv2d(active(inner, i + 1), twins[2 + i], padding=1)
            z = functional.linear(active(h, 2 * depth).mean((2, 3)), twins[2 * depth + 1], twins[-1])
            return functional.cross_entropy(z, labels[rows])

        return loss

    x = torch.tensor(task.problem.reals).reshape(-1, 1, 8, 8)
    check_whole_gradient(task, shapes, of(x.double()))
    check_training(task, shapes, of(x), 3e-3)


@pytest.mark.parametrize("variant", ["", ":activation=tanh,depth=2"])
def test_denoising_autoencoders(variant: str):
    task = get("digits-autoencoder" + variant)
    hidden = [task.values["width"]] * task.values["depth"]
    sizes = [64, *hidden, task.values["code"], *hidden, 64]
    shapes: list[tuple[int, ...]] = [*zip(sizes[:-1], sizes[1:], strict=True), *[(size,) for size in sizes[1:]]]
    layers = len(sizes) - 1
    x = task.problem.reals[1:].reshape(-1, 64).astype(np.float64)

    def loss(twins: list[Any], rows: NDArray[np.int64]) -> Any:
        seen = np.full((len(rows), 64), np.nan)
        specialise(destroy, "test")(x[rows], task.problem.reals[0], 12345, seen)
        assert (seen == x[rows])[seen != 0].all()
        h = torch.tensor(seen)
        for layer in range(layers):
            h = functional.linear(h, twins[layer].T, twins[layers + layer])
            if layer < layers - 1:
                h = h.tanh() if "tanh" in variant else h.relu()
        return functional.mse_loss(h, torch.tensor(x[rows]))

    check_whole_gradient(task, shapes, loss)


@pytest.mark.parametrize("variant", ["", ":depth=2,width=4", ":depth=4,noise=0.05"])
def test_convolutional_denoisers(variant: str):
    task = get("photo-denoiser" + variant)
    width, depth = task.values["width"], task.values["depth"]
    channels = [1, *[width] * (depth - 1), 1]
    shapes: list[tuple[int, ...]] = [(f, c, 3, 3) for c, f in zip(channels[:-1], channels[1:], strict=True)]
    shapes += [(f,) for f in channels[1:]]
    x = torch.tensor(task.problem.reals[1:]).double().reshape(-1, 1, 8, 8)

    def loss(twins: list[Any], rows: NDArray[np.int64]) -> Any:
        noise = np.full(64 * len(rows), np.nan)
        specialise(fill_normal, "test")(12345, noise)
        added = torch.tensor(noise * task.problem.reals[0]).reshape(8, 8, len(rows)).permute(2, 0, 1)[:, None]
        h = x[rows] + added
        for layer in range(depth):
            h = functional.conv2d(h, twins[layer], twins[depth + layer], padding=1)
            if layer < depth - 1:
                h = h.relu()
        return functional.mse_loss(h, added)

    check_whole_gradient(task, shapes, loss)
