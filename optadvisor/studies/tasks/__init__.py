"""Built-in training tasks."""

from typing import TYPE_CHECKING, Any

from optadvisor.studies.tasks.task import Task, TrialRecord

if TYPE_CHECKING:
    from optadvisor.studies.tasks.registry import get, sample

__all__ = ["Task", "TrialRecord", "get", "sample"]


def __getattr__(name: str) -> Any:
    if name in ("get", "sample"):
        from optadvisor.studies.tasks import registry

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
