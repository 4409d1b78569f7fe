"""Configs on fresh seeds, the same for all: how a search is confirmed, and how configs race."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from optadvisor.config import OptimizerConfig
from optadvisor.studies import seeds
from optadvisor.studies.executors import Executor, Job
from optadvisor.studies.tasks.task import MINIMIZE, TrialRecord, shown

CONFIRMATIONS = 5  # fresh seeds for each config


@dataclass(frozen=True)
class Standing:
    """How a config did on the fresh seeds: its values there, lower is better, inf if it diverged.

    number: of the trial that found it; in a race of given configs, its place among them from 0. direction: the person's.
    """

    number: int
    config: OptimizerConfig
    records: list[TrialRecord]
    direction: str = MINIMIZE

    @property
    def optimizer(self) -> str:
        return self.config.optimizer

    @property
    def values(self) -> list[float]:
        return [record.value for record in self.records]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def std(self) -> float:
        return statistics.stdev(self.values)

    @property
    def shown(self) -> list[float]:
        """The values as the person counts them."""
        return [shown(value, self.direction) for value in self.values]

    @property
    def value(self) -> float:
        """Their mean."""
        return shown(self.mean, self.direction)

    @property
    def seeds(self) -> list[int]:
        return [record.seed for record in self.records]

    @property
    def metrics(self) -> dict[str, float]:
        """The means of the further figures."""
        return {m: sum(r.metrics[m] for r in self.records) / len(self.records) for m in self.records[0].metrics}


def on_fresh_seeds(
    executor: Executor,
    configs: Iterable[tuple[int, OptimizerConfig]],
    seed: int,
    steps: int | None,
    direction: str = MINIMIZE,
    count: int = CONFIRMATIONS,
    ended: Callable[[int, TrialRecord], None] | None = None,
    what: str = "confirm",
) -> list[Standing]:
    """Train every (number, config) on `count` seeds that follow from `seed`; in the order in which they were given.

    ended: told (number, record) of each training, in the same order. what: the jobs' first word.
    """
    numbered, fresh = list(configs), [seeds.derive(seed, seeds.CONFIRMATION, i) for i in range(count)]
    jobs = [(n, Job(f"{what} {n} {i}", config, s, steps)) for n, config in numbered for i, s in enumerate(fresh)]
    running: deque[tuple[int, Future[TrialRecord]]] = deque()
    records = []

    def take() -> None:
        number, future = running.popleft()
        records.append(future.result())
        if ended:
            ended(number, records[-1])

    for number, job in jobs:
        running.append((number, executor.submit(job)))
        while running and running[0][1].done():  # an executor may train before it returns
            take()
    while running:
        take()
    return [
        Standing(number, config, records[at * count : (at + 1) * count], direction)
        for at, (number, config) in enumerate(numbered)
    ]
