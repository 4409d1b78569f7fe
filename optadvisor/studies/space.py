"""Search spaces, read from the rule records and narrowed or widened by the person; points of a space and configs.

A hybrid's space has the axes of its rules behind their roles: embedding.lr, dense.lr, ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from optadvisor.config import HYBRID, OptimizerConfig, no_decay
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.kernels.rules.record import Dimension, Hyperparameter
from optadvisor.kernels.schedules import WARMS_UP, Schedule

Range = tuple[float, float]
Point = Mapping[str, Any]  # numbers by axis, and the name of the schedule where that is searched too
SCHEDULE = "schedule"
CONSTANT = ("constant",)
WARMUP = 0.1  # share of a training in which a schedule that warms up does so


@dataclass(frozen=True)
class Space:
    """What a study searches of one optimizer.

    parts: role -> rule; one part under the role "" for a plain rule. ranges: low and high of an axis or of a
    hyperparameter with one axis, which take the place of the record's. fixed: hyperparameters that are not searched.
    Names carry their role in a hybrid (dense.lr). schedules: the one that is used, or those that are searched.
    """

    optimizer: str
    parts: Mapping[str, str]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    schedules: tuple[str, ...] = CONSTANT

    @classmethod
    def of(cls, optimizer: str, embedding: str = "adagrad", dense: str = "adamw") -> Space:
        """The whole space of an optimizer. embedding, dense: the rules of a hybrid's groups."""
        return cls(optimizer, {"embedding": embedding, "dense": dense} if optimizer == HYBRID else {"": optimizer})

    def axes(self) -> Iterator[tuple[str, str, Hyperparameter, Dimension]]:
        """(name, role, hyperparameter, axis) of everything that is searched, in the person's ranges."""
        for role, rule in self.parts.items():
            prefix = f"{role}." if role else ""
            for hyperparameter, axis in rules.get(rule).search():
                if prefix + hyperparameter.name not in self.fixed:
                    yield prefix + axis.name, role, hyperparameter, self._ranged(prefix, hyperparameter, axis)

    def _ranged(self, prefix: str, hyperparameter: Hyperparameter, axis: Dimension) -> Dimension:
        if prefix + axis.name in self.ranges:
            low, high = self.ranges[prefix + axis.name]
        elif prefix + hyperparameter.name in self.ranges and axis.complement:
            high, low = (1.0 - end for end in self.ranges[prefix + hyperparameter.name])
        else:
            return axis
        return replace(axis, low=low, high=high, log=low > 0)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Every axis as Optuna takes it: lr, 1-beta, eps, weight decay and the like, on log scales."""
        found: dict[str, BaseDistribution] = {
            name: FloatDistribution(axis.low, axis.high, log=axis.log) for name, _, _, axis in self.axes()
        }
        if len(self.schedules) > 1:
            found[SCHEDULE] = CategoricalDistribution(self.schedules)
        return found

    def schedule(self, point: Point, steps: int | None) -> Schedule:
        """The schedule at a point of the space, for a training of so many steps."""
        name = point.get(SCHEDULE, self.schedules[0])
        warmup = WARMUP if name in WARMS_UP else 0.0
        if steps is None and name != "constant":
            return Schedule(name, None, None, 0.0, warmup)
        return Schedule(name, round(warmup * (steps or 0)), steps)

    def decode(self, point: Point, schedule: Schedule, provenance: Mapping[str, Any]) -> OptimizerConfig:
        """The config at a point of the space; what the point leaves out has the rule's default."""
        values: dict[str, dict[str, Any]] = {}
        for role, rule in self.parts.items():
            prefix = f"{role}." if role else ""
            values[role] = {n: _editable(self.fixed.get(prefix + n, v)) for n, v in rules.get(rule).defaults.items()}
        for name, role, hyperparameter, axis in self.axes():
            if name not in point:
                continue
            value = 1.0 - point[name] if axis.complement else point[name]
            if axis.index is None:
                values[role][hyperparameter.name] = value
            else:
                values[role][hyperparameter.name][axis.index] = value
        if self.optimizer != HYBRID:
            if not rules.get(self.optimizer).scheduled:
                schedule = Schedule("constant", 0, schedule.total_steps)
            return OptimizerConfig.of(self.optimizer, values[""], schedule, provenance=provenance)
        groups = [{"role": r, "optimizer": self.parts[r], "hyperparameters": v} for r, v in values.items()]
        groups.append(no_decay(self.parts["dense"]))
        return OptimizerConfig(HYBRID, {}, schedule.to_dict(), groups, provenance=dict(provenance))

    def encode(self, config: OptimizerConfig) -> dict[str, Any]:
        """The point of the space nearest to a config of the same optimizer and, in a hybrid, the same rules."""
        point: dict[str, Any] = self.coordinates(config)
        for name, _, _, axis in self.axes():
            point[name] = min(max(point[name], axis.low), axis.high)
        if len(self.schedules) > 1:
            name = config.schedule["name"]
            point[SCHEDULE] = name if name in self.schedules else self.schedules[0]
        return point

    def coordinates(self, config: OptimizerConfig) -> dict[str, float]:
        """Where a config lies on every axis, inside its range or not."""
        parts = config.roles()
        found = {}
        for name, role, hyperparameter, axis in self.axes():
            value: Any = parts[role or "dense"][1][hyperparameter.name]
            number = float(value if axis.index is None else value[axis.index])
            found[name] = 1.0 - number if axis.complement else number
        return found

    def ranged(self, ranges: Mapping[str, Range]) -> Space:
        """With other ranges of some axes."""
        return replace(self, ranges={**self.ranges, **ranges})

    def holding(self, points: Sequence[Point]) -> Space:
        """With every axis wide enough to hold the points."""
        wider = {}
        for name, _, _, axis in self.axes():
            values = [axis.low, axis.high, *(point[name] for point in points if name in point)]
            if min(values) < axis.low or max(values) > axis.high:
                wider[name] = (min(values), max(values))
        return self.ranged(wider)

    def centred(self, rates: Mapping[str, float], factor: float = 10.0) -> Space:
        """With every learning rate searched within a factor of the one given for it."""
        return replace(self, ranges={**self.ranges, **{n: (lr / factor, lr * factor) for n, lr in rates.items()}})


def narrowed(spaces: Iterable[Space], ranges: Mapping[str, Range], fixed: Mapping[str, Any]) -> dict[str, Space]:
    """The person's ranges and fixed values put into every space that has what they name.

    Errors: InputError for a name that no optimizer of the study has, a range that is empty or leaves what is valid, a
    name both fixed and ranged.
    """
    found = {space.optimizer: space for space in spaces}
    for name in set(ranges) & set(fixed):
        raise InputError(f"{name} is both fixed and given a range: give one of them")
    for name, value in {**ranges, **fixed}.items():
        hits = 0
        for optimizer, space in found.items():
            changed = _with(space, name, value, name in fixed)
            hits += changed is not None
            found[optimizer] = changed or space
        if not hits:
            raise _missing(name, list(found.values()), name in fixed)
    return found


def names(space: Space) -> set[str]:
    """What may be given a range or fixed."""
    found = set()
    for role, rule in space.parts.items():
        prefix = f"{role}." if role else ""
        found |= {prefix + name for name in rules.get(rule).names}
        found |= {prefix + axis.name for _, axis in rules.get(rule).search()}
    return found


def _with(space: Space, name: str, value: Any, fix: bool) -> Space | None:
    """The space with one range or fixed value in it; None where it has no such name."""
    role, _, short = name.rpartition(".")
    if role not in space.parts:
        return None
    rule = space.parts[role]
    record = rules.get(rule)
    if fix:
        if short not in record.names:
            return None
        checked = record.hyperparameter(short).check(value, f"{rule} (fixed)")
        return replace(space, fixed={**space.fixed, name: _editable(checked)})
    for hyperparameter, axis in record.search():
        if short == axis.name or (short == hyperparameter.name and axis.index is None):
            low, high = value
            if not low < high:
                raise InputError(f"the range of {name} is {low:g}..{high:g}; it takes low..high with low under high")
            ends = [1.0 - end for end in (high, low)] if short == axis.name and axis.complement else [low, high]
            for end in ends:
                hyperparameter.check(_pair(hyperparameter, end), f"the range of {name}")
            return replace(space, ranges={**space.ranges, name: (float(low), float(high))})
    return None


def _missing(name: str, spaces: Sequence[Space], fixed: bool) -> InputError:
    """The error for a name that fits no space."""
    known = {n for space in spaces for n in names(space)}
    for space in spaces:
        role, _, short = name.rpartition(".")
        if not fixed and role in space.parts and short in rules.get(space.parts[role]).names:
            axes = [axis.name for h, axis in rules.get(space.parts[role]).search() if h.name == short]
            hint = f"give {' and '.join(axes)} a range" if axes else "fix it instead"
            return InputError(f"{name} is not one axis of the search: {hint}")
    return unknown("hyperparameter or axis", name, sorted(known))


def _pair(hyperparameter: Hyperparameter, number: float) -> Any:
    return (number, number) if isinstance(hyperparameter.default, tuple) else number


def _editable(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
