"""Everything that is measured of a task, at the start and again after a short warm-up, as one result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optadvisor.kernels import Optimizer
from optadvisor.kernels.errors import InputError, NonFiniteGradient
from optadvisor.probing import curvature as curving
from optadvisor.probing import noise as noises
from optadvisor.probing import ranging
from optadvisor.probing.curvature import Curvature, Sharpness
from optadvisor.probing.feeding import Fed, feed
from optadvisor.probing.noise import Noise, Tail
from optadvisor.probing.ranging import RangeTest
from optadvisor.probing.sparsity import Sparsity, Zeros
from optadvisor.probing.subject import Floats, Meter, Sparse, Subject, Weights
from optadvisor.profile import TaskProfile
from optadvisor.quantities import parse_count

BATCHES, STEPS = 32, 40
# The curvature is that of the mean loss of this many examples, of this many mini-batches at least.
EXAMPLES, CURVED = 128, 4
WARM_UP = "adamw"
_FEWEST = 3  # mini-batches from which a noise scale can be told

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Point:
    """What was measured at one place: mean loss, then a field a measure; None where it could not be taken."""

    loss: float
    sparsity: list[Sparsity]
    noise: Noise | None
    tail: Tail | None
    agreement: float | None
    curvature: Curvature
    sharpness: Sharpness | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "loss": self.loss,
            "sparsity": [line.to_dict() for line in self.sparsity],
            "noise": self.noise and self.noise.to_dict(),
            "tail": self.tail and self.tail.to_dict(),
            "agreement": self.agreement,
            "curvature": self.curvature.to_dict(),
            "sharpness": self.sharpness and self.sharpness.to_dict(),
        }


@dataclass(frozen=True)
class WarmUp:
    """A short training with AdamW at its defaults but the rate. agreement: mean cosine of the gradients of successive
    steps. diverged_at: the step at which, or after which, the loss or gradient was not finite."""

    lr: float
    steps: int
    first: float | None
    last: float | None
    agreement: float | None
    diverged_at: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"optimizer": WARM_UP, **vars(self)}


@dataclass(frozen=True)
class Probe:
    """What a probe found. start, warm: at the initial weights, and after the warm-up (None where it diverged).

    zeros: among the inputs. ranges: learning-rate range tests by rule. profile: what is known of the task now; fed: the
    fields that were read or measured, with reasons. gradients: of a mini-batch, that the measures took; range_steps: that the
    range tests took at most. seconds: of everything.
    """

    name: str
    parameters: int
    batch_size: int | None
    mini_batches: int
    start: Point
    warm_up: WarmUp
    warm: Point | None
    zeros: Sparse | None
    ranges: dict[str, RangeTest]
    profile: TaskProfile
    fed: list[Fed]
    gradients: int
    range_steps: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {
            "task": self.name,
            "parameters": self.parameters,
            "batch_size": self.batch_size,
            "mini_batches": self.mini_batches,
            "profile": self.profile.to_dict(),
            "fed": [fed.to_dict() for fed in self.fed],
            "start": self.start.to_dict(),
            "warm_up": self.warm_up.to_dict(),
            "warm": self.warm and self.warm.to_dict(),
            "zeros": self.zeros and {"share": self.zeros.share, "how": self.zeros.how},
            "ranges": {rule: found.to_dict() for rule, found in self.ranges.items()},
            "cost": {"gradients": self.gradients, "range_steps": self.range_steps, "seconds": self.seconds},
        }


def measure(
    subject: Subject,
    *,
    mini_batches: int = BATCHES,
    steps: int = STEPS,
    seed: int = 0,
    range_test: bool = True,
    progress: Progress | None = None,
) -> Probe:
    """Probe a subject; afterwards everything of the person's is as it was.

    mini_batches: whose gradients are compared at each place. steps: of the warm-up. seed: of random directions. progress:
    is told what is being done.

    Errors: NonFiniteGradient where the loss or gradient is not finite at the start.
    """
    mini_batches, steps = parse_count(mini_batches, "mini_batches", 2), parse_count(steps, "steps")
    seed = parse_count(seed, "seed", 0)
    if not subject.blocks:
        raise InputError(f"{subject.name} has no parameters to train: unfreeze some")
    say, began = progress or (lambda text: None), time.perf_counter()
    meter, rng = Meter(subject), np.random.default_rng(seed)
    count = min(mini_batches, subject.distinct or mini_batches)
    with subject.held():
        weights = subject.start()
        say("at the start")
        start = _point(meter, weights, 0, count, rng)
        zeros = subject.zeros()
        profile, _ = feed(subject, [start.curvature], zeros, None)
        ranges = {}
        for rule in ranging.RULES if range_test else ():
            say(f"range test of {rule}")
            ranges[rule] = ranging.range_test(subject, rule, profile)
        lr = ranges[WARM_UP].lr if ranges else ranging.from_profile(WARM_UP, profile).lr
        say(f"warm-up of {steps} steps")
        warm_up, weights = _warmed(meter, lr, steps, count)
        say("after the warm-up")
        warm = None
        if warm_up.diverged_at is None:
            try:
                warm = _point(meter, weights, count + steps, count, rng)
            except NonFiniteGradient:
                warm_up = replace(warm_up, diverged_at=steps)
    curvatures = [start.curvature, *([warm.curvature] if warm else [])]
    profile, fed = feed(subject, curvatures, zeros, warm_up.diverged_at)
    return Probe(
        subject.name,
        weights.size,
        subject.batch_size,
        count,
        start,
        warm_up,
        warm,
        zeros,
        ranges,
        profile,
        fed,
        meter.gradients,
        sum(len(found.rates) * found.steps for found in ranges.values()),
        time.perf_counter() - began,
    )


def _point(meter: Meter, weights: Weights, first: int, count: int, rng: np.random.Generator) -> Point:
    """Everything at these weights, from mini-batches first to first + count."""
    blocks = meter.subject.blocks
    kept = _kept(weights.size, count, rng)
    losses, zeros = [], Zeros(blocks)
    gradients = np.empty((count, kept.size if kept is not None else weights.size), dtype=np.float32)
    for row in range(count):
        loss, grad = meter.gradient(weights, first + row)
        losses.append(loss)
        zeros.add(grad)
        gradients[row] = grad if kept is None else grad[kept]
    wide = gradients.astype(np.float64) if gradients.size <= curving.MEMORY // 8 else gradients
    gram = (wide @ wide.T).astype(np.float64) * (weights.size / gradients.shape[1])
    del wide

    used = min(max(CURVED, math.ceil(EXAMPLES / (meter.subject.batch_size or EXAMPLES))), count)

    def mean_gradient(at: Weights) -> Floats:
        total: Floats = np.zeros(at.size)
        for number in range(first, first + used):
            total += meter.gradient(at, number)[1]
        return total / used

    hessian = curving.Hessian(mean_gradient, weights)
    return Point(
        float(np.mean(losses)),
        zeros.found(),
        noises.noise(gram, meter.subject.batch_size) if count >= _FEWEST else None,
        noises.tail(gradients, rng) if count >= 2 * noises.GROUP else None,
        noises.agreement(gram),
        curving.curvature(hessian, blocks, rng),
        curving.sharpness(hessian),
    )


def _kept(size: int, count: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Of a large model, the parameters whose gradients are compared, drawn at random; None for all."""
    most = max(curving.MEMORY // count, 1)
    return None if size <= most else np.sort(rng.choice(size, most, replace=False))


def _warmed(meter: Meter, lr: float, steps: int, first: int) -> tuple[WarmUp, Weights]:
    weights = meter.subject.start()
    optimizer = Optimizer(WARM_UP, [weights], lr=lr)
    losses: list[float] = []
    cosines: list[float] = []
    before: Weights | None = None
    for step in range(steps):
        try:
            loss, grad = meter.advance(weights, first + step)
        except NonFiniteGradient:
            return WarmUp(lr, steps, losses[0] if losses else None, None, None, step + 1), weights
        losses.append(loss)
        if before is not None:
            cosines.append(noises.cosine(before, grad))
        before = grad.copy()
        optimizer.step([grad])
    return WarmUp(lr, steps, losses[0], losses[-1], float(np.mean(cosines)) if cosines else None), weights
