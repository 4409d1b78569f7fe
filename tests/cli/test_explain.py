"""optadvisor explain"""

from __future__ import annotations

import pytest

from optadvisor.advisor.guide import described, family
from optadvisor.config import HYBRID
from optadvisor.kernels.rules import RULES

NAMES = [*RULES, HYBRID]


@pytest.mark.parametrize("name", NAMES)
def test_text_says_what_the_guide_says(run, name):
    ran = run("explain", name)
    assert ran.code == 0
    assert ran.err == ""
    assert "\x1b" not in ran.out
    text = " ".join(ran.out.split())
    for row in described(name):
        for part in (row.name, row.direction, row.step_size, row.fixes, row.strengths, row.weaknesses, row.use_for):
            assert " ".join(part.split()) in text
    assert all(row.row in text for row in family(name))
    assert ("Outside the guide" in text) == (not family(name))
    for label in ("direction", "step size", "fixes", "strengths", "weaknesses", "use for"):
        assert label in text


@pytest.mark.parametrize("name", list(RULES))
def test_text_says_formula_settings_and_memory(run, name):
    text = " ".join(run("explain", name).out.split())
    rule = RULES[name]
    for part in rule.formula.split(";"):
        assert " ".join(part.split()) in text
    for h in rule.hyperparameters:
        assert f"{h.name} = " in text
        assert " ".join(h.text.split()) in text
    assert f"{4 * rule.states()} bytes in float32" in text
    assert " ".join(rule.paper.split()) in text


@pytest.mark.parametrize("name", list(RULES))
def test_text_says_what_each_convention_means(run, name):
    text = " ".join(run("explain", name).out.split())
    assert ("Conventions" in text) == (len(RULES[name].conventions) > 1)
    for convention, meaning in RULES[name].meanings.items():
        assert f"{convention} {' '.join(meaning.split())}" in text


@pytest.mark.parametrize("name", NAMES)
def test_json_holds_the_same(run, name):
    data = run("explain", name, "--format", "json").json
    assert data["optimizer"] == name
    assert [row["row"] for row in data["families"]] == [row.row for row in family(name)]
    assert bool(data["guide"]) == bool(data["families"]) == (not data["beyond"])
    assert [row["row"] for row in data["beyond"]] == ([] if data["families"] else ["-"])
    if name != HYBRID:
        assert {h["name"]: h["default"] for h in data["hyperparameters"]} == {
            key: list(value) if isinstance(value, tuple) else value for key, value in RULES[name].defaults.items()
        }
        assert data["conventions"] == list(RULES[name].conventions)
        assert data["meanings"] == RULES[name].meanings
        assert data["memory_bytes_per_parameter"] == 4 * RULES[name].states()


def test_the_lineage_from_batch_descent_is_told_in_one_place(run):
    out = run("explain", "sgd").out
    assert out.index("G1 ") < out.index("G2 ") < out.index("G3 ")


@pytest.mark.parametrize(
    ("value", "nearest"),
    [("adamww", "adamw"), ("AdamW", "adamw"), ("sdg", "sgd"), ("rms-prop", "rmsprop"), ("nagg", "nag")],
)
def test_an_unknown_optimizer_offers_the_nearest(run, value, nearest):
    run("explain", value).refused(repr(value), f"did you mean {nearest!r}?")


def test_wrong_usage(run):
    run("explain").refused("Missing argument", "adamw")
    run("explain", "zzz").refused("'zzz'", "known: sgd, momentum")
    run("explain", "adam", "adamw").refused("adamw")
    run("explain", "adam", "--format", "xml").refused("--format", "'xml'")
    run("explain", "").refused("known: sgd")
