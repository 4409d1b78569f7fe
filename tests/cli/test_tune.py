"""optadvisor tune: the contract's JSON, the page, progress, and what it refuses without writing anything."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError

from optadvisor.cli import tune as tune_command
from optadvisor.config import OptimizerConfig
from optadvisor.kernels.rules import RULES
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.task import TrialRecord

FEW = ("tune", "digits-mlp", "--trials", "4", "--steps", "20", "--optimizer", "adamw", "--optimizer", "sgd")
JSON = ("--format", "json")


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("OPTADVISOR_HOME", str(folder))
    return folder


@pytest.fixture
def steep(monkeypatch: pytest.MonkeyPatch) -> None:
    """digits-mlp diverges from lr 0.01 on."""

    def train(self: BuiltinTask, config: OptimizerConfig, seed: int, steps: int, report: None = None) -> TrialRecord:
        lr = config.hyperparameters["lr"]
        value = math.inf if lr >= 0.01 else 1 - lr
        return TrialRecord(config, seed, value, 0.0, [(steps, value)], {} if lr >= 0.01 else {"score": 1.0})

    monkeypatch.setattr(BuiltinTask, "train", train)


# what it prints ------------------------------------------------------------------------------------------------------


def test_json_is_the_contracts(run):
    data = run(*FEW, "--seed", "3", *JSON).json
    assert {"task", "best", "trials", "runs", "seconds", "trials_log"} <= set(data)
    assert (data["task"], data["trials"], data["seed"]) == ("digits-mlp", 4, 3)
    assert data["runs"] == 4 + 3 * 5
    assert data["seconds"] > 0
    best = data["best"]
    assert {"config", "value", "seeds"} <= set(best)
    assert OptimizerConfig.from_dict(best["config"]).to_dict() == best["config"]
    assert len(best["seeds"]) == len(set(best["seeds"])) == 5
    assert [trial["number"] for trial in data["trials_log"]] == [0, 1, 2, 3]
    for trial in data["trials_log"]:
        assert list(trial) == ["number", "optimizer", "value", "state", "seconds", "config"]
        assert trial["state"] == "complete"
        assert isinstance(trial["value"], float)
        assert trial["optimizer"] == trial["config"]["optimizer"]
        assert OptimizerConfig.from_dict(trial["config"]).to_dict() == trial["config"]
        assert set(trial["config"]["hyperparameters"]) == set(RULES[trial["optimizer"]].names)
    assert {trial["optimizer"] for trial in data["trials_log"]} == {"adamw", "sgd"}


@pytest.mark.usefixtures("steep")
def test_a_diverged_trial_has_no_value(run):
    data = run("tune", "digits-mlp", "--trials", "16", "--optimizer", "adam", *JSON).json
    diverged = [trial for trial in data["trials_log"] if trial["state"] == "diverged"]
    complete = [trial for trial in data["trials_log"] if trial["state"] == "complete"]
    assert diverged
    assert complete
    assert all(trial["value"] is None for trial in diverged)
    assert all(trial["config"]["hyperparameters"]["lr"] >= 0.01 for trial in diverged)
    assert all(trial["value"] < 1 for trial in complete)


@pytest.mark.usefixtures("steep")
def test_a_study_in_which_all_diverges(run, data_folder: Path):
    done = run("tune", "digits-mlp", "--trials", "3", "--optimizer", "sgd", "--quiet")
    done.refused("digits-mlp#1", "each of its 3 configs diverged", "--optimizer", code=1)
    assert not (data_folder / "tuned").exists()


def test_text_is_a_page_for_a_person(run):
    done = run(*FEW, "--quiet")
    assert (done.code, done.err) == (0, "")
    for words in (
        "Best: ",
        "validation cross-entropy",
        "over 5 fresh seeds",
        "test accuracy",
        "Settings",
        "lr ",
        "Best trial of each rule",
        "digits-mlp#1, seed 0: 4 trials (0 diverged) and 15 confirmation runs in",
        "optadvisor config digits-mlp --framework torch",
    ):
        assert words in done.out
    assert "\x1b" not in done.out
    assert max(map(len, done.out.splitlines())) <= 100


def test_the_same_seed_gives_the_same_trials(run):
    first, again = (run(*FEW, *JSON, "--jobs", jobs).json for jobs in ("1", "3"))
    for data in (first, again):
        for trial in data["trials_log"]:
            del trial["seconds"], trial["config"]["provenance"]
    assert first["trials_log"] == again["trials_log"]
    assert first["best"]["value"] == again["best"]["value"]
    assert (first["study"], again["study"]) == ("digits-mlp#1", "digits-mlp#2")


def test_resume(run, tmp_path: Path):
    where = ("--storage", str(tmp_path / "my.journal"))
    first = run(*FEW, *where, *JSON).json
    again = run("tune", "digits-mlp", *where, "--resume", *JSON).json
    assert again["trials_log"] == first["trials_log"]
    run("tune", "digits-mlp", *where, "--resume", "--trials", "5").refused("started with trials 4, not 5")
    run("tune", "digits-mlp", *where, "--resume", "--seed", "5").refused("started with seed 0, not 5")


# progress ------------------------------------------------------------------------------------------------------------


def test_progress_is_on_stderr_alone(run):
    done = run(*FEW, *JSON)
    assert done.err.startswith("4 of 4 trials, best ")
    assert done.err.count("\n") == 1
    json.loads(done.out)


def test_progress_of_a_resumed_study_counts_its_own_trials(run):
    run(*FEW)
    assert run("tune", "digits-mlp", "--resume").err.startswith("4 of 4 trials")


def test_quiet(run):
    assert run(*FEW, *JSON, "--quiet").err == ""


def test_a_line_now_and_then_in_a_log(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tune_command, "LINE_EVERY", 0.0)
    lines = run("tune", "digits-mlp", "--trials", "20", "--steps", "5", "--optimizer", "sgd").err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["8 of 20 trials", "16 of 20 trials", "20 of 20 trials"]


def test_a_bar_on_a_terminal(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tune_command.sys.stderr, "isatty", lambda: True, raising=False)
    done = run(*FEW, *JSON)
    json.loads(done.out)
    assert "trials, best" not in done.err, "no lines beside the bar"


# errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["TASK"]),
        (("digit-mlp",), ["unknown task 'digit-mlp'", "did you mean 'digits-mlp'"]),
        (("digits-mlp", "--optimizer", "momentun"), ["--optimizer", "'momentun'", "did you mean 'momentum'"]),
        (("digits-mlp", "--optimizer", "hybrid"), ["hybrid", "no embeddings"]),
        (("digits-mlp", "--trials", "0"), ["--trials is '0'"]),
        (("digits-mlp", "--trials", "-3"), ["--trials is '-3'"]),
        (("digits-mlp", "--trials", "nan"), ["--trials is 'nan'"]),
        (("digits-mlp", "--trials", "1.5"), ["--trials is '1.5'"]),
        (("digits-mlp", "--jobs", "0"), ["--jobs is '0'"]),
        (("digits-mlp", "--jobs", "-1"), ["--jobs is '-1'"]),
        (("digits-mlp", "--jobs", "NaN"), ["--jobs is 'NaN'"]),
        (("digits-mlp", "--steps", "0"), ["--steps is '0'"]),
        (("digits-mlp", "--steps", "-5"), ["--steps is '-5'"]),
        (("digits-mlp", "--steps", "inf"), ["--steps is 'inf'"]),
        (("digits-mlp", "--seed", "-1"), ["--seed is '-1'"]),
        (("digits-mlp", "--format", "yaml"), ["--format", "'yaml'", "json"]),
        (
            ("digits-mlp", "--storage", "nonsense://u:s3cret@host/x"),
            ["cannot open the storage 'nonsense://u:...@host/x'"],
        ),
        (("digits-mlp", "--storage", "sqlite:////nowhere/at/all/x.db"), ["cannot open the storage"]),
        (("digits-mlp", "--trial", "3"), ["--trial"]),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    run, arguments: tuple[str, ...], words: list[str], tmp_path: Path
):
    done = run("tune", *arguments)
    done.refused(*words)
    assert "s3cret" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_journal(run, tmp_path: Path):
    other = tmp_path / "thesis.txt"
    other.write_text("not a journal")
    run("tune", "digits-mlp", "--storage", str(other)).refused("thesis.txt is not a journal of studies")
    assert list(tmp_path.iterdir()) == [other]
    assert other.read_text() == "not a journal"


@pytest.mark.parametrize("storage", [None, "sqlite:///{}/x.db", "{}/my.journal"])
def test_an_unwritable_home(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str | None):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "file" / "home"))
    where = ("--storage", storage.format(tmp_path)) if storage else ()
    run(*FEW, *where).refused("cannot write in", "set OPTADVISOR_HOME to a folder you may write in")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize(
    ("storage", "shown"),
    [(None, ""), ("my studies.journal", " --storage 'my studies.journal'")],
)
def test_ctrl_c(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, storage: str | None, shown: str):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune_command, "tune", interrupted)
    done = run(*FEW, *(("--storage", storage) if storage else ()))
    assert (done.code, done.out) == (1, "")
    again = f"optadvisor tune digits-mlp{shown} --resume"
    assert done.err == f"Interrupted: finished trials are kept. Go on with: {again}\n"


DATABASE_FULL = StorageInternalError("An exception is raised during the commit.")
DATABASE_FULL.__cause__ = RuntimeError("(sqlite3.OperationalError) database or disk is full\n[SQL: ...]")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (DATABASE_FULL, "(sqlite3.OperationalError) database or disk is full)"),
    ],
    ids=["journal", "database"],
)
def test_a_full_disk(run, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str):
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(tune_command, "tune", full)
    where = ("--storage", "postgresql://u:s3cret@host/x")
    done = run(*FEW, *where)
    done.refused(reason, "optadvisor tune digits-mlp --storage postgresql://u:...@host/x --resume", code=1)
    assert "s3cret" not in done.err


def test_help_has_every_option_and_an_example(run):
    done = run("tune", "--help")
    assert done.code == 0
    for option in ("optimizer", "trials", "seed", "storage", "jobs", "steps", "resume", "quiet", "format"):
        assert f"--{option}" in done.out
    assert "Example: optadvisor tune" in done.out
