"""From a study that was kept to the person's own knowledge."""

from __future__ import annotations

import math
from pathlib import Path

from optadvisor.advisor import own
from optadvisor.advisor.knowledge import DRAWN, Candidate
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.schedules import Schedule
from optadvisor.profile import TaskProfile
from optadvisor.studies.browsing import Kept
from optadvisor.studies.executors import processes
from optadvisor.studies.tasks import function, registry


def study(kept: Kept, profile: TaskProfile | None = None) -> own.Study:
    """The study as knowledge: its trials that ended well or diverged, and the profile of its task.

    profile: what kind of task it is; by default what the built-in task or the PROFILE in the function's file says, or
    what was said when the study was added before. Its steps are the study's.

    Errors: InputError for a study without a trial that trained, or whose trials are all alike, and for a task that
    nothing is known of: it would count for every other task alike.
    """
    spaces = kept.plan.spaces()
    trials = [
        own.Trial(
            _candidate(spaces[optimizer].decode(trial.params, Schedule("constant", 0), {})), _value(attrs["value"])
        )
        for optimizer, trial in kept.trials
        for attrs in [trial.user_attrs]
        if attrs["state"] in ("complete", "diverged")
    ]
    values = [trial.value for trial in trials]
    if not any(map(math.isfinite, values)):
        raise InputError(
            f"study {kept.name} has no finished trial that trained: optadvisor tune {kept.plan.task} --resume goes on with it"
        )
    if len(set(values)) == 1:
        raise InputError(
            f"study {kept.name} has nothing to compare: all of its {len(values)} finished trials have one value; "
            f"optadvisor tune {kept.plan.task} makes a larger one"
        )
    place = kept.place if "://" in kept.place else str(Path(kept.place).expanduser().resolve())
    found = profile or _profile(kept, place)
    if found.domain is None and found.architecture is None:
        raise InputError(
            f"nothing says what kind of task {kept.plan.task} is, so its study would count for every task: give its file "
            "a PROFILE = {'domain': ..., 'architecture': ...}, or --profile FILE"
        )
    if kept.plan.steps is not None:
        found = TaskProfile(**{**found.to_dict(), "steps": kept.plan.steps})
    return own.Study(kept.name, place, kept.plan.task, _family(kept.plan.task), found, kept.plan.direction, trials)


def _value(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _candidate(config: OptimizerConfig) -> Candidate:
    parts = {role: (rule, dict(values)) for role, (rule, values) in config.roles().items() if role != "no_decay"}
    whole = config.optimizer != HYBRID
    return Candidate(
        config.optimizer,
        dict(config.hyperparameters) if whole else {},
        config.schedule["name"],
        0.0,
        DRAWN,
        {} if whole else parts,
    )


def _builtin(task: str) -> bool:
    return task.partition(":")[0] in registry.FAMILIES


def _family(task: str) -> str:
    return task.partition(":")[0] if _builtin(task) else task


def _profile(kept: Kept, place: str) -> TaskProfile:
    task = kept.plan.task
    if _builtin(task):
        return registry.get(task).profile
    before = next((s.profile for s in own.studies() if (s.name, s.storage) == (kept.name, place)), None)
    if not function.is_target(task):
        return before or TaskProfile()
    try:
        found = processes.find(task).profile
    except InputError as error:
        if before is not None:
            return before
        raise InputError(f"{error}; or say what kind of task it is with --profile FILE") from None
    known = found.domain is not None or found.architecture is not None
    return found if known or before is None else before
