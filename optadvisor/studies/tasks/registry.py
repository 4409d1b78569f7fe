"""The families of built-in tasks, tasks by name, and samples of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from optadvisor.studies import seeds
from optadvisor.studies.tasks import generative, landscapes, language, rl, tabular, vision
from optadvisor.studies.tasks.builtin import BuiltinTask, parse
from optadvisor.studies.tasks.family import Family

DOMAINS = (
    vision,
    language,
    rl,
    generative,
    tabular,
    landscapes,
)
FAMILIES: dict[str, Family] = {family.name: family for domain in DOMAINS for family in domain.FAMILIES}

# The default task of each family.
TASKS: dict[str, BuiltinTask] = {name: BuiltinTask(family) for name, family in FAMILIES.items()}


def get(name: str) -> BuiltinTask:
    """The task of that name, such as digits-mlp or digits-mlp:batch=64; InputError with the nearest name if none."""
    return parse(name, FAMILIES)


def sample(n: int, seed: int = 0, families: Iterable[str] = ()) -> list[BuiltinTask]:
    """n distinct tasks: the default task of every family first, then variants, as evenly over the families as can be.

    The same seed gives the same tasks, and sample(n) begins with sample(m) for m < n. Fewer where the families have
    no more.
    """
    rng = np.random.default_rng(seeds.derive(seed, seeds.TASKS))
    chosen = [FAMILIES[name] for name in families] or list(FAMILIES.values())
    order = [chosen[i] for i in rng.permutation(len(chosen))]
    found = {task.name: task for task in map(BuiltinTask, order[:n])}
    misses = dict.fromkeys((family.name for family in order), 0)
    while len(found) < n and order:
        for family in list(order):
            if len(found) == n:
                break
            values = {name: axis.choices[rng.integers(len(axis.choices))] for name, axis in family.axes.items()}
            task = BuiltinTask(family, values)
            misses[family.name] += task.name in found
            found.setdefault(task.name, task)
            if misses[family.name] > 1000:  # it has no more
                order.remove(family)
    return list(found.values())
