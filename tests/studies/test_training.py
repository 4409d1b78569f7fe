"""The compiled training: the same as a plain loop, for every rule, schedule and batch; divergence is a result."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optadvisor.config import OptimizerConfig
from optadvisor.kernels import RULES, InputError, Optimizer
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies import training
from optadvisor.studies.tasks import get
from optadvisor.studies.tasks.family import views
from optadvisor.studies.tasks.task import TrialRecord
from optadvisor.studies.training import Run
from tests.studies.tasks.checks import compiled

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


TASK = get("digits-mlp")
SHAPES = {"w1": (64, 32), "w2": (32, 10), "b1": (32,), "b2": (10,)}


def parts(theta: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(SHAPES, views(tuple(SHAPES.values()), theta), strict=True))


def config_of(rule: str, schedule: Schedule | None = None, **hyperparameters: Any) -> OptimizerConfig:
    values = {"lr": RATES[rule], **SETTINGS.get(rule, {}), **hyperparameters}
    return OptimizerConfig.of(rule, values, schedule or Schedule("constant", 0))


def run_of(config: OptimizerConfig, seed: int = 0, steps: int = STEPS) -> Run:
    return Run(TASK.family, TASK.problem, config, seed, steps, TASK.start(seed))


def trained(config: OptimizerConfig, seed: int = 0, steps: int = STEPS) -> np.ndarray:
    """The weights after the compiled loop."""
    run = run_of(config, seed, steps)
    run.train_to(steps)
    assert not run.diverged
    return run.theta


class Plain:
    """The same training as a loop in Python, with kernels.Optimizer."""

    def __init__(self, config: OptimizerConfig, seed: int = 0, steps: int = STEPS) -> None:
        self.problem, self.theta = TASK.problem, TASK.start(seed).copy()
        self.params = parts(self.theta)
        self.optimizer = Optimizer.from_config(config, self.params, steps)
        self.work = np.zeros(self.problem.work, np.float32)
        batches = training.batches(self.problem, seed, steps)
        whole = np.arange(self.problem.samples)
        for rows in [whole] * steps if config.batch == "full" else batches:
            point = np.empty_like(self.theta)
            for name, view in parts(point).items():
                view[...] = self.optimizer.lookahead()[name]
            self.optimizer.step(parts(self.gradient(point, rows)))

    def gradient(self, point: np.ndarray, rows: np.ndarray) -> np.ndarray:
        gradient, _ = compiled(TASK.family.program)
        grad, total = np.empty_like(point), np.zeros(point.size)
        for first in range(0, len(rows), 32):
            some = rows[first : first + 32]
            problem = self.problem
            gradient(point, problem.reals, problem.integers, problem.dims, some, 0, 0, grad, self.work)
            total += grad.astype(np.float64) * len(some) / len(rows)
        return total.astype(np.float32)


@pytest.mark.parametrize("rule", TRAINED)
def test_the_compiled_loop_equals_a_plain_one(rule: str):
    config = config_of(rule)
    np.testing.assert_allclose(trained(config), Plain(config).theta, rtol=0, atol=3e-5)


@pytest.mark.parametrize(
    "schedule", [Schedule("cosine", 0, None, 0.1), Schedule("warmup_cosine", 6), Schedule("wsd", 3)]
)
def test_the_schedule_is_applied(schedule: Schedule):
    config = config_of("adamw", schedule)
    found = trained(config)
    np.testing.assert_allclose(found, Plain(config).theta, rtol=0, atol=2e-5)
    assert np.abs(found - trained(config_of("adamw"))).max() > 1e-3


def test_full_batch_uses_every_training_image():
    config = replace(config_of("sgd"), batch="full")
    np.testing.assert_allclose(trained(config, steps=4), Plain(config, steps=4).theta, rtol=0, atol=2e-5)
    assert np.abs(trained(config, steps=4) - trained(config_of("sgd"), steps=4)).max() > 1e-4


def test_nag_of_the_paper_is_a_plain_look_ahead():
    config = replace(config_of("nag"), convention="paper")
    np.testing.assert_allclose(trained(config), Plain(config).theta, rtol=0, atol=2e-5)
    assert np.abs(trained(config) - trained(config_of("nag"))).max() > 1e-3


def test_a_training_in_parts_is_the_same_as_in_one():
    for rule in ("adamw", "nag", "ftrl", "schedule_free_adamw"):
        config = config_of(rule)
        run = run_of(config, steps=100)
        for step in (1, 7, 20, 40, 41, 60, 99, 100):
            run.train_to(step)
        whole = run_of(config, steps=100)
        whole.train_to(100)
        np.testing.assert_array_equal(run.theta, whole.theta)
        np.testing.assert_array_equal(run.curve, whole.curve)


@pytest.mark.parametrize("rule", RATES)
def test_training_clearly_beats_the_untrained_start(rule: str):
    record = TASK.train(OptimizerConfig.of(rule, {"lr": RATES[rule]}), seed=5, steps=50)
    assert record.value < 0.6 * math.log(10)
    assert record.metrics["validation_accuracy"] > 0.7
    assert record.metrics["test_accuracy"] > 0.7


def test_the_record_tells_how_the_training_went():
    config = config_of("adamw")
    record = TASK.train(config, seed=5, steps=50)
    assert (record.config, record.seed, record.state) == (config, 5, "complete")
    assert [step for step, _ in record.curve] == [10, 20, 30, 40, 50]
    assert record.curve[-1][1] == record.value
    assert record.seconds > 0
    assert set(record.metrics) == {"validation_accuracy", "test_loss", "test_accuracy"}
    assert TrialRecord.from_dict(config, json.loads(json.dumps(record.to_dict()))) == record
    assert record.steps_to(record.curve[2][1]) <= 30
    assert record.steps_to(-1.0) == math.inf


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_a_short_training_has_a_value(steps: int):
    record = TASK.train(config_of("sgd"), seed=5, steps=steps)
    assert not record.diverged
    points = [step for step, _ in record.curve]
    assert points == sorted(set(points))
    assert points[0] >= 1
    assert points[-1] == steps


@pytest.mark.parametrize("rule", TRAINED)
@pytest.mark.parametrize("lr", [1e6, 1e38])
def test_a_huge_learning_rate_is_a_result(rule: str, lr: float):
    """Either it diverges, which is inf, or its loss is finite: never an exception, never nan."""
    record = TASK.train(OptimizerConfig.of(rule, {"lr": lr}), seed=5, steps=20)
    assert not math.isnan(record.value)
    assert record.diverged == (record.value == math.inf)
    assert record.diverged or record.value > math.log(10)
    assert not any(math.isnan(value) for _, value in record.curve)


def test_divergence_is_a_result():
    config = OptimizerConfig.of("sgd", {"lr": 1e30})
    record = TASK.train(config, seed=5, steps=20)
    assert record.state == "diverged"
    assert record.value == math.inf
    assert "test_loss" not in record.metrics
    kept = record.to_dict()
    assert (kept["state"], kept["value"]) == ("diverged", None)
    assert kept["curve"][-1] == [20, None]
    assert kept["metrics"] == {"validation_accuracy": None}
    assert TrialRecord.from_dict(config, json.loads(json.dumps(kept))).value == math.inf


@pytest.mark.parametrize("rule", [name for name in RULES if name not in TRAINED])
def test_a_rule_that_needs_whole_tensors_is_refused(rule: str):
    with pytest.raises(InputError, match=f"'{rule}' needs whole tensors, digits-mlp is one flat array"):
        TASK.train(OptimizerConfig.of(rule), seed=0, steps=5)


def test_schedule_free_is_evaluated_at_its_average():
    """Trained in the compiled loop, evaluated at x; a plain loop finds the same x."""
    config = config_of("schedule_free_adamw")
    record = TASK.train(config, seed=0, steps=STEPS)
    plain, x = Plain(config), np.empty_like(TASK.start(0))
    for name, view in parts(x).items():
        view[...] = plain.optimizer.evaluation()[name]
    _, evaluate = compiled(TASK.family.program)
    problem, values = TASK.problem, []
    for point in (x, plain.theta):
        scores = np.empty(2)
        evaluate(point, problem.reals, problem.integers, problem.dims, 0, 0, 0, plain.work, scores)
        values.append(scores[0])
    assert record.value == pytest.approx(values[0], rel=1e-4)
    assert abs(values[0] - values[1]) > 1e-3 * values[0]
    run = run_of(config)
    run.train_to(STEPS)
    assert run.scores(0)[0] == record.value


def test_hybrid_is_refused_where_there_are_no_embeddings():
    groups = [{"role": "embedding", "optimizer": "adagrad"}, {"role": "dense", "optimizer": "adamw"}]
    with pytest.raises(
        InputError, match=r"'hybrid' has a part for embeddings that digits-mlp has not: pick a dense rule"
    ):
        TASK.train(OptimizerConfig("hybrid", groups=groups), seed=0, steps=5)


def test_the_same_seed_gives_the_same_record_on_any_thread():
    """BLAS, buffers and compiled loops are shared by nobody."""
    configs = [config_of(rule) for rule in ("adamw", "sgd", "nag", "rmsprop")] * 3
    alone = [TASK.train(config, seed, 40) for seed, config in enumerate(configs)]
    together = TASK.train_many(list(zip(configs, range(len(configs)), strict=True)), 40, jobs=4)
    for one, other in zip(alone, together, strict=True):
        assert (one.value, one.curve, one.metrics) == (other.value, other.curve, other.metrics)


def test_another_seed_is_another_training():
    values = {TASK.train(config_of("adamw"), seed, 40).value for seed in range(5)}
    assert len(values) == 5


def changed(first: int) -> Any:
    """digits-mlp with other images and labels from number `first` on."""
    problem = TASK.problem
    reals, labels = problem.reals.copy(), problem.integers.copy()
    reals[first * 64 :] = np.random.default_rng(0).random(reals[first * 64 :].size)
    labels[first:] = (labels[first:] + 1) % 10
    return replace(problem, reals=reals, integers=labels)


def test_the_test_part_never_influences_the_value():
    config, start = config_of("adamw"), TASK.start(5)
    before = training.train(TASK.family, TASK.problem, config, 5, 40, start)
    after = training.train(TASK.family, changed(1497), config, 5, 40, start)
    assert (after.value, after.curve) == (before.value, before.curve)
    assert after.metrics["validation_accuracy"] == before.metrics["validation_accuracy"]
    assert after.metrics["test_loss"] != before.metrics["test_loss"]


def test_the_validation_part_never_influences_the_weights():
    runs = [
        Run(TASK.family, problem, config_of("adamw"), 5, 40, TASK.start(5)) for problem in (TASK.problem, changed(1200))
    ]
    for run in runs:
        run.train_to(40)
    np.testing.assert_array_equal(runs[0].theta, runs[1].theta)
    assert not np.array_equal(runs[0].curve, runs[1].curve)


def test_products_of_trainings_take_one_thread_and_numpy_s_their_own():
    from threadpoolctl import ThreadpoolController

    def threads() -> dict[str, int]:
        found = ThreadpoolController().lib_controllers
        return {library.filepath: library.num_threads for library in found if library.user_api == "blas"}

    before = threads()
    get("digits-mlp").train(OptimizerConfig.of("sgd", {"lr": 0.1}), 0, 1)
    for path, number in threads().items():
        assert number == (before[path] if "numpy.libs" in path else 1), path
