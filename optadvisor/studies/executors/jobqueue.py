"""The queue of a study's jobs: an Optuna study beside it, one trial a job, that workers on any machine take from.

A job is a WAITING trial, RUNNING while a worker has it, COMPLETE with its record, FAIL where its worker died or it
raised. The study's own process alone adds jobs and gives up those whose worker shows no sign of life; a worker alone
takes, finishes and gives back. So each job has one trial that counts, whoever dies.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

import optadvisor
from optadvisor.studies.database import Patience
from optadvisor.studies.executors.job import Job
from optadvisor.studies.tasks.task import TrialRecord

RUNNING, FINISHED, FAILED = "running", "finished", "failed"  # of the study
JOB, RECORD, ERROR, WORKER = "job", "record", "error", "worker"  # what is noted on a trial


@dataclass(frozen=True)
class Opened:
    """A queue that somebody has made. task: its name, or outcomes.NAME where every job names one. options: what a worker
    needs to know beside it."""

    study: str
    task: str
    state: str
    version: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """What came of a job: its record, the error that it raised, or neither where its worker died."""

    record: dict[str, Any] | None
    error: str | None


def queue_name(study: str) -> str:
    return f"{study}/queue"


def opened(storage: BaseStorage) -> list[Opened]:
    """The queues in a storage, the oldest first."""
    end = queue_name("")
    found = [s for s in storage.get_all_studies() if s.study_name.endswith(end) and "state" in s.user_attrs]
    return [Opened(study.study_name.removesuffix(end), **study.user_attrs) for study in found]


class Queue:
    """The jobs of one study. Every call waits for a storage that is away, with the queue's own patience."""

    def __init__(self, storage: BaseStorage, study: str) -> None:
        self.patience = Patience()
        self._storage = storage
        self._study = optuna.load_study(storage=storage, study_name=queue_name(study))
        self._id = self._study._study_id
        # Without Optuna's cache, which would keep every trial that this process has seen.
        backend: Any = storage
        self._database: RDBStorage = backend._backend
        self._seen: list[FrozenTrial] = []  # waiting jobs, of which others may have taken some since

    @classmethod
    def create(cls, storage: BaseStorage, study: str, task: str, options: Mapping[str, Any]) -> Queue:
        """Make the queue of a study, or take the one that an earlier run has left."""
        made = optuna.create_study(
            storage=storage, study_name=queue_name(study), direction="minimize", load_if_exists=True
        )
        noted = {"task": task, "version": optadvisor.__version__, "options": dict(options)}
        for name, value in noted.items():
            made.set_user_attr(name, value)
        queue = cls(storage, study)
        queue.set_state(RUNNING)
        return queue

    # the study's process -------------------------------------------------------------------------------------------

    def set_state(self, state: str) -> None:
        self.patience(lambda: self._study.set_user_attr("state", state))

    def put(self, job: Mapping[str, Any]) -> int:
        """Add a job; the number under which it is found in `trials`."""
        waiting = optuna.create_trial(state=TrialState.WAITING, user_attrs={JOB: dict(job)})
        return self.patience(lambda: self._storage.create_new_trial(self._id, waiting))

    def trials(self) -> list[FrozenTrial]:
        """All jobs there ever were."""
        return self.patience(lambda: self._database.get_all_trials(self._id, deepcopy=False))

    def ended(self, trials: Collection[int]) -> dict[int, Ended]:
        """Those of some jobs that have ended."""
        import sqlalchemy

        # In one statement, because it is asked many times a second: Optuna would read every trial, with seven of them.
        query = sqlalchemy.text(
            "SELECT t.trial_id, a.key, a.value_json FROM trials t LEFT JOIN trial_user_attributes a "
            "ON a.trial_id = t.trial_id AND a.key IN (:record, :error) "
            "WHERE t.trial_id IN :trials AND t.state IN ('COMPLETE', 'FAIL')"
        ).bindparams(sqlalchemy.bindparam("trials", expanding=True), record=RECORD, error=ERROR)

        def look() -> dict[int, Ended]:
            with self._database.engine.connect() as connection:
                rows = connection.execute(query, {"trials": list(trials)}).all()
            notes: dict[int, dict[str, Any]] = {}
            for trial, key, value in rows:
                notes.setdefault(trial, {}).update({key: json.loads(value)} if key else {})
            return {trial: Ended(found.get(RECORD), found.get(ERROR)) for trial, found in notes.items()}

        return self.patience(look)

    def give_up_stale(self) -> None:
        """FAIL for the jobs of workers that show no sign of life."""
        if self.patience.calm():
            self.patience(lambda: optuna.storages.fail_stale_trials(self._study))

    def give_up(self, trial: int) -> None:
        self._set(trial, TrialState.FAIL)

    # a worker ------------------------------------------------------------------------------------------------------

    def take(self, count: int, worker: str) -> list[tuple[int, Job]]:
        """At most `count` waiting jobs, which nobody else has then."""
        taken: list[tuple[int, Job]] = []
        if not self._seen:
            self._seen = self._waiting()
            random.shuffle(self._seen)  # not all workers after the same one
        while self._seen and len(taken) < count:
            trial = self._seen.pop()
            number = trial._trial_id
            # A sign of life first: a job without one would never count as given up.
            self.patience(functools.partial(self._database.record_heartbeat, number))
            if self._set(number, TrialState.RUNNING):
                self._note(number, WORKER, worker)
                taken.append((number, Job.from_dict(trial.user_attrs[JOB])))
        return taken

    def _waiting(self) -> list[FrozenTrial]:
        states = (TrialState.WAITING,)
        try:
            return self.patience(lambda: self._database.get_all_trials(self._id, deepcopy=False, states=states))
        except KeyError:
            return []  # the study was deleted

    def show_life(self, trial: int) -> None:
        """Not patient: the next sign of life is due before the storage would be back."""
        self._database.record_heartbeat(trial)

    def finish(self, trial: int, record: TrialRecord) -> None:
        self._note(trial, RECORD, record.to_dict())
        self._set(trial, TrialState.COMPLETE, [record.value])

    def fail(self, trial: int, message: str) -> None:
        self._note(trial, ERROR, message)
        self._set(trial, TrialState.FAIL)

    def give_back(self, trial: int) -> None:
        """Let another worker have it."""
        self._set(trial, TrialState.WAITING)

    def _note(self, trial: int, key: str, value: Any) -> None:
        with contextlib.suppress(UpdateFinishedTrialError, KeyError):  # given up, or deleted: nobody waits for it
            self.patience(lambda: self._database.set_trial_user_attr(trial, key, value))

    def _set(self, trial: int, state: TrialState, values: list[float] | None = None) -> bool:
        try:
            return self.patience(lambda: self._database.set_trial_state_values(trial, state, values))
        except (UpdateFinishedTrialError, KeyError):
            return False
