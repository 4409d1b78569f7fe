"""Learned learning rates: a planted law is found again, and what is read from its arrays holds for any range test."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optadvisor import tuning
from optadvisor.advisor import knowledge
from optadvisor.advisor import rates as inference
from optadvisor.advisor.arrays import Array
from optadvisor.advisor.knowledge import Knowledge
from optadvisor.advisor.learning import rates as learning
from optadvisor.advisor.learning.dataset import Dataset
from optadvisor.advisor.rates import Rates
from optadvisor.profile import TaskProfile
from optadvisor.studies.outcomes import Sheet
from optadvisor.studies.study import BACK_OFF, Plan
from optadvisor.studies.tasks import registry

SHEET = Sheet(rules=("sgd", "momentum", "adam", "adamw"))
# log10 of the best lr of a short training, less the ladder's centre, and what a decade of steps beyond 50 adds to it.
CENTRE = {"sgd": 0.4, "momentum": 0.2, "adam": -0.1, "adamw": -0.3}
SLOPE = {"sgd": -0.2, "momentum": -0.2, "adam": -0.5, "adamw": -0.5}
FAMILIES, VARIANTS = 9, 3
WIDE = TaskProfile(parameters=10**4, batch_size=32, samples=10**4, steps=1000)


def centre(rule: str) -> float:
    return float(np.mean(np.log10([config.hyperparameters["lr"] for config in SHEET.ladder(rule)])))


def short_training(away: np.ndarray) -> np.ndarray:
    """Nothing is gained a decade below the best rate, and well above it the training diverges."""
    return np.where(away > 0.8, np.inf, np.minimum(away**2, 1))


def planted(noise: float = 0.02, scatter: float = 0.5, steps: tuple[int, ...] = (100, 1000, 10_000)) -> Dataset:
    """Tasks whose best rates follow the law: regret (distance in decades) ** 2, twice as steep above the best."""
    rng = np.random.default_rng(0)
    tasks = [
        (f"family{f}", steps[v % len(steps)], rng.normal(0, scatter)) for f in range(FAMILIES) for v in range(VARIANTS)
    ]
    regrets = rng.random((len(tasks), len(SHEET.rules), SHEET.configs, 2))
    climbs = np.full((len(tasks), len(SHEET.rules), 16), np.inf)
    for t, (_, length, scale) in enumerate(tasks):
        for r, rule in enumerate(SHEET.rules):
            places = np.log10([config.hyperparameters["lr"] for config in SHEET.ladder(rule)])
            short = centre(rule) + CENTRE[rule] + scale
            away = places - (short + SLOPE[rule] * math.log10(length / 50))
            curve = np.minimum(away**2 * np.where(away > 0, 2, 1), 1)
            regrets[t, r, 1:17] = curve[:, None] + rng.normal(0, noise, (16, 2))
            climbs[t, r] = short_training(places - short)
    profiles = [replace(WIDE, steps=length) for _, length, _ in tasks]
    families = [family for family, _, _ in tasks]
    return Dataset(SHEET, [f"task{t}" for t in range(len(tasks))], families, profiles, regrets, regrets, climbs)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return planted()


@pytest.fixture(scope="module")
def arrays(data: Dataset) -> dict[str, np.ndarray]:
    return learning.fit(data)


@pytest.fixture(scope="module")
def fitted(arrays: dict[str, np.ndarray]) -> Rates:
    found = Rates.from_arrays(arrays)
    assert found is not None
    return found


@pytest.mark.parametrize("rule", SHEET.rules)
@pytest.mark.parametrize("steps", [200, 2000])
def test_the_planted_law_is_found(fitted: Rates, rule: str, steps: int):
    profile = replace(WIDE, steps=steps)
    wanted = SLOPE[rule] * math.log10(steps / 50)
    factor = fitted.back_off(rule, profile)
    assert factor is not None
    assert math.log10(factor) == pytest.approx(wanted, abs=0.2)
    guess = fitted.predict(rule, profile)
    assert guess is not None
    assert math.log10(guess.lr) == pytest.approx(centre(rule) + CENTRE[rule] + wanted, abs=0.35)


@pytest.mark.parametrize("points", [8, 13, 40])
@pytest.mark.parametrize("scale", [-1.0, 0.0, 1.5])
def test_a_range_test_follows_the_task_on_any_grid(fitted: Rates, points: int, scale: float):
    grid = np.geomspace(1e-5, 100, points)
    short = centre("adamw") + CENTRE["adamw"] + scale
    found = fitted.after_range_test("adamw", WIDE, grid.tolist(), short_training(np.log10(grid) - short).tolist())
    wanted = short + SLOPE["adamw"] * math.log10(WIDE.steps / 50)
    assert math.log10(found.lr) == pytest.approx(wanted, abs=0.3)
    assert found.low < found.lr < found.high
    assert found.high / found.low < 10


def test_the_judgement_of_a_planted_law(data: Dataset):
    rows = {row.rule: row for row in learning.evaluate(data)}
    assert set(rows) == {*SHEET.rules, "all"}
    whole = rows["all"]
    assert whole.tasks == FAMILIES * VARIANTS * len(SHEET.rules)
    assert whole.ladder[0] < 0.06 < 0.15 < whole.profile[0] < whole.constant[0]
    assert rows["adamw"].ladder[0] < rows["adamw"].back_off[0] - 0.05, "the factor depends on the steps"
    for mean, low, high in (whole.constant, whole.back_off, whole.profile, whole.ladder, whole.ladder_16):
        assert low <= mean <= high
    for covered in whole.covers:
        assert 0.72 < covered < 0.92
    assert whole.spread[1] < whole.spread[0] / 2


def test_nothing_of_a_family_is_used_to_judge_it(data: Dataset):
    changed = replace(data, regrets=data.regrets.copy())
    changed.regrets[:VARIANTS, :, 1:17] = np.linspace(1, 0, 16)[:, None]  # the higher the better
    own = learning._cases(data).task < VARIANTS
    before, after = (learning._held_out(one, learning._cases(one)) for one in (data, changed))
    for name, places in before.items():
        np.testing.assert_array_equal(after[name][own], places[own])
        assert name == "back_off" or (after[name][~own] != places[~own]).any()


def test_a_higher_cost_above_the_best_moves_the_rate_down():
    """Least regret and not least squares: with noise in the place of the best, the steep side is kept away from."""
    uncertain = planted(noise=0.0, scatter=0.8, steps=(50,))
    cases = learning._cases(uncertain)
    places = learning._held_out(uncertain, cases)["profile"]
    assert np.mean(places - cases.best) < -0.05


def test_the_arrays_are_read_without_numpy(arrays: dict[str, np.ndarray], fitted: Rates):
    plain = {name: Array(made.shape, made.ravel().tolist()) for name, made in arrays.items()}
    assert Rates.from_arrays(plain) == fitted
    assert sum(made.size for made in arrays.values()) < 200
    assert Rates.from_arrays({}) is None
    script = "import sys, optadvisor.advisor.rates; print('numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "False"


def test_a_study_starts_its_range_test_with_what_was_learned(fitted: Rates, monkeypatch: pytest.MonkeyPatch):
    task = registry.get("clicks-two-tower")
    asked: dict[str, Any] = {
        **dict.fromkeys(
            ("sampler", "pruner", "ranges", "fixed", "objectives", "target", "direction", "seed", "trials", "warm")
        ),
        "optimizers": ("hybrid", "adamw", "lion"),
        "steps": 500,
        "range_test": True,
        "allocation": "equal",
    }
    known = Knowledge([], [])
    monkeypatch.setattr(knowledge, "load", lambda: known)
    assert tuning._plan(task, asked).back_off == {}
    vars(known)["rates"] = fitted
    plan = tuning._plan(task, asked)
    wanted = fitted.back_off("adamw", replace(task.profile, steps=500))
    assert plan.back_off == {"hybrid": {"dense.lr": wanted}, "adamw": {"lr": wanted}}
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert tuning._plan(task, {**asked, "range_test": False}).back_off == {}


def test_an_unknown_profile_counts_as_a_typical_one(fitted: Rates):
    typical = TaskProfile(**{name: round(10**c) for name, c in zip(inference.NAMES, fitted.centres, strict=True)})
    one, other = fitted.predict("adam", TaskProfile()), fitted.predict("adam", typical)
    assert one is not None
    assert other is not None
    assert one.lr == pytest.approx(other.lr, rel=0.01)


def test_nothing_is_extrapolated(fitted: Rates):
    far, end = (fitted.predict("adam", replace(WIDE, steps=steps)) for steps in (10**9, 10_000))
    assert far == end


@pytest.mark.parametrize(("rule", "factor"), [("lion", 0.3), ("nadam", 0.3), ("mine", 0.3)])
def test_a_rule_without_a_law_has_the_fixed_factor(fitted: Rates, rule: str, factor: float):
    assert fitted.predict(rule, WIDE) is None
    assert fitted.back_off(rule, WIDE) is None
    found = fitted.after_range_test(rule, WIDE, [0.01, 0.1, 1.0, 10.0], [3.0, 1.0, math.nan, math.inf])
    assert found.lr == pytest.approx(0.1 * factor)
    assert found.low < found.lr < found.high
    plain = Rates({}, {}, fitted.centres, fitted.lows, fitted.highs)
    assert plain.after_range_test("nag", WIDE, [0.01, 0.1, 1.0], [3.0, 1.0, 2.0]).lr == pytest.approx(0.06)


def test_the_fixed_factors_are_those_of_a_study():
    assert inference.BACK_OFF == BACK_OFF


@pytest.mark.parametrize("rule", ["adamw", "lion"])
@pytest.mark.parametrize("lowest", [1e-7, 1.0])
def test_where_every_rate_diverges_the_lowest_is_too_high(fitted: Rates, rule: str, lowest: float):
    found = fitted.after_range_test(rule, WIDE, [lowest, lowest * 10], [math.inf, math.nan])
    assert 0 < found.low < found.lr < found.high <= lowest
