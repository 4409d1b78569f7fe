"""`TaskProfile`: what is known about a training task. Every field may be unknown (None)."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from optadvisor.files import read_json
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.quantities import parse_bytes, parse_count

DOMAINS = (
    "vision",
    "language",
    "recsys",
    "rl",
    "generative",
    "tabular",
    "speech",
    "graph",
    "timeseries",
    "other",
)
ARCHITECTURES = (
    "linear",
    "mlp",
    "cnn",
    "resnet",
    "unet",
    "rnn",
    "transformer",
    "embedding-tower",
    "gnn",
    "gan",
    "diffusion",
    "policy",
    "other",
)
GOALS = ("generalization", "speed", "stability", "memory")
_NAMES = {"domain": DOMAINS, "architecture": ARCHITECTURES, "goal": GOALS}
_COUNTS = ("parameters", "samples", "batch_size", "steps", "trials")
_FLAGS = ("convex", "unstable", "non_stationary", "ill_conditioned")


@dataclass(frozen=True)
class TaskProfile:
    """What is known about a task; None is unknown.

    domain, architecture, goal: one of DOMAINS, ARCHITECTURES, GOALS (an unknown goal counts as generalization).
    parameters: trainable parameters. samples: training examples. batch_size: examples a step. steps: updates in the
    whole training. trials: full training runs one can afford (1: no tuning). Counts may be text such as "124M".
    sparse_fraction: share of zero entries in the input features, 0 to 1. convex, unstable (early training),
    non_stationary (the objective drifts), ill_conditioned: True or False. memory_limit: bytes for optimizer state.

    Errors: InputError that names the field, its value and what it takes.
    """

    domain: str | None = None
    architecture: str | None = None
    goal: str | None = None
    parameters: int | None = None
    samples: int | None = None
    batch_size: int | None = None
    steps: int | None = None
    trials: int | None = None
    sparse_fraction: float | None = None
    convex: bool | None = None
    unstable: bool | None = None
    non_stationary: bool | None = None
    ill_conditioned: bool | None = None
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        for field, known in _NAMES.items():
            value = getattr(self, field)
            if value is not None and value not in known:
                raise unknown(field, value, known)
        for field in _COUNTS:
            if getattr(self, field) is not None:
                object.__setattr__(self, field, parse_count(getattr(self, field), field))
        if self.memory_limit is not None:
            object.__setattr__(self, "memory_limit", parse_bytes(self.memory_limit, "memory_limit"))
        for field in _FLAGS:
            value = getattr(self, field)
            if value is not None and not isinstance(value, bool):
                raise InputError(f"{field} is {value!r}; it takes true or false")
        self._check_sparse_fraction()

    def _check_sparse_fraction(self) -> None:
        value: object = self.sparse_fraction
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0.0 <= float(value) <= 1.0:
            raise InputError(f"sparse_fraction is {value!r}; it takes a share from 0 to 1, 0.99 for 99% zeros")
        object.__setattr__(self, "sparse_fraction", float(value))

    @property
    def epochs(self) -> float | None:
        """Passes over the training data, where steps, batch size and samples are known."""
        if self.steps is None or self.batch_size is None or self.samples is None:
            return None
        return self.steps * self.batch_size / self.samples

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskProfile:
        """The profile of a mapping; InputError for a field that does not exist."""
        known = [field.name for field in fields(cls)]
        for key in data:
            if key not in known:
                raise unknown("profile field", key, known)
        return cls(**data)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> TaskProfile:
        """The profile in a JSON file, an object of the fields that are known."""
        return cls.from_dict(read_json(path, "profile"))

    def to_dict(self) -> dict[str, Any]:
        """Every field, unknown ones as None."""
        return asdict(self)


def steps_of(epochs: Any, known: Mapping[str, Any]) -> tuple[int, str]:
    """Updates in so many passes over the data, and how they were counted.

    Errors: InputError where samples or batch size are unknown, and where steps are declared too.
    """
    count = parse_count(epochs, "epochs")
    if known.get("steps"):
        raise InputError(f"steps is {known['steps']:,} and epochs is {count:,}: give one of them")
    missing = [name for name in ("samples", "batch_size") if not known.get(name)]
    if missing:
        raise InputError(f"epochs is {count:,}, which needs {' and '.join(missing)} too: give them, or give steps")
    per_epoch = math.ceil(known["samples"] / known["batch_size"])
    return count * per_epoch, f"{count:,} epochs of {per_epoch:,} steps"
