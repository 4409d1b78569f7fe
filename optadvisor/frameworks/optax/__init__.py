"""JAX and optax: what a pytree of parameters is made of. Reached as `optadvisor.optax`.

The names are imported on first use; inside this package `import optax` is optax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optadvisor.frameworks.optional import lazily

if TYPE_CHECKING:
    from optadvisor.frameworks.optax.building import build_optax
    from optadvisor.frameworks.optax.profiling import profile
    from optadvisor.frameworks.optax.reading import parameters

_HOMES = {
    "build_optax": "optadvisor.frameworks.optax.building",
    "parameters": "optadvisor.frameworks.optax.reading",
    "profile": "optadvisor.frameworks.optax.profiling",
}
__all__ = ["build_optax", "parameters", "profile"]


def __getattr__(name: str) -> Any:
    return lazily("optax", name, _HOMES, {"jax": "pip install jax", "optax": "pip install optax"})


def __dir__() -> list[str]:
    return sorted(__all__)
