"""The queue of a study's jobs, its workers, and patience with a storage, in one process and a file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import optuna
import psycopg.errors
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError, OperationalError

import optadvisor as oa
from optadvisor.kernels import InputError
from optadvisor.studies import database, storage
from optadvisor.studies.executors import Job, TrialError, jobqueue
from optadvisor.studies.executors.jobqueue import FAILED, FINISHED, RUNNING, Queue
from optadvisor.studies.executors.worker import Worker
from optadvisor.studies.executors.workers import RETRIES, Workers, shared
from optadvisor.studies.tasks.task import TrialRecord
from optadvisor.working import work

CONFIG = oa.recommend(oa.TaskProfile(), top=1).recommendations[0].config
TASK = "digits-mlp"


def job(number: int, seed: int = 0) -> Job:
    return Job(f"trial {number}", CONFIG, seed, None)


class Doer:
    """An executor that does jobs at once: the value of a record is its seed; a negative one is an error."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def submit(self, job: Job) -> Future[TrialRecord]:
        future: Future[TrialRecord] = Future()
        self.done.append(job.key)
        if job.seed < 0:
            future.set_exception(ZeroDivisionError("by nothing"))
        else:
            future.set_result(TrialRecord(job.config, job.seed, float(job.seed) or float("inf"), 0.0))
        return future

    def close(self) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def kept(url: str) -> Iterator[BaseStorage]:
    with storage.quiet_optuna():
        found = storage.open_storage(url, TASK)
        yield found
        storage.close(found)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "HEARTBEAT", 1)
    monkeypatch.setattr(database, "GRACE", 1)


def states(kept: BaseStorage, study: str = "s") -> list[TrialState]:
    return [t.state for t in optuna.load_study(storage=kept, study_name=f"{study}/queue").get_trials()]


def attrs(kept: BaseStorage, study: str = "s") -> dict[str, object]:
    return optuna.load_study(storage=kept, study_name=f"{study}/queue").user_attrs


def in_thread(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


# the study's process -----------------------------------------------------------------------------------------------


def test_records_come_back_as_they_were(kept: BaseStorage):
    with shared(kept, "s", TASK, Doer(), 2, {}) as workers:
        futures = [workers.submit(job(i, seed=i)) for i in range(4)]
        records = [future.result(timeout=30) for future in futures]
    assert [record.value for record in records] == [float("inf"), 1.0, 2.0, 3.0]
    assert [record.config for record in records] == [CONFIG] * 4
    assert states(kept) == [TrialState.COMPLETE] * 4
    assert attrs(kept)["state"] == FINISHED


def test_an_error_ends_the_study_and_sends_the_workers_home(kept: BaseStorage):
    def study() -> None:
        with shared(kept, "s", TASK, Doer(), 1, {}) as workers:
            workers.submit(job(0, seed=-1)).result(timeout=30)

    with pytest.raises(TrialError, match="ZeroDivisionError: by nothing"):
        study()
    assert attrs(kept)["state"] == FAILED


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StorageInternalError("away")])
def test_a_study_that_is_interrupted_stays_open(kept: BaseStorage, error: BaseException):
    def study() -> None:
        with shared(kept, "s", TASK, None, 0, {}):
            raise error

    with pytest.raises(type(error)):
        study()
    assert attrs(kept)["state"] == RUNNING


def test_what_an_earlier_run_did_is_not_done_again(kept: BaseStorage):
    first = Workers(kept, "s", TASK, Doer(), 1, {})
    first.submit(job(0, seed=7)).result(timeout=30)
    first.close()
    Workers(kept, "s", TASK, None, 0, {}).submit(job(1, seed=8))
    doer = Doer()
    with shared(kept, "s", TASK, doer, 1, {}) as workers:
        jobs = [job(0, seed=7), job(1, seed=8), job(2, seed=9)]
        assert [workers.submit(each).result(timeout=30).value for each in jobs] == [7.0, 8.0, 9.0]
    assert sorted(doer.done) == ["trial 1", "trial 2"]
    assert states(kept) == [TrialState.COMPLETE] * 3


def test_a_job_that_has_become_another_one_is_done(kept: BaseStorage):
    for seed in (7, 8):
        with shared(kept, "s", TASK, Doer(), 1, {}) as workers:
            assert workers.submit(job(0, seed)).result(timeout=30).value == seed


def test_jobs_of_the_dead_process_of_a_study_are_done_at_once(kept: BaseStorage):
    before = Queue.create(kept, "s", TASK, {})
    before.put(job(0, seed=7).to_dict())
    assert len(before.take(1, "the study's own process, host:1")) == 1
    with shared(kept, "s", TASK, Doer(), 1, {}) as workers:
        assert workers.submit(job(0, seed=7)).result(timeout=30).value == 7.0
    assert states(kept) == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_job_that_kills_its_workers_is_given_up(kept: BaseStorage):
    def study() -> None:
        with shared(kept, "s", TASK, None, 0, {}) as workers:
            future, victim = workers.submit(job(0)), Queue(kept, "s")
            while not future.done():
                for trial, _ in victim.take(1, "host:1"):
                    victim.give_up(trial)
                time.sleep(0.01)
            future.result()

    with pytest.raises(TrialError, match=f"trial 0: {RETRIES + 1} workers died of it"):
        study()
    assert states(kept) == [TrialState.FAIL] * (RETRIES + 1)
    assert attrs(kept)["state"] == FAILED


def test_a_worker_without_a_sign_of_life_loses_its_job(kept: BaseStorage):
    with shared(kept, "s", TASK, None, 0, {}) as workers:
        future = workers.submit(job(0, seed=7))
        dead, living = Queue(kept, "s"), Queue(kept, "s")
        [(lost, _)] = dead.take(1, "host:1")
        while not (taken := living.take(1, "host:2")):
            time.sleep(0.05)
        dead.finish(lost, TrialRecord(CONFIG, 7, 1.0, 0.0))  # too late: it counts no more
        living.finish(taken[0][0], TrialRecord(CONFIG, 7, 2.0, 0.0))
        assert future.result(timeout=30).value == 2.0
    assert states(kept) == [TrialState.FAIL, TrialState.COMPLETE]


def test_an_error_of_the_worker_in_the_process_ends_the_study(kept: BaseStorage):
    class Broken(Doer):
        def submit(self, job: Job) -> Future[TrialRecord]:
            raise RuntimeError("no more threads")

    with (
        pytest.raises(RuntimeError, match="no more threads"),
        shared(kept, "s", TASK, Broken(), 1, {}) as workers,
    ):
        workers.submit(job(0)).result(timeout=30)


# workers ------------------------------------------------------------------------------------------------------------


def test_a_job_is_taken_once(kept: BaseStorage):
    queue = Queue.create(kept, "s", TASK, {})
    for i in range(5):
        queue.put(job(i).to_dict())
    first, second = Queue(kept, "s"), Queue(kept, "s")
    taken = [first.take(2, "a"), second.take(9, "b"), first.take(2, "a")]
    assert [len(each) for each in taken] == [2, 3, 0]
    assert len({job.key for each in taken for _, job in each}) == 5


def test_a_job_that_was_given_back_can_be_taken_again(kept: BaseStorage):
    queue = Queue.create(kept, "s", TASK, {})
    queue.put(job(0, seed=3).to_dict())
    [(trial, _)] = queue.take(1, "a")
    queue.give_back(trial)
    assert queue.take(1, "b") == [(trial, job(0, seed=3))]


def test_a_deleted_study_has_no_more_jobs(kept: BaseStorage):
    queue = Queue.create(kept, "s", TASK, {})
    queue.put(job(0).to_dict())
    [(trial, _)] = queue.take(1, "a")
    optuna.delete_study(study_name="s/queue", storage=kept)
    queue.finish(trial, TrialRecord(CONFIG, 0, 1.0, 0.0))
    assert queue.take(1, "a") == []
    assert jobqueue.opened(kept) == []


def test_a_worker_leaves_when_it_is_over_or_idle(kept: BaseStorage):
    queue = Queue.create(kept, "s", TASK, {})
    queue.put(job(0, seed=-1).to_dict())  # somebody's error is not the worker's
    worker = Worker(queue, Doer(), 1, "a")
    began = time.monotonic()
    worker.run(idle=0.3)
    assert worker.done == 1
    assert time.monotonic() - began >= 0.3
    Worker(Queue(kept, "s"), Doer(), 1, "a").run(over=lambda: True)


def test_work_waits_for_a_study_of_the_task_and_ends_with_it(url: str):
    found: list[object] = []
    waiting = in_thread(lambda: found.append(work(url, TASK, jobs=1)))
    time.sleep(0.2)
    oa.tune(TASK, trials=2, steps=5, optimizers=["adamw"], storage=url, executor="workers", jobs=0)
    waiting.join(timeout=60)
    [done] = found
    assert (done.study, done.jobs) == (f"{TASK}#1", 2 + 10)


def test_work_goes_from_an_abandoned_study_to_the_newest(url: str, kept: BaseStorage):
    Queue.create(kept, f"{TASK}#1", TASK, {})
    found: list[object] = []
    waiting = in_thread(lambda: found.append(work(url, TASK, jobs=1)))
    time.sleep(0.5)
    with shared(kept, f"{TASK}#2", TASK, None, 0, {}):
        pass
    with shared(kept, f"{TASK}#3", TASK, None, 0, {}) as workers:
        assert workers.submit(Job("trial 0", CONFIG, 1, 5)).result(timeout=60).seed == 1
        Queue(kept, f"{TASK}#1").set_state(FAILED)
    waiting.join(timeout=60)
    assert [(done.study, done.jobs) for done in found] == [(f"{TASK}#3", 1)]


def test_work_for_what_is_not_there_or_over(url: str, kept: BaseStorage):
    with shared(kept, f"{TASK}#1", TASK, None, 0, {}):
        pass
    assert work(url, f"{TASK}#1").jobs == 0
    assert work(url, TASK, idle=0).study is None
    assert work(url, "nonsense#4", idle=0).study is None


def test_work_refuses_another_version(url: str, kept: BaseStorage, monkeypatch: pytest.MonkeyPatch):
    Queue.create(kept, f"{TASK}#1", TASK, {})
    monkeypatch.setattr(oa, "__version__", "99.0")
    with pytest.raises(InputError, match=r"is run by optadvisor .*, and this is 99\.0: install the same version"):
        work(url, TASK)


def test_looking_for_a_study_makes_no_tables(tmp_path: Path):
    assert work(f"sqlite:///{tmp_path}/none.db", TASK, idle=0).to_dict()["jobs"] == 0
    assert (tmp_path / "none.db").stat().st_size == 0


# patience -----------------------------------------------------------------------------------------------------------


def wrapped(cause: Exception) -> StorageInternalError:
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


def of_sqlite(name: str) -> OperationalError:
    error = sqlite3.OperationalError(name)
    error.sqlite_errorname = name
    return OperationalError("SELECT", {}, error)


AWAY = [
    OperationalError("SELECT", {}, psycopg.OperationalError("connection refused")),
    OperationalError("SELECT", {}, psycopg.errors.AdminShutdown("terminating connection")),
    OperationalError("SELECT", {}, psycopg.errors.CannotConnectNow("the database system is starting up")),
    OperationalError("SELECT", {}, psycopg.errors.TooManyConnections("too many clients")),
    OperationalError("SELECT", {}, psycopg.OperationalError("server closed"), connection_invalidated=True),
    of_sqlite("SQLITE_BUSY"),
]
THERE = [
    OperationalError("INSERT", {}, psycopg.errors.DiskFull("no space left on device")),
    IntegrityError("INSERT", {}, psycopg.errors.UniqueViolation("twice")),
    of_sqlite("SQLITE_FULL"),
    of_sqlite("SQLITE_READONLY"),
    KeyError("no such study"),
    OSError(28, "No space left on device"),
]


@pytest.mark.parametrize("error", AWAY, ids=lambda e: str(e.orig))
@pytest.mark.parametrize("wrap", [False, True])
def test_what_is_waited_for(error: OperationalError, wrap: bool, caplog: pytest.LogCaptureFixture):
    failures = [wrapped(error) if wrap else error]
    patience = database.Patience()

    def action() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert patience.calm()
    assert patience(action) == "done"
    assert not patience.calm()
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        "the storage is away",
        "the storage is back",
    ]


@pytest.mark.parametrize("error", THERE, ids=repr)
def test_what_is_not_waited_for(error: Exception):
    calls: list[None] = []

    def action() -> None:
        calls.append(None)
        raise error

    with pytest.raises(type(error)):
        database.Patience()(action)
    assert len(calls) == 1


def test_a_worker_that_waits_for_a_study_waits_for_the_server_too(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    real, answers = database.has_studies, [False, AWAY[0]]

    def has_studies(url: str) -> bool:
        answer = answers.pop(0) if answers else real(url)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(database, "has_studies", has_studies)
    monkeypatch.setattr("optadvisor.working.LOOK", 0.01)
    assert work(url, TASK, idle=0.3).study is None
    assert not answers
    assert caplog.records[0].message.startswith("the storage is away")
    answers.append(AWAY[0])
    with pytest.raises(InputError, match="cannot open the storage"):  # on the first look a wrong URL is more likely
        work(url, TASK, idle=0.3)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database, "OUTAGE", 0.3)

    def action() -> None:
        raise AWAY[0]

    began = time.monotonic()
    with pytest.raises(StorageInternalError, match="connection refused"):
        database.Patience()(action)
    assert 0.3 <= time.monotonic() - began < 5
    stopped = database.Patience()
    stopped.stop.set()
    monkeypatch.setattr(database, "OUTAGE", 300.0)
    with pytest.raises(StorageInternalError, match="connection refused"):
        stopped(action)


def test_a_trial_that_the_server_had_before_it_went_away_is_kept_once(
    kept: BaseStorage, monkeypatch: pytest.MonkeyPatch
):
    study = optuna.create_study(storage=kept, study_name="s")
    trial = optuna.create_trial(value=1.0, params={}, distributions={}, user_attrs={"number": 3})
    real, errors = optuna.Study.add_trial, [AWAY[0]]

    def add(self: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        real(self, trial)
        if errors:
            raise errors.pop()

    monkeypatch.setattr(optuna.Study, "add_trial", add)
    storage.keep_trial(study, trial, 3, database.Patience())
    assert [t.user_attrs["number"] for t in study.get_trials()] == [3]
