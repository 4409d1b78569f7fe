"""`OptimizerConfig`: what to train with. A recommendation holds one, a trial runs one, an export translates one."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optadvisor.files import read_json, write_whole
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.kernels.rules.record import Value
from optadvisor.kernels.schedules import Schedule

if TYPE_CHECKING:
    import keras
    import optax
    import torch

    from optadvisor.frameworks.torch.groups import ParamGroups
    from optadvisor.frameworks.torch.scheduling import ScheduleLR

SCHEMA = 1
HYBRID = "hybrid"
ROLES = ("embedding", "dense", "no_decay")
BATCHES = ("mini", "full")

# An array this tall and narrow is taken for an embedding table where nobody says what it is.
_EMBEDDING_ROWS, _EMBEDDING_RATIO = 1000, 8


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer, hyperparameters, schedule, parameter groups by role, batch, convention and where it comes from.

    optimizer: a rule's id or "hybrid". hyperparameters: exactly the keywords of kernels.Optimizer; what is left out
    becomes the rule's default ({} for hybrid). schedule: as kernels.Schedule.to_dict writes it; lr is its peak.
    groups: those that differ, {"role", "optimizer", "hyperparameters"}; hybrid has embedding and dense.
    batch: "mini" or "full" (every step uses all samples). convention: whose form of the rule; "pytorch" by default; a
    hybrid takes those that all of its rules have.
    provenance: free JSON: where the values come from.

    Errors: InputError (a ValueError) that names the field, its value and what it takes.
    """

    optimizer: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=lambda: Schedule("constant", 0).to_dict())
    groups: list[dict[str, Any]] = field(default_factory=list)
    batch: str = "mini"
    convention: str = "pytorch"
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA or isinstance(self.schema, bool):
            raise InputError(f"config schema is {self.schema!r}; this version reads schema {SCHEMA}")
        if not isinstance(self.optimizer, str) or self.optimizer not in (*rules.RULES, HYBRID):
            raise unknown("optimizer", self.optimizer, (*rules.RULES, HYBRID))
        if self.batch not in BATCHES:
            raise unknown("batch", self.batch, BATCHES)
        if not isinstance(self.provenance, Mapping):
            raise InputError(f"provenance is {self.provenance!r}; it takes an object")
        self._set("hyperparameters", self._checked_hyperparameters())
        self._set("groups", [self._checked_group(group) for group in _list(self.groups, "groups")])
        self._set("provenance", copy.deepcopy(dict(self.provenance)))
        self._check_roles()
        self._check_convention()
        schedule = Schedule.from_dict(self.schedule)
        self._set("schedule", schedule.to_dict())
        if self.optimizer != HYBRID:
            rules.get(self.optimizer).check_schedule(schedule.name)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _checked_hyperparameters(self) -> dict[str, Any]:
        given = _mapping(self.hyperparameters, "hyperparameters")
        if self.optimizer == HYBRID:
            if given:
                raise InputError(
                    f"hybrid has no hyperparameters of its own, found {sorted(given)}: put them in its groups"
                )
            return {}
        return _plain(rules.get(self.optimizer).complete(given))

    def _checked_group(self, group: object) -> dict[str, Any]:
        given = _mapping(group, "a group")
        for key in given:
            if key not in ("role", "optimizer", "hyperparameters"):
                raise unknown("field of a group", key, ("role", "optimizer", "hyperparameters"))
        role = given.get("role")
        if role not in ROLES:
            raise unknown("role of a group", role, ROLES)
        name = given.get("optimizer", self.optimizer)
        if name == HYBRID:
            raise InputError(f"the {role} group of hybrid names no rule; give its optimizer: {', '.join(rules.RULES)}")
        rule = rules.get(name)
        values = _mapping(given.get("hyperparameters", {}), f"hyperparameters of the {role} group")
        where = f"{name} ({role} group)"
        checked = {key: rule.hyperparameter(key).check(value, where) for key, value in values.items()}
        if self.optimizer == HYBRID and role != "no_decay":
            checked = rule.complete(checked, where)
        return {"role": role, "optimizer": name, "hyperparameters": _plain(checked)}

    def _check_roles(self) -> None:
        found = [group["role"] for group in self.groups]
        for role in set(found):
            if found.count(role) > 1:
                raise InputError(f"groups name the role {role!r} {found.count(role)} times; each role once")
        if self.optimizer == HYBRID:
            for role in ("embedding", "dense"):
                if role not in found:
                    raise InputError(f"hybrid needs the groups embedding and dense, {role!r} is missing")

    def _check_convention(self) -> None:
        own = [group["optimizer"] for group in self.groups] if self.optimizer == HYBRID else [self.optimizer]
        first, *others = [rules.get(rule).conventions for rule in own]
        conventions = [name for name in first if all(name in other for other in others)]
        if self.convention not in conventions:
            raise unknown(f"convention of {self.optimizer}", self.convention, conventions)
        if self.convention != conventions[0]:
            for rule, hyperparameters in self.roles().values():
                rules.get(rule).form(hyperparameters, self.convention_of(rule))  # refuses what the convention has not

    @classmethod
    def of(
        cls,
        optimizer: str,
        hyperparameters: Mapping[str, Any] | None = None,
        schedule: Schedule | None = None,
        *,
        batch: str = "mini",
        provenance: Mapping[str, Any] | None = None,
    ) -> OptimizerConfig:
        """A config of one rule, with the no_decay group (normalisation and biases) that weight decay calls for."""
        values = rules.get(optimizer).complete(hyperparameters or {})
        return cls(
            optimizer,
            _plain(values),
            (schedule or Schedule("constant", 0)).to_dict(),
            [no_decay(optimizer)] if values.get("weight_decay") else [],
            batch,
            provenance=dict(provenance or {}),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OptimizerConfig:
        """The config that `to_dict` wrote. InputError for an unknown field, schema, name or value."""
        data = _mapping(data, "config")
        known = [f.name for f in fields(cls)]
        for key in data:
            if key not in known:
                raise unknown("config field", key, known)
        for key in ("schema", "optimizer"):
            if key not in data:
                raise InputError(f"config has no {key!r}; it takes {', '.join(known)}")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data: the config object of the JSON that recommend and tune print."""
        order = (
            "schema",
            "optimizer",
            "hyperparameters",
            "schedule",
            "groups",
            "batch",
            "convention",
            "provenance",
        )
        return {name: copy.deepcopy(getattr(self, name)) for name in order}

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> OptimizerConfig:
        """The config in a JSON file."""
        try:
            return cls.from_dict(read_json(path, "config"))
        except InputError as error:
            raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the config as a JSON file, whole or not at all."""
        write_whole(Path(path), json.dumps(self.to_dict(), indent=2) + "\n")

    def roles(self) -> dict[str, tuple[str, dict[str, Value]]]:
        """Role -> rule and its complete hyperparameters: what a group leaves out it inherits."""
        found: dict[str, tuple[str, dict[str, Value]]] = {}
        if self.optimizer != HYBRID:
            found["dense"] = (self.optimizer, rules.get(self.optimizer).complete(self.hyperparameters))
        for group in sorted(self.groups, key=lambda g: ROLES.index(g["role"])):
            name = group["optimizer"]
            base_name, base = found.get("dense", ("", {}))
            inherited = base if base_name == name else {}
            found[group["role"]] = (name, rules.get(name).complete({**inherited, **group["hyperparameters"]}))
        return found

    @property
    def lr(self) -> float:
        """The learning rate, the peak of the schedule; of a hybrid that of its dense part."""
        return float(self.roles()["dense"][1]["lr"])  # type: ignore[arg-type]

    def convention_of(self, rule: str) -> str:
        """The convention of one of the config's rules: the config's where that rule has it, else the rule's default."""
        known = rules.get(rule).conventions
        return self.convention if self.convention in known else known[0]

    def role_of(self, shape: Sequence[int], declared: str | None = None) -> str:
        """The role of a parameter in this config: the declared one, `dense` where no group has it, else by shape."""
        if declared is None:
            return self.role_of_shape(shape)
        have = {group["role"] for group in self.groups}
        return "dense" if declared in ROLES and declared not in have else declared

    def role_of_shape(self, shape: Sequence[int]) -> str:
        """The role of a parameter of which only the shape is known.

        Less than two dimensions: no_decay, where the config has it. In a hybrid, a matrix of at least 1000 rows that
        is 8 times as tall as wide: embedding. All else: dense.
        """
        have = {group["role"] for group in self.groups}
        if len(shape) < 2 and "no_decay" in have:
            return "no_decay"
        tall = len(shape) == 2 and shape[0] >= _EMBEDDING_ROWS and shape[0] >= _EMBEDDING_RATIO * shape[1]
        return "embedding" if "embedding" in have and tall else "dense"

    # What follows is about models of frameworks, which are imported where they are asked for: here is only the name that a
    # person looks for.

    def param_groups(self, model: torch.nn.Module, roles: Mapping[str, str] | None = None) -> ParamGroups:
        """The parameters of a PyTorch model in this config's groups; print them for a table of what went where.

        See `optadvisor.frameworks.torch.groups.param_groups`.
        """
        from optadvisor.frameworks import torch

        return torch.param_groups(self, model, roles)

    def build_torch(
        self,
        model: torch.nn.Module,
        total_steps: int | None = None,
        roles: Mapping[str, str] | None = None,
        kernels: str | None = None,
    ) -> tuple[torch.optim.Optimizer, ScheduleLR]:
        """(optimizer, scheduler) of this config for a PyTorch model; scheduler.step() after each optimizer.step().

        See `optadvisor.frameworks.torch.building.build_torch`.
        """
        from optadvisor.frameworks import torch

        return torch.build_torch(self, model, total_steps, roles, kernels)

    def build_optax(
        self, params: Any, total_steps: int | None = None, roles: Mapping[str, str] | None = None
    ) -> optax.GradientTransformation:
        """The optax transformation of this config for a pytree of JAX parameters, its schedule included.

        See `optadvisor.frameworks.optax.building.build_optax`.
        """
        from optadvisor.frameworks import optax

        return optax.build_optax(self, params, total_steps, roles)

    def build_keras(
        self, model: Any = None, total_steps: int | None = None, roles: Mapping[str, str] | None = None
    ) -> keras.optimizers.Optimizer:
        """The Keras optimizer of this config, its schedule included.

        See `optadvisor.frameworks.keras.building.build_keras`.
        """
        from optadvisor.frameworks import keras

        return keras.build_keras(self, model, total_steps, roles)

    def to_training_arguments(
        self, total_steps: int | None = None, model: torch.nn.Module | None = None
    ) -> dict[str, Any]:
        """Keyword arguments for Hugging Face's TrainingArguments with which its Trainer trains as this config says.

        See `optadvisor.frameworks.transformers.to_training_arguments`.
        """
        from optadvisor.frameworks import transformers

        return transformers.to_training_arguments(self, total_steps, model)


def no_decay(optimizer: str) -> dict[str, Any]:
    """The group of normalisation layers and biases, which weight decay leaves alone."""
    return {"role": "no_decay", "optimizer": optimizer, "hyperparameters": {"weight_decay": 0.0}}


def _plain(values: Mapping[str, Value]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{what} is {value!r}; it takes an object")
    return dict(value)


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{what} is {value!r}; it takes a list")
    return list(value)
