"""Learned starting points: ordered lists of configs that minimise the expected regret of the best of the first k.

For a profile the rows of the knowledge are weighed by likeness (features.py); the list is built greedily, each config
the one that lowers sum_i w_i * min over the list of regret_i the most. Pure Python: tens of thousands of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import mul, sub
from typing import Any

from optadvisor.advisor import features
from optadvisor.advisor.knowledge import DRAWN, MISSING, STEPS, STUDIED, Knowledge
from optadvisor.kernels.rules import RULES
from optadvisor.profile import TaskProfile

ROWS = 64  # the heaviest rows: the others' weight together is below a hundredth, and the answer waits for each
# What is assumed of a config on a task where its rule does not fit: its mean over the others, as if one more task of
# half the weight had shown regret 1.
DOUBT = 0.5
NARROW = 0.8  # share of the weight of the good configs that a learned range holds
TIE = 1e-12  # gains as near as this are equal
GOOD = 0.1  # of the random configs of a rule that count as good on a task

Column = Sequence[float]


def weights(knowledge: Knowledge, profile: TaskProfile) -> list[tuple[int, float]]:
    """(row, weight) of the rows that count for a profile, the heaviest first.

    Tasks that were studied here are small: they fade where the profile is beyond all of them, and the guide leads.
    """
    scales, largest = knowledge.scales, knowledge.largest
    fade = math.exp(-scales.beyond * features.beyond(profile, largest))
    found = [
        (i, row.worth * features.weight(profile, row.profile, scales) * (fade if row.source == STUDIED else 1.0))
        for i, row in enumerate(knowledge.rows)
    ]
    found.sort(key=lambda pair: -pair[1])
    return found[:ROWS]


def column(knowledge: Knowledge, weighed: Sequence[tuple[int, float]], number: int) -> list[float]:
    """Regrets of a candidate on the weighed rows, with what is assumed where it did not run."""
    raw = [knowledge.rows[i].regrets[number] for i, _ in weighed]
    if MISSING not in raw:
        return [value / STEPS for value in raw]
    known = [(w, value) for (_, w), value in zip(weighed, raw, strict=True) if value != MISSING]
    mean = (sum(w * value for w, value in known) + DOUBT * STEPS) / (sum(w for w, _ in known) + DOUBT)
    return [(mean if value == MISSING else value) / STEPS for value in raw]


def greedy(
    columns: Mapping[Any, Column], shares: Sequence[float], k: int, allowed: Callable[[Any, list[Any]], bool]
) -> list[Any]:
    """Up to k keys, each the one that lowers the weighted sum of the best regrets so far the most.

    columns: key -> regret on each line; shares: the lines' weights. allowed(key, list so far): whether it may be next.
    Ties go to the first.
    """
    # What a config adds only falls as the list grows, so that what it added at its last try bounds what it adds now:
    # most are not tried again (Minoux 1978, Accelerated greedy algorithms for maximizing submodular set functions).
    best = [1.0] * len(shares)
    worth = sum(shares)
    bounds = [(worth - sum(map(mul, shares, column)), -i, key) for i, (key, column) in enumerate(columns.items())]
    bounds.sort(reverse=True)
    found: list[Any] = []
    taken: set[Any] = set()
    while len(found) < k:
        now = sum(map(mul, shares, best))
        chosen, most, first = None, -1.0, 0
        for place, (bound, order, key) in enumerate(bounds):
            if bound < most - TIE:
                break
            if key in taken or not allowed(key, found):
                continue
            gain = now - sum(map(mul, shares, map(min, best, columns[key]))) if found else bound
            bounds[place] = (gain, order, key)
            if gain > most + TIE or (gain > most - TIE and order > first):
                chosen, most, first = key, max(gain, most), order
        if chosen is None:
            return found
        found.append(chosen)
        taken.add(chosen)
        best = list(map(min, best, columns[chosen]))
        bounds.sort(reverse=True)
    return found


def ordered(knowledge: Knowledge, profile: TaskProfile, k: int, optimizers: Iterable[str] | None = None) -> list[int]:
    """The first k candidates to try, by number, among the optimizers' (all of them where none are named)."""
    wanted = list(knowledge.of if optimizers is None else optimizers)
    weighed = weights(knowledge, profile)
    numbers = [n for name in wanted for n in knowledge.of.get(name, ())]
    columns = {n: column(knowledge, weighed, n) for n in numbers}
    return greedy(columns, [w for _, w in weighed], k, lambda key, found: True)


def ranges(
    knowledge: Knowledge, profile: TaskProfile, optimizer: str, weighed: Sequence[tuple[int, float]] | None = None
) -> dict[str, tuple[float, float]]:
    """Axis -> the range that holds NARROW of what was good on tasks like it, as a search space names its axes.

    On each row the best tenth of the random configs of the rule count as good; a range is at least a factor of 3 wide.
    weighed: the weights of the profile, where they are at hand.
    """
    numbers = [n for n in knowledge.of.get(optimizer, ()) if knowledge.candidates[n].kind == DRAWN]
    points = {n: _point(knowledge, n) for n in numbers}
    good: list[tuple[int, float]] = []
    for i, w in weights(knowledge, profile) if weighed is None else weighed:
        regrets = knowledge.rows[i].regrets
        known = sorted((regrets[n], n) for n in numbers if regrets[n] < STEPS)
        good += [(n, w) for _, n in known[: max(1, round(GOOD * len(numbers)))]]
    if not good:
        return {}
    found = {}
    for name in points[numbers[0]]:
        low, high = _spread([(points[n][name], w) for n, w in good])
        middle = (low * high) ** 0.5
        found[name] = (min(low, middle / 3**0.5), max(high, middle * 3**0.5))
    return found


def _spread(weighed: list[tuple[float, float]]) -> tuple[float, float]:
    """The values that NARROW of the weight lies between, as much left out below as above."""
    weighed.sort()
    total, out = sum(w for _, w in weighed), (1.0 - NARROW) / 2
    seen, low, high = 0.0, weighed[0][0], weighed[-1][0]
    for value, w in weighed:
        if seen <= out * total:
            low = value
        seen += w
        if seen >= (1.0 - out) * total:
            high = value
            break
    return low, high


def _point(knowledge: Knowledge, number: int) -> dict[str, float]:
    """A candidate on the axes of its search space."""
    candidate = knowledge.candidates[number]
    parts = candidate.parts or {"": (candidate.optimizer, candidate.hyperparameters)}
    found = {}
    for role, (rule, values) in parts.items():
        complete = {**RULES[rule].defaults, **values}
        for hyperparameter, axis in RULES[rule].search():
            value: Any = complete[hyperparameter.name]
            number_ = float(value if axis.index is None else value[axis.index])
            found[f"{role}.{axis.name}" if role else axis.name] = 1.0 - number_ if axis.complement else number_
    return found


def gains(columns: Mapping[Any, Column], shares: Sequence[float], chosen: Sequence[Any]) -> list[float]:
    """By how much each config of a list lowers the expected best regret of those before it."""
    best, found = [1.0] * len(shares), []
    total = sum(shares)
    for key in chosen:
        lower = list(map(min, best, columns[key]))
        found.append(sum(map(mul, shares, map(sub, best, lower))) / total)
        best = lower
    return found
