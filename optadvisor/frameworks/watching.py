"""`Watch`: readings of a training in, signs out. Plain numbers: what a framework measures them with is its own affair."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from optadvisor.frameworks.signs import KINDS, Member, Reading, Sign

# A second moment far below g*g, in two looks: with beta2 = 0.999 it is above a tenth again after 100 steps.
_BEHIND = 0.1
_HEALTHY = 1e-3  # update over weights
_AT_ONCE = 10.0  # times the threshold of a large step, in a single look
_KEPT_GRADIENT = 0.25  # of the first gradients: below it a small step means that the training is finished
_RECENT = 8
_RUN = 64


class Watch:
    """Readings in, signs out. A sign is given once; again after it was gone for as many looks as it takes to show."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self._readings: dict[str, deque[Reading]] = {}
        self._first: dict[str, list[Reading]] = {}
        self._peak: dict[str, float] = {}
        self._runs: dict[str, list[tuple[int, float]]] = {}
        self._agreements: deque[float | None] = deque(maxlen=_RECENT)
        self._norms: deque[float] = deque(maxlen=_RUN)
        self._active: dict[str, int] = {}  # kind -> looks since it was last seen

    @property
    def active(self) -> list[str]:
        """Names of the kinds that are there now."""
        return [name for name, gone in self._active.items() if gone == 0]

    def look(self, step: int, readings: Mapping[str, Reading], agreement: float | None = None) -> list[Sign]:
        """The signs that are new at this look. agreement: cosine of successive gradients over all parameters."""
        for name, reading in readings.items():
            self._readings.setdefault(name, deque(maxlen=_RECENT)).append(reading)
            first = self._first.setdefault(name, [])
            if len(first) < KINDS["exhausted rate"].looks:
                first.append(reading)
            self._peak[name] = max(self._peak.get(name, 0.0), reading.lr)
        self._agreements.append(agreement)
        norm = math.sqrt(sum(reading.gradient**2 for reading in readings.values()))
        shown = {
            "oscillation": self._oscillation(readings),
            "large step": self._large(readings),
            "small step": self._small(readings),
            "exhausted rate": self._exhausted(readings),
            "stale second moment": self._stale(step, readings),
            "exploding gradient": self._exploding(readings, norm),
            "vanishing gradient": self._vanishing(readings),
        }
        if math.isfinite(norm):
            self._norms.append(norm)
        return [self._sign(step, name, seen) for name, seen in shown.items() if self._begins(name, bool(seen))]

    def _begins(self, name: str, seen: bool) -> bool:
        if seen:
            new = name not in self._active
            self._active[name] = 0
            return new
        if name in self._active:
            self._active[name] += 1
            if self._active[name] > KINDS[name].looks:
                del self._active[name]
        return False

    def _sign(self, step: int, name: str, seen: Mapping[str, float]) -> Sign:
        kind = KINDS[name]
        if name == "stale second moment" and max(seen.values()) < 1.0:
            value, threshold = min(seen.values()), _BEHIND
        else:
            value, threshold = (min if kind.below else max)(seen.values()), kind.threshold
        worst = next(n for n, v in seen.items() if v == value or math.isnan(value))
        member = self.members.get(worst, Member(worst))
        remedy = next(r for r in kind.remedies if r.fits(member))
        return Sign(step, name, value, threshold, tuple(seen), remedy.rule, remedy.text)

    def _last(self, name: str, kind: str) -> list[Reading]:
        """The last readings of a parameter, as many as the kind asks for; [] while there are fewer."""
        looks, kept = KINDS[kind].looks, self._readings[name]
        return list(itertools.islice(kept, len(kept) - looks, None)) if len(kept) >= looks else []

    def _oscillation(self, readings: Mapping[str, Reading]) -> dict[str, float]:
        kind = KINDS["oscillation"]
        last = list(self._agreements)[-kind.looks :]
        if len(last) < kind.looks or any(a is None for a in last) or _mean(last) > kind.threshold:
            return {}
        found = {name: _mean([r.agreement for r in self._last(name, kind.name)]) for name in readings}
        shown = {name: value for name, value in found.items() if value <= kind.threshold}
        return shown or found

    def _large(self, readings: Mapping[str, Reading]) -> dict[str, float]:
        kind = KINDS["large step"]
        found = {}
        for name, reading in readings.items():
            if not self._weights(name) or reading.ratio is None or not math.isfinite(reading.ratio):
                continue
            value = _least(r.ratio for r in self._last(name, kind.name))
            # One step of many times the weights is enough. A tensor that starts at 0 has small weights for a few steps.
            if reading.ratio >= _AT_ONCE * kind.threshold:
                value = reading.ratio
            if value >= kind.threshold:
                found[name] = value
        return found

    def _small(self, readings: Mapping[str, Reading]) -> dict[str, float]:
        kind = KINDS["small step"]
        found = {}
        for name in readings:
            last = self._last(name, kind.name)
            if not last or not self._weights(name) or any(r.ratio is None or r.lr <= 0.0 for r in last):
                continue
            # While the lr rises it is the warm-up; where it was annealed, the step is judged as if at the peak.
            if any(b.lr > a.lr for a, b in itertools.pairwise(last)) or not self._keeps(name, last):
                continue
            value = max((r.ratio or 0.0) * self._peak[name] / r.lr for r in last)
            if value <= kind.threshold:
                found[name] = value
        return found

    def _exhausted(self, readings: Mapping[str, Reading]) -> dict[str, float]:
        kind = KINDS["exhausted rate"]
        found = {}
        for name, reading in readings.items():
            start = self._first[name][0].rate
            if reading.rate is None or not start or reading.rate / start > kind.threshold:
                continue
            last = self._last(name, kind.name)
            # In the first hundred steps the rate always falls fast; it is exhausted once the steps are small as well.
            if self._keeps(name, last) and _mean([r.ratio for r in last]) <= _HEALTHY:
                found[name] = reading.rate / start
        return found

    def _keeps(self, name: str, last: Sequence[Reading]) -> bool:
        """Whether the gradients of a parameter are still about as large as at first."""
        start = _mean([r.gradient for r in self._first[name]])
        return bool(last) and _mean([r.gradient for r in last]) >= _KEPT_GRADIENT * start > 0.0

    def _stale(self, step: int, readings: Mapping[str, Reading]) -> dict[str, float]:
        kind = KINDS["stale second moment"]
        above, behind = {}, {}
        for name, reading in readings.items():
            last = self._last(name, kind.name)
            if last and all(r.second is not None and r.second <= _BEHIND for r in last[-2:]):
                behind[name] = max(r.second or 0.0 for r in last[-2:])
            if reading.second is None or reading.second < kind.threshold:
                self._runs.pop(name, None)
                continue
            run = self._runs.setdefault(name, [])
            run.append((step, reading.gradient))
            if len(run) > _RUN:
                del run[1::2]
            # Gradients that go on falling are a training that converges; a second moment is stale where they have settled.
            half = len(run) // 2
            memory = self.members[name].memory if name in self.members else 0.0
            settled = len(run) >= kind.looks and _mean([g for _, g in run[half:]]) >= 0.5 * _mean(
                [g for _, g in run[:half]]
            )
            if settled and step - run[0][0] >= memory:
                above[name] = reading.second
        for found in (above, behind):
            # A change of the objective shows in most layers; one alone is its own affair (a dead unit, a settled bias).
            shown = {name: value for name, value in found.items() if self._weights(name)}
            if 2 * len(shown) >= max(1, sum(map(self._weights, readings))):
                return shown
        return {}

    def _exploding(self, readings: Mapping[str, Reading], norm: float) -> dict[str, float]:
        broken = {
            name: math.inf
            for name, r in readings.items()
            if not math.isfinite(r.gradient) or (r.ratio is not None and not math.isfinite(r.ratio))
        }
        if broken or not self._norms:
            return broken
        usual = statistics.median(self._norms)
        if usual == 0.0 or norm < KINDS["exploding gradient"].threshold * usual:
            return {}
        largest = max(r.gradient for r in readings.values())
        return {name: norm / usual for name, r in readings.items() if r.gradient >= 0.1 * largest}

    def _vanishing(self, readings: Mapping[str, Reading]) -> dict[str, float]:
        kind = KINDS["vanishing gradient"]
        layers = {name: last for name in readings if self._weights(name) and (last := self._last(name, kind.name))}
        if not layers:
            return {}
        largest = [max(look) for look in zip(*([r.gradient for r in last] for last in layers.values()), strict=True)]
        found = {}
        for name, last in layers.items():
            shares = [r.gradient / most if most > 0.0 else 0.0 for r, most in zip(last, largest, strict=True)]
            if all(share <= kind.threshold for share in shares):
                found[name] = max(shares)
        return found

    def _weights(self, name: str) -> bool:
        return name not in self.members or self.members[name].weights


def _mean(values: Sequence[float | None]) -> float:
    """Mean; nan where a value is not known, or there is none."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else math.nan


def _least(values: Any) -> float:
    """The smallest value; -inf where one is not known, or there is none."""
    known = list(values)
    return min(known) if known and None not in known else -math.inf
