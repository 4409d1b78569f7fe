"""From values to regrets: which config is the best known one, what stands for a random one, what diverged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optadvisor.advisor.learning import dataset
from optadvisor.advisor.learning.dataset import Dataset, placed, scale
from optadvisor.kernels.errors import InputError
from optadvisor.studies.outcomes import Sheet, Table
from optadvisor.studies.tasks import get

INF, NAN = np.inf, np.nan


class Slip:
    """A sheet whose every rule has its random configs from the second on."""

    rules = ("sgd", "adam")

    def drawn(self, rule: str) -> slice:
        return slice(1, None)


SLIP: Any = Slip()


def table_of(*rules: list[list[float]]) -> np.ndarray:
    return np.array(rules, dtype=float)


def test_the_best_config_is_best_in_the_mean_and_not_the_luckiest():
    """Of the luckiest each wins one seed; the steady one is the best known, whose values are the scale's end."""
    values = table_of([[9, 9], [0, 8], [2, 2]], [[9, 9], [8, 0], [10, 10]])
    best, middle = scale(values, SLIP)
    assert best.tolist() == [2, 2]
    assert middle.tolist() == [np.median([0, 2, 8, 10]), np.median([8, 2, 0, 10])]


def test_the_best_counts_whatever_its_kind_the_median_is_of_random_configs_alone():
    values = table_of([[0, 0], [4, 4], [6, 6]], [[100, 100], [8, 8], [10, 10]])
    best, middle = scale(values, SLIP)
    assert best.tolist() == [0, 0]
    assert middle.tolist() == [7, 7]


def test_the_mean_is_of_places_on_each_seed_and_not_of_values():
    """On the second seed everything is a thousand times as large: it does not drown out the first."""
    values = table_of([[0, 1000], [9, 9000], [9, 9000]], [[5, 900], [9, 9000], [9, 9000]])
    assert scale(values, SLIP)[0].tolist() == [0, 1000]


def test_where_half_diverge_the_worst_that_trained_is_the_median():
    values = table_of([[1, 1], [2, 2], [INF, INF]], [[5, INF], [INF, INF], [3, 4]])
    best, middle = scale(values, SLIP)
    assert best.tolist() == [1, 1]
    assert middle.tolist() == [3, 4]


def test_a_rule_that_does_not_fit_counts_for_nothing():
    values = table_of([[1, 1], [2, 2], [4, 4]], [[NAN, NAN]] * 3)
    best, middle = scale(values, SLIP)
    assert (best.tolist(), middle.tolist()) == ([1, 1], [3, 3])


def test_where_all_are_level_or_all_diverge_there_is_no_scale():
    assert np.isnan(scale(table_of([[1, 1]] * 3, [[1, 1]] * 3), SLIP)[1]).all()
    assert np.isnan(scale(table_of([[1, 1], [INF, INF], [INF, INF]], [[INF, INF]] * 3), SLIP)[1]).all()
    one = scale(table_of([[1, 1], [1, 3], [1, 3]], [[1, 1], [1, 3], [1, 3]]), SLIP)[1]
    assert np.isnan(one).tolist() == [True, False]


def test_places():
    ends = np.array([[1.0, 10.0], [3.0, 20.0]])
    values = np.array(
        [[1.0, 10.0], [2.0, 15.0], [3.0, 20.0], [5.0, 1e9], [INF, INF], [NAN, NAN], [0.5, 0.0], [-9.0, 9.0]]
    )
    wanted = [[0, 0], [0.5, 0.5], [1, 1], [1, 1], [1, 1], [NAN, NAN], [-0.25, -1], [-1, -0.1]]
    np.testing.assert_allclose(placed(values, ends), wanted)


def test_some_tasks_and_all_but_a_family(planted: Dataset):
    assert planted.without("family-1").names == [name for name in planted.names if name not in planted.names[3:6]]
    assert "family-1" not in planted.without("family-1").families
    for rows in ([0, 4], np.array([0, 4]), np.isin(np.arange(18), [0, 4])):
        some = planted.take(rows)
        assert (some.names, some.profiles) == (["task-0", "task-4"], [planted.profiles[0], planted.profiles[4]])
        np.testing.assert_array_equal(some.regrets, planted.regrets[[0, 4]])
        assert len(some) == len(some.climbs) == len(some.values) == 2


def test_a_table_is_read_whole(table: Table):
    found = dataset.read(table)
    assert sorted(found.names) == sorted(table.tasks())
    assert found.values.shape == found.regrets.shape == (4, 7, 40, 2)
    assert found.climbs.shape == (4, 7, 16)
    for i, name in enumerate(found.names):
        task = get(name)
        assert (found.families[i], found.profiles[i]) == (task.family.name, task.profile)
        np.testing.assert_array_equal(found.values[i], table.values(task)[..., -1])
        np.testing.assert_array_equal(found.climbs[i], table.climbs(task))
        mean = found.regrets[i].mean(axis=-1)
        assert mean.min() == pytest.approx(0.0, abs=0.5)
        assert (found.regrets[i] == 0).all(axis=-1).any(), "the best known config"
        assert found.regrets[i].max() == 1.0
        assert not np.isnan(found.regrets[i]).any()


def test_what_a_table_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    empty = Table.open(tmp_path / "empty", Sheet(configs=40, rules=("sgd",)))
    with pytest.raises(InputError, match="no task that is done: optadvisor learn build"):
        dataset.read(empty)
    few = Table.open(tmp_path / "few", Sheet(configs=33, rules=("ftrl", "sgd")))
    few.run([get("rosenbrock:steps=250")])
    with pytest.raises(InputError, match=r"33 configs of each rule.*--configs 34"):
        dataset.read(few)
    level = Table.open(tmp_path / "level", Sheet(configs=34, rules=("sgd",)))
    level.run([get("rosenbrock:steps=250")])
    monkeypatch.setattr(Table, "values", lambda self, task: np.ones((1, 34, 2, 5)))
    with pytest.raises(InputError, match="the same on every task"):
        dataset.read(level)
