"""A person's own studies as knowledge: regrets from trials, the file, what load() and recommend make of it."""

from __future__ import annotations

import functools
import json
import math
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import optadvisor as oa
from optadvisor.advisor import knowledge, own
from optadvisor.advisor.knowledge import ANNEALED, CONSTANT, DRAWN, MISSING, OWN, STEPS, Candidate, Knowledge, Row
from optadvisor.advisor.learning import adding, fit
from optadvisor.kernels.rules import RULES
from optadvisor.profile import TaskProfile
from optadvisor.studies import browsing
from optadvisor.studies.outcomes import Sheet

PROFILE = TaskProfile(domain="tabular", architecture="mlp", parameters=5000, samples=2000, batch_size=32, steps=1000)


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path))
    return tmp_path / "knowledge" / "own.json"


@functools.cache
def candidates() -> list[Candidate]:
    return fit.candidates(Sheet(64, 2, 0))


def shipping(monkeypatch: pytest.MonkeyPatch, rows: list[Row] | None = None) -> Knowledge:
    """A package that ships these rows."""
    shipped = Knowledge(candidates(), rows or [])
    monkeypatch.setattr(knowledge, "shipped", lambda: shipped)
    return shipped


def trial(lr: float, value: float, rule: str = "adam", schedule: str = "constant", **more: float) -> own.Trial:
    return own.Trial(Candidate(rule, {"lr": lr, **more}, schedule, 0.0, DRAWN), value)


def bowl(best: float, rule: str = "adam", low: float = 1e-5, high: float = 1.0, n: int = 41) -> list[own.Trial]:
    """Trials over a range of learning rates; the value is the squared distance to the best one in decades."""
    rates = [low * (high / low) ** (i / (n - 1)) for i in range(n)]
    return [trial(lr, math.log10(lr / best) ** 2, rule) for lr in rates]


def study(
    trials: list[own.Trial], name: str = "mine#1", storage: str = "here", profile: TaskProfile = PROFILE
) -> own.Study:
    return own.Study(name, storage, name.partition("#")[0], "mine", profile, "minimize", trials)


def of(found: bytes, rule: str, kind: str | None = None) -> dict[float, float | None]:
    """Learning rate -> regret of the candidates of a rule and kind."""
    return {
        c.lr: None if found[i] == MISSING else found[i] / STEPS
        for i, c in enumerate(candidates())
        if c.optimizer == rule and kind in (None, c.kind)
    }


# Regrets from trials ---------------------------------------------------------------------------------------------------


def test_a_candidate_near_the_best_trials_has_a_low_regret():
    found = of(own.regrets(candidates(), bowl(0.01)), "adam", CONSTANT)
    best = min((r, lr) for lr, r in found.items() if r is not None)
    assert best[0] < 0.1
    assert 0.005 < best[1] < 0.02
    for lr, regret in found.items():
        if regret is not None and abs(math.log10(lr / 0.01)) > 1.5:
            assert regret > 0.7


def test_what_the_study_says_nothing_of_is_missing():
    found = own.regrets(candidates(), bowl(0.01, low=1e-3, high=1e-1))
    assert set(of(found, "sgd").values()) == {None}
    assert set(of(found, "hybrid").values()) == {None}
    ladder = of(found, "adam", CONSTANT)
    reach = 10 ** (own.LR_LENGTH * own.REACH)
    assert all((regret is None) == (lr < 1e-3 / reach or lr > 1e-1 * reach) for lr, regret in ladder.items())
    assert any(regret is None for regret in ladder.values())


def test_an_annealed_learning_rate_counts_as_its_mean():
    annealed = of(own.regrets(candidates(), bowl(0.01)), "adam", ANNEALED)
    assert 0.01 < min((r, lr) for lr, r in annealed.items() if r is not None)[1] < 0.04


def test_the_learning_rate_says_more_than_the_other_axes():
    trials = [*bowl(0.01), trial(0.01, 9.0, weight_decay=0.5)]
    found = of(own.regrets(candidates(), trials), "adam", CONSTANT)
    assert min(r for r in found.values() if r is not None) < 0.2  # one bad trial far off in weight decay


def test_a_diverged_trial_is_regret_one():
    trials = [
        trial(lr, math.inf) if t.value > 1 and t.config.lr > 0.01 else t for t in bowl(0.01) for lr in [t.config.lr]
    ]
    found = of(own.regrets(candidates(), trials), "adam", CONSTANT)
    assert all(regret > 0.95 for lr, regret in found.items() if lr > 0.4 and regret is not None)


def test_the_scale_is_that_of_the_searched_space_however_the_sampler_crowds():
    even = bowl(0.01)
    crowded = [*even, *(trial(0.01 * 1.001**i, math.log10(1.001**i) ** 2) for i in range(400))]
    assert own.scale(crowded)[1] == pytest.approx(own.scale(even)[1], rel=0.2)


def test_every_rule_counts_the_same_in_the_scale():
    few, many = [trial(lr, 5.0, "sgd") for lr in (0.01, 0.1, 1.0)], bowl(0.01)
    assert own.scale([*few, *many, *few])[1] == own.scale([*few, *many])[1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], (3.0, 3.0)),
        ([1.0, 1.0], (1.0, 1.0)),
        ([1.0, 2.0, 9.0], (1.0, 2.0)),
        ([1.0, 2.0, math.inf, math.inf, math.inf], (1.0, 2.0)),
        ([1.0, math.inf, math.inf], (1.0, 1.0)),
    ],
)
def test_the_scale(values, expected):
    assert own.scale([trial(10.0**-i, value) for i, value in enumerate(values)]) == expected


def test_level_trials_and_diverged_ones_are_zero_and_one():
    found = of(own.regrets(candidates(), [trial(0.01, 2.0), trial(10.0, math.inf)]), "adam", CONSTANT)
    assert found[min(found, key=lambda lr: abs(math.log(lr / 0.01)))] == 0.0


def test_regrets_are_shares_or_missing_whatever_the_trials():
    draw = random.Random(0)
    for _ in range(20):
        rules = draw.sample([name for name, rule in RULES.items() if rule.elementwise], 3)
        trials = [
            trial(
                10 ** draw.uniform(-6, 2), draw.choice([math.inf, -1e300, 1e300, draw.gauss(0, 1)]), draw.choice(rules)
            )
            for _ in range(draw.randint(1, 30))
        ]
        trials.append(trial(0.1, 0.5, rules[0]))
        found = own.regrets(candidates(), trials)
        assert len(found) == len(candidates())
        assert all(value <= STEPS or value == MISSING for value in found)
        for regret, lr in study(trials).row(candidates()).best.values():
            assert 0 <= regret <= 1 < math.inf
            assert lr > 0


def test_hybrids_are_compared_with_those_of_the_same_rules():
    def hybrid(lr: float, dense: str) -> own.Trial:
        parts = {"embedding": ("adagrad", {"lr": 0.1}), "dense": (dense, {"lr": lr})}
        return own.Trial(Candidate("hybrid", {}, "constant", 0.0, DRAWN, parts), math.log10(lr / 0.01) ** 2)

    rates = [10 ** (i / 4 - 4) for i in range(16)]
    assert any(
        r is not None for r in of(own.regrets(candidates(), [hybrid(lr, "adamw") for lr in rates]), "hybrid").values()
    )
    assert set(of(own.regrets(candidates(), [hybrid(lr, "sgd") for lr in rates]), "hybrid").values()) == {None}


def test_the_row():
    row = study([*bowl(0.01), *bowl(0.1, "sgd"), trial(1.0, 50.0, "momentum")]).row(candidates())
    assert (row.source, row.worth, row.family, row.profile) == (OWN, 3.0, "mine", PROFILE)
    assert row.best["adam"][1] == pytest.approx(0.01, rel=0.2)
    assert row.best["sgd"][1] == pytest.approx(0.1, rel=0.2)
    assert row.best["adam"][0] < 0.1
    assert row.best["momentum"][0] == 1.0
    assert "mine#1" in row.citation


# The file --------------------------------------------------------------------------------------------------------------


def test_nothing_is_there_and_nothing_is_made(path: Path):
    assert own.rows(candidates()) == []
    assert own.studies() == []
    assert not path.parent.exists()


def test_what_is_added_is_read_back(path: Path):
    hybrid = {"embedding": ("adagrad", {"lr": 0.1}), "dense": ("adamw", {"lr": 0.01, "betas": [0.8, 0.99]})}
    trials = [
        *bowl(0.01),
        trial(9.0, math.inf),
        own.Trial(Candidate("hybrid", {}, "constant", 0.0, DRAWN, hybrid), 7.0),
    ]
    assert own.add(study(trials), candidates()) is False
    [kept] = own.studies()
    assert [t.value for t in kept.trials] == [t.value for t in trials]
    assert [t.config.lr for t in kept.trials] == [t.config.lr for t in trials]
    assert kept.profile == PROFILE
    [row] = own.rows(candidates())
    assert row == study(trials).row(candidates())
    assert json.loads(path.read_text())["format"] == own.FORMAT
    assert list(path.parent.glob("*.tmp")) == []


def test_adding_again_replaces_and_another_storage_is_another_study():
    own.add(study(bowl(0.01)), candidates())
    own.add(study(bowl(0.01), "other#1"), candidates())
    assert own.add(study(bowl(0.1)), candidates()) is True
    assert own.add(study(bowl(0.1), storage="elsewhere"), candidates()) is False
    assert [row.name for row in own.rows(candidates())] == ["other#1", "mine#1", "mine#1"]
    assert own.rows(candidates())[1].best["adam"][1] == pytest.approx(0.1, rel=0.2)


def test_forgetting(path: Path):
    with pytest.raises(oa.InputError, match=r"it is empty.*learn add"):
        own.forget("mine#1", candidates())
    for name, storage in (("mine#1", "here"), ("mine#1", "there"), ("other#2", "here")):
        own.add(study(bowl(0.01), name, storage), candidates())
    with pytest.raises(oa.InputError, match=r"did you mean 'mine#1'.*known: mine#1, other#2"):
        own.forget("mine#3", candidates())
    assert own.forget("mine#1", candidates()) == 2
    assert [row.name for row in own.rows(candidates())] == ["other#2"]
    assert own.forget("other#2", candidates()) == 1
    assert not path.exists()
    assert own.forget_all() is False


def test_another_release_with_other_candidates_reads_the_trials():
    own.add(study(bowl(0.01)), candidates())
    fewer = candidates()[::3]
    [row] = own.rows(fewer)
    assert len(row.regrets) == len(fewer)
    assert row.regrets == own.regrets(fewer, bowl(0.01)) == own.rows(candidates())[0].regrets[::3]


def test_what_was_computed_is_used_until_the_method_changes(monkeypatch):
    own.add(study(bowl(0.01)), candidates())
    first = own.rows(candidates())
    monkeypatch.setattr(own, "_last", None)
    with monkeypatch.context() as patch:
        patch.setattr(own.Study, "from_dict", None)  # the trials are not looked at
        assert own.rows(candidates()) == first
    monkeypatch.setattr(own, "_last", None)
    monkeypatch.setattr(own, "LR_LENGTH", 0.3)
    assert own.rows(candidates())[0].regrets != first[0].regrets


def test_a_rule_or_setting_that_a_release_no_longer_has(path: Path):
    own.add(study(bowl(0.01)), candidates())
    data = json.loads(path.read_text())
    for entry in data["studies"][0]["trials"]:
        entry["hyperparameters"]["warp"] = 3
    path.write_text(json.dumps(data))
    assert own.studies()[0].trials == bowl(0.01)


def test_two_that_add_at_once_are_both_kept():
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: own.add(study(bowl(0.01, n=9), f"mine#{i}"), candidates()), range(8)))
    assert sorted(row.name for row in own.rows(candidates())) == [f"mine#{i}" for i in range(8)]


def changed(field: str, value: object):
    def change(data: dict) -> None:
        *way, last = field.split("/")
        for key in way:
            data = data[int(key) if key.isdigit() else key]
        if value is KeyError:
            del data[last]
        else:
            data[last] = value

    return change


BROKEN = {
    "format": changed("format", 99),
    "no studies": changed("studies", KeyError),
    "studies of another type": changed("studies", 7),
    "a study of another type": changed("studies", ["x"]),
    "profile": changed("studies/0/profile", {"domain": "moon"}),
    "profile field": changed("studies/0/profile", {"planet": "moon"}),
    "regrets cut short": changed("studies/0/row/regrets", "AAAA"),
    "regrets no base64": changed("studies/0/row/regrets", "\u2603"),
    "no row": changed("studies/0/row", KeyError),
    "best": changed("studies/0/row/best", {"adam": "low"}),
}
BROKEN_TRIALS = {
    "value": changed("studies/0/trials/0/value", "low"),
    "optimizer": changed("studies/0/trials/0/optimizer", "adamv"),
    "schedule": changed("studies/0/trials/0/schedule", "sometimes"),
    "hyperparameters": changed("studies/0/trials/0/hyperparameters", {"lr": "high"}),
    "lr": changed("studies/0/trials/0/hyperparameters", {"lr": 0.0}),
    "no lr": changed("studies/0/trials/0/hyperparameters", {}),
    "trials": changed("studies/0/trials", []),
}


def refuses(read, path: Path) -> None:
    with pytest.raises(oa.InputError) as raised:
        read()
    message = str(raised.value)
    assert str(path) in message
    assert "optadvisor learn forget --all" in message
    assert "\n" not in message


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_line_with_the_remedy(path: Path, change, monkeypatch):
    shipping(monkeypatch)
    own.add(study(bowl(0.01)), candidates())
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    before = path.read_bytes()
    refuses(knowledge.load, path)
    refuses(lambda: oa.recommend(PROFILE), path)
    assert path.read_bytes() == before
    assert own.forget_all() is True
    assert len(oa.recommend(PROFILE)) == 5


@pytest.mark.parametrize("change", BROKEN_TRIALS.values(), ids=BROKEN_TRIALS)
def test_broken_trials_are_found_when_they_are_read(path: Path, change):
    own.add(study(bowl(0.01)), candidates())
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    refuses(own.studies, path)
    refuses(lambda: own.add(study(bowl(0.01), "more#1"), candidates()), path)
    refuses(lambda: own.rows(candidates()[::2]), path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}'])
def test_a_file_that_is_something_else(path: Path, content: bytes):
    path.parent.mkdir()
    path.write_bytes(content)
    refuses(lambda: own.rows(candidates()), path)
    refuses(own.studies, path)
    refuses(lambda: own.add(study(bowl(0.01)), candidates()), path)
    assert path.read_bytes() == content


def test_nothing_is_written_that_could_not_be_read(path: Path):
    with pytest.raises(oa.InputError, match="lr is 0"):
        own.add(study([trial(0.0, 1.0), trial(0.1, 2.0)]), candidates())
    assert not path.exists()


def test_reading_takes_neither_numpy_nor_optuna(path: Path):
    own.add(study(bowl(0.01)), candidates())
    script = "from optadvisor.advisor import own; print(len(own.rows([])), len(own.studies())); import sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    counts, modules = ran.stdout.splitlines()
    assert counts == "1 1"
    assert not {name.partition(".")[0] for name in modules.split()} & {"numpy", "optuna", "numba", "scipy"}


# Knowledge and advice --------------------------------------------------------------------------------------------------


def test_load_gives_what_is_shipped_and_then_ones_own(monkeypatch):
    row = Row("t", "f", "studied", PROFILE, bytes(len(candidates())))
    shipped = shipping(monkeypatch, [row])
    assert knowledge.load() is shipped
    own.add(study(bowl(0.01)), candidates())
    found = knowledge.load()
    assert [r.name for r in found.rows] == ["t", "mine#1"]
    assert shipped.rows == [row]
    assert found.candidates is shipped.candidates
    own.forget_all()
    assert knowledge.load() is shipped


def test_without_candidates_there_are_no_rows_of_ones_own(monkeypatch):
    monkeypatch.setattr(knowledge, "shipped", lambda: Knowledge([], []))
    own.add(study(bowl(0.01)), [])
    assert knowledge.load().rows == []
    shipping(monkeypatch)
    assert [row.regrets for row in knowledge.load().rows] == [own.regrets(candidates(), bowl(0.01))]


def test_a_real_study_becomes_a_row_that_agrees_with_it(monkeypatch):
    shipping(monkeypatch)
    result = oa.tune("wine-softmax", trials=48, seed=1, optimizers=["sgd", "adam"], steps=60)
    made = adding.study(browsing.find("wine-softmax#1", None))
    assert len(made.trials) == 48
    assert (made.family, made.profile.domain, made.profile.steps) == ("wine-softmax", "tabular", 60)
    own.add(made, candidates())
    [row] = knowledge.load().rows
    for rule in ("sgd", "adam"):
        best = min(
            (t.record.value, t.record.config.hyperparameters["lr"]) for t in result.trials if t.optimizer == rule
        )
        assert row.best[rule][1] == pytest.approx(best[1], rel=0.01)
        ladder = {lr: r for lr, r in of(row.regrets, rule, CONSTANT).items() if r is not None}
        assert abs(math.log10(min(ladder, key=ladder.__getitem__) / best[1])) < 0.7
        assert max(ladder.values()) > 0.5


def lr_of(advice: oa.advisor.recommend.Advice, optimizer: str) -> float:
    return next(r.config.hyperparameters["lr"] for r in advice if r.optimizer == optimizer)


@pytest.mark.parametrize("best", [1e-4, 0.05])
def test_advice_moves_towards_what_the_study_found(monkeypatch, best: float):
    shipping(monkeypatch)
    unlike = TaskProfile(domain="language", architecture="transformer", parameters=10**9, steps=10**6)
    before, elsewhere = oa.recommend(PROFILE), oa.recommend(unlike)
    leader = before.best.optimizer
    own.add(study([t for rule in ("adam", "adamw", "rmsprop") for t in bowl(best, rule)]), candidates())
    after = oa.recommend(PROFILE)
    assert after.best.optimizer == leader == "adamw"
    assert abs(math.log10(lr_of(after, leader) / best)) < 0.4 < abs(math.log10(lr_of(before, leader) / best))
    for one, other in zip(elsewhere, oa.recommend(unlike), strict=True):  # a task that is nothing like it
        assert one.config.hyperparameters == other.config.hyperparameters
    own.forget_all()
    assert oa.recommend(PROFILE).to_dict() == before.to_dict()
