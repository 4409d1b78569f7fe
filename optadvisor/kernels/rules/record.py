"""The record that says everything about an update rule once: maths, state, hyperparameters, words, paper.

Whatever needs a default, a range, a search space, a text or the maths reads it from here. Imports no numba and
no numpy: `optadvisor recommend` reads these records too.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optadvisor.kernels.errors import InputError, unknown

Value = float | bool | tuple[float, float]


@dataclass(frozen=True)
class Dimension:
    """One axis of a search space. `complement`: the axis is 1 - value; `index`: which element of a pair."""

    name: str
    low: float
    high: float
    log: bool = True
    complement: bool = False
    index: int | None = None


@dataclass(frozen=True)
class Hyperparameter:
    """A keyword of a rule: default, valid range (`high` itself excluded if `open_high`), what a study searches."""

    name: str
    default: Value
    text: str
    low: float = 0.0
    high: float = math.inf
    open_high: bool = False
    search: tuple[Dimension, ...] = ()

    @property
    def range_text(self) -> str:
        if isinstance(self.default, bool):
            return "true or false"
        upper = "" if self.high == math.inf else f"{self.high:g}"
        if not upper:
            return f"at least {self.low:g}"
        text = f"{self.low:g} to {upper}"
        return text + (f" ({upper} excluded)" if self.open_high else "")

    def check(self, value: object, where: str) -> Value:
        """`value` as the type of the default; InputError where it has the wrong type or is out of range."""
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise InputError(f"{where}: {self.name} is {value!r}; it takes true or false")
            return value
        if isinstance(self.default, tuple):
            if not isinstance(value, (tuple, list)) or len(value) != 2:
                raise InputError(
                    f"{where}: {self.name} is {value!r}; it takes a pair of numbers, for example [0.9, 0.999]"
                )
            return (self._number(value[0], where), self._number(value[1], where))
        return self._number(value, where)

    def _number(self, value: object, where: str) -> float:
        try:
            if isinstance(value, (bool, str)):
                raise TypeError
            number = float(value)  # type: ignore[arg-type]  # numpy scalars convert as well
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{where}: {self.name} is {value!r}; it takes a number") from None
        inside = self.low <= number < self.high if self.open_high else self.low <= number <= self.high
        if not (inside and math.isfinite(number)):
            raise InputError(f"{where}: {self.name} is {number!r}; it must be {self.range_text}")
        return number


@dataclass(frozen=True)
class State:
    """One array kept for each parameter. `initial` takes the parameter and hyperparameters by name; None is zeros."""

    name: str
    text: str
    initial: Callable[..., Any] | None = None

    def start(self, p: Any, hyperparameters: Mapping[str, float]) -> Any:
        """The state before the first step, for a parameter p and flattened hyperparameters."""
        if self.initial is None:
            return 0.0
        names = tuple(inspect.signature(self.initial).parameters)[1:]
        return self.initial(p, *(hyperparameters[name] for name in names))


@dataclass(frozen=True)
class Form:
    """What is compiled for one setting of a rule's switches.

    update(p, g, *state, *coefficients) -> (p, *state): element-wise, on scalars of one dtype, plain Python.
    coefficients(t, lr, ...) -> tuple of floats: what a step needs, computed once a step in float64; its further
    parameters are hyperparameters by name (betas as beta1 and beta2), or lr_max, the peak of the schedule; t counts
    from 1.
    lookahead: the gradient belongs to the point p - lr*momentum*v, which the caller asks for.

    stage(p, direction, memory, *coefficients), where a step needs more than one element: `update` then returns the
    direction in place of p, and the stage turns it into the step of a whole tensor, in place. p, direction: (rows,
    width), a row is what one index of the first axis holds; direction may be overwritten; memory: (row_states, rows),
    one number a row. SQUARES(x) is put in: the sum of squares of a 1-d array, in float64. With a sparse form, it is
    called for single rows too.
    row_number(mean, memory, *coefficients) -> (number, memory) and row_move(p, direction, number, *coefficients) -> (p,):
    the scalars of a stage that works row by row, from the mean of a row's squared direction; a GPU runs these.
    evaluation(p, states, ...): where the weights to use are not the point of the gradient; the rest by name.
    """

    name: str
    update: Callable[..., tuple[Any, ...]]
    coefficients: Callable[..., tuple[float, ...]]
    states: tuple[State, ...] = ()
    lookahead: bool = False
    stage: Callable[..., None] | None = None
    row_states: tuple[State, ...] = ()
    row_number: Callable[..., tuple[Any, Any]] | None = None
    row_move: Callable[..., tuple[Any]] | None = None
    evaluation: Callable[..., Any] | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether the CUDA kernels have it: element by element, or row by row."""
        return self.stage is None or self.row_number is not None

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the hyperparameters that `coefficients` takes after t and lr."""
        return tuple(inspect.signature(self.coefficients).parameters)[2:]

    @property
    def evaluation_arguments(self) -> tuple[str, ...]:
        """Names of the hyperparameters that `evaluation` takes after p and states."""
        return tuple(inspect.signature(self.evaluation).parameters)[2:] if self.evaluation else ()


@dataclass(frozen=True)
class Family:
    """A row G1..G11 of the selection guide: the answers to its two questions, and what the row claims.

    A rule outside the guide is described in the same words; its row is OUTSIDE.
    """

    row: str
    name: str
    direction: str
    step_size: str
    fixes: str
    strengths: str
    weaknesses: str
    use_for: str


OUTSIDE = "-"


@dataclass(frozen=True)
class Rule:
    """An update rule. `form(hyperparameters, convention)` picks what is compiled; the first convention is the default.

    meanings: for a rule of several conventions, what each says, in one line that names its source. `form` refuses
    (InputError) what a convention does not have.
    vector_form: the same for parameters that are not matrices, where they take another rule. families: the guide's
    rows on it; beyond: the description of a rule that the guide does not have.
    """

    id: str
    title: str
    formula: str
    hyperparameters: tuple[Hyperparameter, ...]
    form: Callable[[Mapping[str, Value], str], Form]
    families: tuple[Family, ...]
    paper: str
    adaptive: bool
    decay: str  # "coupled" (L2 through the gradient), "decoupled", or "none"
    sparse: bool = False
    conventions: tuple[str, ...] = ("pytorch",)
    constant_lr: bool = False  # its state is in units of 1/lr: no schedule, no lr of 0
    notes: str = ""
    meanings: Mapping[str, str] = field(default_factory=dict, hash=False)
    beyond: Family | None = None
    vector_form: Callable[[Mapping[str, Value], str], Form] | None = None
    schedule_free: bool = False  # an average of the weights does what a schedule does for others

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(h.name for h in self.hyperparameters)

    @property
    def defaults(self) -> dict[str, Value]:
        return {h.name: h.default for h in self.hyperparameters}

    @property
    def decays(self) -> bool:
        return "weight_decay" in self.names

    @property
    def described(self) -> tuple[Family, ...]:
        """The guide's rows, or what is said of a rule outside the guide."""
        return self.families or ((self.beyond,) if self.beyond else ())

    @property
    def scheduled(self) -> bool:
        """Whether it takes other schedules than constant."""
        return not (self.constant_lr or self.schedule_free)

    @property
    def elementwise(self) -> bool:
        """Whether each element's step depends on that element alone."""
        return self.form(self.defaults, self.conventions[0]).stage is None

    def check_schedule(self, name: str, where: str = "") -> None:
        """InputError for a schedule other than constant, where the rule takes no other."""
        if not self.scheduled and name != "constant":
            why = (
                "averages its weights in place of a schedule"
                if self.schedule_free
                else "keeps its state in units of 1/lr"
            )
            raise InputError(f"{where or self.id} {why}: its schedule is constant, not {name}")

    def hyperparameter(self, name: str) -> Hyperparameter:
        for h in self.hyperparameters:
            if h.name == name:
                return h
        raise unknown(f"hyperparameter of {self.id}", name, self.names)

    def complete(self, given: Mapping[str, object], where: str = "") -> dict[str, Value]:
        """Every hyperparameter of the rule: what was given, checked, and the defaults for the rest."""
        where = where or self.id
        known = {name: self.hyperparameter(name).check(value, where) for name, value in given.items()}
        return {**self.defaults, **known}

    def states(self, hyperparameters: Mapping[str, Value] | None = None, convention: str | None = None) -> int:
        """Arrays of the parameters' size that the rule keeps (4 bytes an element each in float32)."""
        values = {**self.defaults, **(hyperparameters or {})}
        return len(self.form(values, convention or self.conventions[0]).states)

    def search(self) -> tuple[tuple[Hyperparameter, Dimension], ...]:
        """Every axis that a study searches, with the hyperparameter that it sets."""
        return tuple((h, d) for h in self.hyperparameters for d in h.search)


def flatten(hyperparameters: Mapping[str, Value]) -> dict[str, float]:
    """Numbers by the names that `coefficients` and `State.initial` use: beta1 and beta2 of betas, lr as lr_max too."""
    flat: dict[str, float] = {}
    for name, value in hyperparameters.items():
        if isinstance(value, tuple):
            flat.update({f"{name.removesuffix('s')}{i}": v for i, v in enumerate(value, 1)})
        else:
            flat[name] = float(value)
    if "lr" in flat:
        flat["lr_max"] = flat["lr"]
    return flat


# Hyperparameters that several rules share. The search ranges are wide on purpose: findings on small tasks put the
# best lr of the adaptive rules about 10x above the libraries' defaults for short runs, and below them for long ones.


def learning_rate(default: float, low: float, high: float, least: float = 0.0) -> Hyperparameter:
    search = (Dimension("lr", low, high),)
    return Hyperparameter("lr", default, "learning rate, the peak of the schedule", low=least, search=search)


def weight_decay(default: float, text: str, low: float = 1e-6, high: float = 1e-1) -> Hyperparameter:
    return Hyperparameter("weight_decay", default, text, search=(Dimension("weight_decay", low, high),))


def epsilon(default: float, low: float = 1e-10, high: float = 1e-4) -> Hyperparameter:
    # Below it float32 steps of extreme gradients could divide zero by zero, or overflow.
    return Hyperparameter(
        "eps", default, "added to the denominator, outside the root", low=1e-20, search=(Dimension("eps", low, high),)
    )
