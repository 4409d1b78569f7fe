"""Published results that the package ships, and what they say for a profile.

DeepOBS baselines (Schneider et al. 2019): 8 tasks x {sgd, momentum 0.99, adam}, 36 learning rates each, the best one
run with 10 seeds. data/SOURCES.md has source and licence.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

from optadvisor.profile import TaskProfile

SOURCE = "DeepOBS baselines, Schneider et al. 2019 (github.com/fsschneider/DeepOBS_Baselines, MIT)"

# What the tasks are, in the terms of a profile.
_TASKS = {
    "quadratic_deep": ("other", "other"),
    "mnist_vae": ("generative", "mlp"),
    "fmnist_vae": ("generative", "mlp"),
    "fmnist_2c2d": ("vision", "cnn"),
    "cifar10_3c3d": ("vision", "cnn"),
    "cifar100_allcnnc": ("vision", "cnn"),
    "svhn_wrn164": ("vision", "resnet"),
    "tolstoi_char_rnn": ("language", "rnn"),
}
# Rules that DeepOBS did not run are judged by their nearest kin there.
KIN = {"sgd": "sgd", "momentum": "momentum", "nag": "momentum", "adam": "adam", "adamw": "adam"}


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


@functools.cache
def results() -> tuple[Result, ...]:
    """Every published result, with its distance from the best of its task.

    A result ties with the best where the gap is at most the standard deviation of the best over its seeds.
    """
    text = resources.files("optadvisor.advisor").joinpath("data/deepobs_best.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return tuple(_judged(row, [r for r in rows if r["task"] == row["task"]]) for row in rows)


def _judged(row: dict[str, str], rivals: list[dict[str, str]]) -> Result:
    sign = 1.0 if row["goal"] == "max" else -1.0
    best = max(rivals, key=lambda r: sign * float(r["mean"]))
    gap = sign * (float(best["mean"]) - float(row["mean"]))
    domain, architecture = _TASKS[row["task"]]
    return Result(
        row["task"],
        domain,
        architecture,
        row["optimizer"],
        float(row["best_lr"]),
        row["metric"].replace("_", " "),
        float(row["mean"]),
        float(row["std"]),
        int(row["n"]),
        gap,
        best["optimizer"],
        gap <= float(best["std"]),
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


def confidence(optimizer: str, prior: float, profile: TaskProfile) -> float:
    """Probability that the optimizer is within noise of the best: the prior, weighted as 4 tasks, and published ties.

    The mean of a Beta distribution. The prior is the guide's and not calibrated on outcomes.
    """
    ties = [result.ties for result in like(profile) if result.optimizer == KIN.get(optimizer)]
    return round((4 * prior + sum(ties)) / (4 + len(ties)), 2)


def cited(optimizer: str, profile: TaskProfile, most: int = 3) -> list[dict[str, Any]]:
    """The published results on the optimizer or its kin, tasks with the profile's architecture first."""
    found = [result for result in like(profile) if result.optimizer == KIN.get(optimizer)]
    found.sort(key=lambda result: result.architecture != profile.architecture)
    return [
        {"source": SOURCE, "text": _sentence(result), "task": result.task, "optimizer": result.optimizer}
        for result in found[:most]
    ]


def _sentence(r: Result) -> str:
    reached = f"reached {r.metric} {r.mean:.4g} +- {r.std:.2g} over {r.seeds} seeds"
    place = "the best of three" if r.gap == 0 else f"{'a tie with' if r.ties else 'behind'} {r.best}"
    name = "momentum 0.99" if r.optimizer == "momentum" else r.optimizer  # DeepOBS runs momentum at 0.99
    return f"{r.task}: {name} at lr {r.lr:.2g} {reached}, {place}"
