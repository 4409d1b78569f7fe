"""The table of outcomes: the trainings it says, the same after an interruption, refused where it is another one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from optadvisor.cli.main import main
from optadvisor.kernels import InputError
from optadvisor.studies import outcomes, seeds
from optadvisor.studies.outcomes import Progress, Sheet, Table
from optadvisor.studies.tasks import get
from optadvisor.studies.tasks.builtin import BuiltinTask

SHEET = Sheet(configs=5, seeds=2, seed=3, rules=("sgd", "adamw", "hybrid"))
TASKS = [get(name) for name in ("digits-mlp:steps=100", "rosenbrock", "digits-mlp:width=8,steps=100")]


def test_the_values_are_those_of_the_trainings(tmp_path: Path):
    table = Table.open(tmp_path / "table", SHEET)
    table.run(TASKS[:1], jobs=2)
    values = table.values(TASKS[0])
    assert values.shape == (3, 5, 2, 5)
    assert np.isnan(values[2]).all(), "no embeddings, no hybrid"
    for r, rule in enumerate(SHEET.rules[:2]):
        for c, config in enumerate(SHEET.configs_of(rule)):
            for s in range(2):
                record = TASKS[0].train(config, seeds.derive(3, seeds.TRIAL, s))
                np.testing.assert_array_equal(values[r, c, s], np.float32([value for _, value in record.curve]))


def test_the_list_of_configs():
    sheet = Sheet(configs=40)
    for rule in sheet.rules:
        found = sheet.configs_of(rule)
        assert len(found) == 40
        assert len({json.dumps(config.to_dict(), sort_keys=True) for config in found}) == 40
        assert found[0].roles() == type(found[0]).from_dict(found[0].to_dict()).roles()
        if rule != "hybrid":
            rates = [config.hyperparameters["lr"] for config in found[1:]]
            assert math.log10(max(rates) / min(rates)) == pytest.approx(outcomes.DECADES, abs=0.2)
            ladder = {
                json.dumps({k: v for k, v in config.hyperparameters.items() if k != "lr"}) for config in found[:17]
            }
            assert len(ladder) == 1, "the ladder changes the learning rate alone"
            assert len({config.schedule["name"] for config in found}) == (1 if rule == "ftrl" else 3)
    assert Sheet(configs=40, seed=1).configs_of("adamw")[-1] != sheet.configs_of("adamw")[-1]


def test_an_interrupted_table_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = Table.open(tmp_path / "whole", SHEET)
    whole.run(TASKS)
    real, count = BuiltinTask.train, 0

    def train(self: BuiltinTask, *arguments: object) -> object:
        nonlocal count
        count += 1
        if count == 25:  # in the second task
            raise KeyboardInterrupt
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(BuiltinTask, "train", train)
    table = Table.open(tmp_path / "table", SHEET)
    with pytest.raises(KeyboardInterrupt):
        table.run(TASKS, jobs=1)
    assert table.tasks() == [TASKS[0].name]
    count, seen = 100, []
    Table.open(tmp_path / "table", SHEET).run(TASKS, progress=seen.append)
    assert count == 140, "the first task is not trained again"
    for task in TASKS:
        np.testing.assert_array_equal(table.values(task), whole.values(task))
    assert [(p.tasks, p.of_tasks, p.trainings, p.of_trainings) for p in seen] == [(2, 3, 40, 60), (3, 3, 60, 60)]
    assert isinstance(seen[-1], Progress)
    assert seen[-1].left == 0


def test_another_sheet_is_not_mixed_in(tmp_path: Path):
    Table.open(tmp_path, SHEET)
    with pytest.raises(InputError, match="go on with the same, or choose another --folder"):
        Table.open(tmp_path, Sheet(configs=6, seeds=2))
    assert Table.open(tmp_path).sheet == SHEET
    with pytest.raises(InputError, match="optadvisor learn build"):
        Table.open(tmp_path / "none")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["learn", "build", "--tasks", "2", "--configs", "2", "--seeds", "1", "--folder", str(tmp_path / "t")]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "2 tasks, " in out
    assert "trainings, " in err
    assert len(list((tmp_path / "t").glob("*.npz"))) == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "t").iterdir()}
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "t").iterdir()} == before
    assert main([*arguments, "--seed", "9"]) == 2
