"""optadvisor compare"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from optadvisor.advisor import Recommendation, recommend
from optadvisor.cli.options import Count, Name, Seconds, output_format
from optadvisor.cli.printing import Page, print_json
from optadvisor.cli.recommend import title
from optadvisor.cli.tune import progress_of, running
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.files import check_writable
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.rules import RULES
from optadvisor.studies.confirming import Standing
from optadvisor.studies.executors import TrialError
from optadvisor.studies.executors.job import rates
from optadvisor.studies.plan import EQUAL
from optadvisor.studies.study import Result, StudyError
from optadvisor.studies.tasks import Task
from optadvisor.tuning import contestants, race, resolve, tune

TRIALS = 16  # a rule


@click.command(
    "compare",
    epilog="Example: optadvisor compare digits-mlp --trials 16 --plot race.png. The first three configs of the advice: "
    "optadvisor compare train.py:objective --advised 3 --save best.json",
)
@click.argument("task")
@click.option(
    "--optimizer",
    "optimizers",
    multiple=True,
    type=Name([*RULES, HYBRID]),
    help="Race these only; may be given more than once.  [default: the dense rules, and what the advice names]",
)
@click.option("--trials", type=Count(), help=f"Search trials of each rule.  [default: {TRIALS}]")
@click.option(
    "--advised",
    type=Count(),
    metavar="K",
    help="Race the first K configs that recommend names for the task, as they are: no search, and no study is kept.",
)
@click.option("--seed", type=Count(0), help="Seed of the race.  [default: 0]")
@click.option("--storage", help="Optuna storage URL, or a journal file.  [default: a journal in the data folder]")
@click.option("--jobs", type=Count(), help="Trainings at once.  [default: one a core; one of FILE.py's]")
@click.option(
    "--timeout",
    type=Seconds(),
    help="Stop a training of FILE.py:FUNCTION that takes longer; it counts as failed.  [default: never]",
)
@click.option("--steps", type=Count(), help="Updates in a training.  [default: the task's]")
@click.option("--resume", is_flag=True, help="Go on with the newest race of the task.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the race: a PNG or SVG file.")
@click.option("--save", type=click.Path(path_type=Path), help="Write the winner's config to this JSON file.")
@click.option("--quiet", is_flag=True, help="No progress.")
@output_format
def command(
    task: str,
    optimizers: tuple[str, ...],
    trials: int | None,
    advised: int | None,
    seed: int | None,
    storage: str | None,
    jobs: int | None,
    timeout: float | None,
    steps: int | None,
    resume: bool,
    plot: Path | None,
    save: Path | None,
    quiet: bool,
    output: str,
) -> int:
    """Race the rules on TASK: the same number of trials for each, its best config on the same fresh seeds.

    With --advised K: the first K configs of the advice for TASK on the same fresh seeds, without a search. What has
    finished before an interruption is not kept then.

    Who is level with the winner is as good, as far as the seeds tell: the interval of the difference, seed by seed,
    holds zero.
    """
    if save:
        _check_file(save)
    if advised is not None:
        search = {
            "--optimizer": optimizers,
            "--trials": trials,
            "--storage": storage,
            "--resume": resume,
            "--plot": plot,
        }
        _check_advised([option for option, value in search.items() if value])
        found = resolve(task)
        entries = _entries(found, advised, steps)
        configs = [entry.config for entry in entries]
        with _nothing_kept(), progress_of(quiet, "trainings") as progress:
            result = race(found, configs, seed=seed or 0, jobs=jobs, timeout=timeout, steps=steps, progress=progress)
        ranks = [entry.rank for entry in entries]
    else:
        ranks = []
        options = {"seed": seed, "storage": storage, "jobs": jobs, "timeout": timeout, "steps": steps, "resume": resume}
        result = _searched(task, optimizers, trials, plot, quiet, **options)
    if output == "json":
        print_json(to_dict(result, ranks))
    else:
        show(result, ranks)
    if save:
        result.best.to_json(save)
    return 0


def _searched(
    task: str,
    optimizers: Sequence[str],
    trials: int | None,
    plot: Path | None,
    quiet: bool,
    **options: Any,
) -> Result:
    """Every rule searched under the same budget."""
    if plot:
        from optadvisor.studies.plotting import check

        check(plot)
    found = resolve(task)
    chosen = contestants(found, optimizers)
    with running(task, options["storage"], "compare"), progress_of(quiet) as progress:
        result = tune(
            found,
            trials=(trials or TRIALS) * len(chosen),
            optimizers=chosen,
            allocation=EQUAL,
            progress=progress,
            **options,
        )
    if plot:
        from optadvisor.studies.plotting import draw

        draw(result.trials, result.metric, plot, result.standings)
    return result


def _check_advised(given: Sequence[str]) -> None:
    """InputError for options that are about a search."""
    if given:
        raise InputError(
            f"--advised trains the advised configs as they are, without a search or a study: leave out {', '.join(given)}"
        )


def _check_file(path: Path) -> None:
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise InputError(f"--save is {str(path)!r}; it takes a file in a folder that is there, such as best.json")
    check_writable(folder, "give --save another folder")


def _entries(task: Task, count: int, steps: int | None) -> list[Recommendation]:
    """The first `count` configs of the advice, without those that the task refuses, which are told on stderr."""
    advice = recommend(task.profile if steps is None else replace(task.profile, steps=steps), count)
    if len(advice) < count:
        click.echo(f"The advice has only {len(advice)} distinct configs for {task.name}, not {count}", err=True)
    found = []
    for entry in advice:
        reason = task.refuses(entry.optimizer, entry.config.batch)
        if reason:
            click.echo(f"Left out {entry.rank}. {title(entry)}: {task.name} refuses it, {reason}", err=True)
        else:
            found.append(entry)
    if not found:
        raise InputError(f"{task.name} can be trained with none of the first {count} advised configs: advise more")
    return found


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    """What ends a race of given configs early, in one line: there is nothing to go on with."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted: a race of advised configs keeps nothing; the same command starts it anew", err=True)
        raise click.exceptions.Exit(1) from None
    except (TrialError, StudyError) as error:
        raise click.ClickException(str(error)) from error


def to_dict(result: Result, ranks: Sequence[int] = ()) -> dict[str, Any]:
    """The JSON of `optadvisor compare`. ranks: of advised configs, their places in the advice."""
    first = result.standings[0]
    return {
        "task": result.task,
        "study": result.study,
        "trials": len(result.trials),
        "runs": result.runs,
        "seconds": result.seconds,
        "seed": result.seed,
        "seeds": result.seeds,
        "metric": result.metric,
        "direction": result.direction,
        "standings": [
            {
                **({"rank": ranks[s.number]} if ranks else {}),
                "optimizer": s.optimizer,
                "value": _none(s.value),
                "interval": [_none(end) for end in interval(s.shown)],
                "behind": [_none(end) for end in behind(s, first)] if s is not first else None,
                "values": [_none(value) for value in s.shown],
                "config": s.config.to_dict(),
            }
            for s in result.standings
        ],
    }


def interval(values: list[float]) -> tuple[float, float]:
    """The 95% interval of the mean (Student's t)."""
    if not all(math.isfinite(value) for value in values):
        return math.inf, math.inf
    from scipy.stats import t

    mean = statistics.fmean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def behind(standing: Standing, first: Standing) -> tuple[float, float]:
    """The 95% interval of how much worse than the winner it is, seed by seed: the seeds are the same for both."""
    return interval([a - b for a, b in zip(standing.values, first.values, strict=True)])


def _none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def show(result: Result, ranks: Sequence[int] = ()) -> None:
    """The table. ranks: of advised configs, their places in the advice."""
    page, first = Page(), result.standings[0]
    what = "each advised config" if ranks else "each rule's best config"
    page.line(
        f"{result.task}: {result.metric} of {what}, mean of {len(result.seeds)} fresh seeds (95% interval)", "bold"
    )
    page.line()
    names = [f"{ranks[s.number]}. {s.optimizer}" if ranks else s.optimizer for s in result.standings]
    wide = max(map(len, names))
    for name, standing in zip(names, result.standings, strict=True):
        if not math.isfinite(standing.mean):
            text = f"{_state(standing)} on a fresh seed"
        else:
            low, high = interval(standing.shown)
            text = f"{standing.value:<9.4g} ({low:.4g} to {high:.4g})"
            if standing is not first:
                low, high = behind(standing, first)
                text += "  level with the winner" if low <= 0 <= high else f"  behind by {low:.2g} to {high:.2g}"
        page.line(f"{name:<{wide}}  {text}  {_settings(standing.config)}", indent=2, hang=wide + 2)
    page.line()
    study = f"{result.study}, " if result.study else ""
    page.line(f"{study}seed {result.seed}: {result.runs} trainings in {result.seconds:.1f} s", "dim")


def _state(standing: Standing) -> str:
    """diverged, or failed: its process died or took too long."""
    return next(record.state for record in standing.records if record.diverged)


def _settings(config: OptimizerConfig) -> str:
    """What tells configs of one rule apart."""
    schedule = config.schedule["name"]
    parts = [rates(config).removeprefix(f"{config.optimizer}, ")]
    parts += ["full batch"] if config.batch == "full" else []
    parts += [schedule] if schedule != "constant" else []
    return ", ".join(parts)
