"""Where the trainings of a study run, by name: in this process, by workers, on a Dask cluster."""

from __future__ import annotations

from optadvisor.kernels.errors import InputError, unknown
from optadvisor.studies.database import is_database, is_server

LOCAL, WORKERS, DASK = "local", "workers", "dask"
PLACES = {
    LOCAL: "this process",
    WORKERS: "everyone who joins with `optadvisor worker`, and this process",
    DASK: "the Dask cluster of --scheduler",
}


def choose(name: str | None, scheduler: str | None, storage: str | None, jobs: int | None) -> str:
    """The name of the executor. By default workers where other machines can reach the storage, else this process."""
    chosen = name or (WORKERS if is_server(storage) else LOCAL)
    if chosen not in PLACES:
        raise unknown("executor", chosen, PLACES)
    if chosen == WORKERS and not is_database(storage):
        raise InputError(
            "workers take their jobs from a database: give --storage postgresql+psycopg://USER@HOST/NAME, "
            "or leave the work to this process"
        )
    if (chosen == DASK) != (scheduler is not None):
        raise InputError("--executor dask and --scheduler ADDRESS go together: give both, or neither")
    if chosen == DASK and jobs is not None:
        raise InputError("a Dask cluster decides how many trainings run at once: leave out --jobs")
    return chosen


def check_pruner(place: str, pruner: str) -> None:
    """InputError where the trainings' reports would not reach the pruner."""
    if place != LOCAL and pruner != "none":
        raise InputError(
            f"pruner {pruner!r} needs the reports of trainings in this process: "
            "give --executor local, or leave out --pruner"
        )
