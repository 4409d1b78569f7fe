"""The table of outcomes: the trainings it says, the same after an interruption and by whomever they are done."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from optadvisor.cli.main import main
from optadvisor.kernels import InputError
from optadvisor.studies import outcomes, seeds
from optadvisor.studies import storage as storages
from optadvisor.studies.executors.jobqueue import JOB, Queue, opened
from optadvisor.studies.outcomes import Progress, Sheet, Table
from optadvisor.studies.study import LADDER_STEPS
from optadvisor.studies.tasks import get
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.registry import FAMILIES, sample

from .commands import begin, finish

SHEET = Sheet(configs=5, seeds=2, seed=3, rules=("sgd", "adamw", "hybrid"))
TASKS = [get(name) for name in ("digits-mlp:steps=100", "rosenbrock", "digits-mlp:width=8,steps=100")]


def same(one: Table, other: Table, task: BuiltinTask) -> bool:
    """Whether two tables have the same bits for a task."""
    return (one.values(task).tobytes(), one.climbs(task).tobytes()) == (
        other.values(task).tobytes(),
        other.climbs(task).tobytes(),
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The table of one process, which compiles on the way."""
    table = Table.open(tmp_path_factory.mktemp("alone") / "table", SHEET)
    table.run(TASKS)
    return table


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
    climbs = table.climbs(TASKS[0])
    assert climbs.shape == (3, 4)
    assert np.isnan(climbs[2]).all()
    for r, rule in enumerate(SHEET.rules[:2]):
        for c, config in enumerate(SHEET.ladder(rule)):
            record = TASKS[0].train(config, seeds.derive(3, seeds.RANGE), LADDER_STEPS)
            assert climbs[r, c] == np.float32(record.value)
    with np.load(table.path(TASKS[0])) as kept:
        assert set(kept) == {"task", "values", "climbs", "seconds"}
        assert (str(kept["task"]), kept["values"].dtype, kept["climbs"].dtype) == (TASKS[0].name, "f4", "f4")
        assert kept["seconds"].shape == (2,)


def test_the_list_of_configs():
    sheet = Sheet()
    assert sheet.configs == 64
    for rule in sheet.rules:
        found = sheet.configs_of(rule)
        assert len(found) == 64
        assert len({json.dumps(config.to_dict(), sort_keys=True) for config in found}) == 64
        assert found[0].roles() == type(found[0]).from_dict(found[0].to_dict()).roles()
        if rule != "hybrid":
            rates = [config.hyperparameters["lr"] for config in found[1:]]
            assert math.log10(max(rates) / min(rates)) == pytest.approx(outcomes.DECADES, abs=0.2)
            ladder = {
                json.dumps({k: v for k, v in config.hyperparameters.items() if k != "lr"}) for config in found[:17]
            }
            assert len(ladder) == 1, "the ladder changes the learning rate alone"
            assert len({config.schedule["name"] for config in found}) == (1 if rule == "ftrl" else 3)
        assert found[1:17] == sheet.ladder(rule)
        assert {config.schedule["name"] for config in found[:17]} == {"constant"}
        annealed = found[-16:]
        if rule in outcomes.ANNEALED:
            assert {config.schedule["name"] for config in annealed} == {outcomes.ANNEALED[rule].name}
            assert [config.roles() for config in annealed] == [config.roles() for config in found[1:17]]
        else:
            assert [config.roles() for config in annealed] != [config.roles() for config in found[1:17]]
    assert Sheet(seed=1).configs_of("adamw")[17] != sheet.configs_of("adamw")[17]


def test_the_tasks_of_a_table():
    found = outcomes.chosen(60, seed=4)
    names = [task.name for task in found]
    assert len(set(names)) == 60
    assert set(names[: len(FAMILIES)]) == set(FAMILIES)
    beyond = names[len(FAMILIES) : len(FAMILIES) + len(outcomes.BEYOND)]
    assert beyond == [get(name).name for name in outcomes.BEYOND]
    assert outcomes.chosen(60, seed=4) == found
    assert outcomes.chosen(60, seed=5) != found
    assert outcomes.chosen(5, seed=4) == found[:5]
    for name in beyond:
        task = get(name)
        assert any(value in task.family.axes[axis].beyond for axis, value in task.values.items()), name


def test_what_is_beyond_an_axis_is_asked_for_by_name_and_never_sampled(capsys: pytest.CaptureFixture[str]):
    axes = {
        (family.name, name): axis for family in FAMILIES.values() for name, axis in family.axes.items() if axis.beyond
    }
    assert axes
    for (family, name), axis in axes.items():
        for value in axis.beyond:
            assert get(f"{family}:{name}={value}").values[name] == value
        assert main(["tasks", family]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert ", ".join(map(str, (*axis.choices, *axis.beyond))) in out
    families = {family for family, _ in axes}
    for task in sample(40 * len(families), seed=1, families=families):
        assert all(value in task.family.axes[name].choices for name, value in task.values.items())


def test_an_interrupted_table_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = Table.open(tmp_path / "whole", SHEET)
    whole.run(TASKS)
    real, count = BuiltinTask.train, 0

    def train(self: BuiltinTask, *arguments: object) -> object:
        nonlocal count
        count += 1
        if count == 35:  # in the second task
            raise KeyboardInterrupt
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(BuiltinTask, "train", train)
    table = Table.open(tmp_path / "table", SHEET)
    with pytest.raises(KeyboardInterrupt):
        table.run(TASKS, jobs=1)
    assert table.tasks() == [TASKS[0].name]
    count, seen = 100, []
    Table.open(tmp_path / "table", SHEET).run(TASKS, progress=seen.append)
    assert count == 100 + 2 * (20 + 8), "the first task is not trained again"
    for task in TASKS:
        assert same(table, whole, task)
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


def test_a_dask_cluster_gives_the_same_bits(tmp_path: Path, alone: Table):
    distributed = pytest.importorskip("distributed")
    table, seen = Table.open(tmp_path / "table", SHEET), []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        table.run(TASKS, scheduler=cluster.scheduler_address, progress=seen.append)
    assert [p.tasks for p in seen] == [1, 2, 3]
    assert all(same(table, alone, task) for task in TASKS)


def test_workers_over_a_database_give_the_same_bits(tmp_path: Path, database: str, alone: Table):
    helper = begin("worker", "--storage", database, "--study", "outcomes", "--jobs", "2", "--quiet")
    table = Table.open(tmp_path / "table", SHEET)
    table.run(TASKS, jobs=0, storage=database)
    assert all(same(table, alone, task) for task in TASKS)
    assert finish(helper)[0] == 0, "the end of the table sends its workers home"


def test_its_own_process_works_over_the_database_too(tmp_path: Path, database: str, alone: Table):
    table = Table.open(tmp_path / "table", SHEET)
    table.run(TASKS, jobs=2, storage=database)
    assert all(same(table, alone, task) for task in TASKS)


def test_a_table_whose_process_is_killed_takes_what_its_workers_did_meanwhile(tmp_path: Path, database: str):
    asked = ["learn", "build", "--tasks", "3", "--configs", "4", "--seeds", "1", "--quiet"]
    far = [*asked, "--storage", database, "--jobs", "0", "--folder", str(tmp_path / "far")]
    killed = begin(*far)
    helper = begin("worker", "--storage", database, "--study", "outcomes", "--quiet")
    first = tmp_path / "far"
    end = time.monotonic() + 120
    while not list(first.glob("*.npz")):
        assert time.monotonic() < end, finish(killed)
        time.sleep(0.02)
    killed.kill()
    finish(killed)
    code, out, err = finish(begin(*far))
    assert (code, err) == (0, "")
    assert "3 tasks, " in out
    assert finish(helper)[0] == 0
    assert main([*asked, "--folder", str(tmp_path / "near")]) == 0
    near, far_table = Table.open(tmp_path / "near"), Table.open(first)
    assert sorted(near.tasks()) == sorted(far_table.tasks())
    assert all(same(near, far_table, get(name)) for name in near.tasks())
    with storages.quiet_optuna():
        kept = storages.open_storage(database, "")
        (queue,) = opened(kept)
        jobs = Queue(kept, queue.study).trials()
        done = Counter(trial.user_attrs[JOB]["key"] for trial in jobs if trial.state == TrialState.COMPLETE)
        storages.close(kept)
    assert set(done.values()) == {1}, "what was done is not done again"


def test_a_table_that_another_process_runs_is_refused(tmp_path: Path, database: str):
    table = Table.open(tmp_path / "table", SHEET)
    with storages.quiet_optuna():
        kept = storages.open_storage(database, "")
        with (
            storages.exclusive(f"outcomes#{table._digest()}", database, "outcomes", kept),
            pytest.raises(InputError, match="is being run by another process: wait for it, or join it with"),
        ):
            table.run(TASKS, storage=database)
        storages.close(kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--storage", "postgresql://x/y", "--scheduler", "tcp://x:1"], "give one of them, or neither"),
        (["--storage", "a.journal"], "workers take their jobs from a database"),
        (["--scheduler", "tcp://x:1", "--jobs", "2"], "a Dask cluster decides how many trainings run at once"),
        (["--jobs", "0"], "jobs is 0"),
    ],
)
def test_who_cannot_train(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["learn", "build", "--tasks", "2", "--folder", str(tmp_path / "table"), *arguments]) == 2
    _, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert not list((tmp_path / "table").glob("*.npz"))
