"""optadvisor studies: list, show, export, delete."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import optadvisor as oa
from optadvisor.studies import storage


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def result() -> object:
    return oa.tune("digits-mlp", trials=9, steps=10, seed=4, optimizers=["sgd", "adamw"])


def test_no_studies_yet(run):
    done = run("studies")
    assert (done.code, done.err) == (0, "")
    assert "optadvisor tune TASK" in done.out
    assert run("studies", "list", "--format", "json").json == []
    run("studies", "show", "digits-mlp#1").refused("no study 'digits-mlp#1'", "optadvisor tune TASK")


def test_the_list(run, result):
    oa.tune("digits-mlp:width=8", trials=3, steps=10, optimizers=["sgd"])
    lines = run("studies").out.splitlines()
    best = min(trial.record.value for trial in result.trials)
    assert len(lines) == 2
    assert lines[0].startswith("digits-mlp#1 ")
    assert f"9 of 9 trials, best {best:.4g} (" in lines[0]
    assert lines[1].startswith("digits-mlp:width=8#1")
    data = run("studies", "list", "--format", "json").json
    assert [entry["study"] for entry in data] == ["digits-mlp#1", "digits-mlp:width=8#1"]
    assert data[0]["best"]["value"] == best
    assert (data[0]["trials"], data[0]["planned"], data[0]["seed"], data[0]["task"]) == (9, 9, 4, "digits-mlp")


def test_show(run, result):
    out = run("studies", "show", "digits-mlp#1").out
    assert "digits-mlp#1: 9 of 9 trials, seed 4" in out
    for optimizer in ("sgd", "adamw"):
        values = [trial.record.value for trial in result.trials if trial.optimizer == optimizer]
        assert f"best {min(values):.4g} of {len(values)} trials" in out
    data = run("studies", "show", "digits-mlp#1", "--format", "json").json
    assert [row["number"] for row in data["trials_log"]] == list(range(9))
    assert data["plan"]["optimizers"] == ["sgd", "adamw"]


def test_export(run, result, tmp_path: Path):
    rows = list(csv.DictReader(io.StringIO(run("studies", "export", "digits-mlp#1").out)))
    assert [float(row["value"]) for row in rows] == [trial.record.value for trial in result.trials]
    for row, trial in zip(rows, result.trials, strict=True):
        assert float(row["lr"]) == trial.record.config.hyperparameters["lr"]
        assert row["optimizer"] == trial.optimizer
        assert (row["one_minus_beta1"] == "") == (trial.optimizer == "sgd")
    path = tmp_path / "trials.json"
    done = run("studies", "export", "digits-mlp#1", "--format", "json", "--output", str(path))
    assert done.out == ""
    assert [row["seed"] for row in json.loads(path.read_text())] == [trial.record.seed for trial in result.trials]
    run("studies", "export", "digits-mlp#1", "--output", str(tmp_path / "no" / "x.csv")).refused("--output")


def test_delete(run, result, folder: Path):
    oa.tune("digits-mlp", trials=3, steps=10, optimizers=["sgd"])
    tuned = (folder / "tuned" / "digits-mlp.json").read_bytes()
    asked = run("studies", "delete", "digits-mlp#1")
    assert asked.code == 1
    assert len(run("studies").out.splitlines()) == 2
    done = run("studies", "delete", "digits-mlp#1", "--yes")
    assert (done.code, done.out) == (0, "")
    left = storage.study_names(storage.open_storage(str(folder / "studies" / "digits-mlp.journal"), ""))
    assert set(left) == {"digits-mlp#2", "digits-mlp#2/sgd"}
    assert (folder / "tuned" / "digits-mlp.json").read_bytes() == tuned
    run("studies", "delete", "digits-mlp#1", "--yes").refused("unknown study", "did you mean 'digits-mlp#2'")


def test_a_study_that_runs_is_not_deleted(run, result, folder: Path):
    with storage.exclusive("digits-mlp#1", str(folder / "studies" / "digits-mlp.journal"), "digits-mlp"):
        run("studies", "delete", "digits-mlp#1", "--yes").refused("is being run by another process")
    assert run("studies", "delete", "digits-mlp#1", "--yes").code == 0


@pytest.mark.parametrize("url", ["sqlite:///{}/studies.db", "{}/my.journal"])
def test_another_storage(run, tmp_path: Path, url: str):
    where = url.format(tmp_path)
    oa.tune("digits-mlp", trials=3, steps=10, optimizers=["sgd"], storage=where)
    assert run("studies").out.startswith("No studies")
    assert run("studies", "list", "--storage", where).out.startswith("digits-mlp#1")
    assert run("studies", "delete", "digits-mlp#1", "--storage", where, "--yes").code == 0
    assert run("studies", "list", "--storage", where).out.startswith("No studies")
    run("studies", "list", "--storage", str(tmp_path / "other")).refused("there is no journal")
