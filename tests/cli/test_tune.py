"""optadvisor tune: the contract's JSON, the page, progress, and what it refuses without writing anything."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError

from optadvisor.cli import tune as tune_command
from optadvisor.config import OptimizerConfig
from optadvisor.kernels import InputError
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
    assert re.match(r"4 of 4 trials, \S+ trials/s, best ", done.err)
    assert done.err.count("\n") == 1
    json.loads(done.out)


def test_progress_of_a_resumed_study_counts_its_own_trials(run):
    run(*FEW)
    assert run("tune", "digits-mlp", "--resume").err.startswith("4 of 4 trials")


def test_quiet(run):
    assert run(*FEW, *JSON, "--quiet").err == ""


def test_a_line_now_and_then_in_a_log(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tune_command, "LINE_EVERY", 0.0)
    lines = run("tune", "digits-mlp", "--trials", "20", "--steps", "5", "--optimizer", "sgd", "--cold").err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["8 of 20 trials", "16 of 20 trials", "20 of 20 trials"]


def test_a_bar_on_a_terminal(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tune_command.sys.stderr, "isatty", lambda: True, raising=False)
    done = run(*FEW, *JSON)
    json.loads(done.out)
    assert " of 4 trials" not in done.err, "no lines beside the bar"


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
        (("digits-mlp", "--jobs", "0"), ["jobs is 0"]),
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
    options = "optimizer trials seed storage jobs timeout steps sampler pruner set fix objective target range-test cold"
    for option in (*options.split(), "resume", "quiet", "format", "executor", "scheduler"):
        assert f"--{option}" in done.out
    assert "Example: optadvisor tune" in done.out
    assert "FILE.py:FUNCTION" in done.out


# how the search goes -------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What tune was called with."""
    calls: list[dict[str, Any]] = []

    def noted(task: str, **arguments: Any) -> Any:
        calls.append(arguments)
        raise InputError("enough")

    monkeypatch.setattr(tune_command, "tune", noted)
    return calls


def test_options_of_the_search_are_passed_on(run, asked: list[dict[str, Any]]):
    options = "--sampler qmc --pruner median --set lr=1e-4..1e-1 --set dense.lr=.5..2 --fix weight_decay=0.1"
    more = (
        "--fix amsgrad=True --fix betas=0.9,0.95 --objective steps --objective memory --target -0.5 --range-test --cold"
    )
    run("tune", "digits-mlp", *options.split(), *more.split(), "--timeout", "0.5").refused("enough")
    wanted = {
        "sampler": "qmc",
        "pruner": "median",
        "ranges": {"lr": (1e-4, 0.1), "dense.lr": (0.5, 2.0)},
        "fixed": {"weight_decay": 0.1, "amsgrad": True, "betas": [0.9, 0.95]},
        "objectives": ("steps", "memory"),
        "target": -0.5,
        "range_test": True,
        "warm": False,
        "timeout": 0.5,
    }
    assert {name: asked[0][name] for name in wanted} == wanted
    run("tune", "digits-mlp").refused("enough")
    silent = {name: asked[1][name] for name in wanted}
    assert silent == {
        name: {} if name in ("ranges", "fixed") else () if name == "objectives" else None for name in wanted
    }


RANGE = "it takes NAME=LOW..HIGH, such as lr=1e-4..1e-1"
VALUE = "it takes NAME=VALUE: weight_decay=0.1, amsgrad=true or betas=0.9,0.95"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "lr"), ["--set is 'lr'", RANGE]),
        (("--set", "lr=0.1"), ["--set is 'lr=0.1'", RANGE]),
        (("--set", "lr=a..b"), ["--set is 'lr=a..b'", RANGE]),
        (("--set", "=1..2"), ["--set is '=1..2'", RANGE]),
        (("--set", "lr=0..inf"), ["--set is 'lr=0..inf'", RANGE]),
        (("--set", "lr=1..2", "--set", "lr=1..3"), ["--set names lr twice"]),
        (("--set", "lr=2..1"), ["the range of lr is 2..1"]),
        (("--set", "learning_rate=1..2"), ["unknown hyperparameter or axis 'learning_rate'"]),
        (("--fix", "lr"), ["--fix is 'lr'", VALUE]),
        (("--fix", "lr="), ["--fix is 'lr='", VALUE]),
        (("--fix", "amsgrad=yes"), ["--fix is 'amsgrad=yes'", VALUE]),
        (("--fix", "betas=1,2,3"), ["--fix is 'betas=1,2,3'", VALUE]),
        (("--fix", "lr=1", "--fix", "lr=2"), ["--fix names lr twice"]),
        (("--fix", "lr=-1"), ["lr is -1.0; it must be at least 0"]),
        (("--fix", "betas=0.9"), ["betas is 0.9; it takes a pair of numbers"]),
        (("--fix", "lr=0.1", "--set", "lr=0.1..1"), ["lr is both fixed and given a range"]),
        (("--sampler", "tpee"), ["--sampler", "'tpee'", "did you mean 'tpe'"]),
        (("--pruner", "media"), ["--pruner", "did you mean 'median'"]),
        (("--objective", "speed"), ["--objective", "'speed'", "known: value, steps, memory"]),
        (("--objective", "steps"), ["give it with --target"]),
        (("--target", "0.1"), ["add --objective steps"]),
        (("--target", "low"), ["--target is 'low'; it takes a number"]),
        (("--timeout", "0"), ["--timeout is '0'; it takes seconds, more than 0"]),
        (("--timeout", "1h"), ["--timeout is '1h'; it takes seconds"]),
        (("--timeout", "nan"), ["--timeout is 'nan'; it takes seconds"]),
        (("--timeout", "5"), ["timeout stops worker processes", "digits-mlp"]),
    ],
)
def test_a_bad_option_of_the_search_is_one_line(run, tmp_path: Path, arguments: tuple[str, ...], words: list[str]):
    run("tune", "digits-mlp", *arguments).refused(*words)
    assert list(tmp_path.iterdir()) == []


def test_ranges_and_fixed_values(run):
    arguments = ("--set", "lr=1e-3..2e-3", "--fix", "betas=0.8,0.9", "--optimizer", "adamw", "--sampler", "random")
    for trial in run("tune", "digits-mlp", "--trials", "6", "--steps", "5", *arguments, *JSON).json["trials_log"]:
        assert 1e-3 <= trial["config"]["hyperparameters"]["lr"] <= 2e-3
        assert trial["config"]["hyperparameters"]["betas"] == [0.8, 0.9]


def test_the_page_counts_what_was_pruned_and_shows_trade_offs(run):
    done = run("tune", "digits-mlp", "--trials", "40", "--steps", "50", "--pruner", "median", "--quiet")
    assert re.search(r"40 trials \(\d+ diverged, \d+ pruned\) and 15 confirmation runs", done.out)
    objectives = ("--objective", "steps", "--objective", "memory", "--target", "1.5")
    done = run("tune", "digits-mlp", "--trials", "20", "--steps", "50", *objectives, "--quiet")
    assert re.search(
        r"Trade-offs: \d+ trials that no other one beats in all of validation cross-entropy, steps and memory", done.out
    )
    assert re.search(r"\n  trial  validation cross-entropy  steps +memory +optimizer\n", done.out)
    assert re.search(r"\n  \d+ +[\d.]+ +(\d+|never) +[\d.]+ (kB|bytes) +\w+, lr [\d.e-]+\n", done.out)


# a function of one's own ---------------------------------------------------------------------------------------------

OWN = """
import math
STEPS = 30
PROFILE = {"domain": "tabular", "parameters": 1000}

def objective(config, report, seed, steps):
    print("training")
    lr = config.hyperparameters["lr"]
    if lr > 0.3:
        raise OverflowError("too large")
    for step in range(1, 6):
        report(step, abs(math.log10(lr) + 2) + 1 / step)
    return abs(math.log10(lr) + 2)

def accuracy(config, report, seed):
    return 1 - abs(math.log10(config.hyperparameters["lr"]) + 2) / 10

accuracy.direction = "maximize"

def broken(config, report, seed):
    raise ValueError("a batch is\\nempty")

def dies(config, report, seed):
    import os
    if config.hyperparameters["lr"] > 0.02:
        os._exit(3)
    return config.hyperparameters["lr"]

def slow(config, report, seed):
    import time
    if config.hyperparameters["lr"] > 0.02:
        time.sleep(600)
    return config.hyperparameters["lr"]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with functions, in the current folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "train.py").write_text(OWN)
    monkeypatch.chdir(folder)
    return folder / "train.py"


def test_a_function_is_tuned_and_its_config_found(run, own: Path, monkeypatch: pytest.MonkeyPatch):
    data = run("tune", "train.py:objective", "--trials", "10", "--optimizer", "adamw", *JSON).json
    assert (data["task"], data["study"]) == (f"{own}:objective", f"{own}:objective#1")
    assert [data["metric"], data["direction"], data["trials"]] == ["objective", "minimize", 10]
    assert data["best"]["config"]["schedule"]["total_steps"] == 30
    assert list(data["trials_log"][0]) == ["number", "optimizer", "value", "state", "seconds", "config"]
    assert run("config", "train.py:objective").json == data["best"]["config"]
    monkeypatch.chdir(own.parent.parent)
    assert run("config", "work/train.py:objective").json == data["best"]["config"]
    code = run("config", f"{own}:objective", "--framework", "numpy").out
    assert f"Tuned on {own}:objective" in code
    assert "lower is better" in code
    run("config", "work/train.py:accuracy").refused("no tuned config of", "did you mean", ":objective'")
    again = run("tune", "work/train.py:objective", "--resume", "--jobs", "2", *JSON).json
    assert [trial["value"] for trial in again["trials_log"]] == [trial["value"] for trial in data["trials_log"]]
    assert [kept["study"] for kept in run("studies", "list", *JSON).json] == [f"{own}:objective#1"]


def test_values_are_shown_in_the_functions_direction(run, own: Path):
    arguments = ("tune", "train.py:accuracy", "--trials", "8", "--optimizer", "sgd", "--fix", "weight_decay=0")
    data = run(*arguments, *JSON).json
    values = [trial["value"] for trial in data["trials_log"]]
    assert data["best"]["value"] == max(values) <= 1
    assert data["direction"] == "maximize"
    done = run(*arguments, "--resume")
    assert f"Best: sgd, accuracy {max(values):.4g} +- 0" in done.out
    assert "accuracy, higher is better" in done.out
    assert re.search(rf"8 of 8 trials, \S+ trials/s, best {max(values):.4g} \(sgd\)", done.err)
    assert "higher is better" in run("config", "train.py:accuracy", "--framework", "torch").out
    assert run("studies", "show", "train.py:accuracy#1", *JSON).json["best"]["value"] == max(values)
    assert f"best {max(values):.4g} of 8 trials" in run("studies", "show", "train.py:accuracy#1").out
    race = run("compare", "train.py:accuracy", "--optimizer", "sgd", "--optimizer", "nag", "--trials", "2", *JSON).json
    assert race["standings"][0]["value"] >= race["standings"][1]["value"] > 0
    assert all(0 < value <= 1 for standing in race["standings"] for value in standing["values"])


def test_a_function_that_raises_ends_the_study(run, own: Path):
    done = run("tune", "train.py:broken", "--optimizer", "nag", "--quiet", "--cold")
    done.refused("trial 0 (nag, lr ", "ValueError: a batch is empty, at train.py:", "train.py:broken --resume", code=1)


def test_debug_shows_the_persons_traceback(run, own: Path):
    done = run("--debug", "tune", "train.py:broken", "--optimizer", "nag", "--quiet")
    assert 'train.py", line 21, in broken' in done.err


def test_the_page_of_a_function(run, own: Path):
    done = run("tune", "train.py:objective", "--trials", "40", "--pruner", "median", "--quiet")
    assert "Best: " in done.out
    assert re.search(r"40 trials \(\d+ diverged, \d+ pruned\) and 15 confirmation runs", " ".join(done.out.split()))
    assert "training" not in done.out, "what the function prints is not the result"
    assert "optadvisor config train.py:objective --framework torch" in done.out
    assert "()" not in done.out


@pytest.mark.parametrize(
    ("function", "message"), [("dies", "its process ended with exit status 3"), ("slow", "stopped after 0.5 seconds")]
)
def test_failed_trials_are_counted_and_explained(run, own: Path, function: str, message: str):
    arguments = ("--trials", "5", "--optimizer", "sgd", "--timeout", "0.5", "--quiet", "--cold")
    done = run("tune", f"train.py:{function}", *arguments)
    assert re.search(r"5 trials \(0 diverged, [1-4] failed\)", " ".join(done.out.split()))
    assert re.search(rf"\n  trial \d \(sgd, lr [\d.e-]+\): {message}\n", done.out)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("train.py", ["'train.py' names no function: write train.py:NAME"]),
        ("trian.py:objective", ["there is no file", "did you mean 'train.py'"]),
        ("train.py:objektive", ["unknown function of", "'objektive'", "did you mean 'objective'"]),
        ("train.py:math", ["math is <module ", "it must be a function"]),
    ],
)
def test_a_function_that_is_not_there(run, own: Path, data_folder: Path, task: str, words: list[str]):
    run("tune", task).refused(*words)
    assert not data_folder.exists()


def test_a_hybrid_where_it_is_asked_for(run, own: Path):
    text = own.read_text().replace('config.hyperparameters["lr"]', 'config.roles()["dense"][1]["lr"]')
    own.write_text(text)
    data = run(
        "tune", "train.py:objective", "--trials", "4", "--optimizer", "hybrid", "--optimizer", "muon", *JSON
    ).json
    assert {trial["optimizer"] for trial in data["trials_log"]} == {"hybrid", "muon"}
    page = run("tune", "train.py:objective", "--trials", "4", "--optimizer", "hybrid", "--quiet").out
    assert re.search(r"hybrid  [\d.]+ at embedding lr [\d.e-]+, dense lr [\d.e-]+ after 4 trials", page)


def test_the_picture(run, tmp_path: Path):
    pytest.importorskip("matplotlib")
    for name, begin in (("study.png", b"\x89PNG"), ("study.svg", b"<?xml")):
        path = tmp_path / name
        assert run("tune", "digits-mlp", "--trials", "20", "--steps", "20", "--quiet", "--plot", str(path)).code == 0
        assert path.read_bytes().startswith(begin)
    run(*FEW, "--plot", str(tmp_path / "study.gif")).refused("--plot", ".png or .svg")


def test_progress_tells_rate_and_time_left(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tune_command, "LINE_EVERY", 0.0)
    lines = run("tune", "digits-mlp", "--trials", "40", "--steps", "10", "--optimizer", "sgd").err.splitlines()
    assert len(lines) >= 4
    assert all(" trials/s, best " in line for line in lines)
    assert all(line.endswith(" left") for line in lines[:-1])
