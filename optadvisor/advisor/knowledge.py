"""What was learned from outcomes, as `recommend` reads it: rows of regret over one list of configs, and how to weigh them.

A row is a task: studied here, published by others, or the person's own. Its regrets are over the shared candidates: 0
is the best config known for the task, 1 the median random one. `optadvisor learn fit` writes the shipped file.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from optadvisor.advisor import features
from optadvisor.advisor.arrays import Array, read_npz
from optadvisor.advisor.classifier import Classifier
from optadvisor.advisor.features import Scales
from optadvisor.advisor.rates import Rates
from optadvisor.config import HYBRID, OptimizerConfig, no_decay
from optadvisor.files import home
from optadvisor.kernels.rules import RULES
from optadvisor.kernels.schedules import WARMS_UP, Schedule
from optadvisor.profile import TaskProfile

FORMAT = 1
STEPS, MISSING = 250, 255  # regret 0..1 is stored as 0..250, a rule that does not fit as 255
STUDIED, OWN = "studied", "own"
CONSTANT, ANNEALED, DRAWN, DEFAULT = "constant", "annealed", "drawn", "default"


@dataclass(frozen=True)
class Candidate:
    """A config that was run on every task: optimizer, hyperparameters that differ from the defaults, schedule.

    kind: on the ladder of learning rates at a constant rate or annealed, a point drawn from the rule's space, or the
    library's default. parts: of a hybrid, role -> (rule, hyperparameters).
    """

    optimizer: str
    hyperparameters: Mapping[str, Any]
    schedule: str
    warmup_fraction: float
    kind: str
    parts: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def lr(self) -> float:
        """The learning rate; of a hybrid that of its dense part."""
        values = self.parts["dense"][1] if self.parts else self.hyperparameters
        return float(values["lr"])

    def at(self, factor: float) -> Candidate:
        """The candidate with its learning rates times a factor."""
        if factor == 1.0:
            return self
        if not self.parts:
            return replace(self, hyperparameters={**self.hyperparameters, "lr": _digits(self.lr * factor)})
        parts = {
            role: (rule, {**values, "lr": _digits(float(values["lr"]) * factor)})
            for role, (rule, values) in self.parts.items()
        }
        return replace(self, parts=parts)

    def config(self, profile: TaskProfile, provenance: Mapping[str, Any], full_batch: bool = False) -> OptimizerConfig:
        """The candidate as a config for a training of the profile's length."""
        name, fraction = self.schedule, self.warmup_fraction
        warmup = fraction if name in WARMS_UP else 0.0
        schedule = (
            Schedule(name, None, None, 0.0, warmup)
            if profile.steps is None
            else Schedule(name, round(warmup * profile.steps), profile.steps)
        )
        if not self.parts:
            batch = "full" if full_batch else "mini"
            return OptimizerConfig.of(
                self.optimizer, self.hyperparameters, schedule, batch=batch, provenance=provenance
            )
        groups = [
            {"role": role, "optimizer": rule, "hyperparameters": RULES[rule].complete(values)}
            for role, (rule, values) in self.parts.items()
        ]
        groups.append(no_decay(self.parts["dense"][0]))
        return OptimizerConfig(HYBRID, {}, schedule.to_dict(), groups, provenance=dict(provenance))

    def to_list(self) -> list[Any]:
        parts = {role: [rule, dict(values)] for role, (rule, values) in self.parts.items()}
        return [self.optimizer, dict(self.hyperparameters), self.schedule, self.warmup_fraction, self.kind, parts]

    @classmethod
    def from_list(cls, data: Sequence[Any]) -> Candidate:
        optimizer, hyperparameters, schedule, fraction, kind, parts = data
        return cls(optimizer, hyperparameters, schedule, fraction, kind, {role: tuple(p) for role, p in parts.items()})


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


@dataclass(frozen=True)
class Row:
    """One task: regrets over the candidates as bytes, and what to say of it.

    best: rule -> [regret of the rule's best config, its learning rate], picked on one seed and scored on the other.
    source: STUDIED, OWN, or the id of a published source.
    """

    name: str
    family: str
    source: str
    profile: TaskProfile
    regrets: bytes
    best: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seeds: int = 1
    worth: float = 1.0
    citation: str = ""


@dataclass(frozen=True)
class Knowledge:
    """Candidates, rows over them, how to weigh rows, and the arrays of the fitted models."""

    candidates: Sequence[Candidate]
    rows: Sequence[Row]
    scales: Scales = field(default_factory=Scales)
    guide_weight: float = 0.5
    models: Mapping[str, Array] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()

    def without(self, *families: str, sources: Sequence[str] = ()) -> Knowledge:
        """The knowledge without the rows of some families, and without what rests on some sources (published.SOURCES)."""
        rows = [row for row in self.rows if row.family not in families and row.source not in sources]
        return replace(self, rows=rows, left_out=self.left_out | frozenset(sources))

    @functools.cached_property
    def largest(self) -> tuple[float, float]:
        """log10 of the most parameters and the most steps among the tasks studied here."""
        sizes = [features.size(row.profile) for row in self.rows if row.source == STUDIED] or [(0.0, 0.0)]
        return max(size[0] for size in sizes), max(size[1] for size in sizes)

    @functools.cached_property
    def rates(self) -> Rates | None:
        """The laws of learning rates, where the arrays have them."""
        return Rates.from_arrays(self.models)

    @functools.cached_property
    def classifier(self) -> Classifier | None:
        """The chances of the rules, where the arrays have them."""
        found = {
            name.removeprefix("classifier."): made.flat for name, made in self.models.items() if "classifier." in name
        }
        return Classifier.from_arrays(found) if found else None

    @functools.cached_property
    def of(self) -> dict[str, list[int]]:
        """Optimizer -> the numbers of its candidates."""
        found: dict[str, list[int]] = {}
        for number, candidate in enumerate(self.candidates):
            found.setdefault(candidate.optimizer, []).append(number)
        return found

    @functools.cached_property
    def ladders(self) -> dict[tuple[str, str], list[int]]:
        """(optimizer, kind) -> the numbers of its ladder's candidates, the smallest learning rate first."""
        found: dict[tuple[str, str], list[int]] = {}
        for number, candidate in enumerate(self.candidates):
            if candidate.kind in (CONSTANT, ANNEALED):
                found.setdefault((candidate.optimizer, candidate.kind), []).append(number)
        for numbers in found.values():
            numbers.sort(key=lambda n: self.candidates[n].lr)
        return found

    def between(self, optimizer: str, annealed: bool, lr: float) -> list[tuple[int, float]] | None:
        """Which candidates of a ladder stand beside a learning rate, with weights that add up to 1 within the ladder.

        Below its lowest rate the weight that is missing counts as regret 1, a third of it a factor of 3; above its
        highest rate likewise. None where the optimizer has no ladder.
        """
        ladder = self.ladders.get((optimizer, ANNEALED if annealed else CONSTANT))
        ladder = ladder or self.ladders.get((optimizer, CONSTANT))
        if not ladder:
            return None
        rates = [self.candidates[n].lr for n in ladder]
        if lr <= rates[0] or lr >= rates[-1]:
            end = ladder[0] if lr <= rates[0] else ladder[-1]
            beyond = abs(math.log(lr / self.candidates[end].lr, 3))
            return [(end, max(0.0, 1.0 - beyond / 3))]
        high = next(i for i, rate in enumerate(rates) if rate > lr)
        share = math.log(lr / rates[high - 1]) / math.log(rates[high] / rates[high - 1])
        return [(ladder[high - 1], 1.0 - share), (ladder[high], share)]


def to_arrays(knowledge: Knowledge) -> dict[str, Any]:
    """What np.savez is given: everything as numbers, text as its bytes."""
    import numpy as np

    def _numbers(made: Array) -> Any:
        return np.frombuffer(made.flat, dtype=np.uint8) if isinstance(made.flat, bytes) else np.asarray(made.flat)

    def text(data: Any) -> Any:
        return np.frombuffer(json.dumps(data, separators=(",", ":")).encode(), dtype=np.uint8)

    rows = [
        {
            "name": row.name,
            "family": row.family,
            "source": row.source,
            "profile": {k: v for k, v in row.profile.to_dict().items() if v is not None},
            "best": {rule: list(pair) for rule, pair in row.best.items()},
            "seeds": row.seeds,
            "worth": row.worth,
            "citation": row.citation,
        }
        for row in knowledge.rows
    ]
    meta = {
        "format": FORMAT,
        "scales": vars(knowledge.scales),
        "guide_weight": knowledge.guide_weight,
        "notes": dict(knowledge.notes),
        "candidates": [candidate.to_list() for candidate in knowledge.candidates],
        "rows": rows,
    }
    regrets = np.frombuffer(b"".join(row.regrets for row in knowledge.rows), dtype=np.uint8)
    models = {name: _numbers(made).reshape(made.shape) for name, made in knowledge.models.items()}
    return {"meta": text(meta), "regrets": regrets.reshape(len(knowledge.rows), len(knowledge.candidates)), **models}


def from_arrays(arrays: Mapping[str, Array]) -> Knowledge:
    """The knowledge that `to_arrays` wrote."""
    meta = json.loads(arrays["meta"].text())
    flat = arrays["regrets"].flat
    assert isinstance(flat, bytes)
    width = arrays["regrets"].shape[1]
    rows = [
        Row(
            **{
                **data,
                "profile": TaskProfile(**data["profile"]),
                "regrets": flat[i * width : (i + 1) * width],
            }
        )
        for i, data in enumerate(meta["rows"])
    ]
    models = {name: made for name, made in arrays.items() if name not in ("meta", "regrets")}
    return Knowledge(
        [Candidate.from_list(data) for data in meta["candidates"]],
        rows,
        Scales(**meta["scales"]),
        meta["guide_weight"],
        models,
        meta["notes"],
    )


@functools.cache
def shipped() -> Knowledge:
    """What the package ships; empty where it ships nothing."""
    path = resources.files("optadvisor.advisor").joinpath("data/knowledge.npz")
    if not path.is_file():
        return Knowledge([], [])
    with path.open("rb") as file:
        return from_arrays(read_npz(file))


def own_file() -> Path:
    """Where the person's own studies are kept as knowledge (own.py)."""
    return home() / "knowledge" / "own.json"


def load() -> Knowledge:
    """What the package ships, and after it the rows of the person's own studies; InputError where their file is broken.

    Where the package ships no candidates there is nothing that a study could be a row over.
    """
    knowledge = shipped()
    if not knowledge.candidates or not own_file().exists():
        return knowledge
    from optadvisor.advisor import own  # which takes Row and Candidate from here

    return replace(knowledge, rows=[*knowledge.rows, *own.rows(knowledge.candidates)])


def save(knowledge: Knowledge, path: Path) -> None:
    """Write the file that `shipped` reads, whole or not at all."""
    import io

    import numpy as np

    from optadvisor.files import write_whole_bytes

    kept = io.BytesIO()
    np.savez(kept, **to_arrays(knowledge))
    write_whole_bytes(path, kept.getvalue())
