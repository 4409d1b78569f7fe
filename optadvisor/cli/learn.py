"""optadvisor learn"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from optadvisor.cli import own
from optadvisor.cli.options import Count, output_format
from optadvisor.cli.printing import print_json
from optadvisor.files import home, read_json, write_whole

LINE_EVERY = 10.0  # seconds between progress lines in a log


@click.group("learn", epilog="Example: optadvisor learn build --tasks 156")
def command() -> None:
    """What the advisor learns from: many sampled tasks, and studies of your own."""


for _own in (own.add, own.show, own.forget):
    command.add_command(_own)


_folder = click.option(
    "--folder", type=click.Path(path_type=Path), help="Of the table.  [default: outcomes in the data folder]"
)


@command.command("build", epilog="Example: optadvisor learn build --tasks 156")
@click.option(
    "--tasks", type=Count(), default=156, show_default=True, help="Every family, large and long ones, then variants."
)
@click.option("--configs", type=Count(2), default=64, show_default=True, help="Configs of each rule.")
@click.option("--seeds", type=Count(), default=2, show_default=True, help="Seeds of each config, the same for all.")
@click.option("--seed", type=Count(0), default=0, show_default=True, help="Of the sample and of everything in it.")
@_folder
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
    from optuna.exceptions import StorageInternalError

    from optadvisor.studies import outcomes
    from optadvisor.studies.database import reason
    from optadvisor.studies.executors import TrialError

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


@command.command("fit", epilog="Example: optadvisor learn fit --folder outcomes --out knowledge.npz")
@_folder
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write: .npz, NumPy's format.")
def fit(folder: Path | None, out: Path) -> None:
    """From a table of outcomes to the knowledge that recommend and tune read."""
    from optadvisor.advisor import knowledge
    from optadvisor.advisor.learning import dataset
    from optadvisor.advisor.learning.fit import knowledge as learned
    from optadvisor.studies import outcomes

    began = time.monotonic()
    found = learned(dataset.read(outcomes.Table.open(folder or home() / "outcomes")))
    knowledge.save(found, out)
    click.echo(
        f"{out}: {len(found.rows)} tasks, {len(found.candidates)} configs, {out.stat().st_size / 1000:.0f} kB "
        f"({_time(time.monotonic() - began)})"
    )


@command.command("evaluate", epilog="Example: optadvisor learn evaluate --page docs/advice.md")
@_folder
@click.option("--page", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Fill this page's tables.")
@click.option("--pictures", type=click.Path(path_type=Path, file_okay=False), help="Draw the pictures in this folder.")
@click.option("--quiet", is_flag=True, help="No progress.")
@output_format
def evaluate(folder: Path | None, page: Path | None, pictures: Path | None, quiet: bool, output: str) -> None:
    """How good the advice is on families it never saw, from a table of outcomes: every figure of docs/advice.md.

    What was trained for it is kept beside the table: another evaluation takes a minute or two.
    """
    from optadvisor.advisor.learning import dataset
    from optadvisor.advisor.learning import page as pages
    from optadvisor.advisor.learning.evaluate import evaluate as judged
    from optadvisor.advisor.learning.judge import Judge
    from optadvisor.studies import outcomes

    table = outcomes.Table.open(folder or home() / "outcomes")
    data = dataset.read(table)
    kept = table.folder / "trained.json"
    judge = Judge(data, read_json(kept, "trainings of an evaluation") if kept.exists() else None)
    began = time.monotonic()
    try:
        report = judged(data, judge, lambda text: None if quiet else click.echo(text, err=True))
    finally:
        write_whole(kept, json.dumps(judge.trained))
    if page:
        pages.fill(report, page)
    if pictures:
        pages.pictures(report, pictures)
    if output == "json":
        print_json(pages.to_dict(report))
    else:
        click.echo(pages.text(report))
        click.echo(f"{len(data)} tasks of {len(set(data.families))} families ({_time(time.monotonic() - began)})")


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
