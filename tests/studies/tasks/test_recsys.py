"""The recommenders: generated data, and embeddings under a rule of their own."""

from __future__ import annotations

import numpy as np
import pytest

from optadvisor.config import OptimizerConfig
from optadvisor.kernels import InputError
from optadvisor.studies import training
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.recsys.data import HELD_OUT, clicks, zipf
from optadvisor.studies.tasks.registry import FAMILIES, TASKS

TABLES = ("ratings-factorisation", "clicks-two-tower", "clicks-dlrm")
RECSYS = (*TABLES, "clicks-hashed-logistic")


def hybrid(rule: str, lr: float) -> OptimizerConfig:
    return OptimizerConfig(
        "hybrid",
        groups=[
            {"role": "embedding", "optimizer": rule, "hyperparameters": {"lr": lr}},
            {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 1e-3, "weight_decay": 0.0}},
        ],
    )


@pytest.mark.parametrize(("rule", "lr"), [("adagrad", 0.1), ("ftrl", 1.0)])
@pytest.mark.parametrize("name", TABLES)
def test_a_hybrid_trains_the_tables_by_a_rule_of_their_own(name: str, rule: str, lr: float):
    task = TASKS[name]
    mixed = task.train(hybrid(rule, lr), 0)
    tables_stay = task.train(hybrid("adagrad", 1e-12), 0)
    assert not mixed.diverged
    assert mixed.value < 0.97 * tables_stay.value


def test_a_hybrid_s_parts_are_those_of_their_rules_alone():
    """After one step from the same gradient, the tables are where Adagrad puts them, the rest where AdamW does."""
    task = TASKS["clicks-dlrm"]
    tables = task.problem.layout.embedding

    def after_a_step(config: OptimizerConfig) -> np.ndarray:
        run = training.Run(task.family, task.problem, config, 0, 1, task.start(0))
        run.train_to(1)
        return run.theta

    mixed = after_a_step(hybrid("adagrad", 0.1))
    alone = after_a_step(OptimizerConfig.of("adagrad", {"lr": 0.1}))
    dense = after_a_step(OptimizerConfig.of("adamw", {"lr": 1e-3, "weight_decay": 0.0}))
    np.testing.assert_array_equal(mixed[:tables], alone[:tables])
    np.testing.assert_array_equal(mixed[tables:], dense[tables:])


def test_hashed_ids_have_no_tables():
    with pytest.raises(InputError, match="embeddings"):
        TASKS["clicks-hashed-logistic"].train(hybrid("adagrad", 0.1), 0)


@pytest.mark.parametrize("name", TABLES)
def test_ids_that_a_batch_has_not_get_no_gradient(name: str):
    task = TASKS[name]
    problem = task.problem
    run = training.Run(task.family, problem, OptimizerConfig.of("sgd", {"lr": 0.1}), 0, 1, task.start(0))
    run.train_to(1)
    moved = run.theta[: problem.layout.embedding] != task.start(0)[: problem.layout.embedding]
    assert 0 < moved.mean() < 0.5


@pytest.mark.parametrize("name", RECSYS)
def test_the_held_out_samples_do_not_depend_on_the_number_of_training_samples(name: str):
    family = FAMILIES[name]
    few, many = (BuiltinTask(family, {"samples": n}).problem for n in family.axes["samples"].choices[:2])
    per = few.integers.size // (few.samples + 2 * HELD_OUT)
    np.testing.assert_array_equal(few.integers[-2 * HELD_OUT * per :], many.integers[-2 * HELD_OUT * per :])
    if name != "ratings-factorisation":  # whose training mean is taken off
        np.testing.assert_array_equal(few.reals[-2 * HELD_OUT :], many.reals[-2 * HELD_OUT :])


@pytest.mark.parametrize("name", RECSYS)
def test_the_data_follow_from_their_seed(name: str):
    family = FAMILIES[name]
    one, same, other = (family.build(BuiltinTask(family, {"data": seed}).values) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.reals, same.reals)
    np.testing.assert_array_equal(one.integers, same.integers)
    assert not np.array_equal(one.reals, other.reals)


def test_ids_are_as_popular_as_zipf_s_law_says():
    ids = zipf(50, 1.2, 200_000, np.random.default_rng(0))
    shares = np.bincount(ids, minlength=50) / ids.size
    wanted = np.arange(1, 51) ** -1.2
    np.testing.assert_allclose(shares, wanted / wanted.sum(), atol=4e-3)
    assert (ids.min(), ids.max()) == (0, 49)


def test_clicks_are_as_likely_as_the_log_odds_say():
    rng = np.random.default_rng(0)
    (odds,), clicked = clicks(lambda n: (found := 5 + 3 * rng.standard_normal(n), found), 100_000, 2.0, -1.0, rng)
    assert len(odds) == len(clicked) == 100_000 + 2 * HELD_OUT
    held = odds[-2 * HELD_OUT :]
    chance = 1 / (1 + np.exp(-((odds - held.mean()) / held.std() * 2.0 - 1.0)))
    for low in np.arange(0, 1, 0.1):
        some = (chance >= low) & (chance < low + 0.1)
        assert clicked[some].mean() == pytest.approx(chance[some].mean(), abs=0.02)
