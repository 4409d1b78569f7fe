"""Update rules as Numba kernels. `Optimizer` is imported on first use: the rule records alone need no numba."""

from typing import TYPE_CHECKING, Any

from optadvisor.kernels.errors import InputError, NonFiniteGradient
from optadvisor.kernels.rules import RULES, Rule
from optadvisor.kernels.schedules import Schedule

if TYPE_CHECKING:
    from optadvisor.kernels.optimizer import Optimizer

__all__ = ["RULES", "InputError", "NonFiniteGradient", "Optimizer", "Rule", "Schedule"]


def __getattr__(name: str) -> Any:
    if name == "Optimizer":
        from optadvisor.kernels.optimizer import Optimizer

        return Optimizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
