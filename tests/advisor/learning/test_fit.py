"""From a table to knowledge: candidates, rows, what others published, and how rows are weighed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from optadvisor.advisor import lists, recommend
from optadvisor.advisor.features import Scales
from optadvisor.advisor.knowledge import ANNEALED, CONSTANT, DEFAULT, DRAWN, MISSING, STEPS, STUDIED, Knowledge
from optadvisor.advisor.learning import dataset, deepobs, fit
from optadvisor.advisor.learning.dataset import Dataset
from optadvisor.kernels.rules import RULES
from optadvisor.profile import TaskProfile
from optadvisor.studies.outcomes import LADDER, Sheet, Table

WHOLE = Sheet()


def test_the_candidates_are_the_sheets_configs_in_order():
    found = fit.candidates(WHOLE)
    configs = [(rule, n, config) for rule in WHOLE.rules for n, config in enumerate(WHOLE.configs_of(rule))]
    assert len(found) == len(configs)
    for candidate, (rule, n, config) in zip(found, configs, strict=True):
        assert candidate.optimizer == rule
        made = candidate.config(TaskProfile(), {})
        assert made.schedule["name"] == config.schedule["name"]
        assert made.schedule["warmup_fraction"] == (config.schedule.get("warmup_fraction") or 0.0)
        for role, (name, values) in config.roles().items():
            again, kept = made.roles()[role]
            assert again == name
            for key, value in values.items():
                assert kept[key] == pytest.approx(value, rel=1e-3, abs=1e-9), (rule, n, role, key)


def test_the_kinds():
    for rule in WHOLE.rules:
        kinds = [candidate.kind for candidate in fit.candidates(WHOLE) if candidate.optimizer == rule]
        assert kinds[0] == DEFAULT
        assert kinds[1 : 1 + LADDER] == [CONSTANT] * LADDER
        annealed = LADDER if rule not in ("ftrl", "hybrid") else 0
        assert kinds[1 + LADDER :] == [DRAWN] * (47 - annealed) + [ANNEALED] * annealed


def test_a_candidate_keeps_what_differs_from_the_defaults():
    first, ladder = fit.candidates(WHOLE)[0], fit.candidates(WHOLE)[1]
    assert dict(first.hyperparameters) == {"lr": RULES["sgd"].defaults["lr"]}
    assert set(ladder.hyperparameters) == {"lr"}


def test_beta_keeps_as_many_digits_as_1_less_beta_needs():
    assert fit._changed("adam", {"lr": 0.00123456, "betas": (0.9, 0.99987654321)}) == {
        "lr": 0.001235,
        "betas": [pytest.approx(0.9), pytest.approx(1 - 0.0001235, abs=1e-12)],
    }


def test_regrets_as_bytes():
    found = fit.quantised(np.array([-0.5, 0.0, 0.5, 0.5019, 1.0, np.nan]))
    assert list(found) == [0, 0, STEPS // 2, STEPS // 2, STEPS, MISSING]
    values = np.linspace(0, 1, 501)
    assert np.abs(np.frombuffer(fit.quantised(values), np.uint8) / STEPS - values).max() <= 0.5 / STEPS + 1e-12


def test_a_row_is_the_mean_over_the_seeds(planted: Dataset):
    found = fit.rows(planted)
    assert [row.name for row in found] == planted.names
    for i, row in enumerate(found):
        assert (row.family, row.profile) == (planted.families[i], planted.profiles[i])
        assert (row.source, row.seeds, row.worth) == (STUDIED, 2, 1.0)
        mean = planted.regrets[i].mean(axis=-1).ravel()
        np.testing.assert_allclose(np.frombuffer(row.regrets, np.uint8) / STEPS, mean.clip(0, 1), atol=0.51 / STEPS)
        for r, rule in enumerate(planted.rules):
            regret, lr = row.best[rule]
            assert regret == pytest.approx(fit.honest(planted.regrets[i, r]), abs=5e-4)
            best = planted.sheet.configs_of(rule)[int(planted.regrets[i, r].mean(axis=-1).argmin())]
            assert lr == pytest.approx(best.hyperparameters["lr"], rel=0.01)


def test_a_rule_that_does_not_fit_is_missing(planted: Dataset):
    regrets = planted.regrets.copy()
    regrets[2, 1] = np.nan
    row = fit.rows(replace(planted, regrets=regrets))[2]
    assert set(row.best) == {"sgd", "adamw"}
    kept = np.frombuffer(row.regrets, np.uint8).reshape(3, -1)
    assert (kept[1] == MISSING).all()
    assert (kept[[0, 2]] <= STEPS).all()


def test_published_sweeps_are_rows_over_the_ladders():
    known = fit.candidates(WHOLE)
    rows = fit.published_rows(known)
    assert len(rows) == len(deepobs.tasks()) == 8
    for sweep, row in zip(deepobs.tasks(), rows, strict=True):
        assert (row.name, row.profile, row.source) == (sweep.task, sweep.profile, "deepobs")
        assert row.citation
        assert row.worth == fit.PUBLISHED_WORTH
        for candidate, regret in zip(known, row.regrets, strict=True):
            ran = candidate.optimizer in ("sgd", "momentum", "nag", "adam", "adamw")
            assert (regret != MISSING) is (ran and candidate.kind in (CONSTANT, ANNEALED))
        assert set(row.best) == {"sgd", "momentum", "adam"}
        ladder = [n for n, c in enumerate(known) if (c.optimizer, c.kind) == ("adam", CONSTANT)]
        runs = {run.our_lr: deepobs.regrets(sweep.task)["adam"][run.lr] for run in sweep.runs if run.rule == "adam"}
        for n in ladder:
            lr = known[n].lr
            below, above = max(r for r in runs if r <= lr), min(r for r in runs if r >= lr)
            ends = sorted((runs[below], runs[above]))
            assert ends[0] - 0.01 <= row.regrets[n] / STEPS <= ends[1] + 0.01
        kin = [row.regrets[n] for n, c in enumerate(known) if (c.optimizer, c.kind) == ("adamw", CONSTANT)]
        assert kin == [row.regrets[n] for n in ladder]


def test_an_annealed_rate_stands_for_half_of_it():
    rates = [math.log10(c.lr) for c in fit.candidates(WHOLE) if (c.optimizer, c.kind) == ("adam", ANNEALED)]
    known = fit.candidates(WHOLE)
    for row in fit.published_rows(known):
        constant, annealed = (
            [row.regrets[n] / STEPS for n, c in enumerate(known) if (c.optimizer, c.kind) == ("adam", kind)]
            for kind in (CONSTANT, ANNEALED)
        )
        # Interpolated twice, on two grids: near where the curve is not steep.
        half = np.interp(np.array(rates[2:]) - math.log10(2), rates, constant)
        assert np.median(np.abs(np.array(annealed[2:]) - half)) < 0.05


# How to weigh ----------------------------------------------------------------------------------------------------------


def test_the_choice_for_a_family_does_not_see_its_scores(planted: Dataset, monkeypatch: pytest.MonkeyPatch):
    """Families 1 to 5 are a little better with setting 3, family 0 is much better with setting 7."""
    scores = np.full((len(fit.GRID), 18), 0.5)
    scores[3, 3:] = 0.45
    monkeypatch.setattr(fit, "grid_scores", lambda data, known: scores)
    nothing = Knowledge([], [])
    before = fit.scales_by_family(planted, nothing)
    assert before == {f"family-{n}": fit.GRID[3] for n in range(6)}
    scores[3, :3], scores[7, :3] = 100.0, -100.0
    after = fit.scales_by_family(planted, nothing)
    assert after["family-0"] == fit.GRID[3]
    assert fit.GRID[3] not in [after[f"family-{n}"] for n in range(1, 6)]


def test_a_setting_ships_where_it_is_better_by_more_than_the_noise_over_families(
    planted: Dataset, monkeypatch: pytest.MonkeyPatch
):
    scores = np.full((len(fit.GRID), 18), 0.5)
    monkeypatch.setattr(fit, "grid_scores", lambda data, known: scores)
    nothing = Knowledge([], [])
    scores[3] = 0.49
    assert fit.best_scales(planted, nothing) == fit.GRID[3], "little, but on every family"
    scores[3] = np.repeat([0.1, 0.6, 0.5, 0.5, 0.5, 0.5], 3)
    assert fit.best_scales(planted, nothing) == fit.GRID[0], "much, but on one family alone, and less on another"
    scores[3] = 0.51
    assert fit.best_scales(planted, nothing) == fit.GRID[0]


def test_a_family_of_many_tasks_counts_as_much_as_one_of_few(planted: Dataset, monkeypatch: pytest.MonkeyPatch):
    data = replace(planted, families=["many"] * 16 + ["one", "two"])
    scores = np.full((len(fit.GRID), 18), 0.5)
    scores[3, :16], scores[3, 16:] = 0.4, 0.6
    scores[7, :16], scores[7, 16:] = 0.55, 0.3
    monkeypatch.setattr(fit, "grid_scores", lambda data, known: scores)
    assert fit.best_scales(data, Knowledge([], [])) == fit.GRID[7]


def test_the_grid_is_scored_on_families_left_out(planted: Dataset):
    known = fit.rows_only(planted, Scales())
    scores = fit.grid_scores(planted, known)
    assert scores.shape == (len(fit.GRID), 18)
    i, s = 4, 2
    view = replace(known, scales=fit.GRID[s]).without(planted.families[i])
    chosen = lists.ordered(view, planted.profiles[i], 8, planted.rules)
    flat = planted.regrets[i].reshape(-1, 2)
    assert scores[s, i] == pytest.approx(np.mean([_naive(flat[chosen[:k]]) for k in (1, 2, 4, 8)]))
    changed = replace(planted, regrets=planted.regrets.copy())
    changed.regrets[3:6] = 1.0 - changed.regrets[3:6]
    after = fit.grid_scores(changed, fit.rows_only(changed, Scales()))
    assert (after[:, 3:6] > scores[:, 3:6] + 0.1).any(), "the same lists, and now they are bad"


def _naive(regrets: np.ndarray) -> float:
    a, b = regrets.T
    return float((b[a.argmin()] + a[b.argmin()]) / 2)


def test_what_a_table_teaches(planted: Dataset):
    found = fit.knowledge(planted)
    assert found.notes["tasks"] == 18
    assert found.notes["families"] == 6
    assert found.notes["trainings"] == 18 * 3 * 40 * 2
    assert Sheet.from_dict(found.notes["sheet"]) == planted.sheet
    assert found.scales in fit.GRID
    assert found.rates is not None
    assert found.classifier is not None
    for i, (domain, rule) in enumerate((("vision", "sgd"), ("language", "adam"), ("tabular", "adamw"))):
        asked = TaskProfile(domain=domain, parameters=3000, steps=500)
        view = found.without(f"family-{i}", f"family-{(i + 1) % 3}")
        assert found.candidates[lists.ordered(view, asked, 1)[0]].optimizer == rule


def test_a_trained_table_teaches_an_answer(table: Table):
    found = fit.knowledge(dataset.read(table))
    advice = recommend(TaskProfile(domain="tabular", architecture="linear", parameters=42, steps=100), 5, found)
    assert len(advice) == 5
    assert advice.basis["outcomes"] > 0.1
    assert any(entry.config.provenance["source"] == "outcomes" for entry in advice)
