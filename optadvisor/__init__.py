"""optadvisor: which optimizer, with which settings, and why; tuned configs; Numba update kernels.

The names below are imported on first use, so that `import optadvisor` costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optadvisor import kernels
    from optadvisor.advisor.recommend import recommend
    from optadvisor.config import OptimizerConfig
    from optadvisor.frameworks import keras, optax, torch
    from optadvisor.frameworks.probing import probe
    from optadvisor.kernels.errors import InputError
    from optadvisor.profile import TaskProfile
    from optadvisor.studies import load_config
    from optadvisor.tuning import tune

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "OptimizerConfig",
    "TaskProfile",
    "keras",
    "kernels",
    "load_config",
    "optax",
    "probe",
    "recommend",
    "torch",
    "tune",
]

_HOMES = {
    "InputError": "optadvisor.kernels.errors",
    "OptimizerConfig": "optadvisor.config",
    "TaskProfile": "optadvisor.profile",
    "load_config": "optadvisor.studies",
    "probe": "optadvisor.frameworks.probing",
    "recommend": "optadvisor.advisor",
    "tune": "optadvisor.tuning",
}
_PACKAGES = {
    "keras": "optadvisor.frameworks.keras",
    "kernels": "optadvisor.kernels",
    "optax": "optadvisor.frameworks.optax",
    "torch": "optadvisor.frameworks.torch",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _PACKAGES:
        return importlib.import_module(_PACKAGES[name])
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
