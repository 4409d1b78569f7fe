"""How good advice is on DeepOBS: the regret of its configs, read off the 3 x 36 published runs of each task.

The convention, which gives the published reference figures (tests/advisor/learning/test_deepobs.py has them):
- x is the final value of the one run with seed 42, not the mean over 10 seeds, which only the best runs have;
- best is the best of all runs of the task, whatever the rule;
- the median run is the median of the final values of the task's runs that did not diverge, the three rules together;
- regret is (best - x)/(best - median), 1 at most; a run that is marked as diverged has 1;
- a figure over tasks is the mean of the 8.

DeepOBS trains at a constant rate: a config is scored by its rule, its momentum and the peak of its learning rate, and
weight decay is the task's own. Nag is scored as momentum, adamw as adam. What was not run scores 1: another rule, full
batches, or a learning rate more than a step outside the grid.
"""

from __future__ import annotations

import bisect
import functools
import math
import statistics
from collections.abc import Callable, Sequence

from optadvisor.advisor import laws, published
from optadvisor.advisor.published import Sweep
from optadvisor.config import OptimizerConfig

Advise = Callable[[Sweep], Sequence[OptimizerConfig]]


def tasks() -> tuple[Sweep, ...]:
    """The 8 sweeps."""
    return tuple(sweep for sweep in published.sweeps() if sweep.source is published.DEEPOBS)


@functools.cache
def regrets(task: str) -> dict[str, dict[float, float]]:
    """Rule that was run -> learning rate as it was run -> regret."""
    sweep = next(sweep for sweep in tasks() if sweep.task == task)
    sign = 1.0 if sweep.goal == "max" else -1.0
    trained = [sign * run.value for run in sweep.runs if run.value is not None]
    best, median = max(trained), statistics.median(trained)
    found: dict[str, dict[float, float]] = {}
    for run in sweep.runs:
        regret = 1.0 if run.value is None else min((best - sign * run.value) / (best - median), 1.0)
        found.setdefault(run.rule, {})[run.lr] = regret
    return found


def nearest(config: OptimizerConfig) -> tuple[str, float] | None:
    """The run that a config is scored by, (rule, learning rate) as DeepOBS ran it; None where there is none like it.

    Our momentum m at lr x is its momentum 0.99 at x (1 - 0.99)/(1 - m).
    """
    rule = published.kin(config.optimizer)
    grid = sorted(regrets(tasks()[0].task).get(rule, {}))
    if not grid or config.batch == "full":
        return None
    lr = float(config.hyperparameters["lr"])
    if rule == "momentum":
        lr = laws.at_momentum(lr, config.hyperparameters["momentum"], published.DEEPOBS_MOMENTUM)
    step = grid[1] / grid[0]
    if not grid[0] / step < lr < grid[-1] * step:
        return None
    at = bisect.bisect(grid, lr)
    return rule, min(grid[max(at - 1, 0) : at + 1], key=lambda other: abs(math.log(other / lr)))


def score(task: str, configs: Sequence[OptimizerConfig]) -> list[float]:
    """For k = 1, 2, ...: the regret on a task of the best of the first k configs."""
    found, best = [], 1.0
    for config in configs:
        run = nearest(config)
        if run:
            best = min(best, regrets(task)[run[0]][run[1]])
        found.append(best)
    return found


def by_task(advise: Advise, trials: int) -> dict[str, list[float]]:
    """Task -> its score for 1, 2, ... trials, of what `advise` has for the sweep's profile.

    Advice that comes to an end before the trials do keeps its last score.
    """
    found = {}
    for sweep in tasks():
        scores = score(sweep.task, list(advise(sweep))[:trials]) or [1.0]
        found[sweep.task] = scores + [scores[-1]] * (trials - len(scores))
    return found


def mean(advise: Advise, trials: int) -> list[float]:
    """The mean over the tasks, for 1, 2, ... trials."""
    return [statistics.fmean(column) for column in zip(*by_task(advise, trials).values(), strict=True)]
