"""The tables of docs/frameworks.md say what the code does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.kernels import RULES, InputError, Schedule

pytest.importorskip("torch")
pytest.importorskip("optax")
pytest.importorskip("keras")
from optadvisor.frameworks.keras import translation as keras_translation
from optadvisor.frameworks.optax import translation as optax_translation
from optadvisor.frameworks.torch import translation as torch_translation

pytestmark = pytest.mark.parity
PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"


def torch_cell(rule: str, h: dict[str, Any], convention: str, constant: bool) -> str:
    try:
        torch_translation.refuse(rule, h, convention)
    except InputError:
        return "refused: look-ahead gradient"
    try:
        found = torch_translation.translate(rule, h, convention, constant_lr=constant)
    except Inexpressible:
        return "*ours*"
    return f"`{found.name}`" + (f" ({found.how})" if found.how else "")


def optax_cell(rule: str, h: dict[str, Any], convention: str, constant: bool) -> str:
    schedule = Schedule("constant") if constant else Schedule("cosine", total_steps=10)
    try:
        _, how = optax_translation.translate(rule, h, convention, schedule.resolve())
    except Inexpressible as error:
        return refused(str(error))
    return "*ours*" if how == optax_translation.OURS else f"`{how}`"


def keras_cell(rule: str, h: dict[str, Any], convention: str, constant: bool) -> str:
    try:
        found = keras_translation.translate(rule, h, convention, constant_lr=constant)
    except Inexpressible as error:
        return refused(str(error))
    return "*ours*" if found is None else f"`{found[0]}`"


def refused(why: str) -> str:
    words = {
        "look-ahead": "look-ahead gradient",
        "evaluates at": "evaluates elsewhere",
        "trust ratio": "decay outside the trust ratio",
        "another rule": "theirs is another rule",
    }
    return "refused: " + next(short for part, short in words.items() if part in why)


def cell(make: Any, rule: str, convention: str) -> str:
    """With weight decay under a schedule; what is different without, after a semicolon."""
    record = RULES[rule]
    decay = {"weight_decay": 0.1} if record.decays else {}
    full = make(rule, record.complete(decay), convention, not record.scheduled)
    plain = make(rule, record.complete(dict.fromkeys(decay, 0.0)), convention, True)
    plain = plain.replace("add_decayed_weights, ", "")
    short = full.replace("add_decayed_weights, ", "")
    return full if short == plain else f"{full}; constant lr, no decay: {plain}"


def table(rows: list[tuple[str, str]]) -> str:
    lines = ["| rule | convention | PyTorch | optax | Keras |", "|---|---|---|---|---|"]
    for rule, convention in rows:
        cells = [cell(make, rule, convention) for make in (torch_cell, optax_cell, keras_cell)]
        lines.append(f"| {rule} | {convention} | {' | '.join(cells)} |")
    return "\n".join(lines)


@pytest.mark.parametrize("default", [True, False])
def test_the_tables_of_the_page(default: bool):
    rows = [
        (rule.id, convention)
        for rule in RULES.values()
        for convention in rule.conventions
        if (convention == rule.conventions[0]) == default
    ]
    expected = table(rows)
    assert expected in PAGE.read_text(encoding="utf-8"), f"the page should hold\n{expected}"
