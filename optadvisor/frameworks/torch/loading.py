"""A state_dict of ours or of torch.optim's class, checked before it replaces what an optimizer has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from optadvisor.frameworks.torch import twins
from optadvisor.frameworks.torch.twins import plain
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError


def check_loaded(state: Mapping[str, Any], own: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups to go on with: what was saved, and what it leaves out from the optimizer's own.

    Errors: InputError where it belongs to another rule or convention, a value is out of range, or states are missing or of
    other shapes.
    """
    groups = []
    for number, (saved, group) in enumerate(zip(state["param_groups"], own, strict=True)):
        where = f"state_dict group {number}"
        rule = rules.get(group["rule"])
        for name, default in (("rule", rule.id), ("convention", rule.conventions[0])):
            found, mine = saved.get(name, default), group.get(name, default)
            if found != mine:
                raise InputError(
                    f"{where}: {name} is {found!r}, this optimizer has {mine!r}: build it with {name}={found!r}"
                )
        twins.check_fixed(rule, saved, where)
        kept = {
            name: group[name]
            for name in (*rule.names, *twins.fixed(rule), "maximize", "rule", "convention")
            if name in group
        }
        merged = {**kept, **saved}
        values = rule.complete({name: plain(merged[name], name) for name in rule.names}, where)
        needed = [s.name for s in rule.form(values, group.get("convention", rule.conventions[0])).states]
        for i, p in enumerate(merged["params"]):
            _check_state(state["state"].get(p) or {}, p, needed, f"{where}: parameter {i}")
        groups.append(merged)
    return groups


def _check_state(found: Mapping[str, Any], p: Tensor, needed: Sequence[str], where: str) -> None:
    arrays = {name: value for name, value in found.items() if isinstance(value, Tensor) and name != "step"}
    if not arrays:
        return  # no step yet
    for name in needed:
        if name not in arrays:
            raise InputError(f"{where} has no state {name!r}, found {sorted(found)}: it is of another rule or setting")
        if arrays[name].shape != p.shape:
            raise InputError(
                f"{where}: state {name!r} is {list(arrays[name].shape)}, the parameter is {list(p.shape)}: another model"
            )
