"""What a study starts with that was learned: the list, ranges and schedules, and what of the person's wins over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import optadvisor as oa
from optadvisor import warming
from optadvisor.advisor import knowledge, lists
from optadvisor.advisor.knowledge import ANNEALED, CONSTANT, DRAWN, STEPS, Candidate, Knowledge, Row
from optadvisor.kernels import InputError
from optadvisor.kernels.rules import RULES
from optadvisor.studies import storage, study
from optadvisor.studies.plan import EQUAL
from optadvisor.studies.study import Plan
from optadvisor.studies.tasks import registry

RATES = (0.003, 0.03, 0.3, 3.0)
TASK = registry.get("digits-mlp")
WARMED_UP = ("warmup_cosine", 0.1)


def candidates() -> list[Candidate]:
    found = []
    for rule in ("adamw", "momentum", "sgd"):
        for lr in RATES:
            found.append(Candidate(rule, {"lr": lr}, "constant", 0.0, CONSTANT))
            name, warmup = WARMED_UP if RULES[rule].adaptive else ("cosine", 0.0)
            found.append(Candidate(rule, {"lr": lr}, name, warmup, ANNEALED))
            found.append(Candidate(rule, {"lr": lr, "weight_decay": 0.005}, "constant", 0.0, DRAWN))
    return found


def row(best: Sequence[tuple[str, float, str]]) -> Row:
    """A task like digits-mlp on which some configs are good, the first ones more so."""
    regrets = []
    for candidate in candidates():
        key = (candidate.optimizer, candidate.lr, candidate.schedule)
        regrets.append(best.index(key) * 10 if key in best else STEPS)
    return Row("digits-mlp:x", "digits-mlp", knowledge.STUDIED, TASK.profile, bytes(regrets))


LIKED = [("momentum", 0.3, "cosine"), ("adamw", 0.03, "warmup_cosine"), ("adamw", 0.003, "constant")]
KNOWN = Knowledge(
    candidates(), [row([LIKED[0], LIKED[2]]), row([LIKED[1], LIKED[0]]), row([LIKED[0]]), row([LIKED[2]])]
)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Knowledge:
    monkeypatch.setattr(knowledge, "load", lambda: KNOWN)
    return KNOWN


def plan(**changes: Any) -> Plan:
    return Plan(
        **{"task": "digits-mlp", "optimizers": tuple(KNOWN.of), "trials": 40, "seed": 0, "steps": 500, **changes}
    )


def warmed(found: Plan, scheduled: bool = True, known: Knowledge = KNOWN) -> Plan:
    return warming.warmed(found, TASK.profile, known, scheduled)


def first(plan: Plan) -> list[tuple[str, float, str]]:
    return [(name, point["lr"], point.get("schedule", "constant")) for name, point in plan.first]


def test_the_list_is_the_learned_one_in_its_order():
    order = lists.ordered(KNOWN, TASK.profile, warming.LIST, tuple(KNOWN.of))
    expected = [(c.optimizer, c.lr, c.schedule) for c in (KNOWN.candidates[n] for n in order)]
    found = first(warmed(plan()))
    assert found[: len(expected)] == expected
    assert {name for name, _, _ in found} == set(KNOWN.of)
    assert found[0] == LIKED[0]
    assert set(found[:3]) == set(LIKED)


def test_nothing_known_changes_nothing():
    assert warmed(plan(), known=Knowledge([], [])) == plan()
    far = oa.TaskProfile(domain="language", parameters=10**9, steps=10**6)
    assert warming.warmed(plan(steps=None), far, KNOWN, True) == plan(steps=None)


def test_the_list_is_no_longer_than_the_budget():
    assert first(warmed(plan(trials=2))) == first(warmed(plan()))[:2]


def test_ranges_and_schedules_are_those_that_were_good():
    found = warmed(plan())
    assert found.schedules["momentum"] == ("constant", "cosine")
    assert found.schedules["adamw"] == ("constant", "warmup_cosine")
    low, high = found.learned["adamw"]["lr"]
    assert low >= 0.001
    assert high <= 10
    space = found.spaces()["adamw"]
    assert {name: axis.high for name, _, _, axis in space.axes()}["lr"] >= 3.0, "wide enough for what was tried"


def test_a_task_without_schedules_has_constant_rates_alone():
    found = warmed(plan(), scheduled=False)
    assert found.schedules == {}
    assert {schedule for _, _, schedule in first(found)} == {"constant"}
    assert warmed(plan(steps=None)).schedules == {}, "nor has one whose length is unknown"


def test_what_the_person_gives_a_range_is_not_learned():
    found = warmed(plan(ranges={"lr": (0.01, 0.5)}))
    assert all("lr" not in ranges for ranges in found.learned.values())
    assert {lr for _, lr, _ in first(found)} <= {0.03, 0.3}
    assert {name: (axis.low, axis.high) for name, _, _, axis in found.spaces()["sgd"].axes()}["lr"] == (0.01, 0.5)
    nothing = warmed(plan(ranges={"lr": (1e-6, 1e-5)}))
    assert nothing.first == ()


def test_what_the_person_fixes_is_not_in_the_list():
    found = warmed(plan(fixed={"lr": 0.02}))
    assert all("lr" not in point for _, point in found.first)
    assert len({str(start) for start in found.first}) == len(found.first), "rates that no longer differ are one"
    assert all("lr" not in ranges for ranges in found.learned.values())


def test_optimizers_that_were_not_asked_for_are_not_in_the_list():
    assert {name for name, _, _ in first(warmed(plan(optimizers=("sgd",))))} == {"sgd"}
    alone = plan(optimizers=("lion", "nag"))
    assert warmed(alone) == alone


def test_every_rule_has_its_start_where_the_budget_allows():
    rules = ("sgd", "nag", "momentum", "adamw")
    starts = {"nag": {"lr": 0.05}}
    long = warmed(plan(optimizers=rules, starts=starts, trials=40))
    assert first(long)[-1] == ("nag", 0.05, "constant"), "the guide's, where nothing was learned of a rule"
    short = plan(optimizers=rules, starts=starts, trials=4)
    assert first(warmed(short)) == first(long)[:4], "a short budget is the head of the list"
    asked = warming.warmed(short, TASK.profile, KNOWN, True, asked=True)
    assert {name for name, _, _ in first(asked)} == set(rules), "but for rules that were asked for by name"


def test_a_race_starts_every_rule_alike():
    found = warmed(plan(allocation=EQUAL))
    names = [name for name, _ in found.first]
    assert {names.count(name) for name in KNOWN.of} == {warming.RACED}
    assert names[:3] == list(KNOWN.of)


def test_the_range_test_finds_the_rates():
    found = warmed(plan(range_test=True))
    assert found.first == ()
    assert all("lr" not in ranges for ranges in found.learned.values())
    assert set(found.starts) == set(KNOWN.of)


# oa.tune


def test_tune_runs_the_list_first(known: Knowledge):
    result = oa.tune("digits-mlp", trials=8, steps=20)
    found = [(t.optimizer, t.record.config.hyperparameters["lr"], t.record.config.schedule) for t in result.trials]
    assert [(name, lr, schedule["name"]) for name, lr, schedule in found[:3]] == first(
        warming.warmed(plan(steps=20), TASK.profile, known, True)
    )[:3]
    assert found[0][2]["total_steps"] == 20
    again = oa.tune("digits-mlp", resume=True)
    assert [t.record.config for t in again.trials] == [t.record.config for t in result.trials]


def test_cold_is_the_advice_alone(known: Knowledge, monkeypatch: pytest.MonkeyPatch):
    cold = oa.tune("digits-mlp", trials=8, steps=20, warm=False)
    monkeypatch.setattr(knowledge, "load", lambda: Knowledge([], []))
    plain = oa.tune("digits-mlp", trials=8, steps=20)
    assert [t.record.value for t in cold.trials] == [t.record.value for t in plain.trials]
    assert {t.record.config.schedule["name"] for t in cold.trials} == {"constant"}


def test_resume_refuses_another_start(known: Knowledge):
    oa.tune("digits-mlp", trials=3, steps=20)
    with pytest.raises(InputError, match="was started with warm True, not False"):
        oa.tune("digits-mlp", resume=True, warm=False)


def test_a_function_of_ones_own_has_constant_rates(known: Knowledge):
    def objective(config: oa.OptimizerConfig, report: Any, seed: int) -> float:
        assert config.schedule["name"] == "constant"
        return float(config.hyperparameters["lr"])

    objective.__globals__["PROFILE"] = TASK.profile.to_dict()
    try:
        result = oa.tune(objective, trials=8)
    finally:
        del objective.__globals__["PROFILE"]
    assert len(result.trials) == 8


def test_a_function_that_follows_its_schedule_is_tried_with_the_learned_ones(known: Knowledge):
    tried = []

    def objective(config: oa.OptimizerConfig, report: Any, seed: int, steps: int) -> float:
        tried.append((config.optimizer, config.lr, config.schedule["name"]))
        assert config.schedule["total_steps"] == steps == 500
        return config.lr

    objective.scheduled = True  # type: ignore[attr-defined]
    objective.__globals__["PROFILE"] = TASK.profile.to_dict()
    try:
        oa.tune(objective, trials=8, steps=500)
    finally:
        del objective.__globals__["PROFILE"]
    assert tried[:3] == first(warming.warmed(plan(), TASK.profile, known, True))[:3]
    assert tried[0] == LIKED[0]


def test_what_runs_does_not_depend_on_what_is_known_later(known: Knowledge, monkeypatch: pytest.MonkeyPatch):
    result = oa.tune("digits-mlp", trials=12, steps=20)
    monkeypatch.setattr(knowledge, "load", lambda: Knowledge([], []))
    again = oa.tune("digits-mlp", resume=True)
    assert [t.record.config for t in again.trials] == [t.record.config for t in result.trials]
    kept = storage.open_storage(None, "digits-mlp")
    found = study.latest(kept, "digits-mlp")
    storage.close(kept)
    assert found is not None
    assert found[1].warm
