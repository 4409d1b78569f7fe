"""digits-mlp and the data it shares: the same path as PyTorch; parts that do not meet; a cache that heals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optadvisor.config import OptimizerConfig
from optadvisor.kernels import Optimizer
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies import training
from optadvisor.studies.tasks import datasets, get
from optadvisor.studies.tasks.family import views
from optadvisor.studies.tasks.vision import mlp
from tests.studies.tasks.checks import Point, compiled

SHAPES = ((64, 32), (32, 10), (32,), (10,))


def test_the_evaluation_is_the_mean_over_the_whole_part():
    task = get("digits-mlp")
    point = Point(task)
    for part, (first, last) in enumerate(((1200, 1497), (1497, 1797))):
        loss, accuracy = point.scores(part)
        point.rows = np.arange(first, last)
        point.problem = point.problem.__class__(**{**vars(point.problem), "work": 10**6})
        assert loss == pytest.approx(point.loss(point.theta), rel=1e-12)
        assert accuracy == pytest.approx(round(accuracy * (last - first)) / (last - first), rel=1e-12)


def test_the_parts_of_the_data_do_not_meet():
    x, labels = datasets.digits()
    assert len(x) == len(labels) == 1797
    assert x.dtype == np.float32
    assert (x.min(), x.max()) == (0.0, 1.0)
    rows = training.batches(get("digits-mlp").problem, 0, 200)
    assert rows.shape == (200, 32)
    assert rows.min() >= 0
    assert rows.max() < mlp.TRAINING
    for epoch in (rows[:37], rows[37:74]):
        assert len(set(epoch.ravel())) == epoch.size, "an epoch shows no image twice"
    assert not np.array_equal(rows[:37], rows[37:74])


def test_a_torn_cache_of_the_data_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path))
    x, labels = datasets.digits.__wrapped__()
    (kept,) = tmp_path.iterdir()
    for cut in (0, 10, kept.stat().st_size // 2):
        kept.write_bytes(kept.read_bytes()[:cut])
        again = datasets.digits.__wrapped__()
        np.testing.assert_array_equal(again[0], x)
        np.testing.assert_array_equal(again[1], labels)
        assert list(tmp_path.iterdir()) == [kept]


def test_data_without_a_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "file" / "cache"))
    assert datasets.digits.__wrapped__()[0].shape == (1797, 64)


@pytest.mark.parity
def test_the_same_losses_and_gradients_as_pytorch():
    torch = pytest.importorskip("torch")
    steps, lr, decay = 50, 3e-3, 0.1
    task = get("digits-mlp")
    problem, theta = task.problem, task.start(1).copy()
    w1, w2, b1, b2 = views(SHAPES, theta)
    first, second = torch.nn.Linear(64, 32), torch.nn.Linear(32, 10)
    with torch.no_grad():
        for parameter, array in ((first.weight, w1.T), (second.weight, w2.T), (first.bias, b1), (second.bias, b2)):
            parameter.copy_(torch.from_numpy(array.copy()))
    model = torch.nn.Sequential(first, torch.nn.ReLU(), second)
    groups = [
        {"params": [first.weight, second.weight], "weight_decay": decay},
        {"params": [first.bias, second.bias], "weight_decay": 0.0},
    ]
    twin = torch.optim.AdamW(groups, lr=lr)
    config = OptimizerConfig.of("adamw", {"lr": lr, "weight_decay": decay}, Schedule("constant", 0, steps))
    params = {"w1": w1, "w2": w2, "b1": b1, "b2": b2}
    ours = Optimizer.from_config(config, params)
    grad, work = np.empty_like(theta), np.zeros(problem.work, np.float32)
    gradients = dict(zip(params, views(SHAPES, grad), strict=True))
    x, labels = torch.from_numpy(problem.reals.reshape(-1, 64)), torch.from_numpy(problem.integers)
    gradient, _ = compiled(task.family.program)
    for rows in training.batches(problem, 1, steps):
        loss = gradient(theta, problem.reals, problem.integers, problem.dims, rows, 0, 0, grad, work)
        twin.zero_grad()
        expected = torch.nn.functional.cross_entropy(model(x[rows]), labels[rows])
        expected.backward()
        assert loss == pytest.approx(expected.item(), abs=1e-5)
        for name, parameter in (("w1", first.weight), ("w2", second.weight), ("b1", first.bias), ("b2", second.bias)):
            np.testing.assert_allclose(gradients[name], parameter.grad.numpy().T, atol=1e-5)
        ours.step(gradients)
        twin.step()
    np.testing.assert_allclose(w1, first.weight.detach().numpy().T, atol=1e-5)
    np.testing.assert_allclose(b2, second.bias.detach().numpy(), atol=1e-5)
    record = task.train(config, 1, steps)
    run = training.Run(task.family, problem, config, 1, steps, task.start(1))
    run.train_to(steps)
    np.testing.assert_allclose(run.theta, theta, atol=1e-6)
    assert record.value == run.scores(0)[0]
