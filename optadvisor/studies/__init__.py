"""Automated hyperparameter studies: tasks, search spaces, the study loop, storage, results."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optadvisor.studies.results import load_config

__all__ = ["load_config"]


def __getattr__(name: str) -> Any:
    if name == "load_config":
        from optadvisor.studies.results import load_config

        return load_config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
