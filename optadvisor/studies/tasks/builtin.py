"""A built-in task: a family with values for its axes. Its name says which: digits-mlp, digits-mlp:batch=64,width=16."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.profile import TaskProfile
from optadvisor.studies import seeds
from optadvisor.studies.tasks.family import Family, Problem
from optadvisor.studies.tasks.task import Report, TrialRecord


class BuiltinTask:
    """One task of a family. `values` has every axis; its data is loaded when it is first trained."""

    def __init__(self, family: Family, values: Mapping[str, Any] | None = None) -> None:
        self.family = family
        self.values = {**{name: axis.default for name, axis in family.axes.items()}, **(values or {})}
        changed = [f"{n}={_text(v)}" for n, v in self.values.items() if v != family.axes[n].default]
        self.name = family.name + (":" + ",".join(changed) if changed else "")
        self.title = family.title
        self.metric = family.metric or ("validation " if family.held_out else "") + family.scores[0].replace("_", " ")
        self.steps: int = self.values["steps"]

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BuiltinTask) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    @functools.cached_property
    def profile(self) -> TaskProfile:
        return TaskProfile(**{"steps": self.steps, **self.family.profile(self.values)})

    @property
    def problem(self) -> Problem:
        return _problem(self)

    def start(self, seed: int) -> NDArray[np.float32]:
        """theta at the start of a training from this seed. Not to be written."""
        return _start(self, seed)

    def refuses(self, optimizer: str, batch: str = "mini") -> str | None:
        if batch == "full" and not self.problem.samples:
            return "it has no data set, which a full batch goes through"
        if optimizer == HYBRID:
            return None if self.problem.layout.embedding else "it has no embeddings, which a hybrid has a rule for"
        return (
            None if rules.get(optimizer).elementwise else "it trains one flat array, and the rule needs whole tensors"
        )

    def train(
        self, config: OptimizerConfig, seed: int, steps: int | None = None, report: Report | None = None
    ) -> TrialRecord:
        """One training; report(step, value), where given, may end it by raising."""
        from optadvisor.studies import training

        length = steps or self.steps
        return training.train(self.family, self.problem, config, seed, length, self.start(seed), report)

    def train_many(
        self, pairs: Sequence[tuple[OptimizerConfig, int]], steps: int | None = None, jobs: int | None = None
    ) -> list[TrialRecord]:
        """Every (config, seed) trained, side by side on `jobs` cores (all); the records are those of `train`."""
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(lambda pair: self.train(pair[0], pair[1], steps), pairs))


@functools.lru_cache(maxsize=64)
def _problem(task: BuiltinTask) -> Problem:
    return task.family.build(task.values)


@functools.lru_cache(maxsize=256)
def _start(task: BuiltinTask, seed: int) -> NDArray[np.float32]:
    """Kept: every config of a study's comparison begins at the same weights."""
    theta = task.problem.initial(np.random.default_rng(seeds.derive(seed, seeds.WEIGHTS)))
    assert theta.size == task.problem.layout.total, task.name
    return np.ascontiguousarray(theta, dtype=np.float32)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def parse(name: str, families: Mapping[str, Family]) -> BuiltinTask:
    """The task of a name such as digits-mlp:batch=64,width=16; InputError for what is not there."""
    head, _, tail = name.partition(":")
    if head not in families:
        raise unknown("task", head, families)
    family, values = families[head], {}
    for item in filter(None, tail.split(",")):
        key, _, text = item.partition("=")
        if key not in family.axes:
            raise unknown(f"axis of task {head}", key, family.axes)
        axis = family.axes[key]
        choices = {_text(choice): choice for choice in (*axis.choices, *axis.beyond)}
        if text not in choices:
            raise InputError(f"task {head}: {key} is {text!r}; it takes one of {', '.join(choices)}")
        values[key] = choices[text]
    return BuiltinTask(family, values)
