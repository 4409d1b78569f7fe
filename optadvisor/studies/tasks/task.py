"""`Task`, what a study trains, and `TrialRecord`, what came of one training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from optadvisor.config import OptimizerConfig
from optadvisor.profile import TaskProfile


@dataclass(frozen=True)
class TrialRecord:
    """One training: what ran, from which seed, and what came of it.

    value: lower is better, inf if the training diverged. curve: (step, value) along the way. seconds: the training
    alone, without compiling. metrics: further figures by name.
    """

    config: OptimizerConfig
    seed: int
    value: float
    seconds: float
    curve: list[tuple[int, float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.value)

    def to_dict(self) -> dict[str, Any]:
        """What a storage keeps beside config and value: JSON has no inf, so values that diverged are None."""
        return {
            "seed": self.seed,
            "seconds": self.seconds,
            "diverged": self.diverged,
            "curve": [[step, value if math.isfinite(value) else None] for step, value in self.curve],
            "metrics": {name: v if math.isfinite(v) else None for name, v in self.metrics.items()},
        }


# Called with (step, value) along the way; ends the training by raising optuna.TrialPruned.
Report = Callable[[int, float], None]


class Task(Protocol):
    """What a study trains: a built-in task or a person's function.

    metric: what `value` is. steps: the length of a training unless another one is asked for; None where only the
    function knows.
    """

    name: str
    title: str
    metric: str
    steps: int | None

    @property
    def profile(self) -> TaskProfile: ...

    def train(
        self, config: OptimizerConfig, seed: int, steps: int | None = None, report: Report | None = None
    ) -> TrialRecord:
        """One training from a seed. A training that diverges is a record with value inf."""
