"""Parameter groups for torch.optim: every trainable parameter in exactly one, and a table of what went where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from optadvisor.config import OptimizerConfig
from optadvisor.frameworks.grouping import Grouped, assign, table
from optadvisor.frameworks.parameters import Parameter
from optadvisor.frameworks.torch.reading import parameters
from optadvisor.frameworks.torch.translation import CLASSES
from optadvisor.kernels.errors import InputError


class ParamGroups(list[dict[str, Any]]):
    """A list of dicts as torch.optim takes it; as text, the table of what went where."""

    def __init__(self, groups: Sequence[Grouped], members: Sequence[Parameter]) -> None:
        super().__init__(
            {
                "params": [parameter.value for parameter in group.parameters],
                "role": group.role,
                "rule": group.rule,
                **group.hyperparameters,
                **CLASSES.get(group.rule, ("", {}))[1],
            }
            for group in groups
        )
        self._text = table(groups, members)

    def __str__(self) -> str:
        return self._text


def param_groups(config: OptimizerConfig, model: nn.Module, roles: Mapping[str, str] | None = None) -> ParamGroups:
    """The parameters of a model in the groups of a config, with the hyperparameters of each.

    Returns dicts {"params", "role", "rule", hyperparameters, and what is fixed in PyTorch's class (nesterov of nag)}, for
    torch.optim or `optadvisor.torch.Optimizer`; print them for a table. Weight decay leaves alone norms, biases, vectors
    and what the model lists; embeddings get their own rule in a hybrid. roles: name or pattern -> "embedding", "dense" or
    "no_decay", which wins.

    Errors: InputError as `grouping.assign` says.
    """
    members = parameters(model)
    return ParamGroups(assign(config, members, roles), members)


def check_groups(groups: Iterable[Mapping[str, Any]], model: nn.Module) -> None:
    """InputError unless every trainable parameter of the model is in exactly one of the groups, and nothing else is.

    groups: of any torch.optim.Optimizer (`optimizer.param_groups`), or a list of dicts made by hand.
    """
    known = {id(parameter.value): parameter for parameter in parameters(model)}
    where: dict[int, int] = {}
    for number, group in enumerate(groups):
        members = group["params"]
        if isinstance(members, Iterator):
            raise InputError(f"the params of group {number} can be read once only (a generator): make them a list")
        for given in [members] if isinstance(members, Tensor) else members:
            tensor = given[1] if isinstance(given, tuple) else given
            parameter = known.get(id(tensor))
            if parameter is None:
                raise InputError(
                    f"group {number} holds a tensor {list(tensor.shape)} that is no parameter of the model"
                )
            if id(tensor) in where:
                raise InputError(
                    f"{parameter.name} is in group {where[id(tensor)]} and again in group {number}: a parameter is in one group"
                )
            where[id(tensor)] = number
    missing = [p.name for key, p in known.items() if p.trainable and key not in where]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(f"{', '.join(missing[:3])}{more} would not be trained: in none of the groups")
