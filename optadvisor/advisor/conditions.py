"""Conditions on a task profile, as the data files write them (guide.toml explains the form)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optadvisor.profile import TaskProfile

Condition = Mapping[str, Any]


def any_holds(conditions: Sequence[Condition], profile: TaskProfile) -> bool:
    """Whether one of the conditions holds. An empty condition always does, an empty list never."""
    return any(
        all(_test(wanted, getattr(profile, name)) for name, wanted in condition.items()) for condition in conditions
    )


def _test(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, list):
        return ("unset" if value is None else value) in wanted
    if isinstance(wanted, Mapping):
        if value is None:
            return bool(wanted.get("unset", False))
        return (
            value >= wanted.get("min", value)
            and value <= wanted.get("max", value)
            and ("below" not in wanted or value < wanted["below"])
        )
    return bool(value is wanted)
