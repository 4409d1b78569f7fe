"""`Look`: what was read from a model, and the profile that it makes together with what a person declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optadvisor.frameworks.guessing import Description, architecture, convex, domain
from optadvisor.frameworks.parameters import Parameter, counts
from optadvisor.profile import TaskProfile, steps_of

DECLARED = "declared"


@dataclass(frozen=True)
class Look:
    """A model as it was read. `print` it; `optadvisor.recommend` takes it.

    profile: what is known of the task, what was declared before what was read. reasons: field of the profile -> what it
    was read from, or "declared". undecided: field -> why nothing was guessed. parameters: each tensor once. norms: kind of
    normalisation ("batch", "layer", "group", "instance", "rms", "other") -> layers. wrappers: classes around the model,
    the outermost first. notes: what could not be looked at.
    """

    name: str
    profile: TaskProfile
    reasons: Mapping[str, str]
    undecided: Mapping[str, str]
    parameters: Sequence[Parameter]
    norms: Mapping[str, int] = field(default_factory=dict)
    wrappers: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Trainable elements by role."""
        return counts(self.parameters)

    @property
    def frozen(self) -> int:
        """Elements that do not train."""
        return sum(p.size for p in self.parameters if not p.trainable)

    @property
    def tied(self) -> list[tuple[str, ...]]:
        """Names that share one tensor."""
        return [p.all_names for p in self.parameters if len(p.all_names) > 1]

    def rows(self) -> list[tuple[str, str]]:
        """What was read as pairs of a label and a text, for a page."""
        trained = [p for p in self.parameters if p.trainable]
        rows = [("model", self.name + (f", in {' in '.join(reversed(self.wrappers))}" if self.wrappers else ""))]
        rows.append(("trainable", f"{sum(p.size for p in trained):,} parameters in {len(trained)} tensors"))
        rows.extend((f"- {role}", f"{size:,}") for role, size in self.counts.items())
        if self.frozen:
            rows.append(("frozen", f"{self.frozen:,} parameters"))
        if self.tied:
            shown = [" = ".join(names) for names in self.tied]
            rows.append(("tied", ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")))
        layers = [f"{n} {kind}" for kind, n in self.norms.items()]
        rows.append(("normalisation", ", ".join(layers) or "none"))
        for name, why in self.reasons.items():
            rows.append((name.replace("_", " "), f"{_shown(getattr(self.profile, name))} ({why})"))
        rows.extend((name.replace("_", " "), f"not told: {why}") for name, why in self.undecided.items())
        rows.extend(("not seen", note) for note in self.notes)
        return rows

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {text}" for label, text in rows)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data: the "model" of what `optadvisor recommend --torch` prints."""
        return {
            "name": self.name,
            "parameters": self.counts,
            "frozen": self.frozen,
            "tied": [list(names) for names in self.tied],
            "normalisation": dict(self.norms),
            "wrappers": list(self.wrappers),
            "read": {
                name: {"value": getattr(self.profile, name), "why": why}
                for name, why in self.reasons.items()
                if why != DECLARED
            },
            "undecided": dict(self.undecided),
            "notes": list(self.notes),
        }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def look(
    description: Description,
    declared: Mapping[str, Any],
    read: Mapping[str, tuple[Any, str]],
    *,
    convex_loss: str = "",
    norms: Mapping[str, int] | None = None,
    wrappers: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Look:
    """The look at a described model. declared: fields of TaskProfile, and epochs, which become steps.

    read: fields that the framework knows by itself, with the reason. Guesses build on what is declared: an architecture
    that a person states decides what the domain may be.
    """
    declared = {name: value for name, value in declared.items() if value is not None}
    epochs = declared.pop("epochs", None)
    told = TaskProfile.from_dict(declared).to_dict()
    found: dict[str, tuple[Any, str]] = {
        "parameters": (sum(p.size for p in description.parameters if p.trainable), "its trainable tensors"),
        **read,
    }
    undecided = {}
    guessed = architecture(description)
    kind = told["architecture"] or guessed.value
    for name, guess in (("architecture", guessed), ("domain", domain(description, kind))):
        if guess.value is not None:
            found[name] = (guess.value, guess.why)
        elif told[name] is None:
            undecided[name] = guess.why
    flat, why = convex(description, kind, convex_loss)
    if flat is not None:
        found["convex"] = (flat, why)
    values = {name: value for name, (value, _) in found.items() if value is not None}
    values.update({name: value for name, value in told.items() if value is not None})
    reasons = {name: DECLARED if told[name] is not None else found[name][1] for name in values}
    if epochs is not None:
        values["steps"], reasons["steps"] = steps_of(epochs, values)
    order = list(told)
    return Look(
        description.name,
        TaskProfile(**values),
        {name: reasons[name] for name in order if name in reasons},
        undecided,
        description.parameters,
        dict(norms or {}),
        wrappers,
        notes,
    )
