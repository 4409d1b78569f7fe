"""Layers and the gradient of digits-mlp: against finite differences in float64, and against PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from optadvisor.config import OptimizerConfig
from optadvisor.kernels import Optimizer
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies.tasks import digits, layers

BATCH, INPUTS, OUTPUTS = 5, 4, 3


def numeric(function: Callable[[], float], at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of a function with respect to every element of `at`."""
    found = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        kept = at[index]
        at[index] = kept + step
        above = function()
        at[index] = kept - step
        below = function()
        at[index] = kept
        found[index] = (above - below) / (2 * step)
    return found


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def test_gather_copies_the_rows_asked_for(draw: np.random.Generator):
    x, out = draw.normal(size=(6, 3)), np.empty((4, 3))
    layers.gather(x, np.array([5, 0, 0, 2]), out)
    np.testing.assert_array_equal(out, x[[5, 0, 0, 2]])


def test_dense_backward_is_the_derivative_of_dense(draw: np.random.Generator):
    x, w, b = draw.normal(size=(BATCH, INPUTS)), draw.normal(size=(INPUTS, OUTPUTS)), draw.normal(size=OUTPUTS)
    delta, out = draw.normal(size=(BATCH, OUTPUTS)), np.empty((BATCH, OUTPUTS))

    def scalar() -> float:
        layers.dense(x, w, b, out)
        return float((out * delta).sum())

    gw, gb = np.full_like(w, np.nan), np.full_like(b, np.nan)
    layers.dense_backward(x, delta, gw, gb)
    scalar()
    np.testing.assert_allclose(out, x @ w + b, rtol=1e-12)
    np.testing.assert_allclose(gw, numeric(scalar, w), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(gb, numeric(scalar, b), rtol=1e-6, atol=1e-8)


def test_relu_backward_is_the_derivative_of_relu(draw: np.random.Generator):
    x, delta = draw.normal(size=(BATCH, OUTPUTS)), draw.normal(size=(BATCH, OUTPUTS))

    def scalar() -> float:
        out = x.copy()
        layers.relu(out)
        return float((out * delta).sum())

    expected = numeric(scalar, x)
    output, found = x.copy(), delta.copy()
    layers.relu(output)
    layers.relu_backward(output, found)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_softmax_cross_entropy_and_its_derivative(draw: np.random.Generator):
    z, labels, rows = draw.normal(size=(BATCH, OUTPUTS)), np.array([2, 0, 1, 1]), np.array([3, 0, 0, 1, 2])
    delta = np.empty_like(z)
    loss = layers.softmax_cross_entropy(z, rows, labels, delta)
    log_probability = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    assert loss == pytest.approx(-log_probability[np.arange(BATCH), labels[rows]].mean(), rel=1e-12)
    expected = numeric(lambda: layers.softmax_cross_entropy(z, rows, labels, np.empty_like(z)), z)
    np.testing.assert_allclose(delta, expected, rtol=1e-6, atol=1e-8)
    assert layers.softmax_cross_entropy(z, rows, labels, z) == loss
    np.testing.assert_array_equal(z, delta)


def test_softmax_cross_entropy_of_large_logits_is_finite():
    z = np.array([[1000.0, -1000.0], [-1000.0, 1000.0]])
    loss = layers.softmax_cross_entropy(z, np.array([0, 1]), np.array([0, 0]), z)
    assert loss == 1000.0
    np.testing.assert_array_equal(z, [[0, 0], [-0.5, 0.5]])


def test_a_nan_reaches_the_loss():
    """A diverged network must not look like a dead one."""
    x = np.array([[np.nan, -1.0, 2.0]], dtype=np.float32)
    layers.relu(x)
    np.testing.assert_array_equal(x, [[np.nan, 0, 2]])
    assert np.isnan(layers.softmax_cross_entropy(x, np.array([0]), np.array([1]), x))


def test_correct_counts_the_rows_with_their_label_on_top():
    z = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert layers.correct(z, np.array([1, 0, 0]), np.array([0, 1])) == 2


def wide(theta: np.ndarray, rows: int) -> tuple[np.ndarray, tuple, tuple]:
    """Weights, data and buffers of digits-mlp in float64."""
    x, labels, begin, end = digits.data()
    sizes = (digits.INPUTS, digits.HIDDEN, digits.CLASSES, digits.HIDDEN)
    work = tuple(np.empty((rows, width)) for width in sizes)
    return theta.astype(np.float64), (x.astype(np.float64), labels, begin, end), work


def test_digits_gradient_equals_finite_differences():
    start = digits.start(seed=3, steps=1)
    rows = start.rows[0]
    theta, data, work = wide(start.theta, len(rows))
    grad = np.empty_like(theta)
    loss = digits.gradient(theta, data, rows, grad, work)
    scratch = np.empty_like(grad)
    some = np.random.default_rng(0).choice(theta.size, 60, replace=False)
    # every part of the parameter vector: both weight matrices, both biases
    for index in {*some, 0, digits.WEIGHTS - 1, digits.WEIGHTS, digits.WEIGHTS + digits.HIDDEN, theta.size - 1}:
        kept, step, sides = theta[index], 1e-6, []
        for sign in (1, -1):
            theta[index] = kept + sign * step
            sides.append(digits.gradient(theta, data, rows, scratch, work))
        theta[index] = kept
        assert grad[index] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-8), index
    assert loss == pytest.approx(np.log(10), rel=0.1)


def test_digits_gradient_in_float32_is_that_of_float64():
    start = digits.start(seed=3, steps=1)
    theta, data, work = wide(start.theta, digits.BATCH)
    grad, single = np.empty_like(theta), np.empty_like(start.theta)
    expected = digits.gradient(theta, data, start.rows[0], grad, work)
    loss = digits.gradient(start.theta, start.data, start.rows[0], single, start.work)
    assert loss == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(single, grad, atol=1e-6)


def test_digits_evaluation_is_the_mean_over_the_whole_part():
    start = digits.start(seed=3, steps=1)
    theta, data, work = wide(start.theta, digits.BATCH)
    for part in (0, 1):
        rows = np.arange(data[2][part], data[3][part])
        loss, accuracy = digits.evaluate(theta, data, part, work)
        _, _, whole = wide(start.theta, len(rows))
        assert loss == pytest.approx(digits.gradient(theta, data, rows, np.empty_like(theta), whole), rel=1e-12)
        assert accuracy == round(accuracy * len(rows)) / len(rows)


def test_the_parts_of_the_data_do_not_meet():
    x, labels, begin, end = digits.data()
    assert len(x) == len(labels) == 1797
    assert (begin[0], end[0], begin[1], end[1]) == (1200, 1497, 1497, 1797)
    assert x.dtype == np.float32
    assert x.min() == 0.0
    assert x.max() == 1.0
    rows = digits.start(seed=0, steps=200).rows
    assert rows.min() >= 0
    assert rows.max() < digits.TRAINING
    for epoch in (rows[:37], rows[37:74]):
        assert len(set(epoch.ravel())) == epoch.size, "an epoch shows no image twice"


def test_a_torn_cache_of_the_data_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path))
    x, labels = digits._digits()
    (kept,) = tmp_path.iterdir()
    for cut in (0, 10, kept.stat().st_size // 2):
        kept.write_bytes(kept.read_bytes()[:cut])
        again = digits._digits()
        np.testing.assert_array_equal(again[0], x)
        np.testing.assert_array_equal(again[1], labels)
        assert list(tmp_path.iterdir()) == [kept]


def test_data_without_a_cache_folder(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "file" / "cache"))
    assert digits._digits()[0].shape == (1797, 64)


@pytest.mark.parity
def test_the_same_losses_and_gradients_as_pytorch():
    torch = pytest.importorskip("torch")
    steps, lr, decay = 50, 3e-3, 0.1
    start = digits.start(seed=1, steps=steps)
    w1, w2, b1, b2 = digits._views(start.theta)
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
    grad = np.empty_like(start.theta)
    gradients = dict(zip(params, digits._views(grad), strict=True))
    x, labels = torch.from_numpy(start.data[0]), torch.from_numpy(start.data[1])
    for rows in start.rows:
        loss = digits.gradient(start.theta, start.data, rows, grad, start.work)
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
