"""What the tests of the advisor ask an answer: the JSON of recommend, as somebody outside the project sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from optadvisor.advisor import recommend
from optadvisor.profile import TaskProfile


class Answer:
    """The JSON of an answer, with the questions that tests put to it."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.all: list[dict[str, Any]] = data["recommendations"]

    @property
    def order(self) -> list[str]:
        """The optimizers, each once, in the order of their first recommendation."""
        return list(dict.fromkeys(entry["optimizer"] for entry in self.all))

    @property
    def first(self) -> str:
        return self.all[0]["optimizer"]

    def of(self, optimizer: str) -> dict[str, Any]:
        """The first recommendation of an optimizer."""
        return next(entry for entry in self.all if entry["optimizer"] == optimizer)

    def rules(self, optimizer: str | None = None) -> list[str]:
        """The rules cited for an optimizer, the first recommended one by default."""
        return [reason["rule"] for reason in self.of(optimizer or self.first)["reasons"]]

    @property
    def conflicts(self) -> dict[frozenset[str], str]:
        """The pairs of rules in conflict, and which of the two was kept."""
        return {frozenset(entry["rules"]): entry["kept"] for entry in self.data["conflicts"]}

    def conflict(self, one: str, other: str) -> str | None:
        """Which of two rules was kept; None where they are not in conflict."""
        return self.conflicts.get(frozenset((one, other)))

    @property
    def excluded(self) -> dict[str, str]:
        return {entry["optimizer"]: entry["rule"] for entry in self.data["excluded"]}

    @property
    def schedule(self) -> dict[str, Any]:
        return self.all[0]["config"]["schedule"]

    def above(self, one: str, other: str) -> bool:
        """Whether one optimizer is first recommended before the other; both must be in the list."""
        return self.order.index(one) < self.order.index(other)


@pytest.fixture
def advise() -> Callable[..., Answer]:
    """advise(domain="vision", top=20): the answer to a profile."""

    def ask(top: int = 5, **known: Any) -> Answer:
        return Answer(recommend(TaskProfile(**known), top).to_dict())

    return ask
