"""How alike two tasks are: what a difference costs, what is unknown, and a profile as numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from optadvisor.advisor import features
from optadvisor.advisor.features import Scales, beyond, size, vector, weight
from optadvisor.profile import ARCHITECTURES, DOMAINS, TaskProfile

SCALES = Scales()
TASK = TaskProfile(
    domain="vision",
    architecture="cnn",
    parameters=10_000,
    samples=50_000,
    batch_size=32,
    steps=1000,
    sparse_fraction=0.2,
    convex=False,
    unstable=False,
    non_stationary=False,
    ill_conditioned=False,
)
OTHER = {
    "domain": "tabular",
    "architecture": "rnn",
    "parameters": 100_000,
    "samples": 500_000,
    "batch_size": 320,
    "steps": 10_000,
    "sparse_fraction": 0.9,
    "convex": True,
    "unstable": True,
    "non_stationary": True,
    "ill_conditioned": True,
}


def kind(one: float) -> float:
    """What the floor makes of exp(-distance)."""
    return SCALES.floor + (1 - SCALES.floor) * one


@pytest.mark.parametrize("task", [TASK, replace(TASK, **OTHER), TaskProfile(), TaskProfile(samples=100)])
def test_the_same_task_weighs_1(task: TaskProfile):
    assert weight(task, task, SCALES) == 1.0


@pytest.mark.parametrize("name", OTHER)
def test_every_difference_costs_and_more_of_them_cost_more(name: str):
    other = replace(TASK, **{name: OTHER[name]})
    one = weight(other, TASK, SCALES)
    assert SCALES.floor * 0.4 < one < 0.95
    for second in OTHER:
        if second != name:
            assert weight(replace(other, **{second: OTHER[second]}), TASK, SCALES) < one


@pytest.mark.parametrize("name", ["parameters", "samples", "batch_size", "steps"])
def test_a_count_costs_by_its_ratio_whichever_is_larger(name: str):
    value = getattr(TASK, name)
    found = [weight(replace(TASK, **{name: value * factor}), TASK, SCALES) for factor in (1, 2, 4, 16, 1024)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 5
    smaller = weight(TASK, replace(TASK, **{name: value * 16}), SCALES)
    assert smaller == pytest.approx(found[3])


def test_the_figures():
    """By hand: a decade of size counts in full, the kind only down to the floor."""
    assert weight(replace(TASK, steps=100_000), TASK, SCALES) == pytest.approx(math.exp(-2 * SCALES.size))
    assert weight(replace(TASK, samples=500), TASK, SCALES) == pytest.approx(kind(math.exp(-2 * SCALES.counts)))
    assert weight(replace(TASK, domain="rl"), TASK, SCALES) == pytest.approx(kind(math.exp(-SCALES.domain)))
    assert weight(replace(TASK, unstable=True), TASK, SCALES) == pytest.approx(kind(math.exp(-SCALES.flag)))
    assert weight(replace(TASK, sparse_fraction=0.7), TASK, SCALES) == pytest.approx(kind(math.exp(-SCALES.sparse / 2)))
    both = replace(TASK, domain="rl", steps=100_000)
    assert weight(both, TASK, SCALES) == pytest.approx(
        math.exp(-2 * SCALES.size) * kind(math.exp(-SCALES.domain)),
    )


def test_kindred_networks_are_nearer():
    near, far = (weight(replace(TASK, architecture=name), TASK, SCALES) for name in ("resnet", "transformer"))
    assert far < near < 1
    assert near == pytest.approx(kind(math.exp(-SCALES.architecture / 2)))


@pytest.mark.parametrize("name", sorted(set(OTHER) - {"parameters", "steps"}))
def test_what_the_query_does_not_say_costs_nothing(name: str):
    assert weight(replace(TASK, **{name: None}), TASK, SCALES) == 1.0
    assert weight(replace(TASK, **{name: None}), replace(TASK, **{name: OTHER[name]}), SCALES) == 1.0


def test_a_size_that_is_unsaid_is_a_typical_one():
    assert size(TaskProfile()) == (math.log10(features.TYPICAL["parameters"]), math.log10(features.TYPICAL["steps"]))
    small = (math.log10(features.TYPICAL_SMALL["parameters"]), math.log10(features.TYPICAL_SMALL["steps"]))
    assert size(TaskProfile(parameters=features.SMALL_MODEL))[1] == small[1]
    assert size(TaskProfile(parameters=features.SMALL_MODEL + 1))[1] > small[1]
    assert size(TaskProfile(samples=features.SMALL_DATA))[0] == small[0]
    assert size(TaskProfile(samples=features.SMALL_DATA + 1))[0] > small[0]
    unsaid, typical = TaskProfile(domain="vision"), TaskProfile(domain="vision", parameters=10**7, steps=50_000)
    assert weight(unsaid, TASK, SCALES) == weight(typical, TASK, SCALES) < 1


def test_an_unsaid_length_is_a_number_of_epochs_where_the_data_are_said():
    assert size(TaskProfile(samples=6400, batch_size=32))[1] == pytest.approx(math.log10(features.EPOCHS * 200))
    assert size(TaskProfile(samples=6400))[1] == pytest.approx(math.log10(features.EPOCHS * 6400 // features.BATCH))
    assert size(TaskProfile(samples=6400, batch_size=32, steps=7))[1] == math.log10(7)
    assert size(TaskProfile(samples=1, batch_size=10**6))[1] == 0


def test_beyond_adds_up_the_decades_above_the_largest():
    largest = (6.0, 3.0)
    assert beyond(TaskProfile(parameters=10**6, steps=1000), largest) == 0
    assert beyond(TaskProfile(parameters=1, steps=1), largest) == 0
    assert beyond(TaskProfile(parameters=10**8, steps=1), largest) == pytest.approx(2)
    assert beyond(TaskProfile(parameters=1, steps=10**4), largest) == pytest.approx(1)
    assert beyond(TaskProfile(parameters=10**8, steps=10**4), largest) == pytest.approx(3)


def named(profile: TaskProfile) -> dict[str, float]:
    return dict(zip(features.NAMES, vector(profile), strict=True))


def test_the_vector_says_what_is_known():
    found = named(TASK)
    assert len(set(features.NAMES)) == len(features.NAMES) == len(vector(TaskProfile()))
    assert [name for name in DOMAINS if found[f"domain {name}"]] == ["vision"]
    assert [name for name in ARCHITECTURES if found[f"architecture {name}"]] == ["cnn"]
    assert found["log10 parameters"] == 4
    assert found["log10 steps"] == 3
    assert found["log10 epochs"] == pytest.approx(math.log10(1000 * 32 / 50_000))
    assert found["sparse_fraction"] == 0.2
    assert not any(value for name, value in found.items() if name.endswith(" unknown"))
    flags = named(replace(TASK, convex=True, unstable=True))
    assert [name for name in features.FLAGS if flags[name]] == ["convex", "unstable"]


@pytest.mark.parametrize("name", OTHER)
def test_the_vector_says_what_is_unknown(name: str):
    found = named(replace(TASK, **{name: None}))
    unknown = {name.removesuffix(" unknown") for name, value in found.items() if value and name.endswith(" unknown")}
    assert unknown == {name, *(["epochs"] if name in ("samples", "batch_size", "steps") else [])}


def test_of_nothing_everything_is_unknown():
    found = named(TaskProfile())
    assert {name for name, value in found.items() if value} == {name for name in found if name.endswith(" unknown")}
    assert set(found.values()) == {0.0, 1.0}
