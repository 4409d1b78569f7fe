"""optadvisor learn"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from optuna.exceptions import StorageInternalError

from optadvisor.cli import own
from optadvisor.cli.options import Count
from optadvisor.files import home
from optadvisor.studies import outcomes
from optadvisor.studies.database import reason
from optadvisor.studies.executors import TrialError

LINE_EVERY = 10.0  # seconds between progress lines in a log


@click.group("learn", epilog="Example: optadvisor learn build --tasks 156")
def command() -> None:
    """What the advisor learns from: many sampled tasks, and studies of your own."""


for _own in (own.add, own.show, own.forget):
    command.add_command(_own)


@command.command("build", epilog="Example: optadvisor learn build --tasks 156")
@click.option(
    "--tasks", type=Count(), default=156, show_default=True, help="Every family, large and long ones, then variants."
)
@click.option("--configs", type=Count(2), default=64, show_default=True, help="Configs of each rule.")
@click.option("--seeds", type=Count(), default=2, show_default=True, help="Seeds of each config, the same for all.")
@click.option("--seed", type=Count(0), default=0, show_default=True, help="Of the sample and of everything in it.")
@click.option("--folder", type=click.Path(path_type=Path), help="Of the table.  [default: outcomes in the data folder]")
@click.option(
    "--jobs", type=Count(0), help="Trainings at once, on this machine; 0 leaves all to workers.  [default: one a core]"
)
@click.option(
    "--storage",
    help="URL of a database: whoever joins with `optadvisor worker --storage URL --study outcomes` trains too.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Scheduler of a Dask cluster that trains, as tcp://HOST:8786.")
@click.option("--quiet", is_flag=True, help="No progress.")
def build(
    tasks: int,
    configs: int,
    seeds: int,
    seed: int,
    folder: Path | None,
    jobs: int | None,
    storage: str | None,
    scheduler: str | None,
    quiet: bool,
) -> None:
    """Train every rule with one list of configs on sampled tasks. Goes on where it was interrupted."""
    chosen = outcomes.chosen(tasks, seed)
    table = outcomes.Table.open(folder or home() / "outcomes", outcomes.Sheet(configs, seeds, seed))
    began, last = time.monotonic(), 0.0
    with_bar = sys.stderr.isatty()

    def progress(at: outcomes.Progress) -> None:
        nonlocal last
        if quiet or (at.tasks < at.of_tasks and time.monotonic() - last < (0.1 if with_bar else LINE_EVERY)):
            return
        last = time.monotonic()
        line = (
            f"{at.tasks} of {at.of_tasks} tasks, {at.trainings:,} of {at.of_trainings:,} trainings, "
            f"{at.rate:.0f} a second, {_time(at.left)} left"
        )
        click.echo(f"\r\x1b[K{line}" if with_bar else line, err=True, nl=not with_bar)

    try:
        table.run(chosen, jobs, progress, storage, scheduler)
    except KeyboardInterrupt:
        click.echo("Interrupted: finished tasks are kept; the same command goes on.", err=True)
        raise click.exceptions.Exit(1) from None
    except TrialError as error:
        raise click.ClickException(f"{error}; finished tasks are kept: the same command goes on") from error
    except (OSError, StorageInternalError) as error:
        raise click.ClickException(
            f"cannot keep the outcomes ({reason(error)}): finished tasks are kept. When the storage can be written "
            "again, the same command goes on"
        ) from error
    if with_bar and not quiet:
        click.echo("", err=True)
    count = sum(table.sheet.trainings(task) for task in chosen)
    click.echo(
        f"{table.folder}: {len(chosen)} tasks, {count:,} trainings ({_time(time.monotonic() - began)} in this run)"
    )


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
