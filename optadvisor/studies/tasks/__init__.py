"""Built-in training tasks."""

from optadvisor.studies.tasks.task import Task, TrialRecord

__all__ = ["Task", "TrialRecord"]
