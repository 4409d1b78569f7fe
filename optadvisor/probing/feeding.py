"""What a probe puts into a TaskProfile, and why: only what the measures were seen to tell (docs/probe.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from optadvisor.probing.curvature import Curvature
from optadvisor.probing.subject import Sparse, Subject
from optadvisor.profile import TaskProfile

# A condition number from here on is what the built-in landscapes call ill-conditioned; the measured spread bounds it from below.
ILL_CONDITIONED = 1e3
# Curvature this far under zero, as a share of the largest, is no rounding: convex tasks stay under a ten-thousandth of that.
NEGATIVE = 0.01


@dataclass(frozen=True)
class Fed:
    """A field of the profile: its value, where it comes from, and whether it was taken. What is declared wins."""

    field: str
    value: Any
    why: str
    taken: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def feed(
    subject: Subject, curvatures: Iterable[Curvature], sparse: Sparse | None, diverged_at: int | None
) -> tuple[TaskProfile, list[Fed]]:
    """The profile: declared, then read, then measured; and each field that was read or measured with its reason."""
    declared = subject.declared.to_dict()
    found: dict[str, tuple[Any, str]] = {
        "parameters": (sum(block.size for block in subject.blocks), "counted"),
        **subject.read,
    }
    if subject.batch_size:
        found.setdefault("batch_size", (subject.batch_size, "examples in a mini-batch"))
    found.update(_measured(list(curvatures), sparse, diverged_at))
    fed = [Fed(field, value, why, declared[field] is None) for field, (value, why) in found.items()]
    return TaskProfile(**{**declared, **{f.field: f.value for f in fed if f.taken}}), fed


def _measured(
    curvatures: list[Curvature], sparse: Sparse | None, diverged_at: int | None
) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    if sparse:
        found["sparse_fraction"] = (round(sparse.share, 6), sparse.how)
    if diverged_at is not None:
        found["unstable"] = (
            True,
            f"the warm-up diverged at step {diverged_at} with the rate that was suggested for it",
        )
    lowest = min((c.smallest / max(c.largest, -c.smallest) for c in curvatures if c.largest != c.smallest), default=0.0)
    if lowest < -NEGATIVE:
        found["convex"] = (False, f"a curvature of {lowest:.2g} times the largest: the loss bends down")
        return found  # with both signs a ratio of magnitudes says nothing of a ravine
    spreads = [c.spread for c in curvatures if c.spread is not None]
    spread = max(spreads, default=None)
    if spread is not None and spread >= ILL_CONDITIONED:
        found["ill_conditioned"] = (True, f"curvatures differ by {spread:.2g} times at least, none of them negative")
    return found  # never False: a lower bound at two places says nothing against it
