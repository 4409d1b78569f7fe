"""The tables: their splits, their conditioning as the profiles tell it, and what generated ones promise."""

from __future__ import annotations

import numpy as np
import pytest

from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.registry import FAMILIES
from optadvisor.studies.tasks.tabular import data


def features(task: BuiltinTask) -> np.ndarray:
    samples, inputs = task.problem.dims[2], task.problem.dims[3]
    return task.problem.reals[1 : 1 + samples * inputs].reshape(samples, inputs).astype(np.float64)


@pytest.mark.parametrize(
    ("name", "axis"), [("cancer-logistic", "whiten"), ("wine-softmax", "units"), ("diabetes-linear", "units")]
)
def test_the_profile_tells_how_the_features_are_conditioned(name: str, axis: str):
    for value in FAMILIES[name].axes[axis].choices:
        for split in range(5):
            task = BuiltinTask(FAMILIES[name], {axis: value, "split": split})
            condition = data.condition(features(task)[: task.problem.dims[0]])
            assert (condition > 1000) == task.profile.ill_conditioned, (value, split, condition)


@pytest.mark.parametrize("name", ["cancer-logistic", "wine-softmax", "diabetes-linear", "diabetes-mlp"])
def test_splits_hold_the_same_samples_in_another_order(name: str):
    tables = [features(BuiltinTask(FAMILIES[name], {"split": split})) for split in (0, 1)]
    source = {"cancer": "breast_cancer"}.get(name.split("-")[0], name.split("-")[0])
    assert len(tables[0]) == len(tables[1]) == len(data.table(source)[0])
    assert not np.allclose(tables[0], tables[1])
    first, second = data.split(source, 0)[0], data.split(source, 1)[0]
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(second, axis=0))


def test_the_held_out_parts_do_not_depend_on_the_training_set():
    family = FAMILIES["friedman-mlp"]
    few, many = (BuiltinTask(family, {"samples": n}) for n in (200, 1000))
    np.testing.assert_array_equal(features(few)[200:], features(many)[1000:])


def test_standardised_features_and_the_proportions_of_their_units():
    x = data.table("wine")[0]
    plain, units = data.standardised(x, 100), data.standardised(x, 100, 1.0)
    np.testing.assert_allclose(plain[:100].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(plain[:100].std(axis=0), 1)
    np.testing.assert_allclose(units[:100].std(axis=0), x[:100].std(axis=0) / x[:100].std(axis=0).max())


def test_whitening_raises_the_variances_to_a_power():
    x = data.standardised(data.table("wine")[0], 178)
    np.testing.assert_allclose(data.whitened(x, 178, 0.0), x, atol=1e-10)
    for share in (0.5, 1.0):
        assert data.condition(data.whitened(x, 178, share)) == pytest.approx(data.condition(x) ** (1 - share), rel=1e-6)


def test_friedman_s_function_has_the_mean_and_deviation_that_it_is_scaled_by():
    x, y = data.friedman(7, 0.0, 100_000, np.random.default_rng(0))
    assert x.shape == (100_000, 7)
    assert y.mean() == pytest.approx(0, abs=0.02)
    assert y.std() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=0.01)


@pytest.mark.parametrize("signal", [1.5, 6.0])
def test_a_generated_table_has_two_classes_as_far_apart_as_the_signal(signal: float):
    rng = np.random.default_rng(1)
    truth = data.Mixed(3.0, signal, rng)
    x, y = truth.sample(20_000, rng)
    assert x.shape == (20_000, data.Mixed.INPUTS)
    assert set(y) == {0, 1}
    assert 0.3 < y.mean() < 0.7
    numbers, levels = truth._draw(20_000, rng)
    assert (signal * truth._odds(numbers, levels)).std() == pytest.approx(signal, rel=0.05)
    hot = x[:, data.Mixed.NUMBERS :]
    np.testing.assert_array_equal(hot.sum(axis=1), data.Mixed.CATEGORIES)
    assert (hot == 0).sum() / x.size == pytest.approx(20 / 32)
