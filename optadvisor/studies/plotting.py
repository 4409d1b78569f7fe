"""A picture of a study: learning curves, sensitivity to the learning rate, importance of what was searched."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optadvisor.kernels.errors import InputError
from optadvisor.studies.tasks.task import shown as as_counted

if TYPE_CHECKING:
    from optadvisor.studies.confirming import Standing
    from optadvisor.studies.study import Trial

SUFFIXES = (".png", ".svg")
FEW = 12  # trials of a rule under which importances would be noise


def check(path: Path) -> None:
    """InputError, before any work, for a file that could not be drawn."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot is {str(path)!r}; it takes a file that ends in {' or '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--plot is {str(path)!r}: there is no folder {path.absolute().parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib: pip install matplotlib")


def importances(
    trials: Sequence[Trial], points: dict[int, tuple[dict[str, float], dict[str, Any]]]
) -> dict[str, float]:
    """How much of the value's variation each searched axis explains (Optuna's PED-ANOVA); {} for few trials."""
    import optuna

    done = [trial for trial in trials if trial.record.state == "complete"]
    if len(done) < FEW:
        return {}
    study = optuna.create_study()
    for trial in done:
        params, distributions = points[trial.number]
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=trial.record.value))
    return optuna.importance.get_param_importances(study)


def draw(trials: Sequence[Trial], metric: str, path: Path, standings: Sequence[Standing] = ()) -> None:
    """Write the picture: PNG or SVG by the suffix of `path`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from optadvisor.studies.space import Space

    names = list(dict.fromkeys(trial.optimizer for trial in trials))
    colours = {name: f"C{i % 10}" for i, name in enumerate(names)}
    figure, (curves, rates, weights) = pyplot.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    done = [trial for trial in trials if trial.record.state == "complete"]
    best = {n: min((t for t in done if t.optimizer == n), key=lambda t: t.record.value, default=None) for n in names}
    ranked = sorted((n for n in names if best[n]), key=lambda n: best[n].record.value)  # type: ignore[union-attr]
    for name in ranked:
        trial = best[name]
        assert trial is not None
        points = [
            (step, as_counted(value, trial.direction)) for step, value in trial.record.curve if math.isfinite(value)
        ]
        if points:
            curves.plot(*zip(*points, strict=True), marker=".", label=name, color=colours[name])
        own = [t for t in done if t.optimizer == name]
        if name != "hybrid":
            x = [t.record.config.hyperparameters["lr"] for t in own]
            rates.scatter(x, [t.value for t in own], s=12, label=name, color=colours[name])
    curves.set(xlabel="steps", ylabel=metric, title="best trial of each rule")
    if curves.lines:  # a person's function need not report any
        curves.legend(fontsize=7)
    values = sorted(t.record.value for t in done)
    if values:
        worst = values[int(0.8 * (len(values) - 1))]
        margin = 0.05 * (worst - values[0] or 1)
        rates.set_ylim(*sorted(as_counted(end, done[0].direction) for end in (values[0] - margin, worst + margin)))
    rates.set(xscale="log", xlabel="learning rate", ylabel=metric, title="every trial (the worst fifth cut off)")
    _bars(weights, trials, standings, ranked, colours, metric, Space)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _bars(
    axes: Any,
    trials: Sequence[Trial],
    standings: Sequence[Standing],
    ranked: Sequence[str],
    colours: dict[str, str],
    metric: str,
    space: Any,
) -> None:
    """Of a race the standings with their seeds, else what mattered among the leading rule's settings."""
    if standings:
        shown = [s for s in standings if math.isfinite(s.mean)]
        for i, standing in enumerate(reversed(shown)):
            axes.plot(standing.shown, [i] * len(standing.shown), ".", color=colours[standing.optimizer], alpha=0.5)
            axes.plot([standing.value], [i], "D", color=colours[standing.optimizer])
        axes.set_yticks(range(len(shown)), [s.optimizer for s in reversed(shown)])
        axes.set(xlabel=metric, title="best configs on fresh seeds")
        return
    for name in ranked:
        own = [t for t in trials if t.optimizer == name]
        schedules = tuple(dict.fromkeys(t.record.config.schedule["name"] for t in own))
        whole = replace(space.of(name), schedules=schedules)
        points = {t.number: (whole.encode(t.record.config), whole.distributions()) for t in own}
        found = importances(own, points)
        if found:
            axes.barh(list(found)[::-1], list(found.values())[::-1], color=colours[name])
            axes.set(xlabel="share of the variation explained", title=f"importance, {name}")
            return
    axes.set_axis_off()
    axes.text(0.5, 0.5, f"importances: from {FEW} trials of a rule on", ha="center")
