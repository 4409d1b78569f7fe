"""Keras: what a model is made of. Reached as `optadvisor.keras`.

The names are imported on first use; inside this package `import keras` is Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optadvisor.frameworks.optional import lazily

if TYPE_CHECKING:
    from optadvisor.frameworks.keras.profiling import profile
    from optadvisor.frameworks.keras.reading import parameters

_HOMES = {
    "parameters": "optadvisor.frameworks.keras.reading",
    "profile": "optadvisor.frameworks.keras.profiling",
}
__all__ = ["parameters", "profile"]


def __getattr__(name: str) -> Any:
    return lazily("keras", name, _HOMES, {"keras": "pip install keras"})


def __dir__() -> list[str]:
    return sorted(__all__)
