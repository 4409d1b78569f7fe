"""Schedules: known values, step counts that are fixed late, JSON."""

from __future__ import annotations

import math
from typing import Any

import pytest

from optadvisor.kernels import InputError, Schedule
from optadvisor.kernels.schedules import NAMES, NEEDS_TOTAL, WARMS_UP

ROOT = math.sqrt(2) / 2
# Schedule, factors at steps done.
KNOWN: dict[str, tuple[Schedule, dict[int, float]]] = {
    "constant": (Schedule("constant"), {0: 1, 1: 1, 10**9: 1}),
    "warmup": (Schedule("warmup", 10), {0: 0, 1: 0.1, 9: 0.9, 10: 1, 11: 1, 1000: 1}),
    "cosine": (
        Schedule("cosine", total_steps=100),
        {0: 1, 25: (1 + ROOT) / 2, 50: 0.5, 75: (1 - ROOT) / 2, 100: 0, 150: 0},
    ),
    "cosine with floor": (Schedule("cosine", total_steps=100, floor=0.2), {0: 1, 50: 0.6, 100: 0.2, 500: 0.2}),
    "warmup_cosine": (
        Schedule("warmup_cosine", 20, 120, floor=0.1),
        {0: 0, 5: 0.25, 20: 1, 70: 0.55, 120: 0.1, 121: 0.1},
    ),
    "warmup_cosine without warm-up": (Schedule("warmup_cosine", 0, 100), {0: 1, 50: 0.5, 100: 0}),
    "linear": (Schedule("linear", 10, 110, floor=0.5), {0: 0, 5: 0.5, 10: 1, 60: 0.75, 110: 0.5, 200: 0.5}),
    "inverse_sqrt": (Schedule("inverse_sqrt", 100), {0: 0, 50: 0.5, 100: 1, 400: 0.5, 10000: 0.1}),
    "inverse_sqrt without warm-up": (Schedule("inverse_sqrt", 0), {0: 1, 1: 1, 4: 0.5}),
    "step": (
        Schedule("step", total_steps=90, step_size=30, gamma=0.1),
        {0: 1, 29: 1, 30: 0.1, 59: 0.1, 60: 0.01, 90: 0.001},
    ),
    "step with floor": (
        Schedule("step", total_steps=90, step_size=30, floor=0.05),
        {0: 1, 30: 0.1, 60: 0.05, 900: 0.05},
    ),
    "wsd": (
        Schedule("wsd", 10, 100, decay_fraction=0.2),
        {0: 0, 5: 0.5, 10: 1, 79: 1, 80: 1, 90: 0.5, 100: 0, 200: 0},
    ),
    "wsd with floor": (Schedule("wsd", 0, 100, floor=0.5, decay_fraction=0.5), {0: 1, 50: 1, 75: 0.75, 100: 0.5}),
    "all warm-up": (Schedule("warmup_cosine", 10, 10), {0: 0, 9: 0.9, 10: 1, 11: 0}),
}


def test_every_schedule_has_known_values():
    assert {schedule.name for schedule, _ in KNOWN.values()} == set(NAMES)


@pytest.mark.parametrize("name", KNOWN)
def test_known_values(name: str):
    schedule, points = KNOWN[name]
    resolved = schedule.resolve()
    assert {t: resolved.factor(t) for t in points} == pytest.approx(points, abs=1e-15)


@pytest.mark.parametrize("name", KNOWN)
def test_factors_stay_between_0_and_1(name: str):
    resolved = KNOWN[name][0].resolve()
    assert all(0.0 <= resolved.factor(t) <= 1.0 for t in range(300))


@pytest.mark.parametrize("name", KNOWN)
def test_dict_round_trip(name: str):
    schedule, _ = KNOWN[name]
    data = schedule.to_dict()
    assert Schedule.from_dict(data) == schedule
    assert {"name", "warmup_steps", "total_steps", "floor"} <= set(data)
    resolved = schedule.resolve()
    assert Schedule.from_dict(resolved.to_dict()) == resolved
    assert resolved.resolve() == resolved


def test_dict_holds_options_only_where_they_mean_something():
    assert set(Schedule("cosine").to_dict()) == {"name", "warmup_steps", "total_steps", "floor"}
    assert Schedule("step", step_size=5).to_dict()["step_size"] == 5
    assert "decay_fraction" in Schedule("wsd").to_dict()
    open_data = Schedule("warmup_cosine", warmup_fraction=0.05).to_dict()
    assert (open_data["warmup_fraction"], open_data["warmup_steps"], open_data["total_steps"]) == (0.05, None, None)
    assert "warmup_fraction" not in Schedule("warmup_cosine", warmup_fraction=0.05).resolve(200).to_dict()


def test_resolve_fixes_the_counts():
    resolved = Schedule("warmup_cosine", warmup_fraction=0.05).resolve(200)
    assert (resolved.warmup_steps, resolved.total_steps, resolved.warmup_fraction) == (10, 200, None)
    assert Schedule("cosine", total_steps=50).resolve(80).total_steps == 80
    assert Schedule("cosine", total_steps=50).resolve().total_steps == 50
    assert Schedule("step").resolve(100).step_size == 34  # a third, rounded up: two drops
    assert Schedule("warmup", warmup_fraction=0.1).resolve(50).warmup_steps == 5


@pytest.mark.parametrize("name", NEEDS_TOTAL)
def test_resolve_asks_for_the_length(name: str):
    with pytest.raises(InputError, match=f"schedule {name} needs the length of the training: pass total_steps"):
        Schedule(name).resolve()


@pytest.mark.parametrize("name", ["warmup", "inverse_sqrt"])
def test_resolve_asks_for_the_warm_up(name: str):
    with pytest.raises(InputError, match=f"schedule {name} needs warmup_steps, or warmup_fraction"):
        Schedule(name).resolve(100)
    with pytest.raises(InputError, match=f"schedule {name} needs warmup_steps, or warmup_fraction"):
        Schedule(name, warmup_fraction=0.1).resolve()


def test_resolve_refuses_a_warm_up_longer_than_the_training():
    with pytest.raises(InputError, match="warmup_steps 50 is more than total_steps 20"):
        Schedule("warmup_cosine", 50).resolve(20)
    with pytest.raises(InputError, match="at least 1"):
        Schedule("cosine").resolve(0)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"name": "cosin"}, "unknown schedule 'cosin': did you mean 'cosine'"),
    "name of another type": ({"name": None}, "unknown schedule None"),
    "field": ({"name": "cosine", "total": 5}, "field of schedule 'total': did you mean 'total_steps'"),
    "negative": ({"name": "warmup", "warmup_steps": -1}, "warmup_steps is -1; it takes a whole number"),
    "not whole": ({"name": "cosine", "total_steps": 10.0}, "total_steps is 10.0; it takes a whole number"),
    "bool": ({"name": "cosine", "total_steps": True}, "total_steps is True"),
    "text": ({"name": "cosine", "total_steps": "10"}, "total_steps is '10'"),
    "no steps": ({"name": "cosine", "total_steps": 0}, "at least 1"),
    "step of no length": ({"name": "step", "step_size": 0}, "at least 1"),
    "floor above 1": ({"name": "cosine", "floor": 1.5}, "floor is 1.5; it takes a number from 0 to 1"),
    "floor below 0": ({"name": "cosine", "floor": -0.5}, "floor is -0.5"),
    "floor NaN": ({"name": "cosine", "floor": math.nan}, "floor is nan"),
    "floor null": ({"name": "cosine", "floor": None}, "floor is None"),
    "fraction": ({"name": "warmup", "warmup_fraction": 2}, "warmup_fraction is 2"),
    "gamma": ({"name": "step", "gamma": 10}, "gamma is 10"),
    "long warm-up": (
        {"name": "linear", "warmup_steps": 9, "total_steps": 8},
        "warmup_steps 9 is more than total_steps 8",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str):
    data, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        Schedule.from_dict(data)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(WARMS_UP)))
def test_warm_up_is_refused_where_there_is_none(name: str):
    for keywords in ({"warmup_steps": 5}, {"warmup_fraction": 0.1}):
        with pytest.raises(InputError, match=f"{name} has no warm-up"):
            Schedule(name, **keywords)


@pytest.mark.parametrize("data", [None, "cosine", ["cosine"]])
def test_a_schedule_is_an_object(data: Any):
    with pytest.raises(InputError, match="takes an object such as"):
        Schedule.from_dict(data)
