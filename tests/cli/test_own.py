"""optadvisor learn add, show, forget."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import pytest

import optadvisor as oa
from optadvisor.advisor import knowledge, own
from optadvisor.advisor.knowledge import Knowledge, Row
from optadvisor.advisor.learning import fit
from optadvisor.cli.learn import command
from optadvisor.studies.outcomes import Sheet
from optadvisor.studies.study import StudyError
from optadvisor.studies.tasks.registry import get

FUNCTION = """
import math
import optuna

PROFILE = {profile}

def objective(config, report, seed):
    lr = config.hyperparameters["lr"]
    return math.log10(lr / 0.02) ** 2

def score(config, report, seed):
    return 1.0 - objective(config, report, seed)

score.direction = "maximize"

def level(config, report, seed):
    return 1.0

def hopeless(config, report, seed):
    return math.inf

def pruned(config, report, seed):
    if config.hyperparameters["lr"] > 0.01:
        report(1, 5.0)
        raise optuna.TrialPruned
    return objective(config, report, seed)

calls = []

def breaks(config, report, seed):
    calls.append(seed)
    if len(calls) > 9:
        raise KeyError("a bug")
    return objective(config, report, seed)
"""


@functools.cache
def candidates() -> list[knowledge.Candidate]:
    return fit.candidates(Sheet(64, 2, 0))


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Knowledge:
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "home"))
    row = Row("wine-softmax", "wine-softmax", "studied", get("wine-softmax").profile, bytes(len(candidates())))
    found = Knowledge(candidates(), [row], notes={"tasks": 1, "trainings": 1152, "made": "today"})
    monkeypatch.setattr(knowledge, "shipped", lambda: found)
    return found


@pytest.fixture
def result() -> oa.studies.study.Result:
    return oa.tune("digits-mlp", trials=9, steps=10, seed=4, optimizers=["sgd", "adamw"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(FUNCTION.format(profile="{'domain': 'speech', 'architecture': 'rnn', 'steps': 700}"))
    return path


def test_help_names_the_commands_and_documents_them(run):
    out = run("learn", "--help").out
    for name, sub in command.commands.items():
        assert f"\n  {name} " in out
        text = " ".join(run("learn", name, "--help").out.split())
        assert f"Example: optadvisor learn {name}" in text
        for param in sub.params:
            if param.param_type_name == "option":
                assert param.help
                assert param.opts[0] in text


def test_add(run, result):
    done = run("learn", "add", "digits-mlp#1")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("digits-mlp#1 is added to your own knowledge: 9 trials of 2 rules\n")
    assert "domain vision, architecture mlp, parameters 2,410, samples 1,200, batch size 32, steps 10" in " ".join(
        done.out.split()
    )
    reached = sum(value != knowledge.MISSING for value in own.rows(candidates())[0].regrets)
    assert f"It says something of {reached} of the 576 configs" in done.out
    again = run("learn", "add", "digits-mlp#1")
    assert again.out.startswith("digits-mlp#1 replaces what was kept of it: 9 trials of 2 rules\n")
    assert [row.name for row in knowledge.load().rows] == ["wine-softmax", "digits-mlp#1"]


def test_show(run, result):
    empty = run("learn", "show")
    assert "tasks by source: 1 studied; 1 family, 576 configs" in empty.out
    assert "trainings  1,152" in empty.out
    assert "none yet: optadvisor learn add STUDY" in empty.out
    assert run("learn", "show", "--format", "json").json["own"] == []
    run("learn", "add", "digits-mlp#1")
    out = run("learn", "show").out
    assert "digits-mlp#1: 9 trials, added 20" in out
    data = run("learn", "show", "--format", "json").json
    assert data["shipped"]["rows"] == {"studied": 1}
    assert (data["shipped"]["families"], data["shipped"]["candidates"]) == (1, 576)
    assert data["shipped"]["notes"]["made"] == "today"
    [entry] = data["own"]
    assert (entry["study"], entry["task"], entry["trials"], entry["worth"]) == ("digits-mlp#1", "digits-mlp", 9, 3.0)
    assert entry["profile"]["steps"] == 10
    for optimizer in ("sgd", "adamw"):
        own_trials = [trial for trial in result.trials if trial.optimizer == optimizer]
        best = min(own_trials, key=lambda trial: trial.record.value).record
        assert entry["best"][optimizer]["value"] == best.value
        assert entry["best"][optimizer]["hyperparameters"] == best.config.to_dict()["hyperparameters"]
        assert f"best {best.value:.4g} of {len(own_trials)} trials: lr {best.config.hyperparameters['lr']:.3g}" in out


def test_show_where_nothing_is_shipped(run, result, monkeypatch):
    monkeypatch.setattr(knowledge, "shipped", lambda: Knowledge([], []))
    assert "nothing: the advice is the guide's" in run("learn", "show").out
    assert "the trials are kept" in run("learn", "add", "digits-mlp#1").out
    assert run("learn", "show", "--format", "json").json["own"][0]["trials"] == 9
    assert run("recommend").code == 0


def test_forget(run, result):
    run("learn", "forget", "digits-mlp#1").refused("no study 'digits-mlp#1' in your own knowledge", "learn add STUDY")
    run("learn", "add", "digits-mlp#1")
    run("learn", "forget", "digit-mlp#1").refused("did you mean 'digits-mlp#1'?")
    done = run("learn", "forget", "digits-mlp#1")
    assert (done.code, done.out, done.err) == (0, "digits-mlp#1 is forgotten.\n", "")
    assert len(knowledge.load().rows) == 1
    assert run("studies").out.startswith("digits-mlp#1"), "the study stays"
    assert run("learn", "forget", "--all").out == "Your own knowledge was empty.\n"
    run("learn", "add", "digits-mlp#1")
    assert run("learn", "forget", "--all").out == "Your own knowledge is removed.\n"
    assert len(knowledge.load().rows) == 1
    run("learn", "forget").refused("name a STUDY", "--all")
    run("learn", "forget", "digits-mlp#1", "--all").refused("name a STUDY", "--all")


def test_a_study_that_is_not_there(run, result, tmp_path: Path):
    run("learn", "add", "digit-mlp#1").refused("unknown study 'digit-mlp#1'", "did you mean 'digits-mlp#1'?")
    run("learn", "add", "digits-mlp#1", "--storage", str(tmp_path / "no.journal")).refused("there is no journal")
    run("learn", "add", "digits-mlp#1", "--storage", "sqlite:////no/where.db").refused("cannot open the storage")
    run("learn", "add").refused("Missing argument 'STUDY'")
    assert own.studies() == []


def test_no_studies_at_all(run):
    run("learn", "add", "digits-mlp#1").refused("no study 'digits-mlp#1'", "optadvisor tune TASK")


@pytest.mark.parametrize("url", ["sqlite:///{}/studies.db", "{}/my.journal"])
def test_another_storage(run, result, tmp_path: Path, url: str):
    where = url.format(tmp_path)
    oa.tune("digits-mlp", trials=3, steps=10, optimizers=["sgd"], storage=where)
    run("learn", "add", "digits-mlp#1")
    assert "is added" in run("learn", "add", "digits-mlp#1", "--storage", where).out
    assert [entry["trials"] for entry in run("learn", "show", "--format", "json").json["own"]] == [9, 3]
    assert run("learn", "forget", "digits-mlp#1").code == 0
    assert own.studies() == []


def test_a_broken_file(run, result):
    knowledge.own_file().parent.mkdir(parents=True)
    knowledge.own_file().write_text("{")
    for args in (["recommend"], ["learn", "show"], ["learn", "add", "digits-mlp#1"], ["learn", "forget", "x#1"]):
        run(*args).refused(str(knowledge.own_file()), "is not JSON", "optadvisor learn forget --all")
    assert run("learn", "forget", "--all").code == 0
    assert run("recommend").code == 0


def test_a_folder_that_cannot_be_written(run, result, monkeypatch):
    knowledge.own_file().parent.write_text("a file")
    run("learn", "add", "digits-mlp#1").refused("cannot write in", "OPTADVISOR_HOME")
    assert run("recommend").code == 0


# A function of one's own -----------------------------------------------------------------------------------------------


def test_a_function_with_a_profile(run, file: Path, monkeypatch):
    oa.tune(f"{file}:score", trials=20, optimizers=["sgd", "adamw"])
    monkeypatch.chdir(file.parent)
    assert run("learn", "add", "train.py:score#1").code == 0
    [entry] = run("learn", "show", "--format", "json").json["own"]
    assert entry["study"] == f"{file}:score#1"
    assert (entry["profile"]["domain"], entry["profile"]["architecture"]) == ("speech", "rnn")
    assert 0.0 < entry["best"]["sgd"]["value"] <= 1.0, "as the person counts it: higher is better"
    [row] = own.rows(candidates())
    ladder = {
        c.lr: row.regrets[i]
        for i, c in enumerate(candidates())
        if c.optimizer == "sgd" and c.kind == knowledge.CONSTANT and row.regrets[i] != knowledge.MISSING
    }
    nearest = min(ladder, key=lambda lr: abs(math.log(lr / 0.02)))
    assert ladder[nearest] <= min(ladder.values()) + 25 < max(ladder.values())
    file.unlink()
    assert run("learn", "add", "train.py:score#1").code == 0, "the profile that was kept"
    assert run("learn", "show", "--format", "json").json["own"][0]["profile"] == entry["profile"]
    assert run("learn", "forget", "train.py:score#1").code == 0


def test_a_file_that_is_gone_needs_a_profile(run, file: Path, tmp_path: Path):
    oa.tune(f"{file}:objective", trials=6, optimizers=["sgd"])
    file.unlink()
    run("learn", "add", f"{file}:objective#1").refused("there is no file", "--profile FILE")
    said = tmp_path / "profile.json"
    said.write_text(json.dumps({"domain": "graph"}))
    assert run("learn", "add", f"{file}:objective#1", "--profile", str(said)).code == 0
    assert own.studies()[0].profile.domain == "graph"
    run("learn", "add", f"{file}:objective#1", "--profile", "none.json").refused("none.json")


def test_a_function_that_says_nothing_of_itself(run, file: Path, tmp_path: Path):
    file.write_text(FUNCTION.format(profile="{'steps': 100}"))
    oa.tune(f"{file}:objective", trials=6, optimizers=["sgd"])
    run("learn", "add", f"{file}:objective#1").refused("PROFILE", "--profile FILE", "what kind of task")
    assert own.studies() == []


def test_a_study_without_a_trial_that_trained(run, file: Path):
    with pytest.raises(StudyError):
        oa.tune(f"{file}:hopeless", trials=4, optimizers=["sgd"])
    run("learn", "add", f"{file}:hopeless#1").refused("no finished trial that trained", "--resume")


def test_a_study_whose_trials_are_all_alike(run, file: Path):
    oa.tune(f"{file}:level", trials=4, optimizers=["sgd"])
    run("learn", "add", f"{file}:level#1").refused("one value", "4 finished trials")


def test_pruned_trials_are_left_out(run, file: Path):
    result = oa.tune(f"{file}:pruned", trials=16, optimizers=["sgd"], pruner="median")
    whole = [trial for trial in result.trials if not trial.record.pruned]
    assert 0 < len(whole) < 16
    assert run("learn", "add", f"{file}:pruned#1").code == 0
    assert [trial.value for trial in own.studies()[0].trials] == [trial.record.value for trial in whole]


def test_a_study_that_ended_early_counts_as_far_as_it_is(run, file: Path):
    with pytest.raises(RuntimeError):
        oa.tune(f"{file}:breaks", trials=30, optimizers=["sgd"])
    assert run("learn", "add", f"{file}:breaks#1").code == 0
    assert len(own.studies()[0].trials) == 9
