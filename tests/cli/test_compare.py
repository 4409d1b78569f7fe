"""optadvisor compare: the same budget for every rule, the best config of each on the same seeds; and its picture.

With --advised the configs of the advice race as they are.
"""

from __future__ import annotations

import math
import re
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import optadvisor as oa
from optadvisor.cli.compare import interval

OWN = """
import math
STEPS = 30
PROFILE = {"domain": "vision", "architecture": "cnn"}

def accuracy(config, report, seed, steps):
    print("training")
    return 1 - abs(math.log10(config.hyperparameters["lr"]) + 2) / 10 - (seed % 1000) / 1e6

accuracy.direction = "maximize"

def mixed(config, report, seed, steps):
    if config.optimizer == "adamw":
        raise OverflowError("too large")
    return config.hyperparameters["lr"] + steps

def hopeless(config, report, seed):
    return math.inf

def broken(config, report, seed):
    raise ValueError("a batch is empty")

def slow(config, report, seed):
    import time
    if config.optimizer == "adamw":
        time.sleep(600)
    return config.hyperparameters["lr"]

def interrupted(config, report, seed):
    import os, signal, time
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(600)
"""
ADVISED = ("compare", "digits-mlp", "--advised", "3", "--steps", "30", "--quiet")
JSON = ("--format", "json")
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


# the advice races -----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with functions, in the current folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "train.py").write_text(OWN)
    monkeypatch.chdir(folder)
    return folder / "train.py"


def test_the_advised_configs_race_as_they_are(run, folder: Path, tmp_path: Path):
    data = run(*ADVISED, *JSON, "--save", str(tmp_path / "best.json")).json
    assert not folder.exists(), "nothing is kept"
    task = oa.studies.tasks.get("digits-mlp")
    advice = oa.recommend(replace(task.profile, steps=30), top=3)
    assert [data["study"], data["trials"], data["runs"], len(data["seeds"])] == [None, 0, 15, 5]
    assert sorted(standing["rank"] for standing in data["standings"]) == [1, 2, 3]
    for standing in data["standings"]:
        entry = advice[standing["rank"] - 1]
        assert standing["config"] == entry.config.to_dict()
        assert standing["values"] == [task.train(entry.config, seed, 30).value for seed in data["seeds"]]
    means = [standing["value"] for standing in data["standings"]]
    assert means == sorted(means)
    first, second, _ = data["standings"]
    gap = np.subtract(second["values"], first["values"])
    assert second["behind"] == pytest.approx(stats.t.interval(0.95, 4, gap.mean(), stats.sem(gap)))
    won = oa.OptimizerConfig.from_json(tmp_path / "best.json")
    assert {**won.to_dict(), "provenance": {}} == {**first["config"], "provenance": {}}
    assert won.provenance["race"]["seeds"] == data["seeds"]
    assert won.provenance["rules"] == first["config"]["provenance"]["rules"]


def test_a_race_has_the_seeds_of_a_search_and_the_same_result_again(run):
    race = run(*RACE, "--optimizer", "sgd", "--seed", "3", *JSON).json
    data = run(*ADVISED, "--seed", "3", "--jobs", "1", *JSON).json
    assert list(data) == list(race)
    assert data["seeds"] == race["seeds"]
    again = run(*ADVISED, "--seed", "3", "--jobs", "2", *JSON).json
    assert again["standings"] == data["standings"]
    other = run(*ADVISED, *JSON).json
    assert not set(other["seeds"]) & set(data["seeds"])


def test_the_table_of_a_race(run):
    done = run(*ADVISED)
    assert "digits-mlp: validation cross-entropy of each advised config, mean of 5 fresh seeds" in done.out
    lines = [line for line in done.out.splitlines() if line.startswith("  ")]
    assert sorted(line.split()[0] for line in lines) == ["1.", "2.", "3."]
    assert any("cosine" in line for line in lines)
    assert all("behind by" in line or "level with the winner" in line for line in lines[1:])
    assert re.search(r"\nseed 0: 15 trainings in [\d.]+ s\n", done.out)
    assert done.err == ""


def test_a_function_of_ones_own_is_raced_in_its_direction(run, own: Path):
    done = run("compare", "train.py:accuracy", "--advised", "4", "--jobs", "2", *JSON)
    assert re.search(r"20 of 20 trainings, \S+ trainings/s, best \S+ \(", done.err)
    data = done.json
    assert [data["task"], data["metric"], data["direction"]] == [f"{own}:accuracy", "accuracy", "maximize"]
    advice = oa.recommend(oa.TaskProfile(domain="vision", architecture="cnn", steps=30), top=4)
    assert [s["config"] for s in data["standings"]] == [
        advice[s["rank"] - 1].config.to_dict() for s in data["standings"]
    ]
    means = [standing["value"] for standing in data["standings"]]
    assert means == sorted(means, reverse=True)
    assert means[0] <= 1


def test_what_diverges_is_a_result(run, own: Path):
    options = ("--advised", "2", "--steps", "7", "--quiet")
    data = run("compare", "train.py:mixed", *options, *JSON).json
    first, last = data["standings"]
    assert int(first["value"]) == 7
    assert [last["optimizer"], last["value"], last["values"]] == ["adamw", None, [None] * 5]
    assert [last["interval"], last["behind"]] == [[None, None], [None, None]]
    assert re.search(r"\d\. adamw +diverged on a fresh seed  lr ", run("compare", "train.py:mixed", *options).out)
    done = run("compare", "train.py:slow", "--advised", "2", "--timeout", "0.3", "--quiet")
    assert re.search(r"\d\. adamw +failed on a fresh seed  lr ", done.out)


def test_what_ends_a_race(run, own: Path):
    done = run("compare", "train.py:hopeless", "--advised", "2", "--quiet")
    done.refused("each of the 2 configs diverged or failed", "hopeless returned inf", "lower learning rates", code=1)
    done = run("compare", "train.py:broken", "--advised", "2", "--quiet")
    done.refused("race 0 0 (", "ValueError: a batch is empty, at train.py:", code=1)
    assert "resume" not in done.err
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell runs in the background
    try:
        done = run("compare", "train.py:interrupted", "--advised", "2", "--quiet")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.code, done.out) == (1, "")
    assert "Interrupted: a race of advised configs keeps nothing" in done.err


def test_a_config_that_the_task_refuses_is_left_out(run, monkeypatch: pytest.MonkeyPatch):
    advice = oa.recommend(oa.TaskProfile(domain="recsys", architecture="embedding-tower"), top=2)
    monkeypatch.setattr("optadvisor.cli.compare.recommend", lambda profile, top: advice)
    done = run(*ADVISED, *JSON)
    assert advice[0].optimizer == "hybrid"
    assert "Left out 1. hybrid: " in done.err
    assert "digits-mlp refuses it, it has no embeddings" in done.err
    assert "only 2 distinct configs for digits-mlp, not 3" in done.err
    assert [standing["rank"] for standing in done.json["standings"]] == [2]
    full = oa.recommend(oa.TaskProfile(samples=1000, convex=True), top=1)
    assert full[0].config.batch == "full"
    monkeypatch.setattr("optadvisor.cli.compare.recommend", lambda profile, top: full)
    done = run("compare", "quadratic", "--advised", "1")
    assert (done.code, done.out) == (2, "")
    assert "full batch: quadratic refuses it, it has no data set" in done.err
    assert "none of the first 1 advised configs" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--trials", "4"), ["--advised", "leave out --trials"]),
        (("--optimizer", "sgd"), ["leave out --optimizer"]),
        (("--trials", "4", "--optimizer", "sgd"), ["leave out --optimizer, --trials"]),
        (("--resume", "--storage", "race.log"), ["leave out --storage, --resume"]),
        (("--plot", "race.png"), ["leave out --plot"]),
        (("--timeout", "3"), ["timeout stops worker processes", "digits-mlp"]),
        (("--save", "no/best.json"), ["--save is 'no/best.json'", "a folder that is there"]),
        (("--advised", "0"), ["--advised is '0'"]),
    ],
)
def test_wrong_usage_of_a_race(run, folder: Path, options: tuple[str, ...], words: list[str]):
    run(*ADVISED, *options).refused(*words)
    assert not folder.exists()


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
