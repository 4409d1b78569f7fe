"""How alike two tasks are, from their profiles alone: what decides which outcomes count for an answer, and how much.

Pure Python: `recommend` starts in a fraction of a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from optadvisor.profile import ARCHITECTURES, DOMAINS, TaskProfile

COUNTS = ("parameters", "samples", "batch_size", "steps")
FLAGS = ("convex", "unstable", "non_stationary", "ill_conditioned")

# What a profile that does not say its size is taken for: a model that somebody trains for use, not one of the small
# ones that were studied here. So the guide and what was published lead where the size is unknown.
TYPICAL = {"parameters": 1e7, "steps": 5e4}
# Where data or model are said to be small, the other is taken for small too; where data are said, EPOCHS of them.
SMALL_DATA, SMALL_MODEL = 10_000, 100_000
TYPICAL_SMALL = {"parameters": 1e4, "steps": 3e3}
EPOCHS, BATCH = 30, 64

# Networks of one kind, half as far from each other as from the rest.
_KINDS = ({"linear", "mlp"}, {"cnn", "resnet", "unet"}, {"rnn", "transformer"}, {"embedding-tower", "linear"})


@dataclass(frozen=True)
class Scales:
    """What a difference costs. A task at distance d counts exp(-d); these were chosen on families held out.

    domain, architecture: another one (half for a kindred architecture). counts: a decade in the logarithm of samples
    and batch size; size: a decade of parameters or of steps. flag: one that differs. sparse: from dense to all zeros.
    floor: how much a task counts however unlike in kind it is; the size always matters. beyond: a decade by which a
    profile is larger or longer than everything that was studied.
    """

    domain: float = 2.0
    architecture: float = 2.0
    counts: float = 0.3
    size: float = 0.7
    flag: float = 0.5
    sparse: float = 2.0
    floor: float = 0.1
    beyond: float = 3.0


def size(profile: TaskProfile) -> tuple[float, float]:
    """log10 of parameters and of steps, typical ones where the profile does not say."""
    known = ((profile.samples, SMALL_DATA), (profile.parameters, SMALL_MODEL))
    small = any(value is not None and value <= most for value, most in known)
    typical = TYPICAL_SMALL if small else TYPICAL
    steps = profile.steps
    if steps is None and profile.samples:
        steps = max(1, EPOCHS * profile.samples // (profile.batch_size or BATCH))
    return math.log10(profile.parameters or typical["parameters"]), math.log10(steps or typical["steps"])


def size_distance(one: TaskProfile, other: TaskProfile, scales: Scales) -> float:
    """How far apart two tasks are in parameters and steps."""
    return scales.size * sum(abs(a - b) for a, b in zip(size(one), size(other), strict=True))


def beyond(profile: TaskProfile, largest: tuple[float, float]) -> float:
    """By how many decades a profile's parameters and steps exceed the largest ones that were studied (log10)."""
    return sum(max(0.0, mine - most) for mine, most in zip(size(profile), largest, strict=True))


def kind_distance(one: TaskProfile, other: TaskProfile, scales: Scales) -> float:
    """How far apart two tasks are in everything but parameters and steps. What either does not say costs nothing."""
    found = 0.0
    if one.domain and other.domain and one.domain != other.domain:
        found += scales.domain
    a, b = one.architecture, other.architecture
    if a and b and a != b:
        kindred = any(a in kind and b in kind for kind in _KINDS)
        found += scales.architecture * (0.5 if kindred else 1.0)
    for name in ("samples", "batch_size"):
        x, y = getattr(one, name), getattr(other, name)
        if x and y:
            found += scales.counts * abs(math.log10(x / y))
    for name in FLAGS:
        x, y = getattr(one, name), getattr(other, name)
        if x is not None and bool(x) != bool(y):
            found += scales.flag
    if one.sparse_fraction is not None:
        found += scales.sparse * abs(one.sparse_fraction - (other.sparse_fraction or 0.0))
    return found


def weight(query: TaskProfile, task: TaskProfile, scales: Scales) -> float:
    """How much the outcomes on `task` count for `query`: 1 for its like, falling with the distance."""
    kind = scales.floor + (1.0 - scales.floor) * math.exp(-kind_distance(query, task, scales))
    return math.exp(-size_distance(query, task, scales)) * kind


# For the classifier and the learning rates: a vector with an entry for everything that may be unknown.
NAMES = (
    *(f"domain {name}" for name in DOMAINS),
    *(f"architecture {name}" for name in ARCHITECTURES),
    *(f"log10 {name}" for name in (*COUNTS, "epochs")),
    "sparse_fraction",
    *FLAGS,
    *(f"{name} unknown" for name in ("domain", "architecture", *COUNTS, "epochs", "sparse_fraction", *FLAGS)),
)


def vector(profile: TaskProfile) -> list[float]:
    """The profile as numbers, one for each of NAMES; what is unknown is 0 and says so in its last entries."""
    counts = [getattr(profile, name) for name in COUNTS] + [profile.epochs]
    flags = [getattr(profile, name) for name in FLAGS]
    known = [profile.domain, profile.architecture, *counts, profile.sparse_fraction, *flags]
    return [
        *(float(profile.domain == name) for name in DOMAINS),
        *(float(profile.architecture == name) for name in ARCHITECTURES),
        *(math.log10(value) if value else 0.0 for value in counts),
        profile.sparse_fraction or 0.0,
        *(float(bool(flag)) for flag in flags),
        *(float(value is None) for value in known),
    ]
