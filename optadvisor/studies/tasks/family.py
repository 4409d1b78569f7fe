"""A family of built-in tasks: one kind of model on one kind of data and loss, with what may be varied about it.

A family names its program (the functions that Numba compiles), builds a `Problem` from the values of its axes, and
says what a person would know of it. `registry.py` lists the families; `builtin.py` makes tasks of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = Mapping[str, Any]
EMPTY = np.empty(0, dtype=np.float32)
NO_INTEGERS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Program:
    """What a task's training consists of, as plain functions that Numba compiles.

    gradient(theta, reals, integers, dims, rows, step, key, grad, work) -> float64: the loss of the mini-batch `rows`
    at theta; writes every element of its gradient into grad. rows: int64 numbers of training samples, empty for a
    problem without a data set. step: 0 for the first update. key: int64, another one each step, from which random
    numbers follow (layers/numbers.py). work: 1-d buffer whose contents the function leaves for its next call.

    evaluate(theta, reals, integers, dims, part, step, key, work, scores): writes the value (lower is better) into
    scores[0] and the family's further scores behind it. part: 0 validation, 1 test. step: updates done so far. key:
    the same for every training and every evaluation of that part, so that values can be compared. It must leave
    alone what gradient keeps in work.

    All arrays are 1-d and contiguous, reals, theta, grad and work of one float dtype (float32 in training, float64 in
    finite differences), so that one loop serves every task: take views with `x[a:b].reshape(m, n)`.
    """

    name: str
    gradient: Callable[..., Any]
    evaluate: Callable[..., Any]


class Layout(NamedTuple):
    """How many parameters of each role there are; theta holds them in this order."""

    embedding: int
    dense: int
    no_decay: int

    @property
    def total(self) -> int:
        return self.embedding + self.dense + self.no_decay


@dataclass(frozen=True)
class Problem:
    """The data of one task. Arrays may be shared with other tasks and are never written.

    samples: size of the training set that mini-batches of `batch` are drawn from, in shuffled epochs; 0 where there
    is none. work: elements of the buffer that the program needs. initial(rng): theta at the start, `layout` long.
    """

    layout: Layout
    initial: Callable[[np.random.Generator], NDArray[np.floating[Any]]]
    reals: NDArray[np.float32] = field(default_factory=lambda: EMPTY)
    integers: NDArray[np.int64] = field(default_factory=lambda: NO_INTEGERS)
    dims: NDArray[np.int64] = field(default_factory=lambda: NO_INTEGERS)
    samples: int = 0
    batch: int = 0
    work: int = 0


@dataclass(frozen=True)
class Axis:
    """Something that varies within a family: the values it may have, and the one it has unless another is asked for.

    beyond: values that may be asked for by name, but that samples of tasks leave out: their trainings take long.
    """

    default: Any
    choices: tuple[Any, ...]
    meaning: str
    beyond: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        assert self.default in self.choices
        assert not set(self.beyond) & set(self.choices)


@dataclass(frozen=True)
class Family:
    """One kind of model on one kind of data and loss.

    name: of its default task too. scores: names of what evaluate writes; the first one is the value. axes: by name,
    "steps" (length of a training) among them. build(values): the problem for values of the axes. profile(values): what
    a person would know: fields of TaskProfile other than steps; cheap, without loading data. held_out: whether parts
    0 and 1 are validation and test data; if not, only part 0 is evaluated. online: the value is the mean loss over the
    last stretch of training instead of an evaluation (drifting objectives, rewards). higher: scores of which more is
    better, for people.
    """

    name: str
    title: str
    program: Program
    scores: tuple[str, ...]
    axes: Mapping[str, Axis]
    build: Callable[[Values], Problem]
    profile: Callable[[Values], dict[str, Any]]
    metric: str = ""
    held_out: bool = True
    online: bool = False
    higher: tuple[str, ...] = ()


def views(shapes: tuple[tuple[int, ...], ...], theta: NDArray[Any]) -> list[NDArray[Any]]:
    """The parts of a 1-d array, one after the other, in these shapes: for `initial` and for tests."""
    found, first = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        found.append(theta[first : first + size].reshape(shape))
        first += size
    return found
