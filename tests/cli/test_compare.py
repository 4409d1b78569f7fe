"""optadvisor compare: the same budget for every rule, the best config of each on the same seeds; and its picture."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import optadvisor as oa
from optadvisor.cli.compare import interval

RACE = ("compare", "digits-mlp", "--trials", "4", "--steps", "60", "--quiet")
PNG, SVG = b"\x89PNG\r\n\x1a\n", b"<?xml"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_every_rule_gets_the_same_budget_and_the_same_seeds(run, folder: Path):
    data = run(*RACE, "--format", "json").json
    assert data["trials"] == 7 * 4
    assert data["runs"] == 7 * 4 + 7 * 5
    kept = run("studies", "show", data["study"], "--format", "json").json
    assert set(Counter(row["optimizer"] for row in kept["trials_log"]).values()) == {4}
    means = [standing["value"] for standing in data["standings"]]
    assert means == sorted(means)
    first = data["standings"][0]
    assert first["behind"] is None
    for standing in data["standings"]:
        assert standing["value"] == pytest.approx(np.mean(standing["values"]))
        low, high = stats.t.interval(0.95, 4, np.mean(standing["values"]), stats.sem(standing["values"]))
        assert standing["interval"] == pytest.approx([low, high])
        config = oa.OptimizerConfig.from_dict(standing["config"])
        again = [oa.studies.tasks.get("digits-mlp").train(config, seed, 60).value for seed in data["seeds"]]
        assert again == standing["values"]
    for standing in data["standings"][1:]:
        gap = np.subtract(standing["values"], first["values"])
        low, high = stats.t.interval(0.95, 4, gap.mean(), stats.sem(gap))
        assert standing["behind"] == pytest.approx([low, high])
    assert not (folder / "tuned").exists(), "a race is not a tuned config"


def test_the_table(run):
    out = run(*RACE, "--optimizer", "sgd", "--optimizer", "adamw").out
    assert "mean of 5 fresh seeds" in out
    lines = [line for line in out.splitlines() if line.startswith("  ")]
    assert {line.split()[0] for line in lines} == {"sgd", "adamw"}
    assert ("behind by" in lines[1]) or ("level with the winner" in lines[1])


def test_a_race_is_resumed_apart_from_tune(run):
    before = run(*RACE, "--optimizer", "sgd", "--seed", "3", "--format", "json").json
    oa.tune("digits-mlp", trials=2, steps=10, optimizers=["sgd"])
    after = run(*RACE, "--optimizer", "sgd", "--resume", "--format", "json").json
    assert after["study"] == before["study"] == "digits-mlp#1"
    assert after["standings"] == before["standings"]
    assert oa.tune("digits-mlp", resume=True).study == "digits-mlp#2"


def test_an_interval_of_a_rule_that_diverged():
    assert interval([1.0, math.inf]) == (math.inf, math.inf)


@pytest.mark.parametrize(("suffix", "begin"), [("png", PNG), ("svg", SVG)])
def test_the_picture(run, tmp_path: Path, suffix: str, begin: bytes):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"race.{suffix}"
    assert run(*RACE, "--optimizer", "sgd", "--optimizer", "nag", "--plot", str(path)).code == 0
    drawn = path.read_bytes()
    assert drawn.startswith(begin)
    assert len(drawn) > 5000


@pytest.mark.parametrize(("path", "words"), [("race.pdf", [".png or .svg"]), ("no/race.png", ["there is no folder"])])
def test_a_picture_that_cannot_be_drawn_is_refused_before_any_work(run, tmp_path: Path, path: str, words: list[str]):
    run(*RACE, "--plot", str(tmp_path / path)).refused("--plot", *words)
    assert not (tmp_path / "home").exists()


def test_bad_input(run):
    run("compare", "digit-mlp").refused("did you mean 'digits-mlp'")
    run(*RACE, "--optimizer", "hybrid").refused("no embeddings")
    run(*RACE, "--optimizer", "muon").refused("whole tensors")


def test_importances_find_what_matters():
    from optadvisor.studies.plotting import importances
    from optadvisor.studies.space import Space

    trials = oa.tune("digits-mlp", trials=40, steps=100, optimizers=["momentum"]).trials
    space = Space.of("momentum")
    points = {t.number: (space.encode(t.record.config), space.distributions()) for t in trials}
    found = importances(trials, points)
    assert max(found, key=found.__getitem__) == "lr"
    assert sum(found.values()) == pytest.approx(1.0)
    assert importances(trials[:5], points) == {}
