"""`Task`, what a study trains, and `TrialRecord`, what came of one training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from optadvisor.config import OptimizerConfig
from optadvisor.profile import TaskProfile


@dataclass(frozen=True)
class TrialRecord:
    """One training: what ran, from which seed, and what came of it.

    value: lower is better, inf if the training diverged; of a training that was pruned, the last value it reported.
    curve: (step, value) along the way. seconds: the training alone, without compiling. metrics: further figures by
    name. message: why it diverged or failed, where more is known than that. failed: it was stopped or its process died,
    which is a result as well, with value inf. more: the records of the trainings that were handed out with this one.
    """

    config: OptimizerConfig
    seed: int
    value: float
    seconds: float
    curve: list[tuple[int, float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    pruned: bool = False
    message: str = ""
    failed: bool = False
    more: list[TrialRecord] = field(default_factory=list)

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.value)

    @property
    def state(self) -> str:
        """complete, diverged, pruned or failed."""
        return "failed" if self.failed else "pruned" if self.pruned else "diverged" if self.diverged else "complete"

    def steps_to(self, target: float) -> float:
        """The first step of the curve with a value of at most `target`; inf where there is none."""
        return next((float(step) for step, value in self.curve if value <= target), math.inf)

    def to_dict(self) -> dict[str, Any]:
        """What a storage or another process is told beside the config: JSON has no inf, so what diverged is None."""
        return {
            "seed": self.seed,
            "value": self.value if math.isfinite(self.value) else None,
            "state": self.state,
            "seconds": self.seconds,
            "curve": [[step, value if math.isfinite(value) else None] for step, value in self.curve],
            "metrics": {name: v if math.isfinite(v) else None for name, v in self.metrics.items()},
            **({"message": self.message} if self.message else {}),
            **({"more": [record.to_dict() for record in self.more]} if self.more else {}),
        }

    @classmethod
    def from_dict(cls, config: OptimizerConfig, data: Mapping[str, Any]) -> TrialRecord:
        """The record that `to_dict` wrote, without `more`."""
        return cls(
            config,
            data["seed"],
            math.inf if data["value"] is None else data["value"],
            data["seconds"],
            [(step, math.inf if value is None else value) for step, value in data["curve"]],
            {name: math.nan if value is None else value for name, value in data["metrics"].items()},
            data["state"] == "pruned",
            data.get("message", ""),
            data["state"] == "failed",
        )


MINIMIZE, MAXIMIZE = "minimize", "maximize"


def shown(value: float, direction: str) -> float:
    """A value as the person counts it, or one of the person's as it is inside, where lower is better: the same turn."""
    return -value if direction == MAXIMIZE else value


# Called with (step, value) along the way; ends the training by raising optuna.TrialPruned.
Report = Callable[[int, float], None]


class Task(Protocol):
    """What a study trains: a built-in task or a person's function.

    metric: what `value` is. steps: the length of a training unless another one is asked for; None where only the
    function knows.
    """

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def metric(self) -> str: ...

    @property
    def steps(self) -> int | None: ...

    @property
    def profile(self) -> TaskProfile: ...

    def refuses(self, optimizer: str, batch: str = "mini") -> str | None:
        """Why the task cannot be trained with an optimizer on such batches; None if it can."""

    def train(
        self, config: OptimizerConfig, seed: int, steps: int | None = None, report: Report | None = None
    ) -> TrialRecord:
        """One training from a seed. A training that diverges is a record with value inf."""
