"""A rule's record as steps on the arrays of another library, where that library has no such rule of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.frameworks.tracing import on_arrays
from optadvisor.kernels import rules
from optadvisor.kernels.rules.record import Form, State, Value, flatten
from optadvisor.kernels.schedules import Schedule


def factor(schedule: Schedule, t: Any, library: Any) -> Any:
    """The factor of a schedule that `resolve` returned, at a step count that is an array of a library."""
    return on_arrays(Schedule.factor, library)(schedule, t)


def check(rule: str, hyperparameters: Mapping[str, Value], convention: str) -> Form:
    """The form of a rule that `Steps` runs. Errors: Inexpressible for those that it cannot."""
    record = rules.get(rule)
    form = record.form(hyperparameters, convention)
    if form.lookahead:
        raise Inexpressible(f"{rule} in convention {convention!r} takes its gradient at the look-ahead point")
    if form.evaluation:
        raise Inexpressible(f"{rule} evaluates at other weights than it trains")
    if (form.stage and not form.row_number) or record.vector_form:
        raise Inexpressible(f"{rule} needs a whole tensor at once")
    return form


class Steps:
    """The steps of a rule, element by element or row by row, on arrays of a library with NumPy's names.

    scalars: the library of `coefficients`, where that is another.

    Errors: Inexpressible for a rule whose step needs more of a tensor than its rows, whose gradient belongs to another
    point than the parameters, or whose weights to evaluate do (`check`).
    """

    def __init__(
        self, rule: str, hyperparameters: Mapping[str, Value], convention: str, library: Any, scalars: Any = None
    ) -> None:
        form = check(rule, hyperparameters, convention)
        self.form: Form = form
        self.library = library
        self._flat = flatten(hyperparameters)
        self._coefficients = on_arrays(form.coefficients, scalars or library)
        self._update = on_arrays(form.update, library)
        self._rows = tuple(on_arrays(f, library) for f in (form.row_number, form.row_move) if f)

    @property
    def states(self) -> tuple[State, ...]:
        """The states of the parameter's shape."""
        return self.form.states

    @property
    def row_states(self) -> tuple[State, ...]:
        """The states of one number a row, a row being what one index of the first axis holds."""
        return self.form.row_states

    def start(self, state: State, p: Any) -> Any:
        """The value of a state before the first step, a number or an array."""
        return state.start(p, self._flat)

    def coefficients(self, t: Any, lr: Any) -> tuple[Any, ...]:
        """What step t (from 1, an array) needs beside the arrays."""
        return tuple(self._coefficients(t, lr, *(self._flat[name] for name in self.form.arguments)))

    def step(self, p: Any, g: Any, states: Sequence[Any], coefficients: Sequence[Any]) -> tuple[Any, ...]:
        """(p, *states) after a step. states: those of the parameter's shape, then those of a row."""
        if 0 in p.shape:
            return (p, *states)
        count = len(self.states)
        moved, *new = self._update(p, g, *states[:count], *coefficients)
        if not self._rows:
            return (moved, *new)
        shape, rows = p.shape, p.shape[0] if len(p.shape) else 1
        direction = self.library.reshape(moved, (rows, -1))
        mean = self.library.mean(direction * direction, axis=1)
        number, memory = self._rows[0](mean, states[count], *coefficients)
        table = self.library.reshape(p, (rows, -1))
        (table,) = self._rows[1](table, direction, self.library.reshape(number, (rows, 1)), *coefficients)
        return (self.library.reshape(table, shape), *new, memory)
