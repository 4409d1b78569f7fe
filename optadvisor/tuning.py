"""`tune`: a study of a task, ordered and started by the advice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from optadvisor.advisor import guide, settings
from optadvisor.config import HYBRID
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.rules import RULES
from optadvisor.profile import TaskProfile
from optadvisor.quantities import parse_count
from optadvisor.studies import results, space, study
from optadvisor.studies import storage as storages
from optadvisor.studies.study import Plan, Progress, Result
from optadvisor.studies.tasks import registry

TRIALS = 50


def tune(
    task: str,
    *,
    trials: int | None = None,
    seed: int | None = None,
    optimizers: Iterable[str] = (),
    storage: str | None = None,
    jobs: int | None = None,
    steps: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Search the best settings for a task and keep them as its tuned config.

    task: name of a built-in task. trials: search trials over all rules (50). seed: of the whole study (0). optimizers:
    rules to search; by default every dense rule, in the order of the advice. storage: an Optuna URL or the path of
    a journal file; by default a journal in the data folder. jobs: trainings at once, by default one a core. steps:
    length of a training, by default the task's. resume: go on with the newest study of the task, whose plan is kept.
    progress: called with the trials so far and the number planned.

    Errors: InputError before any work starts; what finished is kept whatever happens later.
    """
    found = registry.get(task)
    counts = {"trials": trials, "jobs": jobs, "steps": steps, "seed": seed}
    checked = {
        name: None if value is None else parse_count(value, name, 0 if name == "seed" else 1)
        for name, value in counts.items()
    }
    chosen = _chosen([optimizers] if isinstance(optimizers, str) else optimizers)
    results.check()
    with storages.quiet_optuna(), contextlib.ExitStack() as stack:
        kept = storages.open_storage(storage, task)
        before = study.latest(kept, task) if resume else None
        if before:
            name, plan = before
            asked = {
                "trials": checked["trials"],
                "seed": checked["seed"],
                "steps": checked["steps"],
                "optimizers": chosen or None,
            }
            _same(name, plan, asked)
        else:
            length = checked["steps"] or found.steps
            order = chosen or _advised(found.profile)
            starts = _starts(found.profile, order)
            plan = Plan(task, order, checked["trials"] or TRIALS, checked["seed"] or 0, length, starts)
            name = study.create(kept, plan)
        stack.enter_context(storages.exclusive(name, storage, task))
        result = study.run(found, plan, name, kept, checked["jobs"], progress)
        results.save(result)
        return result


def _chosen(optimizers: Iterable[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(optimizers))
    for name in names:
        if name == HYBRID:
            raise InputError(
                "optimizer 'hybrid' has one rule a parameter group, which no built-in task has yet: pick a rule"
            )
        if not rules.get(name).elementwise:
            raise InputError(
                f"optimizer {name!r} needs whole tensors, and a built-in task trains one flat array: "
                "pick an element-wise rule"
            )
    return names


def _same(name: str, plan: Plan, asked: Mapping[str, object]) -> None:
    for field, value in asked.items():
        have = getattr(plan, field)
        if value is not None and value != have:
            raise InputError(
                f"study {name} was started with {field} {have!r}, not {value!r}: "
                "resume it with the same, or start a new one"
            )


def _advised(profile: TaskProfile) -> tuple[str, ...]:
    """The dense rules in the order of the advice; sparse ones only where the advice names them."""
    return tuple(name for name in guide.decide(profile).order if name in RULES)


def _starts(profile: TaskProfile, optimizers: Iterable[str]) -> dict[str, dict[str, float]]:
    """The advised config of each rule, as the first point of its search."""
    decision = guide.decide(profile)
    return {name: space.encode(settings.make(name, profile, decision)) for name in optimizers}
