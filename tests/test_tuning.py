"""`race`: given configs on the same fresh seeds, from Python."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import optadvisor as oa
from optadvisor.studies.study import StudyError
from optadvisor.tuning import race

CONFIGS = [oa.OptimizerConfig.of("sgd", {"lr": lr}) for lr in (0.3, 0.01, 0.1)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def objective(config, report, seed):
    """Best at lr 0.01, with a little noise of the seed."""
    return abs(math.log10(config.hyperparameters["lr"]) + 2) + (seed % 1000) / 1e5


def test_the_lowest_mean_wins(folder: Path):
    result = race(objective, CONFIGS, seeds=3, seed=7)
    assert [standing.number for standing in result.standings] == [1, 2, 0]
    assert [standing.config for standing in result.standings] == [CONFIGS[1], CONFIGS[2], CONFIGS[0]]
    assert result.runs == 9
    assert len(set(result.seeds)) == 3
    assert {tuple(standing.seeds) for standing in result.standings} == {tuple(result.seeds)}
    assert result.value == pytest.approx(sum(objective(CONFIGS[1], None, seed) for seed in result.seeds) / 3)
    assert result.best.hyperparameters == CONFIGS[1].hyperparameters
    assert result.best.provenance["race"]["seeds"] == result.seeds
    assert not folder.exists(), "nothing is kept"


def test_the_same_seed_gives_the_same_race():
    values = [[s.values for s in race(objective, CONFIGS, seed=5, jobs=jobs).standings] for jobs in (None, 1, 4)]
    assert values[0] == values[1] == values[2]
    assert values[0] != [s.values for s in race(objective, CONFIGS, seed=6).standings]


def test_progress_comes_as_trainings_end():
    calls: list[int] = []
    seen: list[tuple[int, int, int]] = []

    def counted(config, report, seed):
        calls.append(seed)
        return objective(config, report, seed)

    race(counted, CONFIGS, seeds=2, progress=lambda done, planned: seen.append((len(done), planned, len(calls))))
    assert seen == [(n, 6, n) for n in range(1, 7)]


@pytest.mark.parametrize(
    ("task", "configs", "options", "words"),
    [
        ("digits-mlp", [oa.OptimizerConfig.of("muon")], {}, r"config 0 \(muon, lr .*whole tensors"),
        ("quadratic", [CONFIGS[0], oa.OptimizerConfig.of("sgd", batch="full")], {}, r"config 1 \(sgd, .*no data set"),
        (objective, [], {}, "give at least one"),
        (objective, CONFIGS, {"seeds": 1}, "seeds is 1"),
        (objective, CONFIGS, {"seed": -1}, "seed is -1"),
        (objective, CONFIGS, {"jobs": 0}, "jobs is 0"),
        (objective, CONFIGS, {"timeout": 3}, "timeout stops worker processes"),
        (lambda config, report, seed, steps: 0.0, CONFIGS, {}, "has a parameter steps"),
    ],
)
def test_what_is_refused(task, configs, options, words: str):
    with pytest.raises(oa.InputError, match=words):
        race(task, configs, **options)


def test_a_race_in_which_all_diverge():
    with pytest.raises(StudyError, match="each of the 3 configs diverged"):
        race(lambda config, report, seed: math.nan, CONFIGS)
