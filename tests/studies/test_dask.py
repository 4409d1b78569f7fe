"""Studies on a Dask cluster of this machine: a scheduler and two workers, each a process."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import optadvisor as oa
from optadvisor.studies.executors import dask

from .commands import begin, finish, log

pytest.importorskip("distributed")

TASK, TRIALS, STEPS, SEED = "digits-mlp", 24, 2000, 5
ASKED = [
    *("tune", TASK, "--optimizer", "adamw", "--trials", str(TRIALS), "--steps", str(STEPS), "--seed", str(SEED)),
    *("--format", "json", "--quiet"),
]
# Says which training it has begun. Where it is told to, it never ends its third.
WORKER = """
import sys, time
from optadvisor.studies.executors import dask
real, begun = dask.attempt, []
def attempt(task, job):
    begun.append(job.key)
    print(job.key, flush=True)
    while len(begun) == 3 and sys.argv[2] == "hangs":
        time.sleep(1)
    return real(task, job)
dask.attempt = attempt
from distributed.cli.dask_worker import main
main(["--scheduler-file", sys.argv[1], "--no-nanny", "--nthreads", "1", "--no-dashboard", "--memory-limit", "0"])
"""


class Cluster:
    def __init__(self, folder: Path, first: str) -> None:
        self._file = folder / "scheduler.json"
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(self._file)]
        self.scheduler = subprocess.Popen(
            [*command, "--port", "0", "--host", "127.0.0.1", "--no-dashboard"], stderr=subprocess.DEVNULL
        )
        self.workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(self._file), how],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for how in (first, "works")
        ]

    @property
    def address(self) -> str:
        end = time.monotonic() + 120
        while not self._file.exists() or not self._file.read_text():
            assert time.monotonic() < end, "no scheduler"
            time.sleep(0.05)
        return str(json.loads(self._file.read_text())["address"])

    def begun(self, worker: int) -> Iterator[str]:
        """The keys of the trainings that a worker begins."""
        stream = self.workers[worker].stdout
        assert stream is not None
        return (line.strip() for line in stream)

    def end(self) -> None:
        for process in (self.scheduler, *self.workers):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    found = Cluster(tmp_path, getattr(request, "param", "works"))
    yield found
    found.end()
    for worker in found.workers:
        assert worker.stdout is not None
        worker.stdout.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The trials of the study in one process; they compile the task on the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTADVISOR_HOME", str(tmp_path_factory.mktemp("undisturbed")))
        result = oa.tune(TASK, trials=TRIALS, steps=STEPS, seed=SEED, optimizers=["adamw"])
    return log(json.loads(json.dumps(result.to_dict())))


@pytest.mark.parametrize("cluster", ["hangs"], indirect=True)
def test_kill_9_of_a_worker(cluster: Cluster, undisturbed: list[dict[str, Any]]):
    study = begin(*ASKED, "--executor", "dask", "--scheduler", cluster.address)
    lost = list(itertools.islice(cluster.begun(0), 3))[-1]
    cluster.workers[0].kill()
    code, out, err = finish(study)
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert log(data) == undisturbed
    assert data["runs"] == TRIALS + 15
    cluster.end()
    assert lost in cluster.begun(1)


def test_a_scheduler_that_dies_ends_in_one_line_and_the_study_can_be_resumed(
    cluster: Cluster, undisturbed: list[dict[str, Any]]
):
    study = begin(*ASKED, "--executor", "dask", "--scheduler", cluster.address)
    next(key for key in cluster.begun(0) if int(key.split()[1]) >= 8)  # of the second wave
    cluster.scheduler.kill()
    code, out, err = finish(study)
    assert (code, out) == (1, "")
    assert err.startswith("Error: the Dask scheduler has gone; finished trials are kept: ")
    assert err.endswith(f"optadvisor tune {TASK} --resume goes on\n")
    assert err.count("\n") == 1
    code, out, err = finish(begin(*ASKED, "--resume"))
    assert (code, err) == (0, "")
    assert log(json.loads(out)) == undisturbed


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dask, "PATIENCE", 1)
    with pytest.raises(oa.InputError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:1' .*give its address"):
        oa.tune(TASK, executor="dask", scheduler="tcp://127.0.0.1:1")
