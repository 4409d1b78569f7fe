"""optadvisor tune"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click
from optuna.exceptions import StorageInternalError

from optadvisor.cli.options import Count, Name, output_format
from optadvisor.cli.printing import Page, print_json
from optadvisor.cli.recommend import settings
from optadvisor.config import HYBRID
from optadvisor.kernels.rules import RULES
from optadvisor.studies.executors import JobError
from optadvisor.studies.executors.places import PLACES
from optadvisor.studies.storage import without_password
from optadvisor.studies.study import Progress, Result, StudyError, Trial
from optadvisor.studies.tasks import registry
from optadvisor.tuning import TRIALS, tune

LINE_EVERY = 10.0  # seconds between progress lines in a log


@click.command("tune", epilog="Example: optadvisor tune digits-mlp --trials 100 --seed 0")
@click.argument("task")
@click.option(
    "--optimizer",
    "optimizers",
    multiple=True,
    type=Name([*RULES, HYBRID]),
    help="Search this rule only; may be given more than once.  [default: the dense rules, in the order of the advice]",
)
@click.option("--trials", type=Count(), help=f"Search trials over all rules together.  [default: {TRIALS}]")
@click.option(
    "--seed",
    type=Count(0),
    help="Seed of the whole study: the same seed gives the same trials.  [default: 0]",
)
@click.option("--storage", help="Optuna storage URL, or a journal file.  [default: a journal in the data folder]")
@click.option(
    "--jobs",
    type=Count(0),
    help="Trainings at once, in this process; 0 leaves all to other workers.  [default: one a core]",
)
@click.option(
    "--executor",
    type=Name(PLACES),
    help="Who trains: this process, it and everyone who joins with `optadvisor worker`, or a Dask cluster.  "
    "[default: workers where --storage is a database server, else local]",
)
@click.option("--scheduler", metavar="ADDRESS", help="Scheduler of the Dask cluster, as tcp://HOST:8786.")
@click.option("--steps", type=Count(), help="Updates in a training.  [default: the task's]")
@click.option("--resume", is_flag=True, help="Go on with the newest study of the task; starts one where there is none.")
@click.option("--quiet", is_flag=True, help="No progress.")
@output_format
def command(
    task: str,
    optimizers: tuple[str, ...],
    trials: int | None,
    seed: int | None,
    storage: str | None,
    jobs: int | None,
    executor: str | None,
    scheduler: str | None,
    steps: int | None,
    resume: bool,
    quiet: bool,
    output: str,
) -> int:
    """Search the best settings for TASK in a real study, and keep the best as its tuned config.

    TASK is the name of a built-in task (optadvisor tasks lists them).
    """
    with running(task, storage, "tune"), progress_of(quiet) as progress:
        result = tune(
            task,
            trials=trials,
            seed=seed,
            optimizers=optimizers,
            storage=storage,
            jobs=jobs,
            steps=steps,
            resume=resume,
            executor=executor,
            scheduler=scheduler,
            progress=progress,
        )
    if output == "json":
        print_json(result.to_dict())
    else:
        show(result)
    return 0


@contextlib.contextmanager
def running(task: str, storage: str | None, name: str) -> Iterator[None]:
    """What ends a study early, in one line that says how to go on."""
    where = f" --storage {shlex.quote(without_password(storage))}" if storage else ""
    again = f"optadvisor {name} {shlex.quote(task)}{where} --resume"
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"Interrupted: finished trials are kept. Go on with: {again}", err=True)
        raise click.exceptions.Exit(1) from None
    except (StudyError, JobError) as error:
        raise click.ClickException(str(error)) from error
    except (OSError, StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]  # Optuna's own words hide the database's
        raise click.ClickException(
            f"cannot keep the results ({reason}): finished trials are kept. When the storage can be written again, "
            f"go on with: {again}"
        ) from error


@contextlib.contextmanager
def progress_of(quiet: bool) -> Iterator[Progress | None]:
    """A bar on a terminal, now and then a line in a log, nothing if quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar() as progress:
            yield progress
    else:
        yield _lines()


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns: list[Any] = [
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    ]
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        job = bar.add_task("compiling", total=None)

        def progress(done: Sequence[Trial], planned: int) -> None:
            bar.update(job, total=planned, completed=len(done), description=_best(done))

        yield progress


def _lines() -> Progress:
    last = time.monotonic()

    def progress(done: Sequence[Trial], planned: int) -> None:
        nonlocal last
        if len(done) == planned or time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            click.echo(f"{len(done)} of {planned} trials, {_best(done)}", err=True)

    return progress


def _best(done: Sequence[Trial]) -> str:
    best = min(done, key=lambda trial: trial.record.value)
    return f"best {best.record.value:.4g} ({best.optimizer})"


def show(result: Result) -> None:
    """The study for reading: the winner, how the rules did, what to do next."""
    page, task = Page(), registry.get(result.task)
    spread = f"{result.value:.4g} +- {result.std:.2g} over {len(result.seeds)} fresh seeds"
    page.line(f"Best: {result.best.optimizer}, {task.metric} {spread}", "bold green")
    figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in result.metrics.items())
    page.line(f"{figures} (means)", "dim")
    page.heading("Settings")
    page.rows(settings(result.best))
    page.heading(f"Best trial of each rule, one seed each ({task.metric})")
    names = sorted({t.optimizer for t in result.trials}, key=lambda n: min(_values(result, n)))
    page.rows([(name, _rule_line(result, name)) for name in names])
    page.heading("Study")
    diverged = sum(trial.record.diverged for trial in result.trials)
    counts = (
        f"{len(result.trials)} trials ({diverged} diverged) and {result.runs - len(result.trials)} confirmation runs"
    )
    page.line(f"{result.study}, seed {result.seed}: {counts} in {result.seconds:.1f} s", indent=2)
    page.heading("Next")
    page.rows([(f"optadvisor config {result.task} --framework torch", "the tuned config as PyTorch code")])


def _values(result: Result, optimizer: str) -> list[float]:
    return [trial.record.value for trial in result.trials if trial.optimizer == optimizer]


def _rule_line(result: Result, optimizer: str) -> str:
    best = min((t for t in result.trials if t.optimizer == optimizer), key=lambda t: t.record.value)
    count = len(_values(result, optimizer))
    return (
        f"{best.record.value:.4f} at lr {best.record.config.hyperparameters['lr']:.2g} after {count} "
        f"trial{'' if count == 1 else 's'}"
    )
