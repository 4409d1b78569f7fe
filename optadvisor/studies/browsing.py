"""The studies in the data folder or in a storage: list, show, export, delete."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from optadvisor.files import home
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.studies import storage as storages
from optadvisor.studies.study import Plan
from optadvisor.studies.tasks.function import task_name
from optadvisor.studies.tasks.task import shown


@dataclass(frozen=True)
class Kept:
    """One study of a storage: its plan, where it is, and its finished trials by number."""

    name: str
    plan: Plan
    place: str
    storage: BaseStorage
    trials: list[tuple[str, FrozenTrial]] = field(default_factory=list)

    def value(self, trial: FrozenTrial) -> float | None:
        """A trial's value as the person counts it; None where it diverged."""
        found = trial.user_attrs["value"]
        return None if found is None else shown(found, self.plan.direction)

    @property
    def best(self) -> tuple[str, FrozenTrial] | None:
        """The optimizer and trial with the best value."""
        done = [item for item in self.trials if item[1].user_attrs["state"] == "complete"]
        return min(done, key=lambda item: item[1].user_attrs["value"], default=None)

    @property
    def last(self) -> datetime.datetime | None:
        """When the last trial ended."""
        return max((t.datetime_complete for _, t in self.trials if t.datetime_complete), default=None)

    def rows(self) -> list[dict[str, Any]]:
        """The trials as flat rows, in order: number, optimizer, state, value, seconds, seed, what was searched."""
        names = list(dict.fromkeys(name for _, trial in self.trials for name in trial.params))
        return [
            {
                "study": self.name,
                "number": trial.user_attrs["number"],
                "optimizer": optimizer,
                "state": trial.user_attrs["state"],
                "value": self.value(trial),
                "seconds": trial.user_attrs["seconds"],
                "seed": trial.user_attrs["seed"],
                **{name: trial.params.get(name) for name in names},
                **{key: value for key, value in trial.user_attrs["metrics"].items() if value is not None},
            }
            for optimizer, trial in self.trials
        ]


def places(storage: str | None) -> Iterator[tuple[str, BaseStorage]]:
    """The storage of a URL or path; or every journal in the data folder."""
    if storage is not None:
        if "://" not in storage and not Path(storage).expanduser().exists():
            raise InputError(f"there is no journal {storage!r}: give the --storage that tune was given")
        yield storages.without_password(storage), storages.open_storage(storage, "")
        return
    for path in sorted((home() / "studies").glob("*.journal")):
        yield str(path), storages.open_storage(str(path), "")


def studies(storage: str | None) -> list[Kept]:
    """All studies, by task and number."""
    found = []
    for place, opened in places(storage):
        attrs = storages.study_names(opened)
        for name, notes in attrs.items():
            if "plan" not in notes or notes["plan"].get("format") is None:
                continue
            with contextlib.suppress(InputError):  # a study of another version: it can be neither read nor resumed
                plan = Plan.from_dict(notes["plan"])
                trials = [
                    (optimizer, trial)
                    for optimizer in plan.optimizers
                    if f"{name}/{optimizer}" in attrs
                    for trial in optuna.load_study(storage=opened, study_name=f"{name}/{optimizer}").get_trials(
                        deepcopy=False
                    )
                    if "state" in trial.user_attrs
                ]
                trials.sort(key=lambda item: item[1].user_attrs["number"])
                found.append(Kept(name, plan, place, opened, trials))
    return sorted(found, key=lambda kept: (kept.plan.task, int(kept.name.rpartition("#")[2])))


def find(name: str, storage: str | None) -> Kept:
    """The study of a name, of FILE.py:FUNCTION#1 too; InputError with the nearest name where there is none."""
    name = task_name(name)
    every = studies(storage)
    for kept in every:
        if kept.name == name:
            return kept
    if not every:
        where = f"the storage {storages.without_password(storage)}" if storage else f"{home() / 'studies'}"
        raise InputError(f"no study {name!r}: {where} holds no studies; make one with: optadvisor tune TASK")
    raise unknown("study", name, [kept.name for kept in every])


def delete(kept: Kept, storage: str | None) -> None:
    """Remove a study and its trials from its storage; InputError where a process is running it."""
    where = storage if storage is not None else kept.place
    with storages.exclusive(kept.name, where, kept.plan.task, kept.storage):
        for name in storages.study_names(kept.storage):
            if name == kept.name or name.startswith(f"{kept.name}/"):
                optuna.delete_study(study_name=name, storage=kept.storage)


def table(rows: Iterable[dict[str, Any]], form: str) -> str:
    """Rows as CSV or JSON text; what is not finite is an empty cell or null."""
    rows = [{key: _finite(value) for key, value in row.items()} for row in rows]
    if form == "json":
        return json.dumps(rows, indent=2, allow_nan=False) + "\n"
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
