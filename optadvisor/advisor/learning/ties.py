"""Which rules are within noise of the best on each task, after a few trials of each: what the classifiers learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optadvisor.advisor.learning.dataset import Floats

BUDGETS = (1, 4, 16, 64)  # trials of each rule
LISTED = 16  # beyond so many trials of a list, every config of the rule is tried
LEAST_NOISE = 0.02  # regret: a smaller difference is no difference, however well the seeds agree

Ints = NDArray[np.intp]


def good_lists(regrets: Floats) -> Ints:
    """(rules, LISTED): configs of each rule in the order to try them in, from regrets (tasks, rules, configs, seeds).

    The first has the lowest mean regret: the rule's good default. Each one more lowers the mean best regret the most.
    """
    best = np.where(np.isnan(regrets[:, :, 0]), np.nan, 1.0)
    chosen: list[Ints] = []
    for _ in range(min(LISTED, regrets.shape[2])):
        found = np.minimum(best[:, :, None], regrets)
        totals = np.nansum(found, axis=(0, 3))
        for taken in chosen:
            np.put_along_axis(totals, taken[:, None], np.inf, axis=1)
        chosen.append(totals.argmin(axis=1))
        best = np.take_along_axis(found, chosen[-1][None, :, None, None], axis=2)[:, :, 0]
    return np.stack(chosen, axis=1)


def after(regrets: Floats, lists: Ints) -> Floats:
    """(tasks, budgets, rules, seeds): regret of the best of a rule's first trials, picked on one seed, met on another."""
    found = []
    for k in BUDGETS:
        tried = regrets if k > LISTED else np.take_along_axis(regrets, lists[None, :, :k, None], axis=2)
        picks = np.nan_to_num(np.roll(tried, 1, axis=-1), nan=2.0).argmin(axis=2)
        found.append(np.take_along_axis(tried, picks[:, :, None], axis=2)[:, :, 0])
    return np.stack(found, axis=1)


def ties(reached: Floats) -> Floats:
    """(tasks, budgets, rules) of what `after` gives: 1 where a rule is within noise of the best, else 0; nan: unfit.

    The best has the lowest mean over the seeds. Noise is by how much the seeds disagree on a rule's distance from it,
    the median over the other rules of the task.
    """
    means = reached.mean(axis=-1)
    best = np.nanargmin(means, axis=2)[..., None]
    apart = np.ptp(reached - np.take_along_axis(reached, best[..., None], axis=2), axis=-1)
    np.put_along_axis(apart, best, np.nan, axis=2)
    noise = np.maximum(np.nanmedian(apart, axis=2, keepdims=True), LEAST_NOISE)
    gap = means - np.take_along_axis(means, best, axis=2)
    found: Floats = np.where(np.isnan(means), np.nan, gap <= noise)
    return found


def base_rates(tied: Floats) -> Floats:
    """(budgets, rules): the share of tasks on which a rule ties, with two tasks more at the mean of all rules."""
    mean = np.nanmean(tied, axis=(0, 2))[:, None]
    found: Floats = (np.nansum(tied, axis=0) + 2 * mean) / ((~np.isnan(tied)).sum(axis=0) + 2)
    return found
