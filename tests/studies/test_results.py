"""The tuned config of a task: written whole or not at all, and clear words where there is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import optadvisor as oa
from optadvisor.config import OptimizerConfig
from optadvisor.kernels import InputError
from optadvisor.studies import results
from optadvisor.studies.study import Result, Trial
from optadvisor.studies.tasks.task import TrialRecord

TASK = "digits-mlp"
BEST = '{"schema": 1, "best": {"config": '


def result(lr: float, value: float = 0.5) -> Result:
    config = OptimizerConfig.of("adamw", {"lr": lr}, provenance={"source": "study", "task": TASK})
    trials = [Trial(0, "adamw", TrialRecord(config, 1, value, 0.1))]
    return Result("digits-mlp#1", TASK, config, value, 0.1, [1, 2], {"test_loss": 0.4}, trials, 6, 1.0, 0)


@pytest.fixture
def kept(data_folder: Path) -> Path:
    path = results.save(result(0.001))
    assert path == data_folder / "tuned" / "digits-mlp.json"
    return path


def test_what_was_saved_is_loaded(kept: Path):
    assert results.load_config(TASK) == result(0.001).best
    assert oa.load_config(TASK) == result(0.001).best
    data = json.loads(kept.read_text())
    assert data["schema"] == 1
    assert data["best"]["value"] == 0.5
    assert "trials_log" not in data


def test_the_newest_study_wins(kept: Path):
    results.save(result(0.01))
    assert results.load_config(TASK).hyperparameters["lr"] == 0.01
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(kept: Path, monkeypatch: pytest.MonkeyPatch, where: str):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = kept.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os if where == "fsync" else Path, where, full)
        with pytest.raises(OSError, match="No space left"):
            results.save(result(0.01))
    assert kept.read_bytes() == before
    assert list(kept.parent.iterdir()) == [kept], "no temporary file is left"


def test_a_value_that_json_has_not_leaves_the_old_file(kept: Path):
    before = kept.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        results.save(result(0.01, float("inf")))
    assert kept.read_bytes() == before


def test_no_study_yet(data_folder: Path):
    with pytest.raises(InputError, match=r"no tuned config of 'digits-mlp': tuned so far: none; make one with"):
        results.load_config(TASK)
    assert not data_folder.exists()


@pytest.mark.usefixtures("kept")
def test_a_misspelt_task():
    with pytest.raises(InputError, match=r"no tuned config of 'digit-mlp': did you mean 'digits-mlp'\?"):
        results.load_config("digit-mlp")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds list; it takes a JSON object"),
        ('{"schema": 2}', "has schema 2; this version reads schema 1"),
        ("{}", "has schema None; this version reads schema 1"),
        ('{"schema": 1}', "holds no best config"),
        ('{"schema": 1, "best": []}', "holds no best config"),
        ('{"schema": 1, "best": {"value": 1}}', "holds no best config"),
        (
            f'{BEST}{{"schema": 1, "optimizer": "momentun"}}}}}}',
            "unknown optimizer 'momentun': did you mean 'momentum'",
        ),
        (f"{BEST}3}}}}", "config"),
        (f'{BEST}{{"schema": 9, "optimizer": "adamw"}}}}}}', "schema is 9"),
    ],
)
def test_a_damaged_file_is_named(kept: Path, text: str, message: str):
    kept.write_text(text)
    with pytest.raises(InputError) as raised:
        results.load_config(TASK)
    assert str(kept) in str(raised.value)
    assert message in str(raised.value)


def test_a_task_name_stays_inside_the_folder(data_folder: Path):
    with pytest.raises(InputError, match=r"no tuned config of '\.\./\.\./x'"):
        results.load_config("../../x")


def test_an_unwritable_folder_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot write in .*: set OPTADVISOR_HOME"):
        results.check()


def test_the_check_makes_nothing(data_folder: Path):
    results.check()
    assert not data_folder.exists()
