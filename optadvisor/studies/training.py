"""A whole training in one compiled function: the task's gradient and the update rule are compiled into the loop.

Measured against PyTorch eager on the digits MLP: tens of times faster, with the same losses to 6 digits.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.config import OptimizerConfig
from optadvisor.kernels import loops, rules
from optadvisor.kernels.compiling import Compiled, specialise
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.rules import Form
from optadvisor.kernels.rules.record import flatten
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies.tasks.task import TrialRecord

GRADIENT: Any = None
EVALUATE: Any = None
SWEEP: Any = None
LOOKAHEAD: Any = False
EVALUATION: Any = None

CURVE_POINTS = 5


@dataclass(frozen=True)
class Program:
    """What a task's training consists of, as plain functions that Numba compiles.

    gradient(theta, data, rows, grad, work) -> loss of the mini-batch `rows`; writes its gradient.
    evaluate(theta, data, part, work) -> (loss, score) on part 0 (validation) or 1 (test).
    """

    name: str
    gradient: Callable[..., Any]
    evaluate: Callable[..., Any]


@dataclass
class Start:
    """One training about to begin: parameters (weights first, then `cut` on those without decay), data, mini-batches.

    theta: (n,) float32, changed in place. rows: (steps, batch) int64. work: buffers of the task.
    """

    theta: NDArray[np.float32]
    cut: int
    data: tuple[Any, ...]
    rows: NDArray[np.int64]
    work: tuple[Any, ...]


def _train(theta, cut, data, rows, work, rates, states, decayed, plain, momentum, spot, marks, curve):
    """Returns the steps done: fewer than asked for where the loss stopped being finite."""
    grad = np.empty_like(theta)
    ahead = np.empty_like(theta)
    mark = 0
    for t in range(rows.shape[0]):
        point = theta
        if LOOKAHEAD:
            scale = theta.dtype.type(rates[t] * momentum)
            for i in range(theta.size):
                ahead[i] = theta[i] - scale * states[0, i]
            point = ahead
        if not math.isfinite(GRADIENT(point, data, rows[t], grad, work)):
            return t
        SWEEP(theta[:cut], grad[:cut], states, 0, t + 1, rates[t], decayed)
        SWEEP(theta[cut:], grad[cut:], states, cut, t + 1, rates[t], plain)
        if mark < marks.size and t + 1 == marks[mark]:
            curve[mark, 0], curve[mark, 1] = EVALUATE(EVALUATION(theta, states, *spot), data, 0, work)
            mark += 1
    return rows.shape[0]


def _as_it_is(theta, states):
    return theta


@functools.cache
def _evaluation(program: Program) -> Compiled:
    return specialise(program.evaluate, program.name)


@functools.cache
def _loop(program: Program, form: Form) -> Compiled:
    # The task's functions do not depend on the rule: compiled once, they are linked into every rule's loop.
    return specialise(
        _train,
        f"{program.name}_{form.name}",
        GRADIENT=specialise(program.gradient, program.name),
        EVALUATE=_evaluation(program),
        SWEEP=loops.sweep(form, np.float32),
        LOOKAHEAD=form.lookahead,
        EVALUATION=specialise(form.evaluation or _as_it_is, form.name, cache=False),
    )


def train(program: Program, config: OptimizerConfig, seed: int, start: Start) -> TrialRecord:
    """Train from `start` under a config; a loss that stops being finite ends it as diverged.

    Errors: InputError for a config that this task cannot run (a hybrid: it has no embeddings; a rule that needs whole
    tensors: the parameters are one flat array).
    """
    roles = config.roles()
    rule, dense = roles["dense"]
    other, plain = roles.get("no_decay", roles["dense"])
    if "embedding" in roles or other != rule:
        raise InputError(f"optimizer {config.optimizer!r} has parts that {program.name} has not: pick a dense rule")
    if not rules.get(rule).elementwise:
        raise InputError(f"optimizer {rule!r} needs whole tensors, {program.name} is one flat array: pick another rule")
    steps = len(start.rows)
    form = rules.get(rule).form(dense, config.convention_of(rule))
    schedule = Schedule.from_dict(config.schedule).resolve(steps)
    flat = flatten(dense)
    states = _initial_states(form, start.theta, flat)
    spot = tuple(flat[name] for name in form.evaluation_arguments)
    arguments = (
        flat["lr"] * _factors(schedule, steps),
        states,
        tuple(flat[name] for name in form.arguments),
        tuple(flatten(plain)[name] for name in form.arguments),
        flat.get("momentum", 0.0),
        spot,
        np.unique(np.linspace(0, steps, CURVE_POINTS + 1, dtype=np.int64)[1:].clip(1)),
    )
    loop = _compiled(program, form, start, arguments)
    curve = np.full((len(arguments[-1]), 2), np.nan)
    began = time.perf_counter()
    done = loop(start.theta, start.cut, start.data, start.rows, start.work, *arguments, curve)
    seconds = time.perf_counter() - began
    values = [value if math.isfinite(value) else math.inf for value in curve[:, 0]]
    if done < steps:
        values[-1] = math.inf
    metrics = {"validation_accuracy": float(curve[-1, 1])}
    if done == steps:
        weights = form.evaluation(start.theta, states, *spot) if form.evaluation else start.theta
        loss, accuracy = _evaluation(program)(weights, start.data, 1, start.work)
        metrics.update(test_loss=float(loss), test_accuracy=float(accuracy))
    return TrialRecord(
        config,
        seed,
        float(values[-1]),
        seconds,
        [(int(step), float(value)) for step, value in zip(arguments[-1], values, strict=True)],
        metrics,
    )


@functools.lru_cache(maxsize=16)
def _factors(schedule: Schedule, steps: int) -> NDArray[np.float64]:
    """The schedule's factor at every step. Kept: computing it anew took a twentieth of a training."""
    return np.array([schedule.factor(t) for t in range(steps)], dtype=np.float64)


def _initial_states(form: Form, theta: NDArray[np.float32], flat: dict[str, float]) -> NDArray[np.float32]:
    states = np.zeros((len(form.states), theta.size), dtype=np.float32)
    for row, state in zip(states, form.states, strict=True):
        row[:] = state.start(theta, flat)
    return states


_ready: set[tuple[Program, Form]] = set()
_compiling = threading.Lock()  # trainings side by side wait for one compilation, instead of each doing it


def _compiled(program: Program, form: Form, start: Start, arguments: tuple[Any, ...]) -> Compiled:
    """The loop, compiled (or loaded) by a training of no steps, so that no trial's time holds the compiler's."""
    if (program, form) not in _ready:
        with _compiling:
            if (program, form) not in _ready:
                marks, none = arguments[-1][:0], np.empty((0, 2))
                nothing = (start.theta, start.cut, start.data, start.rows[:0], start.work)
                _loop(program, form)(*nothing, *arguments[:-1], marks, none)
                _evaluation(program)(start.theta, start.data, 0, start.work)
                _ready.add((program, form))
    return _loop(program, form)
