"""Plain functions of numbers on arrays: comparisons both ways, and the functions they call."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.frameworks.running import Steps, factor
from optadvisor.frameworks.tracing import on_arrays
from optadvisor.kernels import RULES, Optimizer, Schedule
from optadvisor.kernels.rules.record import flatten
from optadvisor.kernels.schedules import NAMES, WARMS_UP

from ..kernels.cases import CASES, Case, distance, noise, start

LIMIT = 2.0


def inner(x):
    return math.sqrt(x) if x > 1.0 else -x


def nested(x, y):
    if x < 0.0:
        return 0.0, y
    return max(inner(x), LIMIT) if y > x else min(x, y), float(y) ** 2


def test_every_way_through_is_taken_element_by_element():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=200) * 6, draw.normal(size=200) * 6
    expected = np.array([nested(float(a), float(b)) for a, b in zip(x, y, strict=True)]).T
    with np.errstate(invalid="ignore"):  # roots of what `where` leaves out
        found = on_arrays(nested, np)(x, y)
    np.testing.assert_array_equal(np.array(found), expected)
    assert len(set(expected[0])) > 60


def test_numbers_and_objects_reach_the_function_as_they_are():
    assert on_arrays(nested, np)(4.0, 5.0) == nested(4.0, 5.0)
    assert on_arrays(lambda x, words: words[0] * x, np)(np.array([1.0, 2.0]), (3.0,)).tolist() == [3.0, 6.0]


@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_of_many_steps_at_once(name: str):
    schedule = Schedule(name, 8 if name in WARMS_UP else 0, 50, 0.1).resolve()
    t = np.arange(70.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = factor(schedule, t, np)
    expected = [schedule.factor(int(n)) for n in t]
    np.testing.assert_allclose(np.broadcast_to(found, t.shape), expected, rtol=1e-15)


@pytest.mark.parametrize("rule", RULES)
def test_coefficients_of_many_steps_at_once(rule: str):
    form, flat = RULES[rule].form(RULES[rule].defaults, "pytorch"), flatten(RULES[rule].defaults)
    own = [flat[name] for name in form.arguments]
    t = np.arange(1.0, 40.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = on_arrays(form.coefficients, np)(t, 0.1, *own)
    expected = np.array([form.coefficients(int(n), 0.1, *own) for n in t]).T
    for array, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.broadcast_to(array, t.shape), reference, rtol=1e-10)


def able(case: Case) -> bool:
    try:
        Steps(case.rule, case.complete, case.convention, np)
    except Inexpressible:
        return False
    return True


@pytest.mark.parametrize("case", [case for case in CASES if able(case)], ids=str)
def test_steps_on_numpy_arrays_are_those_of_the_kernels(case: Case):
    """The record alone, without JAX or Keras: sizes, scalars and empty arrays too."""
    arrays = [start(shape, seed=seed) for seed, shape in enumerate([(6, 4), (5,), (), (0, 3), (2, 3, 2)])]
    steps, ours = Steps(case.rule, case.complete, case.convention, np), [a.copy() for a in arrays]
    optimizer = Optimizer(case.rule, ours, convention=case.convention, **case.hyperparameters)
    shapes = [[a.shape] * len(steps.states) + [a.shape[:1] or (1,)] * len(steps.row_states) for a in arrays]
    kinds = (*steps.states, *steps.row_states)
    states = [
        [
            np.broadcast_to(np.asarray(steps.start(kind, a), float), shape)
            for kind, shape in zip(kinds, own, strict=True)
        ]
        for a, own in zip(arrays, shapes, strict=True)
    ]
    gradients = [noise(a.shape, 12, seed=seed) for seed, a in enumerate(arrays)]
    for t in range(12):
        optimizer.step([path[t] for path in gradients])
        with np.errstate(all="ignore"):
            numbers = steps.coefficients(np.asarray(t + 1.0), case.complete["lr"])
        for i, path in enumerate(gradients):
            with np.errstate(all="ignore"):
                arrays[i], *states[i] = steps.step(arrays[i], path[t], states[i], numbers)
    for array, other in zip(arrays, ours, strict=True):
        assert distance(np.asarray(array), other) < 1e-10


def test_what_needs_more_than_elements_and_rows_is_refused_with_the_reason():
    words = {
        ("lamb", "pytorch"): "lamb needs a whole tensor at once",
        ("muon", "pytorch"): "muon needs a whole tensor at once",
        ("nag", "paper"): "takes its gradient at the look-ahead point",
        ("schedule_free_adamw", "pytorch"): "evaluates at other weights than it trains",
    }
    refused = {(case.rule, case.convention) for case in CASES if not able(case)}
    assert refused == set(words)
    for (rule, convention), text in words.items():
        with pytest.raises(Inexpressible, match=text):
            Steps(rule, RULES[rule].defaults, convention, np)
