"""Signs that a training is in trouble, as data: the guide's two questions while it runs.

Direction: do successive steps undo each other (oscillation)? Step size: is it out of proportion (update ratio), exhausted
(Adagrad), stale (second moment), and does a gradient reach every layer (vanishing, exploding)? KINDS has for each its
threshold, source and remedies; watching.py tells them from readings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

DIRECTION, STEP_SIZE = "direction", "step size"


@dataclass(frozen=True)
class Remedy:
    """What to do, and the rule of the guide that says so.

    history, adaptive: whether it is for rules whose direction has a history, whose step size is one a parameter; None:
    for both.
    """

    rule: str
    text: str
    history: bool | None = None
    adaptive: bool | None = None

    def fits(self, member: Member) -> bool:
        return self.history in (None, member.history) and self.adaptive in (None, member.adaptive)


@dataclass(frozen=True)
class Kind:
    """A kind of sign. question: which of the guide's two it belongs to; looks: how many in a row must show it.

    below: whether a value under the threshold is the sign, not one over it.
    """

    name: str
    question: str
    measure: str
    threshold: float
    looks: int
    source: str
    remedies: tuple[Remedy, ...]
    below: bool = False


@dataclass(frozen=True)
class Member:
    """A parameter that is watched. weights: it has two or more dimensions, so a ratio of norms means something."""

    name: str
    weights: bool = True
    history: bool = False
    adaptive: bool = False
    memory: float = math.inf  # steps that its second moment averages over: 1 / (1 - beta2)


@dataclass(frozen=True)
class Reading:
    """One parameter at one look. None: not known (no gradient there a step before, or no such state).

    gradient: norm of the gradient. ratio: norm of the update over norm of the weights, where a gradient is. agreement:
    cosine of this gradient and that of the step before. second: the bias-corrected second moment over g*g, means. rate:
    1/sqrt(sum of squares), geometric mean, of Adagrad. lr: as the step used it.
    """

    gradient: float
    ratio: float | None = None
    agreement: float | None = None
    second: float | None = None
    rate: float | None = None
    lr: float = 0.0


@dataclass(frozen=True)
class Sign:
    """A sign at a step. value: what was measured, beside the kind's threshold. rule: of the guide, R1 to R11."""

    step: int
    name: str
    value: float
    threshold: float
    parameters: tuple[str, ...]
    rule: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, which has no inf and no nan: such a value is None."""
        return {
            "step": self.step,
            "name": self.name,
            "value": self.value if math.isfinite(self.value) else None,
            "threshold": self.threshold,
            "parameters": list(self.parameters),
            "rule": self.rule,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        where = ", ".join(self.parameters[:3]) + (
            f" and {len(self.parameters) - 3} more" if len(self.parameters) > 3 else ""
        )
        return (
            f"step {self.step:,}: {self.name} ({KINDS[self.name].measure} {self.value:.2g}, threshold "
            f"{_short(self.threshold)}; {where}). {self.rule}: {self.remedy}"
        )


def _short(value: float) -> str:
    return f"{float(f'{value:.2g}'):g}"  # 0.033, 1000


_EXPLODING = (
    Remedy(
        "R4", "clip the gradient norm, lower the lr or warm it up; Adam or RMSProp for an unstable start", None, False
    ),
    Remedy("R4", "clip the gradient norm, lower the lr or lengthen the warm-up", None, True),
)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "oscillation",
            DIRECTION,
            "mean cosine of successive gradients",
            -0.5,
            4,
            "Rosenbrock ravine; Cohen et al. 2021 (edge of stability), section 2: along an axis of curvature L the "
            "gradient of plain descent changes its sign every step for lr between 1/L and 2/L",
            (
                Remedy(
                    "R8",
                    "the steps jump across a ravine: take momentum or nag, whose velocity cancels that, or lower the lr",
                    history=False,
                ),
                Remedy(
                    "R8", "the steps jump across a ravine in spite of the momentum: lower the lr, or take nag", True
                ),
            ),
            below=True,
        ),
        Kind(
            "large step",
            STEP_SIZE,
            "update over weights, norms",
            0.3,
            4,
            "healthy is about 1e-3 (Karpathy, CS231n notes, 'Ratio of weights:updates'); adamw at a well tuned lr was "
            "seen to start at up to 0.1",
            (
                Remedy(
                    "R4", "lower the lr by 10, or warm it up; Adam's steps are less sensitive to the lr", None, False
                ),
                Remedy("R4", "lower the lr by 10, or lengthen the warm-up", None, True),
            ),
        ),
        Kind(
            "small step",
            STEP_SIZE,
            "update over weights at the peak lr, norms",
            1e-5,
            4,
            "healthy is about 1e-3 (Karpathy, CS231n notes, 'Ratio of weights:updates')",
            (
                Remedy(
                    "R11",
                    "raise the lr by 10, or take AdamW, whose step hardly depends on the gradient's scale",
                    None,
                    False,
                ),
                Remedy("R11", "raise the lr by 10", None, True),
            ),
            below=True,
        ),
        Kind(
            "exhausted rate",
            STEP_SIZE,
            "effective rate over that of the first steps",
            1 / 30,
            4,
            "Duchi et al. 2011: the sum of squares only grows, so the rate falls as 1/sqrt(step) while gradients keep "
            "their size; 1/30 is after about 1,000 such steps",
            (Remedy("R7", "Adagrad's sum never fades: take RMSProp, Adam or AdamW, whose averages do"),),
            below=True,
        ),
        Kind(
            "stale second moment",
            STEP_SIZE,
            "second moment over squared gradients",
            30.0,
            3,
            "Kingma & Ba 2015, section 2: exp_avg_sq averages over about 1/(1 - beta2) steps",
            (
                Remedy(
                    "R4",
                    "the gradients changed faster than the second moment forgets: lower beta2 (0.98 or 0.95; alpha of "
                    "RMSProp)",
                ),
            ),
        ),
        Kind(
            "exploding gradient",
            STEP_SIZE,
            "gradient norm over its median so far",
            1e3,
            1,
            "Pascanu et al. 2013, section 2",
            _EXPLODING,
        ),
        Kind(
            "vanishing gradient",
            STEP_SIZE,
            "gradient norm over that of the layer with the largest",
            1e-4,
            6,
            "Glorot & Bengio 2010, section 4; Pascanu et al. 2013, section 2",
            (
                Remedy(
                    "R11",
                    "AdamW's step size for each parameter makes up for the scale; normalisation, residual connections, "
                    "ReLU and He initialisation mend the cause",
                    None,
                    False,
                ),
                Remedy(
                    "R11", "normalisation, residual connections, ReLU and He initialisation mend the cause", None, True
                ),
            ),
            below=True,
        ),
    )
}
