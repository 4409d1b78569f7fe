"""optadvisor worker"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

import click
from optuna.exceptions import StorageInternalError

from optadvisor.cli.options import Count, output_format
from optadvisor.cli.printing import print_json
from optadvisor.studies.database import reason
from optadvisor.working import work

LINE_EVERY = 10.0  # seconds between progress lines


@click.command(
    "worker",
    epilog="Example: optadvisor worker --storage postgresql+psycopg://me@db.example/studies --study digits-mlp",
)
@click.option("--storage", required=True, help="URL of the database that tune was given.")
@click.option(
    "--study",
    required=True,
    help="Name of the study (digits-mlp#3), or of a task, for its newest study that runs; outcomes for a table of "
    "learn build. Waits for one to begin.",
)
@click.option("--jobs", type=Count(), help="Trainings at once.  [default: one a core]")
@click.option(
    "--idle",
    type=click.FloatRange(min=0.0),
    metavar="SECONDS",
    help="Leave after so long without a training.  [default: leave when the study ends]",
)
@click.option("--quiet", is_flag=True, help="No progress.")
@output_format
def command(storage: str, study: str, jobs: int | None, idle: float | None, quiet: bool, output: str) -> int:
    """Train for a study that `optadvisor tune --storage URL`, or for a table that `optadvisor learn build --storage
    URL` runs on another machine, until it ends.

    May be started before the study, and on any number of machines. Ctrl-C and SIGTERM give running trainings back;
    those of a worker that dies are done again by another one.
    """
    with _terminable(), _explained():
        done = work(storage, study, jobs=jobs, idle=idle, progress=None if quiet else _lines())
    if output == "json":
        print_json(done.to_dict())
    elif done.study is None:
        click.echo(f"no study {study} that runs in {idle:g} s" if idle is not None else f"{study} has ended")
    else:
        click.echo(f"{done.study}: {done.jobs} trainings in {done.seconds:.1f} s")
    return 0


def _lines() -> Callable[[str, int], None]:
    last = time.monotonic()

    def progress(study: str, jobs: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            click.echo(f"{study}: {jobs} trainings", err=True)

    return progress


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted: trainings that ran are left to other workers.", err=True)
        raise click.exceptions.Exit(1) from None
    except StorageInternalError as error:
        raise click.ClickException(
            f"the storage does not answer ({reason(error)}): finished trainings are kept. Start the worker again when "
            "the storage is back"
        ) from error


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, with which batch systems end a job, as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
