"""What a study starts with that was learned on other tasks: a list of configs, ranges, schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optadvisor.advisor import lists
from optadvisor.advisor.knowledge import Candidate, Knowledge
from optadvisor.config import OptimizerConfig
from optadvisor.profile import TaskProfile
from optadvisor.studies.plan import EQUAL
from optadvisor.studies.space import CONSTANT, Space
from optadvisor.studies.study import Plan

LIST = 16  # configs that are tried first
RACED = 4  # of each rule in a race of all rules
# A row weighs 1 where its task is exactly like this one. Where the nearest few weigh less than this together, what was
# learned is about other tasks than this one, and the guide knows better. With 164 rows, tasks of families that were left
# out have 0.47 (the GAN) to 4.8; a profile that says nothing 0.42, a ResNet-50 of 90,000 steps 0.1.
NEAREST, NEAR = 8, 0.45
Start = tuple[str, dict[str, Any]]


def warmed(plan: Plan, profile: TaskProfile, knowledge: Knowledge, scheduled: bool, asked: bool = False) -> Plan:
    """The plan with what was learned on tasks like this one; as it is where nothing was.

    scheduled: whether the task trains with the schedule of a config. asked: whether the person named the optimizers. What
    the person gave a range or fixed stays so.
    """
    profile = replace(profile, steps=plan.steps or profile.steps)
    if sum(weight for _, weight in lists.weights(knowledge, profile)[:NEAREST]) < NEAR:
        return plan
    given = {name: space for name, space in plan.spaces().items() if name in knowledge.of}
    known = _fitting(knowledge, given, scheduled and plan.steps is not None)
    spaces = {name: _at_home(space, known) for name, space in given.items() if name in known.of}
    learned = {name: _ranges(known, profile, space, plan.range_test) for name, space in given.items()}
    own = {name: _starts(known, profile, RACED, {name: space}) for name, space in spaces.items()}
    warm = replace(
        plan,
        learned={name: ranges for name, ranges in learned.items() if ranges},
        schedules={name: space.schedules for name, space in spaces.items() if len(space.schedules) > 1},
        starts={**plan.starts, **{name: points[0][1] for name, points in own.items()}},
    )
    if plan.range_test:  # it finds the learning rates itself
        return warm
    if plan.allocation == EQUAL:
        each = min(RACED, plan.trials // len(plan.optimizers), *(len(own.get(name, ())) for name in plan.optimizers))
        return replace(warm, first=tuple(own[name][i] for i in range(each) for name in plan.optimizers))
    first = _starts(known, profile, min(LIST, plan.trials), spaces)
    return replace(warm, first=tuple(_complete(first, warm, asked)))


def _complete(first: list[Start], plan: Plan, asked: bool) -> list[Start]:
    """The list with the start of every rule that is not in it, as far as the budget goes.

    asked: the person named the rules; then the end of the list makes way for one that would have no trial.
    """
    for kept in range(len(first), 0, -1):
        names = {name for name, _ in first[:kept]}
        missing = [(name, plan.starts[name]) for name in plan.optimizers if name in plan.starts and name not in names]
        if kept + len(missing) <= plan.trials:
            return [*first[:kept], *missing]
        if not asked:
            break
    return first


def _fitting(knowledge: Knowledge, given: Mapping[str, Space], scheduled: bool) -> Knowledge:
    """The knowledge of the candidates that lie in the person's ranges, with schedules that the task has."""
    kept = [
        number
        for number, candidate in enumerate(knowledge.candidates)
        if candidate.optimizer in given
        and (scheduled or candidate.schedule in CONSTANT)
        and _inside(candidate, given[candidate.optimizer])
    ]
    rows = [replace(row, regrets=bytes(row.regrets[number] for number in kept)) for row in knowledge.rows]
    return replace(knowledge, candidates=[knowledge.candidates[number] for number in kept], rows=rows)


def _inside(candidate: Candidate, space: Space) -> bool:
    if candidate.parts and {role: rule for role, (rule, _) in candidate.parts.items()} != dict(space.parts):
        return False
    point = space.coordinates(_config(candidate))
    axes = {name: axis for name, _, _, axis in space.axes()}
    return all(axes[name].low <= point[name] <= axes[name].high for name in _ranged(space))


def _ranged(space: Space) -> list[str]:
    """The axes that the person gave a range."""
    return [
        name
        for name, role, hyperparameter, _ in space.axes()
        if {name, f"{role}.{hyperparameter.name}" if role else hyperparameter.name} & set(space.ranges)
    ]


def _config(candidate: Candidate) -> OptimizerConfig:
    return candidate.config(TaskProfile(), {})


def _at_home(space: Space, known: Knowledge) -> Space:
    """The space with the schedules of the rule's candidates, and wide enough for their learning rates."""
    own = [known.candidates[number] for number in known.of[space.optimizer]]
    rates = [
        {name: value for name, value in space.coordinates(_config(candidate)).items() if name.endswith("lr")}
        for candidate in own
    ]
    return replace(space.holding(rates), schedules=tuple(dict.fromkeys(candidate.schedule for candidate in own)))


def _ranges(known: Knowledge, profile: TaskProfile, space: Space, range_test: bool) -> dict[str, tuple[float, float]]:
    """The learned ranges of the axes that are searched and that neither the person nor the range test sets."""
    set_already = _ranged(space)
    axes = {name: axis for name, _, _, axis in space.axes()}
    found = {}
    for name, (low, high) in lists.ranges(known, profile, space.optimizer).items():
        if name not in axes or name in set_already or (range_test and name.endswith("lr")):
            continue
        if not name.endswith("lr"):  # what is beyond the rules' own ranges may not be valid
            low, high = max(low, axes[name].low), min(high, axes[name].high)
        if low < high:
            found[name] = (low, high)
    return found


def _starts(known: Knowledge, profile: TaskProfile, count: int, spaces: Mapping[str, Space]) -> list[Start]:
    """The learned list as points of the spaces, without those that a fixed value makes equal."""
    found: list[Start] = []
    for number in lists.ordered(known, profile, count, spaces):
        candidate = known.candidates[number]
        start = (candidate.optimizer, spaces[candidate.optimizer].encode(_config(candidate)))
        if start not in found:
            found.append(start)
    return found
