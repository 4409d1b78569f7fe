"""A config's schedule as a scheduler of PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.schedules import Schedule


class ScheduleLR(LRScheduler):  # type: ignore[misc]
    """lr of every group is its initial lr times `schedule.factor(t)`, t the steps done: call step() once a step.

    A group whose "rule" takes no schedule (ftrl, schedule_free_adamw) keeps its lr. The state_dict holds the schedule as
    plain data, so `torch.load(weights_only=True)` reads it; loading takes over the schedule too.

    Errors: InputError for a schedule whose step counts are open (`Schedule.resolve`), and for a saved state that is none of
    this class.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Schedule, last_epoch: int = -1) -> None:
        self.schedule = schedule.resolve()
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """The learning rates of the groups at `last_epoch` steps done."""
        factor = self.schedule.factor(self.last_epoch)
        return [
            lr * factor if scheduled(group) else lr
            for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """The state as numbers, lists and dicts."""
        return {**super().state_dict(), "schedule": self.schedule.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The state that `state_dict` returned."""
        if "schedule" not in state_dict:
            raise InputError("the state holds no schedule: it was saved by another scheduler than build_torch's")
        super().load_state_dict({**state_dict, "schedule": Schedule.from_dict(state_dict["schedule"])})


def scheduled(group: dict[str, Any]) -> bool:
    """Whether a group's rule takes schedules; a group that names no rule does."""
    return "rule" not in group or rules.get(group["rule"]).scheduled
