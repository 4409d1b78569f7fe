"""state_dict: what an optimizer saves, and the checks before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optadvisor.kernels.cuda.arrays import dtype_name
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.group import Group

FORMAT = 1


def state_dict(groups: Sequence[Group], steps_done: int) -> dict[str, Any]:
    """Plain data and copies of the state arrays."""
    return {
        "format": FORMAT,
        "steps_done": steps_done,
        "groups": [
            {
                "rule": group.rule.id,
                "convention": group.convention,
                "hyperparameters": dict(group.hyperparameters),
                "schedule": group.schedule.to_dict(),
                "params": [
                    {"name": leaf.name, "shape": leaf.array.shape, "dtype": dtype_name(leaf.array.dtype)}
                    for leaf in group.leaves
                ],
                "state": {
                    name: [group.saved(k, i) for i in range(len(group.leaves))]
                    for k, name in enumerate(group.kept_names)
                },
            }
            for group in groups
        ],
    }


def load_state_dict(state: Mapping[str, Any], groups: Sequence[Group]) -> int:
    """Copy saved state into the groups; the number of steps done. InputError before anything has changed."""
    steps = _check(state, groups)
    for group, saved in zip(groups, state["groups"], strict=True):
        for k, name in enumerate(group.kept_names):
            for i in range(len(group.leaves)):
                group.load(k, i, saved["state"][name][i])
    return steps


def _check(state: Mapping[str, Any], groups: Sequence[Group]) -> int:
    if not isinstance(state, Mapping) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, Mapping) else type(state).__name__
        raise InputError(f"state_dict has format {found!r}; this version reads format {FORMAT}")
    steps, saved_groups = state.get("steps_done"), state.get("groups")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
        raise InputError(f"state_dict: steps_done is {steps!r}; it takes a whole number, 0 or more")
    if not isinstance(saved_groups, Sequence) or len(saved_groups) != len(groups):
        count = len(saved_groups) if isinstance(saved_groups, Sequence) else saved_groups
        raise InputError(f"state_dict has {count} groups, this optimizer has {len(groups)}")
    for number, (group, saved) in enumerate(zip(groups, saved_groups, strict=True)):
        _check_group(f"state_dict group {number}", group, saved)
    return int(steps)


def _check_group(where: str, group: Group, saved: Mapping[str, Any]) -> None:
    for field in ("rule", "convention", "params", "state"):
        if not isinstance(saved, Mapping) or field not in saved:
            raise InputError(f"{where} has no {field!r}; pass what state_dict() returned")
    for field, expected in (("rule", group.rule.id), ("convention", group.convention)):
        if saved[field] != expected:
            raise InputError(f"{where}: {field} is {saved[field]!r}, this optimizer has {expected!r}")
    names = [p["name"] for p in saved["params"]]
    if names != [leaf.name for leaf in group.leaves]:
        raise InputError(f"{where}: parameters are {names}, this optimizer has {[leaf.name for leaf in group.leaves]}")
    for leaf, param in zip(group.leaves, saved["params"], strict=True):
        was, is_now = (
            f"{param['dtype']}{list(param['shape'])}",
            f"{dtype_name(leaf.array.dtype)}{list(leaf.array.shape)}",
        )
        if was != is_now:
            raise InputError(f"{where}: {leaf.name} was {was}, this optimizer has {is_now}")
    for k, name in enumerate(group.kept_names):
        if name not in saved["state"]:
            raise InputError(f"{where}: state {name!r} is missing; found {sorted(saved['state'])}")
        arrays = saved["state"][name]
        if len(arrays) != len(group.leaves):
            raise InputError(f"{where}: state {name!r} has {len(arrays)} arrays for {len(names)} parameters")
        for i, (leaf, array) in enumerate(zip(group.leaves, arrays, strict=True)):
            own = group.kept_shape(k, i)
            found, expected = f"{np.asarray(array).dtype}{list(np.shape(array))}", f"{group.dtype}{list(own)}"
            if found != expected:
                whose = "the parameter" if own == leaf.array.shape else "this optimizer's"
                raise InputError(f"{where}: state {name!r} of {leaf.name} is {found}, {whose} is {expected}")
    unexpected = sorted(set(saved["state"]) - set(group.kept_names))
    if unexpected:
        raise InputError(f"{where}: state {unexpected[0]!r} is not one of {group.form.name}'s")
