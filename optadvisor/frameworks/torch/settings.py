"""The hyperparameters of a group as PyTorch holds them, in `param_groups`: checked when given, read again when changed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import torch

from optadvisor.frameworks.torch import twins
from optadvisor.frameworks.torch.twins import plain
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.kernels.rules import RULES, Rule

_OWN = ("rule", "convention", "maximize")
_ALIKE = 0.85  # a key as close as this to a hyperparameter's name is a slip: "weigth_decay", "beta"


def complete(group: dict[str, Any], default: Rule | None, given: Mapping[str, Any], where: str) -> None:
    """Write every hyperparameter into a group: what it says, else what was given for its rule, else the rule's default.

    default: the rule of a group that names none. Keys that are no hyperparameters stay as they are: they are the person's.
    """
    if default is None and "rule" not in group:
        raise InputError(f"{where} of a hybrid names no rule: give it one, for example rule='adamw'")
    rule = rules.get(group["rule"]) if "rule" in group else default
    assert rule is not None
    shared = given.get("convention")
    convention = group.get("convention") or (shared if shared in rule.conventions or rule is default else None)
    convention = convention or rule.conventions[0]
    if convention not in rule.conventions:
        raise unknown(f"convention of {rule.id}", convention, rule.conventions)
    inherited = {k: v for k, v in given.items() if k not in _OWN} if rule is default else {}
    for key in [k for k in group if k not in ("params", *_OWN)]:
        _check_key(key, rule, where)
    values = {**twins.fixed(rule), "maximize": given.get("maximize", False), **inherited, **group}
    twins.check_fixed(rule, values, where)
    if not isinstance(values["maximize"], bool):
        raise InputError(f"{where}: maximize is {values['maximize']!r}; it takes True or False")
    known = {name: values[name] for name in rule.names if name in values}
    checked = rule.complete({name: plain(value, name) for name, value in known.items()}, where)
    if rule.form(checked, convention).lookahead:
        raise InputError(
            f"{where}: convention {convention!r} of {rule.id} wants its gradient at another point than the parameters: "
            "use convention 'pytorch'"
        )
    group.update({**checked, **known, **{k: values[k] for k in (*twins.fixed(rule), "maximize")}, "rule": rule.id})
    if convention != rule.conventions[0]:
        group["convention"] = convention


def _check_key(key: str, rule: Rule, where: str) -> None:
    allowed = (*rule.names, *twins.fixed(rule), *twins.IMPLEMENTATIONS, *twins.IMPOSSIBLE)
    if key in allowed:
        return
    elsewhere = any(key in other.names or key in twins.fixed(other) for other in RULES.values())
    close = difflib.get_close_matches(key, allowed, n=1, cutoff=_ALIKE)
    if elsewhere or close:
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"{where}: {rule.id} has no {key!r}: {hint}known: {', '.join(rule.names)}")


class Settings:
    """What the kernels were told of a group, and what has changed since."""

    def __init__(self, group: Mapping[str, Any], where: str) -> None:
        self.where = where
        self.rule = rules.get(group["rule"])
        self.names = tuple(name for name in (*self.rule.names, *twins.fixed(self.rule), *_OWN) if name in group)
        self._get = itemgetter(*self.names)
        self._take(self._get(group))

    def _take(self, found: tuple[Any, ...]) -> None:
        twins.check_fixed(self.rule, dict(zip(self.names, found, strict=True)), self.where)
        self._found = found
        # A tensor may change its value and stay the same object.
        self._tensors = any(isinstance(value, torch.Tensor) for value in found) or any(
            isinstance(one, torch.Tensor) for value in found if isinstance(value, (tuple, list)) for one in value
        )
        self.values = {name: plain(value, name) for name, value in zip(self.names, found, strict=True)}

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {name: value for name, value in self.values.items() if name in self.rule.names}

    def kernel_group(self) -> dict[str, Any]:
        """The group's keywords as `kernels.Optimizer` takes them."""
        return {name: self.values[name] for name in (*self.hyperparameters, *(k for k in _OWN if k in self.values))}

    def changed(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """What is different from the last call, by name; read anew."""
        found = self._get(group)
        if not self._tensors and found == self._found:
            return {}
        before = self.values
        self._take(found)
        return {name: value for name, value in self.values.items() if value != before[name]}
