"""Studies that several processes train for over a PostgreSQL server: whoever is killed, each trial is there once."""

from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

import optadvisor as oa
from optadvisor.studies import database as databases
from optadvisor.studies import storage

from .commands import WITH_CTRL_C, begin, finish, log
from .postgresql import Server

TRIALS, STEPS, SEED = 24, 6000, 5  # long enough a training to be caught at work on a busy machine
CONFIRMATIONS = 15
TASK = "digits-mlp"
ASKED = [
    *("tune", TASK, "--optimizer", "adamw", "--trials", str(TRIALS), "--steps", str(STEPS), "--seed", str(SEED)),
    *("--format", "json", "--quiet"),
]
ALONE = ["--jobs", "0"]  # the study's own process trains nothing
# Signs of life every second, given up after three: a test does not wait for a minute.
QUICK = "from optadvisor.studies import database; database.HEARTBEAT, database.GRACE = 1, 3"
IMPATIENT = QUICK + "; database.OUTAGE = 1.0"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The trials of the study in one process; they compile the task on the way, so that no child has to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTADVISOR_HOME", str(tmp_path_factory.mktemp("undisturbed")))
        result = oa.tune(TASK, trials=TRIALS, steps=STEPS, seed=SEED, optimizers=["adamw"])
    return log(json.loads(json.dumps(result.to_dict())))


def tune(url: str, *arguments: str, before: str = QUICK) -> subprocess.Popen[str]:
    return begin(*ASKED, "--storage", url, *arguments, before=before)


def worker(url: str, before: str = QUICK) -> subprocess.Popen[str]:
    return begin("worker", "--storage", url, "--study", TASK, "--jobs", "1", "--quiet", before=before)


def trials(url: str, name: str) -> list[FrozenTrial]:
    """Of one Optuna study in the storage; none while it is not there."""
    if not databases.has_studies(url):
        return []
    kept = reader(url)
    number = {study.study_name: study._study_id for study in kept.get_all_studies()}.get(name)
    return [] if number is None else kept.get_all_trials(number, deepcopy=False)


@functools.cache
def reader(url: str) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(url, {"poolclass": NullPool}, skip_table_creation=True)


def queued(url: str) -> list[FrozenTrial]:
    return trials(url, f"{TASK}#1/queue")


def state_of(found: list[FrozenTrial], state: TrialState) -> list[FrozenTrial]:
    return [trial for trial in found if trial.state == state]


def wait_until(condition: Callable[[], Any], *processes: subprocess.Popen[str]) -> Any:
    end = time.monotonic() + 120
    while not (found := condition()):
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited for two minutes"
        time.sleep(0.02)
    return found


def done(url: str, count: int) -> Callable[[], bool]:
    return lambda: len(state_of(queued(url), TrialState.COMPLETE)) >= count


def stopped_with_a_job(url: str, process: subprocess.Popen[str], name: str) -> FrozenTrial:
    """Stop a process, with SIGSTOP, while it has a job; the job."""
    while True:
        mine = wait_until(lambda: [t for t in state_of(queued(url), TrialState.RUNNING) if name in worker_of(t)])[0]
        process.send_signal(signal.SIGSTOP)
        again = [t for t in state_of(queued(url), TrialState.RUNNING) if t.number == mine.number]
        if again:
            return again[0]
        process.send_signal(signal.SIGCONT)  # it had finished meanwhile


def joined(url: str, study: subprocess.Popen[str], helper: subprocess.Popen[str]) -> None:
    """Wait until a study and a worker both train: the study is stopped meanwhile, lest it end first."""
    wait_until(lambda: len(state_of(queued(url), TrialState.WAITING)) >= 2, study, helper)
    study.send_signal(signal.SIGSTOP)
    wait_until(lambda: any(f":{helper.pid}" in worker_of(trial) for trial in queued(url)), helper)
    study.send_signal(signal.SIGCONT)


def worker_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("worker", ""))


def check(url: str, out: str, undisturbed: list[dict[str, Any]], lost: int = 0) -> None:
    """The study is that of an undisturbed run, every trial and every job is there once; jobs lost with their worker."""
    data = json.loads(out)
    assert log(data) == undisturbed
    assert (data["trials"], data["runs"]) == (TRIALS, TRIALS + CONFIRMATIONS)
    kept = trials(url, f"{data['study']}/adamw")
    assert sorted(t.user_attrs["number"] for t in kept) == list(range(TRIALS))
    jobs = trials(url, f"{data['study']}/queue")
    finished = Counter(t.user_attrs["job"]["key"] for t in state_of(jobs, TrialState.COMPLETE))
    assert len(finished) == TRIALS + CONFIRMATIONS
    assert set(finished.values()) == {1}
    given_up = len(state_of(jobs, TrialState.FAIL))
    assert given_up >= lost  # more where a machine is too busy to give signs of life
    assert len(jobs) == len(finished) + given_up


def test_kill_9_of_a_worker(database: str, undisturbed: list[dict[str, Any]]):
    workers = [worker(database) for _ in range(4)]  # before there are tables, let alone a study
    time.sleep(0.5)
    study = tune(database, *ALONE)
    victim = workers[1]
    job = stopped_with_a_job(database, victim, f":{victim.pid}")
    victim.kill()
    code, out, err = finish(study)
    assert (code, err) == (0, "")
    check(database, out, undisturbed, lost=1)
    again = next(
        t
        for t in state_of(queued(database), TrialState.COMPLETE)
        if t.user_attrs["job"]["key"] == job.user_attrs["job"]["key"]
    )
    assert worker_of(again) != worker_of(job)
    assert finish(victim)[0] == -signal.SIGKILL
    for process in (workers[0], *workers[2:]):
        code, out, err = finish(process)
        assert (code, err) == (0, "")
        assert re.fullmatch(rf"{TASK}#1: \d+ trainings in [\d.]+ s\n", out)


def test_kill_9_of_the_study(database: str, undisturbed: list[dict[str, Any]]):
    study = tune(database, "--jobs", "1")
    helper = worker(database)
    wait_until(done(database, 5), study, helper)
    stopped_with_a_job(database, study, "own process")
    study.kill()
    finish(study)
    wait_until(lambda: not state_of(queued(database), TrialState.WAITING), helper)  # it goes on with what is there
    before = {t.number for t in state_of(queued(database), TrialState.COMPLETE)}
    code, out, err = finish(tune(database, "--jobs", "1", "--resume"))
    assert (code, err) == (0, "")
    check(database, out, undisturbed, lost=1)
    assert before <= {t.number for t in state_of(queued(database), TrialState.COMPLETE)}
    assert finish(helper)[::2] == (0, "")
    assert oa.load_config(TASK).to_dict() == json.loads(out)["best"]["config"]


def test_a_worker_that_leaves_gives_its_job_back(database: str, undisturbed: list[dict[str, Any]]):
    study = tune(database, *ALONE)
    for number in (signal.SIGINT, signal.SIGTERM):
        leaving = worker(database, before=f"{WITH_CTRL_C}; {QUICK}")
        stopped_with_a_job(database, leaving, f":{leaving.pid}")
        leaving.send_signal(number)
        leaving.send_signal(signal.SIGCONT)
        assert finish(leaving) == (1, "", "Interrupted: trainings that ran are left to other workers.\n")
        assert not state_of(queued(database), TrialState.RUNNING)
    last = worker(database)
    code, out, err = finish(study)
    assert (code, err) == (0, "")
    check(database, out, undisturbed)
    assert finish(last)[0] == 0


def test_ctrl_c_of_the_study_and_resume(database: str, undisturbed: list[dict[str, Any]]):
    study = tune(database, "--jobs", "2", before=f"{WITH_CTRL_C}; {QUICK}")
    wait_until(done(database, 5), study)
    study.send_signal(signal.SIGINT)
    code, out, err = finish(study)
    again = f"optadvisor tune {TASK} --storage {database} --resume"
    assert (code, out, err) == (1, "", f"Interrupted: finished trials are kept. Go on with: {again}\n")
    assert not state_of(queued(database), TrialState.RUNNING)
    code, out, _ = finish(begin(*again.split()[1:], "--quiet", "--format", "json"))
    assert code == 0
    check(database, out, undisturbed)


def test_a_server_that_goes_away_is_waited_for(postgresql: Server, database: str, undisturbed: list[dict[str, Any]]):
    study, helper = tune(database, "--jobs", "1"), worker(database)
    joined(database, study, helper)
    postgresql.stop()
    try:
        time.sleep(4)  # longer than a job may be without a sign of life
        assert study.poll() is None
    finally:
        postgresql.start()
    code, out, err = finish(study)
    assert code == 0, err
    check(database, out, undisturbed)
    assert err.splitlines()[0].startswith("the storage is away")
    assert err.splitlines()[-1] == "the storage is back"
    assert finish(helper)[0] == 0


def test_a_server_that_stays_away_ends_in_one_line_and_the_study_can_be_resumed(
    postgresql: Server, database: str, undisturbed: list[dict[str, Any]]
):
    study, helper = tune(database, "--jobs", "1", before=IMPATIENT), worker(database, before=IMPATIENT)
    joined(database, study, helper)
    postgresql.stop()
    try:
        for process, words in (
            (study, ("cannot keep the results", f"optadvisor tune {TASK} --storage {database} --resume")),
            (helper, ("the storage does not answer", "Start the worker again")),
        ):
            code, out, err = finish(process)
            assert (code, out) == (1, "")
            errors = [line for line in err.splitlines() if not line.startswith("the storage is away")]
            assert len(errors) == 1, err
            assert errors[0].startswith("Error: ")
            assert "Connection refused" in errors[0]
            for word in words:
                assert word in errors[0]
    finally:
        postgresql.start()
    code, out, _ = finish(tune(database, "--resume"))
    assert code == 0
    data = json.loads(out)
    assert log(data) == undisturbed
    assert sorted(t.user_attrs["number"] for t in trials(database, f"{TASK}#1/adamw")) == list(range(TRIALS))


def test_a_study_is_run_by_one_process_on_all_machines(
    database: str, undisturbed: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = tune(database, "--jobs", "1", before="pass")
    wait_until(done(database, 5), first)
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the second comes
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "another machine"))
    code, out, err = finish(tune(database, "--resume"))
    first.send_signal(signal.SIGCONT)
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: study {TASK}#1 is being run by another process: wait for it")
    assert err.count("\n") == 1
    code, out, err = finish(first)
    assert (code, err) == (0, "")
    check(database, out, undisturbed)


def test_two_commands_that_begin_in_an_empty_database(database: str, undisturbed: list[dict[str, Any]]):
    ended = [finish(process) for process in [tune(database, "--jobs", "1") for _ in range(2)]]
    assert [(code, err) for code, _, err in ended] == [(0, ""), (0, "")]
    assert {json.loads(out)["study"] for _, out, _ in ended} == {f"{TASK}#1", f"{TASK}#2"}
    for _, out, _ in ended:
        check(database, out, undisturbed)
    assert {worker_of(t).rpartition(",")[0] for t in queued(database)} == {"the study's own process"}


OWN = """
import time

def objective(config, report, seed):
    if {fails} and seed % 3 == 0:
        raise KeyError("a bug")
    return (config.hyperparameters["lr"] - 0.01) ** 2 + seed % 7
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_function_in_a_file(database: str, tmp_path: Path, fails: bool):
    task = tmp_path / "own.py"
    task.write_text(OWN.format(fails=fails))
    asked = ["tune", f"{task}:objective", "--optimizer", "sgd", "--trials", "6", "--format", "json", "--quiet"]
    study = begin(*asked, "--storage", database, *ALONE)
    helper = begin("worker", "--storage", database, "--study", f"{task}:objective", "--quiet")
    code, out, err = finish(study)
    ended = finish(helper)
    if fails:
        assert (code, out) == (1, "")
        assert re.fullmatch(
            r"Error: trial \d+ \(sgd, .*\): KeyError: 'a bug', at .*own\.py:6; finished trials are kept.*--resume goes on\n",
            err,
        )
    else:
        assert (code, err) == (0, "")
        assert log(json.loads(out)) == log(json.loads(finish(begin(*asked))[1]))
    assert ended[0] == 0, "whether it ended well or not, the study sends its workers home"


def test_a_study_that_was_taken_over_while_the_server_was_away_is_left_alone(
    postgresql: Server, database: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(databases, "TAKE_BACK", 0.0)
    with storage.quiet_optuna(), ExitStack() as stack:
        mine, other = (storage.open_storage(database, TASK) for _ in range(2))
        for each in (mine, other):
            stack.callback(storage.close, each)
        study = optuna.create_study(storage=mine, study_name="s")
        with storage.exclusive("s", database, TASK, mine):
            postgresql.stop()
            postgresql.start()
            with (
                storage.exclusive("s", database, TASK, other),
                pytest.raises(oa.InputError, match="study s was taken over by another process"),
            ):
                databases.Patience()(lambda: study.set_user_attr("written by", "me"))
            databases.Patience()(lambda: study.set_user_attr("written by", "me, who has it again"))
            with pytest.raises(oa.InputError, match="is being run"), storage.exclusive("s", database, TASK, other):
                pass
