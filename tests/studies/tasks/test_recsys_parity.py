"""The recommenders' losses, gradients and trainings against PyTorch's, from the same weights and mini-batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from optadvisor.config import OptimizerConfig
from optadvisor.studies import training
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.recsys.dlrm import FEATURES
from optadvisor.studies.tasks.registry import FAMILIES, TASKS
from tests.studies.tasks.checks import Point, compiled

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

Loss = Callable[[Any], Any]


class Twin:
    """theta as PyTorch parameters of these shapes, in order."""

    def __init__(self, theta: np.ndarray, *shapes: tuple[int, ...]) -> None:
        cuts = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
        assert cuts[-1] == theta.size
        self.parts = [
            torch.from_numpy(part.reshape(shape).copy()).requires_grad_()
            for part, shape in zip(np.split(theta, cuts[:-1]), shapes, strict=True)
        ]

    @property
    def grad(self) -> np.ndarray:
        return np.concatenate([part.grad.reshape(-1).numpy() for part in self.parts])


def matrices(sizes: Any) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in itertools.pairwise(sizes)]


def network(x: Any, weights: list[Any], biases: list[Any]) -> Any:
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = x @ w + b
        x = x.relu() if i + 1 < len(weights) else x
    return x


def logistic(z: Any, clicked: Any) -> Any:
    return torch.nn.functional.binary_cross_entropy_with_logits(z, clicked)


def factorisation(task: BuiltinTask, theta: np.ndarray, reals: np.ndarray) -> tuple[Twin, Loss]:
    width, users, *_, n = (int(d) for d in task.problem.dims)
    twin = Twin(theta, (users, width), ((theta.size - 1) // width - users, width), (1,))
    ids, stars = torch.from_numpy(task.problem.integers.reshape(n, 2)), torch.from_numpy(reals)

    def loss(rows: Any) -> Any:
        p, q, mean = twin.parts
        u, v = p[ids[rows, 0]], q[ids[rows, 1]]
        z = mean + u[:, -1] + v[:, -1] + (u[:, :-1] * v[:, :-1]).sum(dim=1)
        return torch.nn.functional.mse_loss(z, stars[rows])

    return twin, loss


def hashed(task: BuiltinTask, theta: np.ndarray, reals: np.ndarray) -> tuple[Twin, Loss]:
    twin = Twin(theta, (theta.size - 1,), (1,))
    buckets = torch.from_numpy(task.problem.integers.reshape(-1, int(task.problem.dims[0])))
    clicked = torch.from_numpy(reals)

    def loss(rows: Any) -> Any:
        return logistic(twin.parts[0][buckets[rows]].sum(dim=1) + twin.parts[1], clicked[rows])

    return twin, loss


def two_tower(task: BuiltinTask, theta: np.ndarray, reals: np.ndarray) -> tuple[Twin, Loss]:
    width, n, sizes = int(task.problem.dims[1]), int(task.problem.dims[4]), task.problem.dims[5:]
    shapes, biases = matrices(sizes), [(int(size),) for size in sizes[1:]]
    ids = torch.from_numpy(task.problem.integers.reshape(n, 2))
    entities = task.problem.layout.embedding // width
    twin = Twin(theta, (entities, width), *shapes, *shapes, *biases, *biases, (1,))
    features, clicked = torch.from_numpy(reals[:-n].reshape(entities, -1)), torch.from_numpy(reals[-n:])
    depth = len(shapes)

    def loss(rows: Any) -> Any:
        table, *dense, bias = twin.parts
        towers = [
            network(
                torch.cat([table[ids[rows, side]], features[ids[rows, side]]], dim=1),
                dense[side * depth : (side + 1) * depth],
                dense[(2 + side) * depth : (3 + side) * depth],
            )
            for side in (0, 1)
        ]
        return logistic((towers[0] * towers[1]).sum(dim=1) + bias, clicked[rows])

    return twin, loss


def dlrm(task: BuiltinTask, theta: np.ndarray, reals: np.ndarray) -> tuple[Twin, Loss]:
    fields, width, _, _, n, *sizes = (int(d) for d in task.problem.dims)
    bottom, top = sizes[:3], sizes[3:]
    shapes, biases = [*matrices(bottom), *matrices(top)], [(size,) for size in (*bottom[1:], *top[1:])]
    twin = Twin(theta, (task.problem.layout.embedding // width, width), *shapes, *biases)
    ids = torch.from_numpy(task.problem.integers.reshape(n, fields))
    features, clicked = torch.from_numpy(reals[:-n].reshape(n, FEATURES)), torch.from_numpy(reals[-n:])
    first, second = np.tril_indices(fields + 1, -1)

    def loss(rows: Any) -> Any:
        table, w1, w2, w3, w4, b1, b2, b3, b4 = twin.parts
        dense = network(features[rows], [w1, w2], [b1, b2])
        vectors = torch.cat([dense[:, None], table[ids[rows]]], dim=1)
        dots = torch.bmm(vectors, vectors.transpose(1, 2))[:, first, second]
        return logistic(network(torch.cat([dense, dots], dim=1), [w3, w4], [b3, b4])[:, 0], clicked[rows])

    return twin, loss


TWINS = {
    "ratings-factorisation": factorisation,
    "clicks-hashed-logistic": hashed,
    "clicks-two-tower": two_tower,
    "clicks-dlrm": dlrm,
}


@pytest.mark.parametrize(
    ("name", "values"),
    [*((name, {}) for name in TWINS), ("clicks-two-tower", {"depth": 2}), ("clicks-dlrm", {"fields": 4, "width": 16})],
)
def test_the_same_loss_gradient_and_score_as_pytorch(name: str, values: dict[str, Any]):
    point = Point(BuiltinTask(FAMILIES[name], values))
    twin, loss = TWINS[name](point.task, point.theta, point._reals)
    wanted = loss(point.rows)
    wanted.backward()
    found, grad = point.loss_and_gradient()
    assert found == pytest.approx(wanted.item(), rel=1e-10)
    np.testing.assert_allclose(grad, twin.grad, rtol=1e-8, atol=1e-10)
    samples = point.problem.samples
    assert point.scores(0)[0] == pytest.approx(loss(np.arange(samples, samples + 1000)).item(), rel=1e-10)
    assert point.scores(1)[0] == pytest.approx(loss(np.arange(samples + 1000, samples + 2000)).item(), rel=1e-10)


@pytest.mark.parametrize("name", TWINS)
def test_the_same_losses_as_pytorch_over_fifty_steps(name: str):
    """Float32, fused AdamW with dense gradients, the mini-batches of the training."""
    task, steps, lr = TASKS[name], 50, 3e-3
    problem = task.problem
    twin, loss = TWINS[name](task, task.start(0), problem.reals)
    optimizer = torch.optim.AdamW(twin.parts, lr=lr, weight_decay=0.0, fused=True)
    run = training.Run(
        task.family, problem, OptimizerConfig.of("adamw", {"lr": lr, "weight_decay": 0.0}), 0, steps, task.start(0)
    )
    gradient, _ = compiled(task.family.program)
    grad, work = np.empty_like(run.theta), np.zeros(max(problem.work, 1), dtype=np.float32)
    for step, rows in enumerate(training.batches(problem, 0, steps)):
        optimizer.zero_grad()
        wanted = loss(rows)
        wanted.backward()
        optimizer.step()
        found = gradient(run.theta, problem.reals, problem.integers, problem.dims, rows, step, 0, grad, work)
        assert found == pytest.approx(wanted.item(), abs=1e-4)
        run.train_to(step + 1)
    np.testing.assert_allclose(
        run.theta, np.concatenate([part.detach().reshape(-1).numpy() for part in twin.parts]), atol=1e-3
    )
