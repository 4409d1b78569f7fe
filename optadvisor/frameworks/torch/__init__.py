"""PyTorch: what a model is made of, parameter groups, and our kernels on its tensors. Reached as `optadvisor.torch`.

The names are imported on first use; inside this package `import torch` is PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optadvisor.frameworks.optional import lazily

if TYPE_CHECKING:
    from optadvisor.frameworks.torch.building import build_torch
    from optadvisor.frameworks.torch.groups import check_groups, param_groups
    from optadvisor.frameworks.torch.hybrid import Hybrid
    from optadvisor.frameworks.torch.monitor import Monitor
    from optadvisor.frameworks.torch.optimizer import Optimizer
    from optadvisor.frameworks.torch.profiling import profile
    from optadvisor.frameworks.torch.reading import parameters
    from optadvisor.frameworks.torch.scheduling import ScheduleLR
    from optadvisor.frameworks.torch.subject import load
    from optadvisor.frameworks.torch.training import objective

_HOMES = {
    "Hybrid": "optadvisor.frameworks.torch.hybrid",
    "Monitor": "optadvisor.frameworks.torch.monitor",
    "Optimizer": "optadvisor.frameworks.torch.optimizer",
    "ScheduleLR": "optadvisor.frameworks.torch.scheduling",
    "build_torch": "optadvisor.frameworks.torch.building",
    "check_groups": "optadvisor.frameworks.torch.groups",
    "load": "optadvisor.frameworks.torch.subject",
    "objective": "optadvisor.frameworks.torch.training",
    "param_groups": "optadvisor.frameworks.torch.groups",
    "parameters": "optadvisor.frameworks.torch.reading",
    "profile": "optadvisor.frameworks.torch.profiling",
}
__all__ = [
    "Hybrid",
    "Monitor",
    "Optimizer",
    "ScheduleLR",
    "build_torch",
    "check_groups",
    "load",
    "objective",
    "param_groups",
    "parameters",
    "profile",
]


def __getattr__(name: str) -> Any:
    return lazily("torch", name, _HOMES, {"torch": "pip install torch"})


def __dir__() -> list[str]:
    return sorted(__all__)
