"""A built-in task as what is probed: its compiled program on the mini-batches of a training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.config import OptimizerConfig
from optadvisor.probing.subject import Block, Sparse, Weights
from optadvisor.profile import TaskProfile
from optadvisor.studies import seeds, training
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.family import NO_INTEGERS


class BuiltinSubject:
    """A built-in task. Its program knows three blocks: embedding, dense and no_decay, each one flat array."""

    def __init__(self, task: BuiltinTask, seed: int = 0, declared: TaskProfile | None = None) -> None:
        self.task, self.seed, self.name = task, seed, task.name
        problem = task.problem
        self.blocks = [
            Block(role, role, (count,))
            for role, count in zip(problem.layout._fields, problem.layout, strict=True)
            if count
        ]
        self.batch_size, self.distinct = problem.batch or None, None
        told = {name: value for name, value in (declared or TaskProfile()).to_dict().items() if value is not None}
        self.declared = TaskProfile(**{**task.profile.to_dict(), **told})
        self.read: Mapping[str, tuple[Any, str]] = {}  # its profile says it all
        self._rows = np.empty((0, problem.batch), dtype=np.int64)
        self._work = np.zeros(max(problem.work, 1), dtype=np.float32)
        self._steps = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        yield  # nothing of anyone's is written

    def start(self) -> Weights:
        self._work[:] = 0
        self._steps = 0
        return self.task.start(self.seed).copy()

    def gradient(self, weights: Weights, number: int) -> tuple[float, Weights]:
        return self._ask(weights, self._batch(number), number, self._work.copy())

    def advance(self, weights: Weights, number: int) -> tuple[float, Weights]:
        found = self._ask(weights, self._batch(number), number, self._work)
        self._steps += 1
        return found

    def train(self, config: OptimizerConfig, steps: int) -> float:
        """The value of a short training, as the range test of a study has it: the learned laws were fitted to those."""
        return self.task.train(config, seeds.derive(self.seed, seeds.RANGE), steps).value

    def zeros(self) -> Sparse | None:
        """Of embeddings or of a linear model, by the gradients of single examples: a weight whose input is 0 has none.

        Not of a language model: its tokens are values like others, no features.
        """
        problem, known = self.task.problem, self.declared
        tables = problem.layout.embedding and known.domain != "language"
        if not problem.samples or not (known.architecture == "linear" or tables):
            return None
        inputs = problem.layout.embedding or problem.layout.dense
        weights, shares = self.start(), []
        for row in self._batch(0).tolist() + self._batch(1).tolist():
            _, grad = self._ask(weights, np.array([row]), 0, self._work.copy())
            shares.append(float(np.mean(grad[:inputs] == 0)))
        what = "embedding entries" if problem.layout.embedding else "weights"
        return Sparse(float(np.mean(shares)), f"{what} without a gradient from one example")

    def _batch(self, number: int) -> NDArray[np.int64]:
        problem = self.task.problem
        if not problem.samples:
            return NO_INTEGERS
        if number >= len(self._rows):
            self._rows = training.batches(problem, self.seed, max(2 * len(self._rows), number + 1, 64))
        rows: NDArray[np.int64] = self._rows[number]
        return rows

    def _ask(
        self, weights: Weights, rows: NDArray[np.int64], number: int, work: NDArray[np.float32]
    ) -> tuple[float, Weights]:
        key = seeds.derive(self.seed, seeds.BATCHES, number)
        program, problem = self.task.family.program, self.task.problem
        return training.loss_and_gradient(program, problem, weights, rows, self._steps, key, work)
