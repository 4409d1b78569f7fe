"""How a learning rate is carried from the setup that it was published for to another: laws with source and range.

A law is what its source derives or shows. Bounds are called assumed where they are ours: outside, a learning rate is
held at the end of the range and not extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Law:
    """lr grows as quantity ** exponent, for `rules`, while the quantity stays within low..high.

    reach: the most by which the quantity may grow or shrink. assumed: what is ours and not the source's.
    """

    name: str
    quantity: str
    exponent: float
    rules: tuple[str, ...]
    source: str
    assumed: str
    low: float = 0.0
    high: float = math.inf
    reach: float = math.inf

    def factor(self, before: float, after: float, within: Sequence[float] | None = None) -> float:
        """What multiplies lr where the quantity goes from `before` to `after`; `within` replaces the law's range."""
        bounds = within or (self.low, self.high)
        ratio = held(after, bounds) / held(before, bounds)
        return float(held(ratio, (1.0 / self.reach, self.reach)) ** self.exponent)


def held(value: float, bounds: Sequence[float]) -> float:
    """The value, or the end of the range where it is outside."""
    return min(max(value, bounds[0]), bounds[1])


LINEAR = Law(
    "linear",
    "batch_size",
    1.0,
    ("sgd", "momentum", "nag"),
    "Goyal et al. 2017, Accurate, Large Minibatch SGD: lr in proportion to the batch",
    "the range is that of their figure 1 (ImageNet, ResNet-50, batches 64 to 8192); other supervised tasks are assumed alike",
    64,
    8192,
)
SQRT = Law(
    "sqrt",
    "batch_size",
    0.5,
    ("rmsprop", "adam", "adamw"),
    "Malladi et al. 2022, On the SDEs and Scaling Rules for Adaptive Gradient Algorithms: lr with the root of the batch",
    "the range; and that lr alone is scaled, while the law moves 1 - betas and eps too",
    64,
    8192,
)
WIDTH = Law(
    "width",
    "parameters",
    -0.5,
    ("adam", "adamw"),
    "Yang et al. 2022, Tensor Programs V (muP): Adam's lr for hidden matrices as 1/width",
    "width as the root of the parameters, which holds at fixed depth without embeddings; one lr for all parameters, "
    "though the law is on hidden matrices alone; at most 4 times the width either way",
    reach=16.0,
)
BATCH = {law.name: law for law in (LINEAR, SQRT)}


def batch_law(rule: str) -> Law | None:
    """The law that carries a rule's learning rate to another batch size, if there is one."""
    return next((law for law in BATCH.values() if rule in law.rules), None)


def at_momentum(lr: float, ran: float, wanted: float) -> float:
    """The learning rate that does at momentum `wanted` what `lr` did at momentum `ran`: equal lr/(1 - momentum).

    A law for small steps (Yuan, Ying & Sayed 2016, On the Influence of Momentum Acceleration on Online Learning); that
    it holds at the learning rates that are used is assumed. Momentum 0 is plain SGD.
    """
    return lr * (1.0 - wanted) / (1.0 - ran)
