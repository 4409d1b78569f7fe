"""What was learned, kept as arrays: the round trip, the shipped file, views without a family or a source, the ladder."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from optadvisor.advisor import knowledge as keeping
from optadvisor.advisor import published
from optadvisor.advisor.arrays import Array, read_npz
from optadvisor.advisor.features import Scales
from optadvisor.advisor.knowledge import (
    ANNEALED,
    CONSTANT,
    DEFAULT,
    DRAWN,
    MISSING,
    STEPS,
    STUDIED,
    Candidate,
    Knowledge,
    Row,
)
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.profile import TaskProfile

PROFILE = TaskProfile(domain="tabular", architecture="mlp", parameters=5000, samples=2000, steps=1000, convex=False)
PARTS = {
    "embedding": ("adagrad", {"lr": 0.05}),
    "dense": ("adamw", {"lr": 0.001, "betas": [0.9, 0.95], "weight_decay": 0.1}),
}


@pytest.fixture(scope="module")
def made() -> Knowledge:
    candidates = [
        Candidate("sgd", {"lr": 0.1}, "constant", 0.0, DEFAULT),
        Candidate("adam", {"lr": 0.003, "betas": [0.9, 0.9871], "eps": 1e-7}, "warmup_cosine", 0.1, DRAWN),
        Candidate(HYBRID, {}, "constant", 0.0, DRAWN, PARTS),
    ]
    rows = [
        Row("ä:steps=250", "ä", STUDIED, PROFILE, bytes([0, 125, MISSING]), {"sgd": [0.02, 0.1]}, 2),
        Row("paper", "resnet", "deepobs", TaskProfile(), bytes([STEPS, 1, 2]), worth=0.1, citation="Somebody 2019"),
    ]
    models = {
        "rates.rules": Array((4,), b"adam"),
        "rates.table": Array((2, 3), [0.1, -2.5, 3e-7, 4.0, 5.0, 6.0]),
        "classifier.base": Array((2,), [0.25, 0.75]),
    }
    return Knowledge(candidates, rows, Scales(domain=1.5, floor=0.25), 0.75, models, {"tasks": 2, "of": ["a"]})


def again(known: Knowledge, save=np.savez) -> Knowledge:
    file = io.BytesIO()
    save(file, **keeping.to_arrays(known))
    file.seek(0)
    return keeping.from_arrays(read_npz(file))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_round_trip(made: Knowledge, save):
    found = again(made, save)
    assert found.candidates == made.candidates
    assert found.rows == made.rows
    assert found.scales == made.scales
    assert found.guide_weight == made.guide_weight
    assert found.notes == made.notes
    for name, array in made.models.items():
        assert found.models[name].shape == array.shape
        assert list(found.models[name].flat) == list(array.flat)
    assert set(found.models) == set(made.models)
    assert [c.lr for c in found.candidates] == [0.1, 0.003, 0.001]
    assert again(found).rows == made.rows


def test_numpy_reads_it_without_pickle_and_without_objects(made: Knowledge, tmp_path: Path):
    keeping.save(made, tmp_path / "knowledge.npz")
    with np.load(tmp_path / "knowledge.npz", allow_pickle=False) as kept:
        assert {kept[name].dtype.kind for name in kept} <= set("uif")
        np.testing.assert_array_equal(kept["regrets"], [[0, 125, MISSING], [STEPS, 1, 2]])
        assert kept["regrets"].dtype == np.uint8
        np.testing.assert_array_equal(kept["rates.table"], [[0.1, -2.5, 3e-7], [4.0, 5.0, 6.0]])


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("candidates", [0, 1])
def test_little_or_nothing_makes_the_round_trip_too(made: Knowledge, rows: int, candidates: int):
    few = [replace(row, regrets=row.regrets[:candidates]) for row in made.rows[:rows]]
    found = again(Knowledge(made.candidates[:candidates], few))
    assert (found.candidates, found.rows) == (made.candidates[:candidates], few)
    assert found.rates is None
    assert found.classifier is None
    assert found.largest == ((math.log10(5000), 3.0) if rows else (0.0, 0.0))


# Candidates as configs -------------------------------------------------------------------------------------------------


def test_a_candidate_takes_the_length_of_the_training(made: Knowledge):
    adam = made.candidates[1].config(PROFILE, {"source": "test"})
    assert adam.schedule["name"] == "warmup_cosine"
    assert (adam.schedule["warmup_steps"], adam.schedule["total_steps"]) == (100, 1000)
    assert adam.hyperparameters["betas"] == [0.9, 0.9871]
    assert adam.hyperparameters["lr"] == 0.003
    unknown = made.candidates[1].config(TaskProfile(), {})
    assert unknown.schedule["total_steps"] is None
    assert unknown.schedule["warmup_fraction"] == 0.1


def test_a_hybrid_has_its_parts_and_what_does_not_decay(made: Knowledge):
    hybrid = made.candidates[2].config(PROFILE, {})
    assert hybrid.optimizer == HYBRID
    assert {group["role"]: group["optimizer"] for group in hybrid.groups} == {
        "embedding": "adagrad",
        "dense": "adamw",
        "no_decay": "adamw",
    }
    dense = next(group for group in hybrid.groups if group["role"] == "dense")
    assert dense["hyperparameters"]["weight_decay"] == 0.1
    assert dense["hyperparameters"]["betas"] == [0.9, 0.95]


def test_the_full_batch_is_asked_for(made: Knowledge):
    assert made.candidates[0].config(PROFILE, {}, full_batch=True).batch == "full"
    assert made.candidates[0].config(PROFILE, {}).batch == "mini"


# Views -----------------------------------------------------------------------------------------------------------------


def test_views_without_families_and_sources(made: Knowledge):
    assert [row.name for row in made.without("ä").rows] == ["paper"]
    assert made.without("ä").left_out == frozenset()
    out = made.without(sources=("deepobs",))
    assert [row.name for row in out.rows] == ["ä:steps=250"]
    assert out.left_out == {"deepobs"}
    assert out.without("ä", sources=("epfl",)).left_out == {"deepobs", "epfl"}
    assert out.without("ä").rows == []
    assert made.without("ä").largest == (0.0, 0.0), "the largest studied task is one of what is left"
    assert len(made.rows) == 2
    assert made.without("nothing").candidates == made.candidates


# The ladder ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ladder() -> Knowledge:
    rates = [1.0, 0.001, 0.1, 0.01]  # in no order
    candidates = [Candidate("adam", {"lr": lr}, "constant", 0.0, CONSTANT) for lr in rates]
    candidates += [Candidate("adam", {"lr": 10 * lr}, "cosine", 0.0, ANNEALED) for lr in rates]
    candidates += [Candidate("ftrl", {"lr": 0.5}, "constant", 0.0, CONSTANT)]
    candidates += [Candidate("adam", {"lr": 0.05}, "constant", 0.0, DRAWN)]
    return Knowledge(candidates, [])


@pytest.mark.parametrize(("lr", "number"), [(0.001, 1), (0.01, 3), (0.1, 2), (1.0, 0)])
def test_on_a_rate_of_the_ladder(ladder: Knowledge, lr: float, number: int):
    found = ladder.between("adam", False, lr)
    assert found is not None
    assert {n: share for n, share in found if share} == {number: pytest.approx(1.0)}
    annealed = ladder.between("adam", True, 10 * lr)
    assert annealed is not None
    assert {n: share for n, share in annealed if share > 1e-9} == {number + 4: pytest.approx(1.0)}


def test_between_two_rates_the_shares_are_of_the_logarithm(ladder: Knowledge):
    assert ladder.between("adam", False, 10**-1.5) == [(3, pytest.approx(0.5)), (2, pytest.approx(0.5))]
    assert ladder.between("adam", False, 10**-1.1) == [(3, pytest.approx(0.1)), (2, pytest.approx(0.9))]


@pytest.mark.parametrize(("factor", "share"), [(1, 1.0), (3, 2 / 3), (9, 1 / 3), (27, 0.0), (1000, 0.0)])
def test_beyond_the_ends_a_third_is_missing_for_a_factor_of_3(ladder: Knowledge, factor: float, share: float):
    assert ladder.between("adam", False, 0.001 / factor) == [(1, pytest.approx(share, abs=1e-9))]
    assert ladder.between("adam", False, 1.0 * factor) == [(0, pytest.approx(share, abs=1e-9))]
    assert ladder.between("ftrl", False, 0.5 * factor) == [(8, pytest.approx(share, abs=1e-9))]


def test_who_has_no_ladder(ladder: Knowledge):
    assert ladder.between("lion", False, 0.1) is None
    assert ladder.between("ftrl", True, 0.5) == [(8, 1.0)], "never annealed: its constant rates stand for it"


# The shipped file ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> Knowledge:
    return keeping.shipped()


def test_the_file_is_small():
    path = resources.files("optadvisor.advisor").joinpath("data/knowledge.npz")
    with resources.as_file(path) as file:
        assert file.stat().st_size <= 5_000_000
        with np.load(file, allow_pickle=False) as kept:
            assert {kept[name].dtype.kind for name in kept} <= set("uif")


def test_an_answer_rests_on_it_without_numpy():
    script = (
        "import sys, optadvisor as oa\n"
        "advice = oa.recommend(oa.TaskProfile(domain='tabular', parameters=5000, steps=1000))\n"
        "print(advice.basis['tasks'] > 0, advice.best.expected_regret is not None, 'numpy' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["True", "True", "False"]


def test_the_round_trip_of_the_shipped_file(shipped: Knowledge):
    found = again(shipped)
    assert found.candidates == shipped.candidates
    assert found.rows == shipped.rows
    assert found.rates == shipped.rates is not None
    assert found.classifier == shipped.classifier is not None


@pytest.mark.parametrize("profile", [TaskProfile(), TaskProfile(steps=1), TaskProfile(steps=12_345)])
def test_every_candidate_is_a_config(shipped: Knowledge, profile: TaskProfile):
    for candidate in shipped.candidates:
        config = candidate.config(profile, {"source": "outcomes"})
        assert OptimizerConfig.from_dict(config.to_dict()) == config
        assert config.schedule["name"] == candidate.schedule
        if candidate.schedule != "constant":
            assert config.schedule["total_steps"] == profile.steps
        assert config.roles()["dense"][1]["lr"] == candidate.lr > 0


def test_every_candidate_has_a_kind_and_no_two_are_the_same(shipped: Knowledge):
    assert {candidate.kind for candidate in shipped.candidates} == {CONSTANT, ANNEALED, DRAWN, DEFAULT}
    assert len({repr(candidate.to_list()) for candidate in shipped.candidates}) == len(shipped.candidates)
    for optimizer in shipped.of:
        kinds = [shipped.candidates[n].kind for n in shipped.of[optimizer]]
        assert kinds.count(DEFAULT) == 1
        assert kinds.count(DRAWN) >= 20
        assert len(shipped.ladders[optimizer, CONSTANT]) == 16


def test_the_rows(shipped: Knowledge):
    studied = [row for row in shipped.rows if row.source == STUDIED]
    assert len({row.family for row in studied}) >= 30
    assert len({row.name for row in shipped.rows}) == len(shipped.rows)
    for row in shipped.rows:
        assert len(row.regrets) == len(shipped.candidates)
        assert all(value <= STEPS or value == MISSING for value in row.regrets)
        known = [value for value in row.regrets if value != MISSING]
        assert min(known) < STEPS / 10, f"{row.name}: nothing is good"
        assert max(known) == STEPS, f"{row.name}: nothing is bad"
        assert row.worth > 0
        assert all(-1 <= regret <= 1 and lr > 0 for regret, lr in row.best.values())
    for row in studied:
        assert row.worth == 1.0
        assert row.seeds >= 2
        assert row.profile.parameters
        assert row.profile.steps
        missing = {shipped.candidates[n].optimizer for n, value in enumerate(row.regrets) if value == MISSING}
        assert missing.isdisjoint(row.best), "a rule fits a task or it does not"
        assert missing <= {"ftrl", "hybrid"}


def test_what_others_published_is_cited_and_counts_less(shipped: Knowledge):
    rows = [row for row in shipped.rows if row.source not in (STUDIED, keeping.OWN)]
    assert {row.source for row in rows} == {"deepobs"}
    assert len(rows) == 8
    for row in rows:
        assert row.citation == published.DEEPOBS.text
        assert 0 < row.worth < 1
        assert row.seeds == 1


def test_where_nothing_is_shipped_the_knowledge_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keeping.resources, "files", lambda package: tmp_path)
    keeping.shipped.cache_clear()
    try:
        assert keeping.load() == Knowledge([], [])
    finally:
        keeping.shipped.cache_clear()
