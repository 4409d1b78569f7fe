"""`tune`: a study of a task, ordered and started by the advice. `race`: given configs on the same seeds."""

from __future__ import annotations

import contextlib
import math
import numbers
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from optadvisor import warming
from optadvisor.advisor import guide, knowledge, settings
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.quantities import parse_count
from optadvisor.studies import results, searching, study
from optadvisor.studies import storage as storages
from optadvisor.studies.confirming import CONFIRMATIONS, on_fresh_seeds
from optadvisor.studies.executors import Executor, places, processes
from optadvisor.studies.executors.dask import Dask
from optadvisor.studies.executors.job import rates
from optadvisor.studies.executors.processes import Processes
from optadvisor.studies.executors.threads import InTurn, Threads, cores
from optadvisor.studies.executors.workers import shared
from optadvisor.studies.plan import EQUAL, HALVING
from optadvisor.studies.space import Space
from optadvisor.studies.study import OBJECTIVES, Plan, Progress, Result, StudyError, Trial
from optadvisor.studies.tasks import Task, function, registry
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.function import FunctionTask
from optadvisor.studies.tasks.task import MINIMIZE, TrialRecord

TRIALS = 50


def tune(
    task: str | Callable[..., Any] | Task,
    *,
    trials: int | None = None,
    seed: int | None = None,
    optimizers: Iterable[str] = (),
    storage: str | None = None,
    jobs: int | None = None,
    timeout: float | None = None,
    steps: int | None = None,
    resume: bool = False,
    sampler: str | None = None,
    pruner: str | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    fixed: Mapping[str, Any] | None = None,
    objectives: Iterable[str] = (),
    target: float | None = None,
    range_test: bool | None = None,
    warm: bool | None = None,
    allocation: str = HALVING,
    executor: str | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Search the best settings for a task and keep them as its tuned config.

    task: name of a built-in task, such as digits-mlp or digits-mlp:batch=64; FILE.py:FUNCTION, a function of your own,
    `def objective(config, report, seed) -> float`, which is called in worker processes; or the function itself, which is
    called in this process. trials: search trials over all rules (50). seed: of the whole study (0). optimizers: rules to
    search; by default every dense rule, and on sparse tasks ftrl and a hybrid, in the order of the advice. storage: an
    Optuna URL or the path of a journal file; by default a journal in the data folder. jobs: trainings at once, by
    default one a core, of a function of your own one; of a function called in this process they are threads, which
    share the interpreter's lock. timeout: seconds after which a training in a worker process is stopped and counts as
    failed. steps: length of a training, by default the task's. resume: go on with the newest study of the task, whose
    plan is kept. sampler: tpe, gp, cmaes, qmc or random. pruner: none, median or hyperband. ranges: {"lr": (1e-4, 1e-1)}
    in place of the rules' own; fixed: {"weight_decay": 0.1}, not searched; in a hybrid with the role in front
    (dense.lr). objectives: beside "value", "steps" (to `target`) and "memory" (bytes of optimizer state); the best
    config is by value, `Result.pareto` has the trade-offs. range_test: find each rule's scale of lr by short trainings
    first. warm: start with what was learned on other tasks, a list of configs to try first and ranges to search first;
    the default where there were tasks like this one. False: start with the advised config of each rule. allocation:
    "halving" moves the budget to the rules that earn it; "equal" races all of them to the end, and `Result.standings`
    compares their best configs. executor: who trains: "local", this process or children of it; "workers", whoever joins
    with `optadvisor worker`, and this process, the default where storage is a database server (jobs=0 leaves all to
    the others); "dask", the cluster at the address `scheduler`. progress: called with the trials so far and the number
    planned.

    Errors: InputError before any work starts; TrialError where a function of your own raises what is no divergence;
    StudyError where no config trains. What finished is kept whatever happens.
    """
    found = resolve(task)
    where = places.choose(executor or _default_place(found), scheduler, storage, jobs)
    _check_place(found, where)
    _check_timeout(found, timeout, where)
    counts = {"trials": trials, "jobs": jobs, "steps": steps, "seed": seed}
    lowest = {"seed": 0, "jobs": 0 if where == places.WORKERS else 1}
    checked = {
        name: None if value is None else parse_count(value, name, lowest.get(name, 1)) for name, value in counts.items()
    }
    chosen = _chosen(found, [optimizers] if isinstance(optimizers, str) else optimizers)
    asked = {
        "trials": checked["trials"],
        "seed": checked["seed"],
        "steps": checked["steps"],
        "optimizers": chosen or None,
        "sampler": _known("sampler", sampler, searching.SAMPLERS),
        "pruner": _known("pruner", pruner, searching.PRUNERS),
        "ranges": {name: (float(low), float(high)) for name, (low, high) in ranges.items()} if ranges else None,
        "fixed": {n: list(v) if isinstance(v, tuple) else v for n, v in fixed.items()} if fixed else None,
        "objectives": _objectives(found, objectives, target, pruner),
        "target": target,
        "range_test": range_test,
        "warm": warm,
        "allocation": _known("allocation", allocation, (HALVING, EQUAL)),
        "direction": found.direction if isinstance(found, FunctionTask) else None,
    }
    plan = _plan(found, asked)
    if not resume:
        _check_steps(found, plan)
    results.check()
    with storages.quiet_optuna(), contextlib.ExitStack() as stack:
        far = Dask(found.name, scheduler) if where == places.DASK and scheduler else None
        stack.callback(far.close if far else lambda: None)
        kept = storages.open_storage(storage, found.name)
        stack.callback(storages.close, kept)
        before = study.latest(kept, found.name, allocation) if resume else None
        if before:
            name, plan = before
            _same(name, plan, asked)
            searching.check(plan.sampler)
            places.check_pruner(where, plan.pruner)
        else:
            places.check_pruner(where, plan.pruner)
            _check_steps(found, plan)
            name = study.create(kept, plan)
        stack.enter_context(storages.exclusive(name, storage, found.name, kept))
        if where == places.WORKERS:
            slots = default_jobs(found) if checked["jobs"] is None else checked["jobs"]
            local = local_executor(found, slots, timeout) if slots else None
            options = {} if timeout is None else {"timeout": timeout}
            doer: Executor = stack.enter_context(shared(kept, name, found.name, local, slots, options))
        else:
            doer = far or local_executor(found, checked["jobs"], timeout)
        result = study.run(found, plan, name, kept, doer, progress)
        if plan.allocation == HALVING:  # a race compares; it does not take the place of what was tuned
            results.save(result)
        return result


def race(
    task: str | Callable[..., Any] | Task,
    configs: Iterable[OptimizerConfig],
    *,
    seeds: int = CONFIRMATIONS,
    seed: int = 0,
    steps: int | None = None,
    jobs: int | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> Result:
    """Train the configs as they are, without a search, each with the same fresh seeds.

    `Result.standings` has them, the best mean first, `Standing.number` the place among `configs`. A config that diverges
    is a result. seeds: how many trainings of each; seed: what they follow from. task, steps, jobs, timeout: as `tune`
    takes them; progress: as well, with every training as a trial. Nothing is kept: after an interruption a race starts
    anew.

    Errors: InputError before any work starts, for a config that the task cannot be trained with too; TrialError where a
    function of your own raises what is no divergence; StudyError where every config diverges.
    """
    found, numbered = resolve(task), list(enumerate(configs))
    if not numbered:
        raise InputError("a race needs configs: give at least one")
    for number, config in numbered:
        reason = found.refuses(config.optimizer, config.batch)
        if reason:
            raise InputError(f"task {found.name} cannot be trained with config {number} ({rates(config)}): {reason}")
    _check_timeout(found, timeout, places.LOCAL)
    count, seed = parse_count(seeds, "seeds", 2), parse_count(seed, "seed", 0)
    slots = None if jobs is None else parse_count(jobs, "jobs")
    length = found.steps if steps is None else parse_count(steps, "steps")
    _check_length(found, length)
    direction = found.direction if isinstance(found, FunctionTask) else MINIMIZE
    began, done = time.perf_counter(), list[Trial]()

    def ended(number: int, record: TrialRecord) -> None:
        done.append(Trial(number, record.config.optimizer, record, direction))
        if progress:
            progress(done, count * len(numbered))

    executor = local_executor(found, slots, timeout)
    try:
        standings = on_fresh_seeds(executor, numbered, seed, length, direction, count, ended, "race")
    finally:
        executor.close()
    standings.sort(key=lambda standing: standing.mean)
    best = standings[0]
    if not math.isfinite(best.mean):
        last = next((trial.record.message for trial in reversed(done) if trial.record.message), "")
        raise StudyError(
            f"{found.name}: each of the {len(standings)} configs diverged or failed on a fresh seed"
            f"{last and f' ({last})'}: try lower learning rates"
        )
    origin = {"task": found.name, "seed": seed, "steps": length}
    outcome = {"value": best.value, "direction": direction, "seeds": best.seeds}
    provenance = {**best.config.provenance, "race": {**origin, **outcome}}
    return Result(
        None,
        found.name,
        replace(best.config, provenance=provenance),
        best.value,
        best.std,
        best.seeds,
        best.metrics,
        [],
        len(done),
        time.perf_counter() - began,
        seed,
        standings=standings,
        metric=found.metric,
        direction=direction,
    )


def contestants(task: str | Callable[..., Any] | Task, optimizers: Iterable[str] = ()) -> tuple[str, ...]:
    """The optimizers that a study of the task searches: those asked for, or those that follow from the advice."""
    found = resolve(task)
    return _chosen(found, optimizers) or _advised(found)


def resolve(task: str | Callable[..., Any] | Task) -> Task:
    """The task of a name, of FILE.py:FUNCTION, or of a function."""
    if isinstance(task, str):
        return processes.find(task) if function.is_target(task) else registry.get(task)
    if isinstance(task, BuiltinTask | FunctionTask) or hasattr(task, "refuses"):
        return cast(Task, task)
    if not callable(task):
        raise InputError(f"task is {task!r}; it takes the name of a built-in task, FILE.py:FUNCTION, or a function")
    return function.of(task)


def local_executor(task: Task | None, jobs: int | None, timeout: float | None = None) -> Executor:
    """Does the trainings of a task, or of those that the jobs name, in this process or in children of it.

    jobs: at once, as `default_jobs` says where it is None.
    """
    if isinstance(task, FunctionTask):
        if not task.here:
            return Processes(task, jobs, timeout)
        if jobs in (None, 1):
            return InTurn(task)
    return Threads(task, jobs or default_jobs(task))


def default_jobs(task: Task | None) -> int:
    """Trainings at once: one a core; of a person's function one, which may need all cores, or all of a GPU's memory."""
    return 1 if isinstance(task, FunctionTask) else cores()


def _default_place(task: Task) -> str | None:
    return places.LOCAL if isinstance(task, FunctionTask) and task.here else None


def _check_place(task: Task, where: str) -> None:
    if where != places.LOCAL and isinstance(task, FunctionTask) and task.here:
        raise InputError(
            f"{task.name} is a function of this process, which other machines do not have: "
            f"give it as FILE.py:FUNCTION, or leave out the executor {where!r}"
        )


def _check_timeout(task: Task, timeout: object, where: str) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real) or not 0 < float(timeout) < math.inf:
        raise InputError(f"timeout is {timeout!r}; it takes seconds, more than 0, such as 90 or 0.5")
    if not isinstance(task, FunctionTask) or task.here or where == places.DASK:
        raise InputError(
            f"timeout stops worker processes of this machine, and {task.name} is not trained in one: "
            "leave it out, or give a function of your own as FILE.py:FUNCTION"
        )


def _check_steps(task: Task, plan: Plan) -> None:
    """InputError where a function lacks its steps, or the range test cannot shorten a training."""
    _check_length(task, plan.steps)
    if plan.range_test and isinstance(task, FunctionTask) and not task.facts.takes_steps:
        raise InputError(
            f"the range test trains for a few steps only: give {task.name} a parameter steps, or leave it out"
        )


def _check_length(task: Task, steps: int | None) -> None:
    if isinstance(task, FunctionTask) and task.facts.needs_steps and steps is None:
        raise InputError(f"{task.name} has a parameter steps: give --steps, or write STEPS = 1000 in its file")


def _plan(task: Task, asked: Mapping[str, Any]) -> Plan:
    """The plan of a new study: what was asked for, the advice for the rest."""
    order = asked["optimizers"] or _advised(task)
    groups = guide.hybrid_groups(task.profile) if HYBRID in order else {}
    given = {name: value for name, value in asked.items() if value is not None and name != "warm"}
    own: dict[str, Any] = {"task": task.name, "optimizers": order, "hybrid": groups}
    if isinstance(task, FunctionTask):
        ranges, fixed = given.get("ranges", {}), given.get("fixed", {})
        more = task.space([Space.of(name, **groups) for name in order], {*ranges, *fixed})
        own |= {"ranges": {**more[0], **ranges}, "fixed": {**more[1], **fixed}}
    plan = Plan(**{"trials": TRIALS, "seed": 0, "steps": task.steps, **given, **own})
    searching.check(plan.sampler)
    spaces = plan.spaces()  # refuses ranges and fixed values that no rule has
    decision = guide.decide(task.profile)
    starts = {name: space.encode(settings.make(name, task.profile, decision)) for name, space in spaces.items()}
    back_off = _back_off(task, plan, spaces) if plan.range_test else {}
    plan = Plan(**{**vars(plan), "starts": starts, "back_off": back_off})
    if asked["warm"] is False:
        return plan
    scheduled = not isinstance(task, FunctionTask) or task.facts.scheduled
    return warming.warmed(plan, task.profile, knowledge.load(), scheduled, bool(asked["optimizers"]))


def _back_off(task: Task, plan: Plan, spaces: Mapping[str, Space]) -> dict[str, dict[str, float]]:
    """What was learned of the step from a range test to a whole training, for each learning rate that is searched."""
    rates = knowledge.load().rates
    if rates is None:
        return {}
    profile = replace(task.profile, steps=plan.steps)
    found: dict[str, dict[str, float]] = {}
    for name, space in spaces.items():
        for axis, role, hyperparameter, _ in space.axes():
            factor = rates.back_off(space.parts[role], profile) if hyperparameter.name == "lr" else None
            if factor is not None:
                found.setdefault(name, {})[axis] = factor
    return found


def _known(what: str, name: str | None, known: Iterable[str]) -> str | None:
    if name is not None and name not in known:
        raise unknown(what, name, known)
    return name


def _objectives(
    task: Task, objectives: Iterable[str], target: float | None, pruner: str | None
) -> tuple[str, ...] | None:
    names = tuple(dict.fromkeys([objectives] if isinstance(objectives, str) else objectives))
    for name in names:
        _known("objective", name, OBJECTIVES)
    others = [name for name in names if name != "value"]
    if "steps" in others and (target is None or not math.isfinite(target)):
        raise InputError("the objective 'steps' counts the steps to a value: give it with --target")
    if target is not None and "steps" not in others:
        raise InputError("target is used by the objective 'steps' only: add --objective steps, or leave it out")
    if "memory" in others and not task.profile.parameters:
        raise InputError(f"the objective 'memory' needs the number of parameters, which {task.name} does not tell")
    if others and pruner not in (None, "none"):
        raise InputError(f"pruner {pruner!r} judges one value: leave out --pruner or the other objectives")
    return ("value", *others) if names else None


def _chosen(task: Task, optimizers: Iterable[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(optimizers))
    for name in names:
        reason = task.refuses(name)
        if reason:
            raise InputError(f"task {task.name} cannot be trained with {name!r}: {reason}; pick another optimizer")
    return names


def _same(name: str, plan: Plan, asked: Mapping[str, object]) -> None:
    for field, value in asked.items():
        have = getattr(plan, field)
        if isinstance(value, Mapping):  # a function's file may have added to these
            have = {name: have.get(name) for name in value}
        if value is not None and value != have:
            raise InputError(
                f"study {name} was started with {field} {have!r}, not {value!r}: "
                "resume it with the same, or start a new one"
            )


def _advised(task: Task) -> tuple[str, ...]:
    """The dense rules in the order of the advice; sparse ones and hybrids only where the advice names them."""
    order = guide.decide(task.profile).order
    return tuple(name for name in order if not task.refuses(name))
