"""Which parameter of a model goes to which group of a config: each trainable one to exactly one."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optadvisor.config import ROLES, OptimizerConfig
from optadvisor.frameworks.parameters import Parameter
from optadvisor.kernels.errors import InputError, nearest, unknown
from optadvisor.kernels.rules.record import Value


@dataclass(frozen=True)
class Grouped:
    """A group of a config with its parameters. role: "embedding", "dense" or "no_decay"; rule: the id of its rule."""

    role: str
    rule: str
    hyperparameters: dict[str, Value]
    parameters: list[Parameter]


def assign(
    config: OptimizerConfig, parameters: Sequence[Parameter], roles: Mapping[str, str] | None = None
) -> list[Grouped]:
    """The groups of a config that have parameters, in the config's order.

    Embeddings go to the embedding group of a config that has one (a hybrid); norms, biases and what the model lists go
    to no_decay where the config has it; everything else is dense. roles: name or pattern of names (`decoder.*.weight`)
    -> "embedding", "dense" or "no_decay", which wins; a full name wins over patterns. Frozen parameters are in no group.

    Errors: InputError for a pattern that matches nothing, a role that does not exist, a parameter that two patterns
    claim for different roles, an embedding that the model wants no weight decay for where its group has some under a rule
    of its own, and a model without trainable parameters.
    """
    declared = _declared(parameters, {} if roles is None else roles)
    if not any(parameter.trainable for parameter in parameters):
        raise InputError(
            f"the model has no trainable parameters ({len(parameters)} are frozen): set requires_grad for those to train"
            if parameters
            else "the model has no parameters: nothing to optimize"
        )
    have = config.roles()
    members: dict[str, list[Parameter]] = {role: [] for role in have}
    for parameter in parameters:
        if parameter.trainable:
            members[_role(parameter, have, declared.get(parameter.name))].append(parameter)
    return [
        Grouped(role, rule, hyperparameters, members[role])
        for role, (rule, hyperparameters) in have.items()
        if members[role]
    ]


def _role(parameter: Parameter, have: Mapping[str, tuple[str, Mapping[str, Value]]], declared: str | None) -> str:
    """The group of a parameter: the declared one, dense where the config has no such group."""
    if declared is not None:
        return declared if declared in have else "dense"
    spared = "no_decay" in have and not parameter.decay
    if "embedding" not in have or parameter.role not in ("embedding", "sparse embedding"):
        return "no_decay" if spared else "dense"
    rule, hyperparameters = have["embedding"]
    if not spared or not hyperparameters.get("weight_decay"):
        return "embedding"
    if have["no_decay"][0] == rule:
        return "no_decay"
    raise InputError(
        f"the model wants no weight decay for {parameter.name}, and the embedding group ({rule}) has weight_decay "
        f"{hyperparameters['weight_decay']:g}: set it to 0, or give the name a role"
    )


def _declared(parameters: Sequence[Parameter], roles: Mapping[str, str]) -> dict[str, str]:
    """Name of a parameter -> the role that was declared for it."""
    if not isinstance(roles, Mapping):
        raise InputError(f"roles is {type(roles).__name__}; it takes a dict, such as {{'head.*': 'no_decay'}}")
    found: dict[str, tuple[str, str]] = {}  # name -> role, and the pattern that said so
    exact = {name: parameter for parameter in parameters for name in parameter.all_names}
    for pattern, role in roles.items():
        if role not in ROLES:
            raise unknown(f"role of {pattern!r}", role, ROLES)
        matched = [p for p in parameters if any(fnmatch.fnmatchcase(name, pattern) for name in p.all_names)]
        if pattern in exact and exact[pattern] not in matched:  # a name with [ ] in it is no pattern
            matched = [exact[pattern]]
        if not matched:
            hint = nearest(pattern, exact)
            raise InputError(
                f"roles: {pattern!r} matches no parameter of the model"
                + (f"; did you mean {hint!r}?" if hint else f"; it has {', '.join(list(exact)[:5])}, ...")
            )
        for parameter in matched:
            before = found.get(parameter.name)
            named = pattern in parameter.all_names
            if before is None or before[0] == role or (named and before[1] not in parameter.all_names):
                found[parameter.name] = (role, pattern)
            elif named or before[1] not in parameter.all_names:
                raise InputError(
                    f"roles: {parameter.name} is {before[0]} by {before[1]!r} and {role} by {pattern!r}: a parameter is in "
                    "one group, so give its full name the role that you want"
                )
    return {name: role for name, (role, _) in found.items()}


def table(groups: Sequence[Grouped], parameters: Sequence[Parameter]) -> str:
    """What went where, as text: a line a parameter, under its group; last those that are frozen."""
    width = max((len(_label(p)) for p in parameters), default=0)
    shapes = max((len(_shape(p)) for p in parameters), default=0)
    lines: list[str] = []

    def section(title: str, members: Sequence[Parameter]) -> None:
        lines.append(f"{title}: {_tensors(members)}, {sum(p.size for p in members):,} parameters")
        lines.extend(f"  {_label(p):<{width}}  {_shape(p):<{shapes}}  {p.role} ({p.why})" for p in members)

    for group in groups:
        values = ", ".join(f"{name} {_text(value)}" for name, value in group.hyperparameters.items())
        section(f"{group.role} ({group.rule}: {values})", group.parameters)
    frozen = [p for p in parameters if not p.trainable]
    if frozen:
        section("frozen, in no group", frozen)
    return "\n".join(lines)


def _label(parameter: Parameter) -> str:
    others = [name for name in parameter.names if name != parameter.name]
    return parameter.name + (f" = {' = '.join(others)}" if others else "")


def _shape(parameter: Parameter) -> str:
    return "x".join(map(str, parameter.shape)) or "scalar"


def _tensors(members: Sequence[Parameter]) -> str:
    return f"{len(members)} tensor{'' if len(members) == 1 else 's'}"


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(f'{v:g}' for v in value)})"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
