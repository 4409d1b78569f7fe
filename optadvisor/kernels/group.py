"""A parameter group: one rule, one set of hyperparameters, one dtype, one arena of state."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from optadvisor.kernels import loops
from optadvisor.kernels.arrays import Array, Leaf, address, aligned_zeros
from optadvisor.kernels.cuda.arrays import arithmetic
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.kernels.rules import RULES, Form, Rule
from optadvisor.kernels.rules.record import Value, flatten
from optadvisor.kernels.schedules import Schedule
from optadvisor.kernels.sharing import shared

AVERAGE = "average"
_ALIGN = 16  # elements: every tensor's state starts on a cache line


@dataclass
class Group:
    """Parameters of one dtype that one rule with one set of hyperparameters updates. Read-only for callers."""

    rule: Rule
    hyperparameters: dict[str, Value]
    convention: str
    schedule: Schedule
    role: str | None
    maximize: bool
    leaves: list[Leaf]
    positions: list[int]  # of the leaves in the optimizer's flat order
    ema_decay: float | None = None
    threads: int = 1
    sparse: list[tuple[int, Any, Any]] = field(default_factory=list)  # (leaf, ids, rows) of this step

    def __post_init__(self) -> None:
        where = f"{self.rule.id}" + (f" ({self.role} group)" if self.role else "")
        self.hyperparameters = self.rule.complete(self.hyperparameters, where)
        if self.convention not in self.rule.conventions:
            raise unknown(f"convention of {self.rule.id}", self.convention, self.rule.conventions)
        self.rule.check_schedule(self.schedule.name, where)
        self.form = self._form(self.hyperparameters)
        flat = flatten(self.hyperparameters)
        self.lr = self.peak = flat["lr"]
        self.dtype = arithmetic(self.leaves[0].array.dtype if self.leaves else np.float32)
        sizes = np.array([leaf.array.size for leaf in self.leaves], dtype=np.int64)
        ends = np.cumsum(-(-sizes // _ALIGN) * _ALIGN)
        self.table = np.zeros((len(self.leaves), loops.COLUMNS), dtype=np.int64)
        self.table[:, loops.PARAMETER] = [address(leaf.array) for leaf in self.leaves]
        self.table[:, loops.SIZE] = sizes
        self.table[1:, loops.START] = ends[:-1]
        width = int(ends[-1]) if self.leaves else 0
        self.rows = [leaf.array.shape[0] if leaf.array.ndim else 1 for leaf in self.leaves]
        self.table[:, loops.ROWS] = self.rows
        self.numbers = np.array([1.0, self.lr, self.sign, 0.0, 0.0, 0.0, *(flat[n] for n in self.form.arguments)])
        self.scalar = cast(Any, self.dtype.type)
        self._allocate(len(self.form.states) + len(self.copies), width)

    def _allocate(self, rows: int, width: int) -> None:
        """Memory for the states, and the kernel that works on it."""
        self.states = aligned_zeros(rows, width, self.dtype)
        self.memory = [aligned_zeros(len(self.form.row_states), rows, self.dtype) for rows in self.rows]
        self.table[:, loops.MEMORY] = [address(memory) for memory in self.memory]
        kernel: Callable[[Array, Array, Array, int], int] = loops.table(self.form, self.scalar).function
        alone = self.threads == 1 or self.form.stage is not None
        self.kernel = kernel if alone else shared(kernel, self.table, self.dtype.itemsize, self.threads)

    def _form(self, hyperparameters: dict[str, Value]) -> Form:
        matrices = all(leaf.array.ndim == 2 for leaf in self.leaves)
        pick = self.rule.form if matrices else self.rule.vector_form or self.rule.form
        return pick(hyperparameters, self.convention)

    def retune(self, changed: Mapping[str, object], peak: float | None = None) -> bool:
        """Take other hyperparameters from the next step on; peak: what counts as the schedule's peak lr.

        False, and nothing changed, where they need another form: other states and another kernel.
        """
        known = {name: self.rule.hyperparameter(name).check(value, self.rule.id) for name, value in changed.items()}
        hyperparameters = {**self.hyperparameters, **known}
        if self._form(hyperparameters) is not self.form:
            return False
        if hyperparameters["lr"] != self.lr:
            self.rule.check_schedule("one that changes lr")
        flat = flatten(hyperparameters)
        self.peak = flat["lr_max"] = self.peak if peak is None else peak
        self.hyperparameters, self.lr = hyperparameters, flat["lr"]
        self.numbers[loops.LR] = self.lr
        self.numbers[loops.VALUES :] = [flat[name] for name in self.form.arguments]
        return True

    @property
    def delays(self) -> Array:
        """How many of the optimizer's steps each parameter has missed, (parameters,) int64: write it between steps."""
        return self.table[:, loops.DELAY]

    @property
    def sign(self) -> float:
        return -1.0 if self.maximize else 1.0

    @functools.cached_property
    def rows_kernel(self) -> Callable[..., int]:
        kernel: Callable[..., int] = loops.rows(self.form, self.scalar).function
        return kernel

    def initialise(self) -> None:
        """Set the states that do not start at 0, from the parameters as they are now."""
        flat = flatten(self.hyperparameters)
        for k, state in enumerate(self.form.states):
            if state.initial is not None:
                for i in range(len(self.leaves)):
                    self.load(k, i, state.start(self.value(i), flat))
        for k in range(len(self.form.states) + len(self.form.row_states), len(self.kept_names)):
            for i in range(len(self.leaves)):
                self.load(k, i, self.value(i))

    def bind(self, i: int, gradient: Array | tuple[Array, Array] | None) -> None:
        """Take the gradient of the i-th parameter: an array, or (ids, rows); None leaves it and its states as they are."""
        if gradient is None or isinstance(gradient, tuple):
            self.table[i, loops.SIZE] = 0  # the table kernel passes it over
            if gradient is not None:
                self.sparse.append((i, *gradient))
        else:
            self.table[i, loops.SIZE] = self.leaves[i].array.size
            self.table[i, loops.GRADIENT] = address(gradient)

    def gradient(self, i: int) -> Any:
        """What `bind` took for the i-th parameter: an array, of (ids, rows) the rows; None without elements."""
        rows = next((rows for j, _, rows in self.sparse if j == i), None)
        size = int(self.table[i, loops.SIZE])
        if rows is not None or size == 0:
            return rows
        cells = np.ctypeslib.as_ctypes_type(self.dtype) * size
        return np.ctypeslib.as_array(cells.from_address(int(self.table[i, loops.GRADIENT])))

    def check_rows(self, i: int) -> None:
        """InputError where the gradient of the i-th parameter cannot be (ids, rows)."""
        name = self.leaves[i].name
        if not self.rule.sparse:
            able = ", ".join(other.id for other in RULES.values() if other.sparse)
            raise InputError(
                f"{self.rule.id} has no form for (ids, rows), the gradient of {name}; rules that have one: {able}"
            )
        if self.hyperparameters.get("weight_decay"):
            raise InputError(
                f"{self.rule.id} with weight_decay {self.hyperparameters['weight_decay']} got (ids, rows) for {name}: decay "
                "would touch every row; set weight_decay=0 for its group"
            )
        if self.ema_decay is not None:
            raise InputError(f"ema_decay would touch every row of {name}, whose gradient is (ids, rows): leave it out")

    def prepare(self, t: int, lr: float | None) -> None:
        """Write step number and learning rate of step t."""
        rate = lr if lr is not None else self.lr * self.schedule.factor(t - 1)
        self.numbers[loops.STEP] = t
        self.numbers[loops.LR] = rate
        if self.ema_decay is not None:  # the first average is the first parameters, as PyTorch's AveragedModel has it
            self.numbers[loops.KEEP] = 0.0 if t == 1 else self.ema_decay
            self.numbers[loops.TAKE] = 1.0 if t == 1 else 1.0 - self.ema_decay

    def run(self, mode: int) -> int:
        """One call of the kernels; the number of the first parameter with a non-finite gradient, or -1."""
        if self.sparse and mode & loops.CHECK and mode != loops.CHECK:  # all gradients first, then the first change
            bad = self.run(loops.CHECK)
            if bad >= 0:
                return bad
            mode -= loops.CHECK
        bad = self.kernel(self.table, self.states, self.numbers, mode)
        if bad >= 0:
            return bad
        for i, ids, rows in self.sparse:
            if self._run_rows(i, ids, rows, mode):
                return i
        return -1

    def _run_rows(self, i: int, ids: Array, rows: Array, mode: int) -> bool:
        leaf = self.leaves[i].array
        # A hash table of twice to four times the ids keeps the cost at O(touched rows) and in the cache.
        slots = np.full(max(4, 1 << (2 * ids.size - 1).bit_length()), -1, dtype=np.int64)
        work = np.empty((2, ids.size), dtype=np.int64)
        start, delay = int(self.table[i, loops.START]), int(self.table[i, loops.DELAY])
        buffer = np.empty((2, rows.shape[1]), dtype=self.dtype)
        self.numbers[loops.STEP] -= delay
        bad: int = self.rows_kernel(
            leaf.reshape(-1), ids, rows, buffer, self.states, start, self.memory[i], self.numbers, mode, slots, work
        )
        self.numbers[loops.STEP] += delay
        return bad >= 0

    def value(self, i: int) -> Array:
        """The i-th parameter as NumPy reads it."""
        array: Array = self.leaves[i].array
        return array

    @property
    def copies(self) -> list[str]:
        """What is kept beside the rule's states and begins as a copy of the parameters."""
        return [] if self.ema_decay is None else [AVERAGE]

    @property
    def kept_names(self) -> list[str]:
        """What is kept of a parameter: states, states by row, and copies."""
        return [state.name for state in (*self.form.states, *self.form.row_states)] + self.copies

    def kept_shape(self, k: int, i: int) -> tuple[int, ...]:
        """The shape of the k-th of `kept_names` of the i-th parameter."""
        first = len(self.form.states)
        by_row = first <= k < first + len(self.form.row_states)
        return (self.rows[i],) if by_row else self.leaves[i].array.shape

    def saved(self, k: int, i: int) -> Array:
        """A copy of the k-th of `kept_names` of the i-th parameter."""
        kept: Array = self.view(k, i)
        return kept.copy()

    def load(self, k: int, i: int, value: Any) -> None:
        """Set the k-th of `kept_names` of the i-th parameter to an array or a number."""
        self.view(k, i)[...] = value

    def view(self, k: int, i: int) -> Any:
        """The k-th of `kept_names` of the i-th parameter, where it is: not a copy."""
        first, rows = len(self.form.states), len(self.form.row_states)
        return self.memory[i][k - first] if first <= k < first + rows else self.state(k if k < first else first, i)

    def lookahead(self, i: int, lr: float) -> Any:
        """The point where the i-th parameter's gradient is wanted, a new array."""
        point = self.value(i).copy()
        if self.form.lookahead:
            scale = self.scalar(lr * flatten(self.hyperparameters)["momentum"])
            point -= scale * self.saved(0, i)
        return self.exported(point)

    def exported(self, point: Array) -> Any:
        """A new array where the parameters are."""
        return point

    def state(self, k: int, i: int) -> Array:
        """State k of the i-th parameter, as a view of the parameter's shape."""
        array = self.leaves[i].array
        start = int(self.table[i, loops.START])
        return self.states[k, start : start + array.size].reshape(array.shape)

    def evaluated(self, i: int) -> Any:
        """The weights to use of the i-th parameter, a new array: the parameter's, where the form names no others."""
        if self.form.evaluation is None:
            return self.lookahead(i, 0.0)  # at a learning rate of 0 that is a copy, in the parameter's own memory
        flat = flatten(self.hyperparameters)
        states = [self.saved(k, i) for k in range(len(self.form.states))]
        values = (flat[name] for name in self.form.evaluation_arguments)
        return self.exported(np.asarray(self.form.evaluation(self.value(i), states, *values)))

    def average(self, i: int) -> Array:
        """The moving average of the i-th parameter, a view."""
        return self.state(len(self.form.states), i)
