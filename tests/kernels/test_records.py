"""The records: what defaults, ranges, search spaces and texts must agree on."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys

import pytest

from optadvisor.kernels import RULES, InputError
from optadvisor.kernels.rules import Rule, get

RECORDS = pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
# Arrays of the parameters' size by rule and switches.
STATES = {
    "sgd": [({}, 0)],
    "momentum": [({}, 1), ({"momentum": 0.0}, 1)],
    "nag": [({}, 1)],
    "adagrad": [({}, 1)],
    "rmsprop": [
        ({}, 1),
        ({"centered": True}, 2),
        ({"momentum": 0.9}, 2),
        ({"centered": True, "momentum": 0.9}, 3),
    ],
    "adam": [({}, 2), ({"amsgrad": True}, 3)],
    "adamw": [({}, 2), ({"amsgrad": True}, 3)],
    "ftrl": [({}, 2), ({"l1": 0.1}, 2)],
    "rowwise_adagrad": [({}, 0)],
    "nadam": [({}, 2)],
    "radam": [({}, 2)],
    "lamb": [({}, 2)],
    "lion": [({}, 1)],
    "muon": [({}, 1)],
    "schedule_free_adamw": [({}, 2)],
}
GUIDE = ["sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamw", "ftrl"]
BEYOND = ["rowwise_adagrad", "nadam", "radam", "lamb", "lion", "muon", "schedule_free_adamw"]


def test_registry_in_order_of_lineage():
    assert list(RULES) == GUIDE + BEYOND
    assert all(name == rule.id for name, rule in RULES.items())


def test_rows_of_the_guide_are_each_told_once():
    rows = [family.row for rule in RULES.values() for family in rule.families]
    assert sorted(rows, key=lambda row: int(row[1:])) == [f"G{n}" for n in range(1, 11)]


@RECORDS
def test_texts_are_there(rule: Rule):
    assert all([rule.id, rule.title, rule.formula, rule.paper, rule.described, rule.conventions])
    assert bool(rule.families) == (rule.beyond is None) == (rule.id in GUIDE)
    assert rule.beyond is None or rule.beyond.row == "-"
    assert rule.decay in ("coupled", "decoupled", "none")
    assert (rule.decay != "none") == rule.decays
    for family in rule.described:
        assert all(vars(family).values())
    for h in rule.hyperparameters:
        assert h.text
        assert h.range_text


@RECORDS
def test_defaults_are_valid_and_complete(rule: Rule):
    assert rule.names[0] == "lr"
    assert len(set(rule.names)) == len(rule.names)
    assert rule.complete({}) == rule.defaults
    assert rule.complete(rule.defaults) == rule.defaults
    assert "lr" in rule.defaults


@RECORDS
def test_search_dimensions_are_valid_and_hold_the_default(rule: Rule):
    """A default of 0 has no place on a logarithmic axis: there the search looks for a reason to leave it."""
    names = [dimension.name for _, dimension in rule.search()]
    assert len(set(names)) == len(names)
    assert "lr" in names
    for h, dimension in rule.search():
        assert 0 < dimension.low < dimension.high < math.inf
        assert (dimension.index is not None) == isinstance(h.default, tuple)
        default = h.default[dimension.index] if dimension.index is not None else h.default
        assert isinstance(default, float)
        ends = [1 - end if dimension.complement else end for end in (dimension.low, dimension.high)]
        for end in ends:
            h.check((end, end) if isinstance(h.default, tuple) else end, rule.id)
        on_axis = 1 - default if dimension.complement else default
        if dimension.log and on_axis == 0:
            continue
        assert dimension.low <= on_axis <= dimension.high, dimension.name


@RECORDS
def test_forms_take_what_the_record_offers(rule: Rule):
    """coefficients and initial values ask for hyperparameters by name; update takes what coefficients return."""
    flat = {name for h in rule.hyperparameters for name in flat_names(h.name, h.default)} | {"lr_max"}
    for convention in rule.conventions:
        form = rule.form(rule.defaults, convention)
        if rule.vector_form:
            assert set(rule.vector_form(rule.defaults, convention).arguments) <= flat
        if form.stage:
            taken = set(inspect.signature(form.stage).parameters) - {"p", "direction", "memory"}
            assert taken == set(list(inspect.signature(form.update).parameters)[2 + len(form.states) :])
        assert set(form.arguments) <= flat
        assert set(form.evaluation_arguments) <= flat
        for state in form.states:
            assert state.text
            if state.initial is not None:
                assert set(list(inspect.signature(state.initial).parameters)[1:]) <= flat
        values = [0.5] * len(form.arguments)
        taken = len(inspect.signature(form.update).parameters) - 2 - len(form.states)
        coefficients = form.coefficients(1, 0.1, *values)
        assert len(coefficients) == taken
        assert all(isinstance(value, float) for value in coefficients)


def flat_names(name: str, default: object) -> list[str]:
    return [f"{name.removesuffix('s')}{i}" for i in (1, 2)] if isinstance(default, tuple) else [name]


@RECORDS
def test_every_convention_of_several_says_what_it_means(rule: Rule):
    assert rule.conventions[0] == "pytorch"
    assert set(rule.conventions) <= {"pytorch", "paper", "keras", "optax"}
    expected = rule.conventions if len(rule.conventions) > 1 else ()
    assert tuple(rule.meanings) == expected
    for convention, text in rule.meanings.items():
        assert text
        assert "\n" not in text
        if convention in ("keras", "optax"):
            assert f"{convention}." in text  # its source


@RECORDS
def test_search_and_tests_know_the_number_of_states(rule: Rule):
    for hyperparameters, expected in STATES[rule.id]:
        assert rule.states(hyperparameters) == expected
        for convention in rule.conventions:
            assert rule.states(hyperparameters, convention) == expected


@RECORDS
def test_unknown_keyword_names_the_nearest(rule: Rule):
    with pytest.raises(InputError, match=rf"hyperparameter of {rule.id} 'lrr': did you mean 'lr'\? known: lr"):
        rule.complete({"lrr": 0.1})


@RECORDS
def test_ranges_are_kept(rule: Rule):
    for h in rule.hyperparameters:
        wrap = (lambda v: (v, v)) if isinstance(h.default, tuple) else (lambda v: v)
        wrong: list[object] = [None, "0.1", [0.1], math.nan]
        if isinstance(h.default, bool):
            wrong += [0, 1, 0.5]
        else:
            wrong += [wrap(math.inf), wrap(math.nextafter(h.low, -math.inf)), wrap(True), wrap("x")]
            if math.isfinite(h.high):
                wrong.append(wrap(h.high if h.open_high else math.nextafter(h.high, math.inf)))
                edge = math.nextafter(h.high, 0) if h.open_high else h.high
                assert rule.complete({h.name: wrap(edge)})[h.name] == wrap(edge)
        for value in wrong:
            with pytest.raises(InputError, match=f"^here: {h.name} is "):
                rule.complete({h.name: value}, "here")


def test_numbers_of_other_types_become_floats():
    values = get("adam").complete({"lr": 1, "betas": [0, 0.5]})
    assert values["lr"] == 1.0
    assert isinstance(values["lr"], float)
    assert values["betas"] == (0.0, 0.5)
    assert isinstance(values["betas"], tuple)


def test_unknown_rule():
    with pytest.raises(InputError, match="unknown optimizer 'RMSProp': did you mean 'rmsprop'"):
        get("RMSProp")


def test_records_need_neither_numpy_nor_numba():
    code = "import sys, optadvisor.kernels.rules; print(sorted({'numpy', 'numba'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
