"""Keras: what a model is made of. Reached as `optadvisor.keras`.

The names are imported on first use; inside this package `import keras` is Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optadvisor.frameworks.optional import lazily

if TYPE_CHECKING:
    from optadvisor.frameworks.keras.reading import parameters

_HOMES = {"parameters": "optadvisor.frameworks.keras.reading"}
__all__ = ["parameters"]


def __getattr__(name: str) -> Any:
    return lazily("keras", name, _HOMES, {"keras": "pip install keras"})


def __dir__() -> list[str]:
    return sorted(__all__)
