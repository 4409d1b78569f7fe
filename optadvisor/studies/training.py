"""A whole training in one compiled function: the update rule is compiled into the loop, the task's gradient beside it.

The loop is compiled once a rule and calls the task's functions through their addresses, so tasks and rules do not
multiply: one compilation a rule, two a family of tasks. An indirect call takes nanoseconds, a step microseconds.
Measured against PyTorch eager on the digits MLP: tens of times faster, with the same losses to 6 digits.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from optadvisor.config import OptimizerConfig
from optadvisor.kernels import loops, rules
from optadvisor.kernels.compiling import Compiled, call, entry, pointer, specialise
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.rules import Form
from optadvisor.kernels.rules.record import flatten
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies import seeds
from optadvisor.studies.tasks.family import Family, Problem, Program
from optadvisor.studies.tasks.layers.numbers import mix, shuffle
from optadvisor.studies.tasks.task import Report, TrialRecord

GRADIENT: Any = None
EVALUATE: Any = None
SWEEP: Any = None
EMBEDDING: Any = None
LOOKAHEAD: Any = False
EVALUATION: Any = None

CURVE_POINTS = 5
VALIDATION, TEST = 1, 2  # keys of the evaluations: the same for every training


# What is compiled ----------------------------------------------------------------------------------------------------


def _gradient_entry(theta, n, reals, m, integers, k, dims, d, rows, b, step, key, grad, work, w):
    # The type of the data is the type of theta's address; everything is float32 here.
    return GRADIENT(
        carray(pointer(theta), n, np.float32),
        carray(pointer(reals), m, np.float32),
        carray(pointer(integers), k, np.int64),
        carray(pointer(dims), d, np.int64),
        carray(pointer(rows), b, np.int64),
        step,
        key,
        carray(pointer(grad), n, np.float32),
        carray(pointer(work), w, np.float32),
    )


def _evaluate_entry(theta, n, reals, m, integers, k, dims, d, part, step, key, work, w, scores, s):
    EVALUATE(
        carray(pointer(theta), n, np.float32),
        carray(pointer(reals), m, np.float32),
        carray(pointer(integers), k, np.int64),
        carray(pointer(dims), d, np.int64),
        part,
        step,
        key,
        carray(pointer(work), w, np.float32),
        carray(pointer(scores), s, np.float64),
    )
    return 0.0


def _evaluate(address, theta, reals, integers, dims, part, step, key, work, scores):
    call(
        address,
        (
            *(theta.ctypes.data, theta.size, reals.ctypes.data, reals.size, integers.ctypes.data, integers.size),
            *(dims.ctypes.data, dims.size, part, step, key, work.ctypes.data, work.size),
            *(scores.ctypes.data, scores.size),
        ),
    )


def _gradient(address, theta, reals, integers, dims, rows, step, key, grad, work):
    return call(
        address,
        (
            *(theta.ctypes.data, theta.size, reals.ctypes.data, reals.size, integers.ctypes.data, integers.size),
            *(dims.ctypes.data, dims.size, rows.ctypes.data, rows.size, step, key, grad.ctypes.data),
            *(work.ctypes.data, work.size),
        ),
    )


def _batch_gradient(address, theta, reals, integers, dims, order, batch, full, step, key, grad, part, work):
    """Loss and gradient of a step's mini-batch, or of the whole training set in pieces of a mini-batch."""
    if order.size == 0:
        return _gradient(address, theta, reals, integers, dims, order, step, mix(key, step), grad, work)
    if not full:
        turns = order.size // batch
        turn = step % turns
        if turn == 0:
            shuffle(mix(key, -1 - step // turns), order)
        rows = order[turn * batch : (turn + 1) * batch]
        return _gradient(address, theta, reals, integers, dims, rows, step, mix(key, step), grad, work)
    loss = 0.0
    grad[:] = 0
    for first in range(0, order.size, batch):
        rows = order[first : min(first + batch, order.size)]
        share = rows.size / order.size
        loss += share * _gradient(address, theta, reals, integers, dims, rows, step, mix(key, step), part, work)
        weight = theta.dtype.type(share)
        for i in range(grad.size):
            grad[i] += weight * part[i]
    return loss


def _train(
    addresses, keys, theta, cuts, reals, integers, dims, order, batch, full, online, rates, states, table_states,
    decayed, plain, table, momentum, spot, span, marks, curve, buffers, work,
):  # fmt: skip
    """Steps span[0] to span[1]; returns the steps done: fewer than asked for where the loss stopped being finite.

    theta[:cuts[0]] is trained by the embedding's rule (none of it where there is one rule for all), the rest by the
    dense one, with its decay up to cuts[1]. The scores at marks[i] go into curve[i].
    """
    grad, ahead, part = buffers[0], buffers[1], buffers[2]
    low, high = cuts
    mark, total, since = 0, 0.0, span[0]
    for t in range(span[0], span[1]):
        point = theta
        if LOOKAHEAD:
            scale = theta.dtype.type(rates[0, t] * momentum)
            ahead[:low] = theta[:low]
            for i in range(theta.size - low):
                ahead[low + i] = theta[low + i] - scale * states[0, i]
            point = ahead
        loss = _batch_gradient(
            addresses[0], point, reals, integers, dims, order, batch, full, t, keys[0], grad, part, work
        )
        if not math.isfinite(loss):
            return t
        total += loss
        EMBEDDING(theta[:low], grad[:low], table_states, 0, t + 1, rates[1, t], table)
        SWEEP(theta[low:high], grad[low:high], states, 0, t + 1, rates[0, t], decayed)
        SWEEP(theta[high:], grad[high:], states, high - low, t + 1, rates[0, t], plain)
        if mark < marks.size and t + 1 == marks[mark]:
            found = theta
            if EVALUATION is not None:
                ahead[:low] = theta[:low]
                ahead[low:] = EVALUATION(theta[low:], states, *spot)
                found = ahead
            _evaluate(addresses[1], found, reals, integers, dims, 0, t + 1, keys[1], work, curve[mark])
            if online:
                curve[mark, 0] = total / (t + 1 - since)
            mark, total, since = mark + 1, 0.0, t + 1
    return span[1]


@functools.cache
def _loop(form: Form, embedding: Form) -> Compiled:
    name = form.name if embedding == form else f"{embedding.name}_{form.name}"
    return specialise(
        _train,
        name,
        SWEEP=loops.sweep(form, np.float32),
        EMBEDDING=loops.sweep(embedding, np.float32),
        LOOKAHEAD=form.lookahead,
        EVALUATION=specialise(form.evaluation, form.name, cache=False) if form.evaluation else None,
    )


@functools.cache
def _entries(program: Program) -> NDArray[np.int64]:
    """The addresses of a program's gradient and evaluation."""
    return np.array(
        [
            entry(_gradient_entry, program.name, 15, GRADIENT=program.gradient),
            entry(_evaluate_entry, program.name, 15, EVALUATE=program.evaluate),
        ]
    )


@functools.cache
def _evaluator() -> Compiled:
    return specialise(_evaluate, "score")


@functools.cache
def _asker() -> Compiled:
    return specialise(_gradient, "gradient")


def loss_and_gradient(
    program: Program,
    problem: Problem,
    theta: NDArray[np.float32],
    rows: NDArray[np.int64],
    step: int = 0,
    key: int = 0,
    work: NDArray[np.float32] | None = None,
) -> tuple[float, NDArray[np.float32]]:
    """Loss and gradient of one mini-batch by the compiled program, as a training's step asks for them."""
    grad = np.full_like(theta, np.nan)
    work = np.zeros(max(problem.work, 1), np.float32) if work is None else work
    data = (problem.reals, problem.integers, problem.dims)
    loss = _asker()(int(_entries(program)[0]), theta, *data, rows, step, key, grad, work)
    return float(loss), grad


@functools.cache
def _products_take_one_thread() -> None:
    """The cores are for trainings side by side: products that are split over them are slower, and wait for each other.

    Measured on 2 busy cores, 128 images a step, 128 units: 1,400 to 9,400 ms a training on two threads, 90 on one. Only
    SciPy's BLAS is told, which compiled products use; NumPy's wheels bring a library of their own.
    """
    import scipy.linalg.cython_blas  # noqa: F401  # loads it
    from threadpoolctl import ThreadpoolController

    for library in ThreadpoolController().lib_controllers:
        if library.user_api == "blas" and "numpy.libs" not in library.filepath:
            library.set_num_threads(1)


_compiling = threading.Lock()  # trainings side by side wait for one compilation, instead of each doing it
_ready: set[tuple[Program, Form, Form]] = set()


# One training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """What a config means for the loop: the rule of the dense part and of the embeddings, and what they are given."""

    form: Form
    embedding: Form
    hybrid: bool
    flat: dict[str, float]
    plain: dict[str, float]
    table: dict[str, float]


def parts(family: Family, problem: Problem, config: OptimizerConfig) -> Parts:
    """InputError for a config that the task cannot run: a rule that needs whole tensors, a hybrid without embeddings."""
    roles = config.roles()
    rule, dense = roles["dense"]
    other, plain = roles.get("no_decay", roles["dense"])
    if other != rule:
        raise InputError(f"a built-in task trains one dense rule, not {rule!r} and {other!r}: pick one of them")
    hybrid = "embedding" in roles
    if hybrid and not problem.layout.embedding:
        raise InputError(
            f"optimizer {config.optimizer!r} has a part for embeddings that {family.name} has not: pick a dense rule"
        )
    table_rule, table = roles["embedding"] if hybrid else (rule, dense)
    for name in (rule, table_rule):
        if not rules.get(name).elementwise:
            raise InputError(
                f"optimizer {name!r} needs whole tensors, {family.name} is one flat array: pick another rule"
            )
    if config.batch == "full" and not problem.samples:
        raise InputError(f"{family.name} has no data set to go through: batch 'full' is not possible, use 'mini'")
    return Parts(
        rules.get(rule).form(dense, config.convention_of(rule)),
        rules.get(table_rule).form(table, config.convention_of(table_rule)),
        hybrid,
        flatten(dense),
        flatten(plain),
        flatten(table),
    )


def marks_of(steps: int) -> NDArray[np.int64]:
    """The steps after which a training is evaluated: the ends of its fifths."""
    return np.unique(np.linspace(0, steps, CURVE_POINTS + 1, dtype=np.int64)[1:].clip(1))


class Run:
    """One training, ready to go on from where it is: `train_to(steps)`, `scores()`.

    theta: copied from `start`. seed: of mini-batches and noise.
    """

    def __init__(
        self,
        family: Family,
        problem: Problem,
        config: OptimizerConfig,
        seed: int,
        steps: int,
        start: NDArray[np.float32],
    ) -> None:
        made = parts(family, problem, config)
        self.theta = np.array(start, dtype=np.float32)
        layout = problem.layout
        low = layout.embedding if made.hybrid else 0
        self.marks = marks_of(steps)
        self.curve = np.full((self.marks.size, len(family.scores)), np.nan)
        schedule = Schedule.from_dict(config.schedule).resolve(steps)
        factors = _factors(schedule, steps)
        rates = np.empty((2, steps))
        rates[0] = made.flat["lr"] * factors
        scheduled = not made.hybrid or rules.get(config.roles()["embedding"][0]).scheduled
        rates[1] = made.table["lr"] * (factors if scheduled else 1.0)
        self._key = seeds.derive(seed, seeds.BATCHES)
        self._keys = np.array([self._key, VALIDATION, TEST])
        self._family, self._problem, self._form = family, problem, made.form
        self._states = _initial_states(made.form, self.theta[low:], made.flat)
        self._spot = tuple(made.flat[name] for name in made.form.evaluation_arguments)
        self._work = np.zeros(max(problem.work, 1), dtype=np.float32)
        self._order = np.arange(problem.samples)
        self._embedding = made.embedding
        self._before = (
            _entries(family.program),
            self._keys,
            self.theta,
            (low, layout.embedding + layout.dense),
            problem.reals,
            problem.integers,
            problem.dims,
            self._order,
            problem.batch,
            config.batch == "full",
            family.online,
            rates,
            self._states,
            _initial_states(made.embedding, self.theta[:low], made.table),
            tuple(made.flat[name] for name in made.form.arguments),
            tuple(made.plain[name] for name in made.form.arguments),
            tuple(made.table[name] for name in made.embedding.arguments),
            made.flat.get("momentum", 0.0),
            self._spot,
        )
        self._buffers = np.empty((3, self.theta.size), dtype=np.float32)
        self.done = 0
        self.diverged = False
        self._call = self._compiled()

    def _compiled(self) -> Compiled:
        """The loop, compiled (or loaded) by a training of no steps, so that no trial's time holds the compiler's."""
        loop = _loop(self._form, self._embedding)
        known = (self._family.program, self._form, self._embedding)
        if known not in _ready:
            with _compiling:
                if known not in _ready:
                    _products_take_one_thread()
                    loop(*self._before, (0, 0), self.marks[:0], self.curve[:0], self._buffers, self._work)
                    _ready.add(known)
        return loop

    def train_to(self, steps: int) -> None:
        """Train on until `steps` updates are done, a mark or the end; `curve` has the scores at the marks passed."""
        if self.diverged or steps <= self.done:
            return
        first, last = np.searchsorted(self.marks, [self.done, steps], side="right")
        reached = self._call(
            *self._before,
            (self.done, steps),
            self.marks[first:last],
            self.curve[first:last],
            self._buffers,
            self._work,
        )
        self.diverged = reached < steps
        self.done = int(reached)

    def scores(self, part: int) -> NDArray[np.float64]:
        """What the family's evaluation says of the weights as they are."""
        weights = self.theta
        if self._form.evaluation:
            low = self.theta.size - self._states.shape[1]
            dense = self._form.evaluation(self.theta[low:], self._states, *self._spot)
            weights = np.concatenate([self.theta[:low], np.asarray(dense, dtype=np.float32)])
        found = np.full(len(self._family.scores), np.nan)
        problem = self._problem
        data = (problem.reals, problem.integers, problem.dims)
        address = _entries(self._family.program)[1]
        _evaluator()(address, weights, *data, part, self.done, int(self._keys[1 + part]), self._work, found)
        return found


def train(
    family: Family,
    problem: Problem,
    config: OptimizerConfig,
    seed: int,
    steps: int,
    start: NDArray[np.float32],
    report: Report | None = None,
) -> TrialRecord:
    """Train from `start` under a config; a loss that stops being finite ends it as diverged.

    report(step, value) is called at every mark but the last, and ends the training by raising.
    """
    run = Run(family, problem, config, seed, steps, start)
    began = time.perf_counter()
    if report is None:
        run.train_to(steps)
    else:
        for mark, row in zip(run.marks, run.curve, strict=True):
            run.train_to(int(mark))
            if mark < steps and not run.diverged and math.isfinite(row[0]):
                report(int(mark), float(row[0]))
    seconds = time.perf_counter() - began
    values = [value if math.isfinite(value) else math.inf for value in run.curve[:, 0]]
    if run.diverged:
        values[-1] = math.inf
    tested = family.held_out and not run.diverged
    return TrialRecord(
        config,
        seed,
        float(values[-1]),
        seconds,
        [(int(step), float(value)) for step, value in zip(run.marks, values, strict=True)],
        _metrics(family, run.curve[-1], run.scores(1) if tested else None),
    )


def _metrics(family: Family, last: Iterable[float], test: Iterable[float] | None) -> dict[str, float]:
    prefix = "validation_" if family.held_out else ""
    found = {f"{prefix}{name}": float(v) for name, v in list(zip(family.scores, last, strict=True))[1:]}
    if test is not None:
        found.update({f"test_{name}": float(value) for name, value in zip(family.scores, test, strict=True)})
    return found


@functools.lru_cache(maxsize=64)
def _factors(schedule: Schedule, steps: int) -> NDArray[np.float64]:
    """The schedule's factor at every step. Kept: computing it anew took a twentieth of a training."""
    if schedule.name == "constant":
        return np.ones(steps)
    return np.array([schedule.factor(t) for t in range(steps)], dtype=np.float64)


def _initial_states(form: Form, theta: NDArray[np.float32], flat: dict[str, float]) -> NDArray[np.float32]:
    states = np.zeros((len(form.states), theta.size), dtype=np.float32)
    for row, state in zip(states, form.states, strict=True):
        row[:] = state.start(theta, flat)
    return states


def batches(problem: Problem, seed: int, steps: int) -> NDArray[np.int64]:
    """The mini-batches of a training, (steps, batch): what a training in another framework needs for the same path."""
    key, order = seeds.derive(seed, seeds.BATCHES), np.arange(problem.samples)
    turns = problem.samples // problem.batch
    mixed, shuffled = _numbers()
    found = []
    for first in range(0, steps, turns):
        shuffled(mixed(key, -1 - first // turns), order)
        found.append(order[: turns * problem.batch].reshape(turns, problem.batch).copy())
    return np.concatenate(found)[:steps]


@functools.cache
def _numbers() -> tuple[Callable[..., Any], Callable[..., Any]]:
    return specialise(mix, "numbers"), specialise(shuffle, "numbers")
