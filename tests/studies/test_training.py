"""The compiled training: the same as a plain loop, for every rule, schedule and batch; divergence is a result."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optadvisor.config import OptimizerConfig
from optadvisor.kernels import RULES, InputError, Optimizer
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies import training
from optadvisor.studies.tasks import digits
from optadvisor.studies.training import Start

STEPS = 30
# Sensible on this task after 50 steps; the rest of the hyperparameters are the rules' defaults.
RATES = {
    "sgd": 0.3,
    "momentum": 0.1,
    "nag": 0.1,
    "adagrad": 0.05,
    "rmsprop": 3e-3,
    "adam": 1e-2,
    "adamw": 1e-2,
    "ftrl": 1.0,
    "nadam": 1e-2,
    "radam": 5e-2,
    "lion": 5e-3,
    "schedule_free_adamw": 1e-2,
}
TRAINED = [name for name, rule in RULES.items() if rule.elementwise]
SETTINGS: dict[str, dict[str, Any]] = {
    "momentum": {"dampening": 0.5, "weight_decay": 0.01},
    "nag": {"weight_decay": 0.01},
    "adagrad": {"initial_accumulator_value": 0.1, "weight_decay": 0.01},
    "rmsprop": {"momentum": 0.5, "centered": True},
    "adam": {"amsgrad": True, "weight_decay": 0.01},
    "adamw": {"weight_decay": 0.5},
    "ftrl": {"l1": 1e-3, "l2": 1e-3},
    "lion": {"weight_decay": 0.5},
    "schedule_free_adamw": {"weight_decay": 0.1, "warmup_steps": 5.0},
}


def config_of(rule: str, schedule: Schedule | None = None, **hyperparameters: Any) -> OptimizerConfig:
    values = {"lr": RATES[rule], **SETTINGS.get(rule, {}), **hyperparameters}
    return OptimizerConfig.of(rule, values, schedule or Schedule("constant", 0))


def compiled(config: OptimizerConfig, seed: int = 0, steps: int = STEPS) -> Start:
    """The start of a training, after the compiled loop has run over it."""
    start = digits.start(seed, steps, config.batch == "full")
    training.train(digits.PROGRAM, config, seed, start)
    return start


def plain(config: OptimizerConfig, seed: int = 0, steps: int = STEPS) -> Start:
    """The start of a training, after a loop in Python has run over it."""
    start = digits.start(seed, steps, config.batch == "full")
    params = dict(zip(("w1", "w2", "b1", "b2"), digits._views(start.theta), strict=True))
    optimizer = Optimizer.from_config(config, params, steps)
    point, grad = np.empty_like(start.theta), np.empty_like(start.theta)
    views, gradients = digits._views(point), dict(zip(params, digits._views(grad), strict=True))
    for rows in start.rows:
        for view, value in zip(views, (optimizer.lookahead()[name] for name in params), strict=True):
            view[...] = value
        digits.gradient(point, start.data, rows, grad, start.work)
        optimizer.step(gradients)
    return start


@pytest.mark.parametrize("rule", TRAINED)
def test_the_compiled_loop_equals_a_plain_one(rule: str):
    config = config_of(rule)
    np.testing.assert_allclose(compiled(config).theta, plain(config).theta, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "schedule", [Schedule("cosine", 0, None, 0.1), Schedule("warmup_cosine", 6), Schedule("wsd", 3)]
)
def test_the_schedule_is_applied(schedule: Schedule):
    config = config_of("adamw", schedule)
    found = compiled(config).theta
    np.testing.assert_allclose(found, plain(config).theta, rtol=0, atol=2e-5)
    assert np.abs(found - compiled(config_of("adamw")).theta).max() > 1e-3


def test_full_batch_uses_every_training_image():
    config = replace(config_of("sgd"), batch="full")
    start = compiled(config, steps=4)
    assert start.rows.shape == (4, digits.TRAINING)
    np.testing.assert_allclose(start.theta, plain(config, steps=4).theta, rtol=0, atol=2e-5)
    other = digits.start(0, 4, full_batch=True)
    np.testing.assert_array_equal(other.theta, digits.start(0, 4).theta)


def test_nag_of_the_paper_is_a_plain_look_ahead():
    config = replace(config_of("nag"), convention="paper")
    np.testing.assert_allclose(compiled(config).theta, plain(config).theta, rtol=0, atol=2e-5)


def test_nag_of_the_paper_at_constant_lr_has_the_evaluated_form_as_its_look_ahead_point():
    """theta of PyTorch's form is p - lr*momentum*v of the paper's, as long as both start at rest."""
    lr, beta = RATES["nag"], 0.9
    evaluated = config_of("nag", weight_decay=0.0)
    start = digits.start(0, STEPS)
    params = dict(zip(("w1", "w2", "b1", "b2"), digits._views(start.theta), strict=True))
    optimizer = Optimizer("nag", params, convention="paper", lr=lr, momentum=beta)
    point, grad = np.empty_like(start.theta), np.empty_like(start.theta)
    for rows in start.rows:
        for view, name in zip(digits._views(point), params, strict=True):
            view[...] = optimizer.lookahead()[name]
        digits.gradient(point, start.data, rows, grad, start.work)
        optimizer.step(dict(zip(params, digits._views(grad), strict=True)))
    for view, name in zip(digits._views(point), params, strict=True):
        view[...] = optimizer.lookahead()[name]
    np.testing.assert_allclose(compiled(evaluated).theta, point, rtol=0, atol=5e-5)
    np.testing.assert_allclose(compiled(replace(evaluated, convention="paper")).theta, start.theta, rtol=0, atol=5e-5)


@pytest.mark.parametrize("rule", RATES)
def test_training_clearly_beats_the_untrained_start(rule: str):
    record = digits.run(OptimizerConfig.of(rule, {"lr": RATES[rule]}), seed=5, steps=50)
    assert record.value < 0.6 * math.log(10)
    assert record.metrics["validation_accuracy"] > 0.7
    assert record.metrics["test_accuracy"] > 0.7


def test_the_record_tells_how_the_training_went():
    config = config_of("adamw")
    record = digits.run(config, seed=5, steps=50)
    assert (record.config, record.seed, record.diverged) == (config, 5, False)
    assert [step for step, _ in record.curve] == [10, 20, 30, 40, 50]
    assert record.curve[-1][1] == record.value
    assert record.seconds > 0
    assert set(record.metrics) == {"validation_accuracy", "test_loss", "test_accuracy"}


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_a_short_training_has_a_value(steps: int):
    record = digits.run(config_of("sgd"), seed=5, steps=steps)
    assert not record.diverged
    points = [step for step, _ in record.curve]
    assert points == sorted(set(points))
    assert points[0] >= 1
    assert points[-1] == steps


@pytest.mark.parametrize("rule", TRAINED)
@pytest.mark.parametrize("lr", [1e6, 1e38])
def test_a_huge_learning_rate_is_a_result(rule: str, lr: float):
    """Either it diverges, which is inf, or its loss is finite: never an exception, never nan."""
    record = digits.run(OptimizerConfig.of(rule, {"lr": lr}), seed=5, steps=20)
    assert not math.isnan(record.value)
    assert record.diverged == (record.value == math.inf)
    assert record.diverged or record.value > math.log(10)
    assert not any(math.isnan(value) for _, value in record.curve)


def test_divergence_is_a_result():
    record = digits.run(OptimizerConfig.of("sgd", {"lr": 1e30}), seed=5, steps=20)
    assert record.diverged
    assert record.value == math.inf
    assert "test_loss" not in record.metrics
    kept = record.to_dict()
    assert kept["diverged"] is True
    assert kept["curve"][-1] == [20, None]
    assert kept["metrics"] == {"validation_accuracy": None}


@pytest.mark.parametrize("rule", [name for name in RULES if name not in TRAINED])
def test_a_rule_that_needs_whole_tensors_is_refused(rule: str):
    with pytest.raises(InputError, match=f"'{rule}' needs whole tensors, digits_mlp is one flat array"):
        digits.run(OptimizerConfig.of(rule), seed=0, steps=5)


def test_schedule_free_is_evaluated_at_its_average():
    """Trained in the compiled loop, evaluated at x; a plain loop finds the same x."""
    config = config_of("schedule_free_adamw")
    record = digits.run(config, seed=0, steps=STEPS)
    start = digits.start(0, STEPS)
    params = dict(zip(("w1", "w2", "b1", "b2"), digits._views(start.theta), strict=True))
    optimizer = Optimizer.from_config(config, params, STEPS)
    grad, x = np.empty_like(start.theta), np.empty_like(start.theta)
    for rows in start.rows:
        digits.gradient(start.theta, start.data, rows, grad, start.work)
        optimizer.step(dict(zip(params, digits._views(grad), strict=True)))
    for view, name in zip(digits._views(x), params, strict=True):
        view[...] = optimizer.evaluation()[name]
    at_x, at_y = (digits.evaluate(point, start.data, 0, start.work)[0] for point in (x, start.theta))
    assert record.value == pytest.approx(at_x, rel=1e-4)
    assert abs(at_x - at_y) > 1e-3 * at_x


def test_hybrid_is_refused():
    groups = [{"role": "embedding", "optimizer": "adagrad"}, {"role": "dense", "optimizer": "adamw"}]
    with pytest.raises(InputError, match=r"'hybrid' has parts that digits_mlp has not: pick a dense rule"):
        digits.run(OptimizerConfig("hybrid", groups=groups), seed=0, steps=5)


def test_the_same_seed_gives_the_same_record_on_any_thread():
    """BLAS, buffers and compiled loops are shared by nobody."""
    configs = [config_of(rule) for rule in ("adamw", "sgd", "nag", "rmsprop")] * 3
    alone = [digits.run(config, seed, 40) for seed, config in enumerate(configs)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(digits.run, configs, range(len(configs)), [40] * len(configs)))
    for one, other in zip(alone, together, strict=True):
        assert (one.value, one.curve, one.metrics) == (other.value, other.curve, other.metrics)


def test_another_seed_is_another_training():
    values = {digits.run(config_of("adamw"), seed, 40).value for seed in range(5)}
    assert len(values) == 5


def test_the_test_part_never_influences_the_value(monkeypatch: pytest.MonkeyPatch):
    before = digits.run(config_of("adamw"), seed=5, steps=40)
    x, labels, begin, end = digits.data()
    other, wrong = x.copy(), labels.copy()
    other[begin[1] :] = np.random.default_rng(0).random(other[begin[1] :].shape)
    wrong[begin[1] :] = (labels[begin[1] :] + 1) % 10
    monkeypatch.setattr(digits, "data", lambda: (other, wrong, begin, end))
    after = digits.run(config_of("adamw"), seed=5, steps=40)
    assert (after.value, after.curve) == (before.value, before.curve)
    assert after.metrics["validation_accuracy"] == before.metrics["validation_accuracy"]
    assert after.metrics["test_loss"] != before.metrics["test_loss"]


def test_the_validation_part_never_influences_the_weights():
    start, other = digits.start(5, 40), digits.start(5, 40)
    x, labels, begin, end = other.data
    changed = x.copy()
    changed[begin[0] :] = 0
    other.data = (changed, labels, begin, end)
    for each in (start, other):
        training.train(digits.PROGRAM, config_of("adamw"), 5, each)
    np.testing.assert_array_equal(start.theta, other.theta)
