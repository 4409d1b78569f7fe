"""Keras: what a model is made of. Reached as `optadvisor.keras`.

The names are imported on first use; inside this package `import keras` is Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optadvisor.frameworks.optional import lazily

if TYPE_CHECKING:
    from optadvisor.frameworks.keras.building import build_keras
    from optadvisor.frameworks.keras.optimizer import ConfigOptimizer
    from optadvisor.frameworks.keras.profiling import profile
    from optadvisor.frameworks.keras.reading import parameters
    from optadvisor.frameworks.keras.scheduling import ConfigSchedule

_HOMES = {
    "ConfigOptimizer": "optadvisor.frameworks.keras.optimizer",
    "ConfigSchedule": "optadvisor.frameworks.keras.scheduling",
    "build_keras": "optadvisor.frameworks.keras.building",
    "parameters": "optadvisor.frameworks.keras.reading",
    "profile": "optadvisor.frameworks.keras.profiling",
}
__all__ = ["ConfigOptimizer", "ConfigSchedule", "build_keras", "parameters", "profile"]


def __getattr__(name: str) -> Any:
    return lazily("keras", name, _HOMES, {"keras": "pip install keras"})


def __dir__() -> list[str]:
    return sorted(__all__)
