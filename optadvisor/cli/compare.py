"""optadvisor compare"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import click

from optadvisor.cli.options import Count, Name, output_format
from optadvisor.cli.printing import Page, print_json
from optadvisor.cli.tune import progress_of, running
from optadvisor.config import HYBRID
from optadvisor.kernels.rules import RULES
from optadvisor.studies.plan import EQUAL
from optadvisor.studies.study import Result, Standing
from optadvisor.tuning import resolve, tune

TRIALS = 16  # a rule


@click.command("compare", epilog="Example: optadvisor compare digits-mlp --trials 16 --plot race.png")
@click.argument("task")
@click.option(
    "--optimizer",
    "optimizers",
    multiple=True,
    type=Name([*RULES, HYBRID]),
    help="Race these only; may be given more than once.  [default: the dense rules, and what the advice names]",
)
@click.option("--trials", type=Count(), default=TRIALS, show_default=True, help="Search trials of each rule.")
@click.option("--seed", type=Count(0), help="Seed of the race.  [default: 0]")
@click.option("--storage", help="Optuna storage URL, or a journal file.  [default: a journal in the data folder]")
@click.option("--jobs", type=Count(), help="Trainings at once.  [default: one a core]")
@click.option("--steps", type=Count(), help="Updates in a training.  [default: the task's]")
@click.option("--resume", is_flag=True, help="Go on with the newest race of the task.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the race: a PNG or SVG file.")
@click.option("--quiet", is_flag=True, help="No progress.")
@output_format
def command(
    task: str,
    optimizers: tuple[str, ...],
    trials: int,
    seed: int | None,
    storage: str | None,
    jobs: int | None,
    steps: int | None,
    resume: bool,
    plot: Path | None,
    quiet: bool,
    output: str,
) -> int:
    """Race the rules on TASK: the same number of trials for each, its best config on the same fresh seeds.

    A rule whose interval of the difference to the winner holds zero is as good as the winner, as far as the seeds tell.
    """
    if plot:
        from optadvisor.studies.plotting import check

        check(plot)
    from optadvisor.tuning import contestants

    found = resolve(task)
    chosen = contestants(found, optimizers)
    with running(task, storage, "compare"), progress_of(quiet) as progress:
        result = tune(
            found,
            trials=trials * len(chosen),
            seed=seed,
            optimizers=chosen,
            storage=storage,
            jobs=jobs,
            steps=steps,
            resume=resume,
            allocation=EQUAL,
            progress=progress,
        )
    if plot:
        from optadvisor.studies.plotting import draw

        draw(result.trials, result.metric, plot, result.standings)
    if output == "json":
        print_json(to_dict(result))
    else:
        show(result)
    return 0


def to_dict(result: Result) -> dict[str, Any]:
    """The JSON of `optadvisor compare`."""
    first = result.standings[0]
    return {
        "task": result.task,
        "study": result.study,
        "trials": len(result.trials),
        "runs": result.runs,
        "seconds": result.seconds,
        "seed": result.seed,
        "seeds": result.seeds,
        "direction": result.direction,
        "standings": [
            {
                "optimizer": s.optimizer,
                "value": _none(statistics.fmean(s.shown)),
                "interval": [_none(end) for end in interval(s.shown)],
                "behind": [_none(end) for end in behind(s, first)] if s is not first else None,
                "values": [_none(value) for value in s.shown],
                "config": s.trial.record.config.to_dict(),
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


def show(result: Result) -> None:
    page, first = Page(), result.standings[0]
    seeds = len(result.seeds)
    page.line(
        f"{result.task}: {result.metric} of each rule's best config, mean of {seeds} fresh seeds (95% interval)", "bold"
    )
    page.line()
    wide = max(len(s.optimizer) for s in result.standings)
    for standing in result.standings:
        if not math.isfinite(standing.mean):
            text = "diverged on a fresh seed"
        else:
            low, high = interval(standing.shown)
            text = f"{statistics.fmean(standing.shown):<9.4g} ({low:.4g} to {high:.4g})"
            if standing is not first:
                low, high = behind(standing, first)
                text += "  level with the winner" if low <= 0 <= high else f"  behind by {low:.2g} to {high:.2g}"
        lr = standing.trial.record.config
        rate = "" if lr.optimizer == HYBRID else f"  lr {lr.hyperparameters['lr']:.2g}"
        page.line(f"{standing.optimizer:<{wide}}  {text}{rate}", indent=2, hang=wide + 2)
    page.line()
    page.line(f"{result.study}, seed {result.seed}: {result.runs} trainings in {result.seconds:.1f} s", "dim")
