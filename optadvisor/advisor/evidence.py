"""What published results say for a profile: probabilities that an optimizer ties with the best, and citations.

Probabilities rest on the DeepOBS baselines (Schneider et al. 2019): 8 tasks x {sgd, momentum 0.99, adam}, 36 learning
rates each, the best one run with 10 seeds. What a source did not run is judged by its kin there (published.kin).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from optadvisor.advisor import published
from optadvisor.advisor.knowledge import OWN, STUDIED, Knowledge, Row
from optadvisor.advisor.published import Outcome, Tuned
from optadvisor.profile import TaskProfile
from optadvisor.quantities import show_count

PRIOR = 1.0  # tasks that the guide's prior counts as; 2 and 4 said too much above 0.6 on families held out
TIE = 0.5  # tasks that a published tie counts as: three rules, one benchmark
LIKE = 0.1  # a studied task that is less like the profile is no evidence for it


@dataclass(frozen=True)
class Result:
    """One optimizer on one task at its best learning rate, over `seeds` seeds. `gap`: to the best, 0 or more."""

    task: str
    domain: str
    architecture: str
    optimizer: str
    lr: float
    metric: str
    mean: float
    std: float
    seeds: int
    gap: float
    best: str
    ties: bool
    profile: TaskProfile


@functools.cache
def results() -> tuple[Result, ...]:
    """Every result of DeepOBS, with its distance from the best of its task.

    A result ties with the best where the gap is at most the standard deviation of the best over its seeds.
    """
    found = [
        (point, point.outcome) for point in published.tuned() if point.source is published.DEEPOBS and point.outcome
    ]
    return tuple(
        _judged(point, outcome, [(p.rule, o) for p, o in found if p.name == point.name]) for point, outcome in found
    )


def _judged(point: Tuned, outcome: Outcome, rivals: Sequence[tuple[str, Outcome]]) -> Result:
    sign = 1.0 if outcome.goal == "max" else -1.0
    winner, best = max(rivals, key=lambda rival: sign * rival[1].mean)
    gap = sign * (best.mean - outcome.mean)
    return Result(
        point.name,
        point.profile.domain or "",
        point.profile.architecture or "",
        point.rule,
        point.lr,
        outcome.metric,
        outcome.mean,
        outcome.std,
        outcome.seeds,
        gap,
        winner,
        gap <= best.std,
        point.profile,
    )


def like(profile: TaskProfile) -> Iterator[Result]:
    """Results on tasks of the profile's domain, and not of another known kind of network."""
    for result in results():
        if result.domain == profile.domain != "other" and profile.architecture not in (
            "transformer",
            "gan",
            "diffusion",
        ):
            yield result


def confidence(
    optimizer: str, prior: float, profile: TaskProfile, learned: float | None = None, tasks: float = 0.0
) -> float:
    """Probability that the optimizer is within noise of the best: the mean of a Beta distribution of

    the guide's prior, weighted as PRIOR tasks, the published ties on tasks like it, weighted as TIE at most and less by
    their distance, and what the classifier says (`learned`), weighted as the `tasks` just like this one that the outcomes
    are worth.
    """
    near = [
        (TIE * math.exp(-published.distance(profile, result.profile)), result.ties)
        for result in like(profile)
        if result.optimizer == published.kin(optimizer)
    ]
    tasks = 0.0 if learned is None else tasks
    found = PRIOR * prior + sum(w * ties for w, ties in near) + tasks * (learned or 0.0)
    return round(min(max(found / (PRIOR + sum(w for w, _ in near) + tasks), 0.01), 0.99), 2)


def cited(optimizer: str, profile: TaskProfile, most: int = 3) -> list[dict[str, Any]]:
    """Published results on the optimizer or its kin: what it reached on DeepOBS, then settings others found good.

    On tasks of the profile's domain; those with the profile's architecture, and then the most alike, come first. Of a
    family of settings, near twins, the most alike is cited.
    """
    found = [result for result in like(profile) if result.optimizer == published.kin(optimizer)]
    found.sort(key=lambda result: result.architecture != profile.architecture)
    pieces = [_piece(published.DEEPOBS, _sentence(result), result.task, result.optimizer) for result in found]
    points: dict[str, Tuned] = {}
    for point in sorted(_settings(optimizer, profile), key=lambda point: published.distance(profile, point.profile)):
        points.setdefault(point.family, point)
    pieces += [_piece(point.source, _setting(point), point.name, point.rule) for point in points.values()]
    return pieces[:most]


def studied(
    optimizer: str, knowledge: Knowledge, weighed: Sequence[tuple[int, float]], most: int = 2
) -> list[dict[str, Any]]:
    """The nearest tasks that were studied here or by the person, and how the optimizer did there.

    weighed: (row of the knowledge, weight), the heaviest first. Tasks that count for less than LIKE of one are left out.
    """
    found = []
    for i, w in weighed:
        row = knowledge.rows[i]
        if row.source in (STUDIED, OWN) and optimizer in row.best and w >= LIKE * row.worth:
            found.append(_outcome(optimizer, row, w / row.worth))
        if len(found) == most:
            break
    return found


def _outcome(optimizer: str, row: Row, likeness: float) -> dict[str, Any]:
    winner = min(row.best, key=lambda name: row.best[name][0])
    regret, lr = row.best[optimizer]
    behind = round(max(0.0, regret - row.best[winner][0]), 3)
    size = ", ".join(
        f"{show_count(value)} {name}"
        for name, value in (("parameters", row.profile.parameters), ("steps", row.profile.steps))
        if value
    )
    place = "the best" if optimizer == winner else f"{behind:.2g} behind {winner}"
    seeds = f"{row.seeds} seed{'' if row.seeds == 1 else 's'}"
    kind = "your study" if row.source == OWN else "a short run of a small model"
    return {
        "source": f"optadvisor's own runs: {kind}" if row.source == STUDIED else kind,
        "text": f"{row.name} ({size}; likeness {likeness:.2f}): {optimizer} at lr {lr:.2g} was {place}, on a scale from "
        f"0, the best config known, to 1, a random one; {seeds}",
        "task": row.name,
        "optimizer": optimizer,
        "likeness": round(likeness, 3),
        "distance": round(-math.log(max(likeness, 1e-9)), 2),
        "winner": winner,
        "behind": behind,
        "seeds": row.seeds,
    }


def _piece(source: published.Source, text: str, task: str, optimizer: str) -> dict[str, Any]:
    return {"source": source.text, "text": text, "task": task, "optimizer": optimizer}


def _settings(optimizer: str, profile: TaskProfile) -> Iterator[Tuned]:
    """Tuned points on tasks of the profile's domain and of no other architecture, other than those of DeepOBS."""
    for point in published.tuned():
        alike = point.profile.domain == profile.domain and profile.architecture in (None, point.profile.architecture)
        if alike and point.source is not published.DEEPOBS and published.kin(point.rule) == published.kin(optimizer):
            yield point


def _setting(point: Tuned) -> str:
    size = point.profile.parameters
    text = f"{point.name}: {point.rule} at lr {point.lr:.2g}"
    if point.count > 1:
        return f"{text}, the geometric mean of {point.count} settings; a deviation is a factor of {math.exp(point.spread):.2g}"
    if point.outcome:
        text += f" reached {point.outcome.metric} {point.outcome.mean:.4g}"
    return text + (f" with {show_count(size)} parameters" if size else "")


def _sentence(r: Result) -> str:
    reached = f"reached {r.metric} {r.mean:.4g} +- {r.std:.2g} over {r.seeds} seeds"
    place = "the best of three" if r.gap == 0 else f"{'a tie with' if r.ties else 'behind'} {r.best}"
    name = "momentum 0.99" if r.optimizer == "momentum" else r.optimizer  # DeepOBS runs momentum at 0.99
    return f"{r.task}: {name} at lr {r.lr:.2g} {reached}, {place}"
