"""Where the trainings of a study run: threads, processes of this machine, workers on other machines."""

from optadvisor.studies.executors.job import Executor, Job, TrialError, attempt

__all__ = ["Executor", "Job", "TrialError", "attempt"]
