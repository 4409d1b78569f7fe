"""`Parameter`: one parameter of a model of any framework, and what it is there for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ROLES = (
    "embedding",
    "sparse embedding",
    "matrix",
    "convolution",
    "recurrent",
    "attention",
    "norm",
    "bias",
    "other",
)


@dataclass(frozen=True)
class Parameter:
    """A parameter, once however often the model uses it.

    name: its first name in the model. role: one of ROLES; a sparse embedding is one whose gradient comes as rows.
    why: what the role was told from. value: the framework's own object. decay: False for what weight decay leaves
    alone: norms, biases, single numbers and vectors, and what the model itself lists. names: all of its names, more
    than one where it is tied.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    why: str
    value: Any = None
    trainable: bool = True
    decay: bool = True
    names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def all_names(self) -> tuple[str, ...]:
        return self.names or (self.name,)


def counts(parameters: Iterable[Parameter]) -> dict[str, int]:
    """Elements by role, in the order of ROLES, of the trainable ones."""
    found = dict.fromkeys(ROLES, 0)
    for parameter in parameters:
        if parameter.trainable:
            found[parameter.role] += parameter.size
    return {role: size for role, size in found.items() if size}


def distinct(names: Iterable[str]) -> list[str]:
    """Names as they are; of equal ones the later ones with a number."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return found
