"""What a list of configs is worth: picked on one seed and scored on the other; read from the table, or trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from optadvisor.advisor.learning import dataset, fit
from optadvisor.advisor.learning.dataset import Dataset
from optadvisor.advisor.learning.judge import Judge, best_of, over_families
from optadvisor.config import OptimizerConfig
from optadvisor.profile import TaskProfile
from optadvisor.studies.outcomes import Sheet, Table
from optadvisor.studies.tasks.builtin import BuiltinTask


@pytest.fixture(scope="module")
def data(table: Table) -> Dataset:
    return dataset.read(table)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[OptimizerConfig]:
    """The configs that are trained, one entry a training."""
    seen: list[OptimizerConfig] = []
    real = BuiltinTask.train

    def train(self, config, *more):
        seen.append(config)
        return real(self, config, *more)

    monkeypatch.setattr(BuiltinTask, "train", train)
    return seen


def test_the_best_of_one_seed_is_scored_on_the_other():
    regrets = np.array([[0.5, 0.6], [0.1, 0.9], [0.8, 0.2]])
    one, two, three = best_of(regrets, [1, 2, 3])
    assert one == pytest.approx((0.6 + 0.5) / 2)
    assert two == pytest.approx((0.9 + 0.5) / 2), "the first seed picks the second config, the second the first"
    assert three == pytest.approx((0.9 + 0.8) / 2), "luck on a seed is worth nothing"


def test_of_three_seeds_a_pick_is_scored_on_two():
    regrets = np.array([[0.0, 0.3, 0.6], [0.1, 0.1, 0.1]])
    assert best_of(regrets, [2]) == [pytest.approx(((0.3 + 0.6) / 2 + 0.1 + 0.1) / 3)]


def test_short_lists_and_none():
    regrets = np.array([[0.5, 0.6]])
    assert best_of(regrets, [1, 2, 16]) == [pytest.approx(0.55)] * 3
    assert best_of(np.empty((0, 2)), [1, 4]) == [1.0, 1.0]


def test_one_seed_alone_is_its_own_judge_without_a_warning():
    assert best_of(np.array([[0.5], [0.2], [0.9]]), [1, 2, 3]) == [0.5, 0.2, 0.2]
    assert best_of(np.empty((0, 1)), [1]) == [1.0]
    assert fit.honest(np.array([[0.5], [0.2]])) == 0.2


def test_a_rules_best_config_is_judged_the_same_way():
    regrets = np.random.default_rng(0).random((9, 2))
    assert fit.honest(regrets) == pytest.approx(best_of(regrets, [9])[0])
    assert fit.honest(np.array([[0.1, 0.9], [0.8, 0.2]])) == pytest.approx(0.85)


def test_every_family_counts_the_same():
    values = np.array([0.0, 0.0, 0.0, 1.0])
    found = over_families(values, ["a", "a", "a", "b"])
    assert found.mean == 0.5
    assert (found.low, found.high) == (0.0, 1.0)
    assert over_families(values, ["b", "a", "a", "a"]).mean == pytest.approx(1 / 6)
    assert over_families(values[::-1], ["b", "a", "a", "a"]) == found, "whatever the order"
    alone = over_families(values, ["a"] * 4)
    assert alone == (0.25, 0.25, 0.25)


def test_the_interval_narrows_with_families_and_not_with_tasks():
    rng = np.random.default_rng(0)
    few = rng.normal(0.5, 0.1, 5)
    five = over_families(few, list("abcde"))
    repeated = over_families(np.repeat(few, 20), np.repeat(list("abcde"), 20).tolist())
    assert repeated == pytest.approx(five)
    many = over_families(rng.normal(0.5, 0.1, 100), [f"family {n}" for n in range(100)])
    assert many.high - many.low < five.high - five.low
    assert many.low < many.mean < many.high


# The judge -------------------------------------------------------------------------------------------------------------


def test_what_the_table_has_is_read(data: Dataset, trainings: list[OptimizerConfig]):
    judge = Judge(data)
    for i in range(len(data)):
        for r, rule in enumerate(data.rules):
            for c, config in enumerate(data.sheet.configs_of(rule)):
                found = judge.regrets(i, config)
                if c:  # the default may be a rate of the ladder too
                    np.testing.assert_array_equal(found, data.regrets[i, r, c])
    assert trainings == []
    assert judge.trained == {}


@pytest.mark.parametrize("steps", [None, 100, 250, 5000])
def test_every_candidate_is_known_from_the_table(steps: int | None):
    """At any length of training, rounded as it is kept."""
    sheet = Sheet()
    values = np.arange(9 * 64.0).reshape(1, 9, 64, 1).repeat(2, axis=-1)
    judge = Judge(Dataset(sheet, ["a"], ["a"], [TaskProfile()], values, values, np.zeros((1, 9, 16))))
    for n, candidate in enumerate(fit.candidates(sheet)):
        found = judge.regrets(0, candidate.config(TaskProfile(steps=steps), {"source": "outcomes"}))
        assert found[0] == values[0].reshape(-1, 2)[n, 0]


def test_what_the_table_has_not_is_trained_once_and_agrees(data: Dataset, trainings: list[OptimizerConfig]):
    """The same config, unknown to the judge, has the regret that the table says, up to the table's float32."""
    i, r = data.names.index("wine-softmax:steps=100"), data.rules.index("adam")
    judge = Judge(data)
    known = dict(judge._known)
    for c in (0, 5, 18, 30):
        config = data.sheet.configs_of("adam")[c]
        expected = judge.regrets(i, config)
        judge._known.clear()
        np.testing.assert_allclose(judge.regrets(i, config), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(judge.regrets(i, config), data.regrets[i, r, c], rtol=1e-4, atol=1e-5)
        judge._known.update(known)
    assert len(trainings) == 4 * data.sheet.seeds


def test_what_was_trained_is_kept_for_another_judge(data: Dataset, trainings: list[OptimizerConfig]):
    config = OptimizerConfig.of("adam", {"lr": 0.0123, "betas": (0.8, 0.9)})
    first = Judge(data)
    found = first.regrets(0, config)
    assert len(trainings) == 2
    again = Judge(data, first.trained)
    np.testing.assert_array_equal(again.regrets(0, config), found)
    assert len(trainings) == 2
    np.testing.assert_array_equal(again.best_of(0, [config], [1]), [pytest.approx(found.mean())])
    again.regrets(1, config)
    assert len(trainings) == 4, "another task"
    again.regrets(0, replace(config, hyperparameters={**config.hyperparameters, "betas": [0.8, 0.99]}))
    assert len(trainings) == 6, "another config"


def test_the_scale_is_that_of_the_whole_task(data: Dataset):
    judge = Judge(data)
    for i in range(len(data)):
        np.testing.assert_array_equal(judge.scale(i), dataset.scale(data.values[i], data.sheet))
        assert judge.best_of(i, data.sheet.configs_of("adam"), [40]) == best_of(data.regrets[i, 5], [40])
