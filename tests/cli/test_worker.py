"""optadvisor worker, and tune over a database or a cluster: what is refused, and where trainings run."""

from __future__ import annotations

from pathlib import Path

import pytest

import optadvisor as oa
from optadvisor.kernels import InputError
from optadvisor.studies.executors import places

SERVER = "postgresql+psycopg://me:s3cret@db.example/studies"


@pytest.fixture(autouse=True)
def _data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "home"))


def test_a_worker_for_a_study_in_a_file(run, tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    tuned = ("tune", "digits-mlp", "--optimizer", "adamw", "--trials", "2", "--steps", "5", "--executor", "workers")
    assert run(*tuned, "--storage", url, "--quiet").code == 0
    ended = run("worker", "--storage", url, "--study", "digits-mlp#1")
    assert (ended.code, ended.out, ended.err) == (0, "digits-mlp#1 has ended\n", "")
    none = run("worker", "--storage", url, "--study", "digits-mlp", "--idle", "0")
    assert (none.code, none.out) == (0, "no study digits-mlp that runs in 0 s\n")
    assert run("worker", "--storage", url, "--study", "x", "--idle", "0", "--format", "json").json["jobs"] == 0


def test_a_worker_needs_a_database_that_answers(run):
    run("worker", "--study", "digits-mlp").refused("--storage")
    run("worker", "--storage", "sqlite:///x.db").refused("--study")
    run("worker", "--storage", "my.journal", "--study", "digits-mlp").refused("'my.journal'", "no URL")
    run("worker", "--storage", "sqlite:////nowhere/x.db", "--study", "x").refused("cannot open the storage")
    run("worker", "--storage", "nonsense://me:s3cret@host/x", "--study", "x").refused("nonsense://me:...@host/x")
    run("worker", "--storage", "sqlite:///x.db", "--study", "x", "--jobs", "0").refused("--jobs")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--executor", "worker"), ("'worker'", "did you mean 'workers'?")),
        (("--executor", "workers"), ("--storage postgresql+psycopg://",)),
        (("--executor", "workers", "--storage", "my.journal"), ("--storage postgresql+psycopg://",)),
        (("--executor", "dask"), ("--scheduler ADDRESS",)),
        (("--scheduler", "tcp://127.0.0.1:1"), ("--executor dask",)),
        (("--executor", "dask", "--scheduler", "tcp://127.0.0.1:1", "--jobs", "2"), ("leave out --jobs",)),
        (("--jobs", "0"), ("jobs",)),
    ],
)
def test_what_tune_refuses_before_any_work(run, tmp_path, arguments, words):
    run("tune", "digits-mlp", *arguments).refused(*words)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("name", "scheduler", "storage", "place"),
    [
        (None, None, None, "local"),
        (None, None, "my.journal", "local"),
        (None, None, "sqlite:///x.db", "local"),
        (None, None, SERVER, "workers"),
        (None, None, "mysql://host/x", "workers"),
        ("local", None, SERVER, "local"),
        ("workers", None, "sqlite:///x.db", "workers"),
        ("dask", "tcp://host:8786", None, "dask"),
        ("dask", "tcp://host:8786", SERVER, "dask"),
    ],
)
def test_where_trainings_run(name, scheduler, storage, place):
    assert places.choose(name, scheduler, storage, None) == place


@pytest.mark.parametrize("place", ["workers", "dask"])
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruning_needs_the_trainings_in_one_process(place, pruner):
    with pytest.raises(InputError, match=f"'{pruner}' needs the reports .*: give --executor local, or leave out"):
        places.check_pruner(place, pruner)
    places.check_pruner("local", pruner)
    places.check_pruner(place, "none")


@pytest.mark.parametrize("executor", ["workers", "dask"])
def test_a_function_of_this_process_stays_in_it(executor):
    def objective(config, report, seed):
        return config.hyperparameters["lr"]

    where = {"storage": SERVER} if executor == "workers" else {"scheduler": "tcp://127.0.0.1:1"}
    with pytest.raises(InputError, match=r"is a function of this process.*: give it as FILE\.py:FUNCTION"):
        oa.tune(objective, executor=executor, **where)
