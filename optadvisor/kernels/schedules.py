"""Learning-rate schedules: the factor on the peak learning rate at each step.

t counts the steps already done, as PyTorch's schedulers and optax's counters do: the first step uses t = 0. T is
`total_steps`, W `warmup_steps`; past T a decaying schedule stays at its end.

| name | factor at t |
|---|---|
| constant | 1 |
| warmup | min(1, t/W) |
| cosine | floor + (1-floor)*(1+cos(pi*t/T))/2 |
| warmup_cosine | t/W up to W, then cosine over the T-W steps that are left |
| linear | t/W up to W, then a straight line from 1 to floor over the T-W steps that are left |
| inverse_sqrt | t/W up to W, then sqrt(W/t) |
| step | gamma**(t // step_size), at least floor |
| wsd | t/W up to W, then 1, then a straight line to floor over the last decay_fraction*T steps |

Sources: cosine Loshchilov & Hutter 2017 (SGDR) eq. 5; inverse_sqrt Vaswani et al. 2017 section 5.3;
wsd Hu et al. 2024 (MiniCPM) section 4. The forms are those of torch.optim.lr_scheduler and optax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optadvisor.kernels.errors import InputError, unknown

NEEDS_TOTAL = ("cosine", "warmup_cosine", "step", "linear", "wsd")
WARMS_UP = ("warmup", "warmup_cosine", "linear", "inverse_sqrt", "wsd")
NAMES = ("constant", "warmup", "cosine", "warmup_cosine", "step", "linear", "inverse_sqrt", "wsd")
_OPTIONS = {"step": ("step_size", "gamma"), "wsd": ("decay_fraction",)}


@dataclass(frozen=True)
class Schedule:
    """A schedule as a config carries it. Unknown step counts are None; then `warmup_fraction` says what W becomes."""

    name: str = "constant"
    warmup_steps: int | None = None
    total_steps: int | None = None
    floor: float = 0.0
    warmup_fraction: float | None = None
    step_size: int | None = None
    gamma: float = 0.1
    decay_fraction: float = 0.2

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise unknown("schedule", self.name, NAMES)
        for field in ("warmup_steps", "total_steps", "step_size"):
            value = getattr(self, field)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise InputError(f"schedule: {field} is {value!r}; it takes a whole number of steps, 0 or more")
        for field in ("floor", "warmup_fraction", "gamma", "decay_fraction"):
            value = getattr(self, field)
            if value is None and field == "warmup_fraction":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
                raise InputError(f"schedule: {field} is {value!r}; it takes a number from 0 to 1")
        if self.name not in WARMS_UP and (self.warmup_steps or self.warmup_fraction):
            raise InputError(
                f"schedule: {self.name} has no warm-up, but warmup is {self.warmup_steps or self.warmup_fraction}; "
                f"schedules that warm up: {', '.join(WARMS_UP)}"
            )
        if self.total_steps == 0 or self.step_size == 0:
            raise InputError("schedule: total_steps and step_size must be at least 1")
        if self.warmup_steps is not None and self.total_steps is not None and self.warmup_steps > self.total_steps:
            raise InputError(
                f"schedule: warmup_steps {self.warmup_steps} is more than total_steps {self.total_steps}; shorten the warm-up"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schedule:
        """The schedule that `to_dict` wrote."""
        if not isinstance(data, Mapping):
            raise InputError(f"schedule is {data!r}; it takes an object such as {{'name': 'constant'}}")
        known = tuple(cls.__dataclass_fields__)
        for key in data:
            if key not in known:
                raise unknown("field of schedule", key, known)
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: warmup_fraction only while the step counts are open, options only of the schedule that has them."""
        data: dict[str, Any] = {
            "name": self.name,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "floor": self.floor,
        }
        if self.warmup_fraction is not None:
            data["warmup_fraction"] = self.warmup_fraction
        for option in _OPTIONS.get(self.name, ()):
            if getattr(self, option) is not None:
                data[option] = getattr(self, option)
        return data

    def resolve(self, total_steps: int | None = None) -> Schedule:
        """The schedule with its step counts fixed: `total_steps` wins over the one it carries."""
        total = total_steps if total_steps is not None else self.total_steps
        if total is None and self.name in NEEDS_TOTAL:
            raise InputError(f"schedule {self.name} needs the length of the training: pass total_steps")
        warmup = self.warmup_steps
        if self.warmup_fraction is not None and total is not None:
            warmup = round(self.warmup_fraction * total)
        if warmup is None and self.name in ("warmup", "inverse_sqrt"):
            raise InputError(f"schedule {self.name} needs warmup_steps, or warmup_fraction and total_steps")
        step_size = self.step_size
        if self.name == "step" and step_size is None and total is not None:
            step_size = math.ceil(total / 3)
        return Schedule(self.name, warmup or 0, total, self.floor, None, step_size, self.gamma, self.decay_fraction)

    def factor(self, t: int) -> float:
        """The factor at t steps done, for a schedule that `resolve` returned."""
        total, warmup, floor = self.total_steps or 0, self.warmup_steps or 0, self.floor
        if self.name in WARMS_UP and t < warmup:
            return t / warmup
        if self.name in ("cosine", "warmup_cosine"):
            done = min(1.0, (t - warmup) / max(1, total - warmup))
            return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))
        if self.name == "linear":
            return 1.0 - (1.0 - floor) * min(1.0, (t - warmup) / max(1, total - warmup))
        if self.name == "inverse_sqrt":
            return math.sqrt(max(1, warmup) / max(1, t))
        if self.name == "step":
            return max(floor, self.gamma ** (t // (self.step_size or 1)))
        if self.name == "wsd":
            decay = max(1, round(self.decay_fraction * total))
            return 1.0 - (1.0 - floor) * min(1.0, max(0.0, (t - (total - decay)) / decay))
        return 1.0
