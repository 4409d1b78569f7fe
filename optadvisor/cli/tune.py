"""optadvisor tune"""

from __future__ import annotations

import contextlib
import math
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from optuna.exceptions import StorageInternalError

from optadvisor.cli.options import Count, Fixed, Name, Number, Range, Seconds, once, output_format
from optadvisor.cli.printing import Page, print_json
from optadvisor.cli.recommend import settings
from optadvisor.config import HYBRID
from optadvisor.kernels.rules import RULES
from optadvisor.quantities import show_bytes
from optadvisor.studies import plotting
from optadvisor.studies.executors import TrialError
from optadvisor.studies.executors.job import rates
from optadvisor.studies.executors.places import PLACES
from optadvisor.studies.searching import PRUNERS, SAMPLERS
from optadvisor.studies.storage import without_password
from optadvisor.studies.study import OBJECTIVES, Progress, Result, StudyError, Trial
from optadvisor.studies.tasks.task import MAXIMIZE
from optadvisor.tuning import TRIALS, tune

LINE_EVERY = 10.0  # seconds between progress lines in a log
MOST = 5  # failed trials and trade-offs that the page shows


def _listed(known: Mapping[str, str]) -> str:
    return "; ".join(f"{name}, {what}" for name, what in known.items())


@click.command(
    "tune",
    epilog="Example: optadvisor tune digits-mlp --trials 100 --seed 0. A training of your own: "
    "optadvisor tune train.py:objective --set lr=1e-4..1e-1 --fix weight_decay=0.1 --timeout 600",
)
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
    help="Trainings at once, on this machine; 0 leaves all to other workers.  [default: one a core; one of FILE.py's]",
)
@click.option(
    "--executor",
    type=Name(PLACES),
    help="Who trains: this process, it and everyone who joins with `optadvisor worker`, or a Dask cluster.  "
    "[default: workers where --storage is a database server, else local]",
)
@click.option("--scheduler", metavar="ADDRESS", help="Scheduler of the Dask cluster, as tcp://HOST:8786.")
@click.option(
    "--timeout",
    type=Seconds(),
    help="Stop a training of FILE.py:FUNCTION that takes longer; it counts as failed.  [default: never]",
)
@click.option("--steps", type=Count(), help="Updates in a training.  [default: the task's]")
@click.option("--sampler", type=Name(SAMPLERS), help=f"How settings are drawn: {_listed(SAMPLERS)}.  [default: tpe]")
@click.option("--pruner", type=Name(PRUNERS), help=f"Which trainings end early: {_listed(PRUNERS)}.  [default: none]")
@click.option(
    "--set",
    "ranges",
    type=Range(),
    multiple=True,
    help="Search NAME in this range, for all rules that have it: --set lr=1e-4..1e-1; in a hybrid dense.lr.",
)
@click.option(
    "--fix",
    "fixed",
    type=Fixed(),
    multiple=True,
    help="Do not search NAME: --fix weight_decay=0.1, --fix amsgrad=true, --fix betas=0.9,0.95.",
)
@click.option(
    "--objective",
    "objectives",
    type=Name(OBJECTIVES),
    multiple=True,
    help="Minimise this beside the value: --objective steps (to --target), --objective memory.",
)
@click.option("--target", type=Number(), help="The value that --objective steps counts the steps to.")
@click.option(
    "--range-test", is_flag=True, help="Find each rule's scale of lr by short trainings first, and search around it."
)
@click.option(
    "--cold", is_flag=True, help="Start with the advised config of each rule, not with what was learned on other tasks."
)
@click.option("--resume", is_flag=True, help="Go on with the newest study of the task; starts one where there is none.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Draw curves, learning rates and importances: a PNG or SVG file."
)
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
    timeout: float | None,
    steps: int | None,
    sampler: str | None,
    pruner: str | None,
    ranges: tuple[tuple[str, tuple[float, float]], ...],
    fixed: tuple[tuple[str, Any], ...],
    objectives: tuple[str, ...],
    target: float | None,
    range_test: bool,
    cold: bool,
    resume: bool,
    plot: Path | None,
    quiet: bool,
    output: str,
) -> int:
    """Search the best settings for TASK in a real study, and keep the best as its tuned config.

    TASK is the name of a built-in task (optadvisor tasks lists them), or FILE.py:FUNCTION for a training of your own:
    def objective(config, report, seed) that returns the value to minimise.
    """
    if plot:
        plotting.check(plot)
    with running(task, storage, "tune"), progress_of(quiet) as progress:
        result = tune(
            task,
            trials=trials,
            seed=seed,
            optimizers=optimizers,
            storage=storage,
            jobs=jobs,
            timeout=timeout,
            steps=steps,
            sampler=sampler,
            pruner=pruner,
            ranges=once(ranges, "--set"),
            fixed=once(fixed, "--fix"),
            objectives=objectives,
            target=target,
            range_test=range_test or None,
            warm=False if cold else None,
            resume=resume,
            executor=executor,
            scheduler=scheduler,
            progress=progress,
        )
    if plot:
        plotting.draw(result.trials, result.metric, plot)
    if output == "json":
        print_json(result.to_dict())
    else:
        show(result, task)
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
    except TrialError as error:
        raise click.ClickException(f"{error}; finished trials are kept: when it is mended, {again} goes on") from error
    except StudyError as error:
        raise click.ClickException(str(error)) from error
    except (OSError, StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]  # Optuna's own words hide the database's
        raise click.ClickException(
            f"cannot keep the results ({reason}): finished trials are kept. When the storage can be written again, "
            f"go on with: {again}"
        ) from error


@contextlib.contextmanager
def progress_of(quiet: bool, what: str = "trials") -> Iterator[Progress | None]:
    """A bar on a terminal, now and then a line in a log, nothing if quiet. what: is counted."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar(what) as progress:
            yield progress
    else:
        yield _lines(what)


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Progress]:
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
        job, rate = bar.add_task("starting", total=None), Rate(what)

        def progress(done: Sequence[Trial], planned: int) -> None:
            bar.update(job, total=planned, completed=len(done), description=f"{rate(len(done))}, {_best(done)}")

        yield progress


class Rate:
    """Trials a second since the first report, or what else is counted."""

    def __init__(self, what: str) -> None:
        self._what, self._began = what, time.monotonic()

    def __call__(self, done: int) -> str:
        return f"{self._speed(done):.3g} {self._what}/s"

    def left(self, done: int, planned: int) -> str:
        seconds = round((planned - done) / max(self._speed(done), 1e-9))
        return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"

    def _speed(self, done: int) -> float:
        return done / max(time.monotonic() - self._began, 1e-9)


def _lines(what: str) -> Progress:
    last, rate = time.monotonic(), Rate(what)

    def progress(done: Sequence[Trial], planned: int) -> None:
        nonlocal last
        if len(done) == planned or time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            left = f", {rate.left(len(done), planned)} left" if len(done) < planned else ""
            click.echo(f"{len(done)} of {planned} {what}, {rate(len(done))}, {_best(done)}{left}", err=True)

    return progress


def _best(done: Sequence[Trial]) -> str:
    best = min(done, key=lambda trial: trial.record.value)
    return f"best {best.value:.4g} ({best.optimizer})"


def show(result: Result, task: str) -> None:
    """The study for reading: the winner, how the rules did, what to do next. task: as it was typed."""
    page = Page()
    spread = f"{result.value:.4g} +- {result.std:.2g} over {len(result.seeds)} fresh seeds"
    page.line(f"Best: {result.best.optimizer}, {result.metric} {spread}", "bold green")
    if result.metrics:
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in result.metrics.items())
        page.line(f"{figures} (means)", "dim")
    page.heading("Settings")
    page.rows(settings(result.best))
    if len(result.objectives) > 1:
        _trade_offs(page, result)
    better = ", higher is better" if result.direction == MAXIMIZE else ""
    page.heading(f"Best trial of each rule, one seed each ({result.metric}{better})")
    best = {name: _best_of(result, name) for name in dict.fromkeys(trial.optimizer for trial in result.trials)}
    ranked = sorted(best, key=lambda name: best[name].record.value)
    page.rows([(name, _rule_line(result, best[name])) for name in ranked])
    page.heading("Study")
    page.line(f"{result.study}, seed {result.seed}: {_counts(result)} in {result.seconds:.1f} s", indent=2)
    failed = [trial for trial in result.trials if trial.record.failed]
    for trial in failed[:MOST]:
        page.line(f"trial {trial.number} ({rates(trial.record.config)}): {trial.record.message}", "dim", 2, 2)
    if len(failed) > MOST:
        page.line(f"and {len(failed) - MOST} more that failed", "dim", 2)
    page.heading("Next")
    page.rows([(f"optadvisor config {shlex.quote(task)} --framework torch", "the tuned config as PyTorch code")])


def _best_of(result: Result, optimizer: str) -> Trial:
    """The best trial of a rule that ran to its end, or whatever it has."""
    own = [trial for trial in result.trials if trial.optimizer == optimizer]
    return min(own, key=lambda trial: (trial.record.state != "complete", trial.record.value))


def _rule_line(result: Result, best: Trial) -> str:
    count = sum(trial.optimizer == best.optimizer for trial in result.trials)
    after = f"after {count} trial{'' if count == 1 else 's'}"
    if best.record.state != "complete":
        return f"{best.record.state} {after}"
    rate = rates(best.record.config).removeprefix(f"{best.optimizer}, ")
    return f"{best.value:.4f} at {rate} {after}"


def _counts(result: Result) -> str:
    states = [trial.record.state for trial in result.trials]
    parts = [f"{states.count('diverged')} diverged"]
    parts += [f"{states.count(state)} {state}" for state in ("pruned", "failed") if state in states]
    return f"{len(states)} trials ({', '.join(parts)}) and {result.runs - len(states)} confirmation runs"


def _trade_offs(page: Page, result: Result) -> None:
    """The trials that no other one beats in all objectives, as a table."""
    names = [result.metric if name == "value" else name for name in result.objectives]
    table = [["trial", *names, "optimizer"]]
    for trial, values in result.pareto[:MOST]:
        cells = [
            show_bytes(int(value)) if name == "memory" else f"{value:.4g}" if math.isfinite(value) else "never"
            for name, value in zip(result.objectives, values, strict=True)
        ]
        table.append([str(trial.number), *cells, rates(trial.record.config)])
    page.heading(f"Trade-offs: {len(result.pareto)} trials that no other one beats in all of {_and(names)}")
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        page.line("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(), indent=2)
    if len(result.pareto) > MOST:
        page.line(f"and {len(result.pareto) - MOST} more: --format json has them all", "dim", 2)


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
