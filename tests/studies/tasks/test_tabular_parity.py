"""The tabular tasks' losses and gradients against PyTorch's, from the same weights and mini-batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.registry import FAMILIES
from tests.studies.tasks.checks import Point

TASKS = [
    *(("cancer-logistic", {}), ("wine-softmax", {}), ("diabetes-linear", {"penalty": 0.1})),
    *(("diabetes-mlp", {}), ("friedman-mlp", {"depth": 3}), ("tabular-mlp", {})),
]


@pytest.mark.parity
@pytest.mark.parametrize(("name", "values"), TASKS)
def test_the_same_loss_gradient_and_scores_as_pytorch(name: str, values: dict):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    point = Point(BuiltinTask(FAMILIES[name], values))
    problem = point.problem
    _, end, total, *sizes = problem.dims
    x = torch.from_numpy(point._reals[1 : 1 + total * sizes[0]].reshape(total, sizes[0]))
    y = torch.from_numpy(point._reals[1 + total * sizes[0] :])
    pairs = list(itertools.pairwise(sizes))
    counts = [a * b for a, b in pairs] + sizes[1:]
    parts = [torch.from_numpy(part.copy()).requires_grad_() for part in np.split(point.theta, np.cumsum(counts)[:-1])]
    matrices = [part.reshape(shape) for part, shape in zip(parts, pairs, strict=False)]

    def loss(rows: np.ndarray) -> torch.Tensor:
        z = x[rows]
        for i, (w, b) in enumerate(zip(matrices, parts[len(pairs) :], strict=True)):
            z = z @ w + b
            z = z.relu() if i + 1 < len(pairs) else z
        if name == "wine-softmax":
            return functional.cross_entropy(z, torch.from_numpy(problem.integers[rows]))
        if name in ("cancer-logistic", "tabular-mlp"):
            return functional.binary_cross_entropy_with_logits(z[:, 0], y[rows])
        return functional.mse_loss(z[:, 0], y[rows])

    wanted = loss(point.rows) + 0.5 * point._reals[0] * sum((w**2).sum() for w in matrices)
    wanted.backward()
    found, grad = point.loss_and_gradient()
    assert found == pytest.approx(wanted.item(), rel=1e-10)
    np.testing.assert_allclose(grad, np.concatenate([part.grad.numpy() for part in parts]), rtol=1e-8, atol=1e-10)
    assert point.scores(1)[0] == pytest.approx(loss(np.arange(end, total)).item(), rel=1e-10)
