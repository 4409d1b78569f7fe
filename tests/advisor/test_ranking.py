"""Outcomes and the guide in one list: who leads where outcomes speak or not, and the law that binds them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from optadvisor.advisor import guide, ranking, recommend
from optadvisor.advisor import knowledge as keeping
from optadvisor.advisor.features import Scales
from optadvisor.advisor.knowledge import CONSTANT, DRAWN, MISSING, STEPS, STUDIED, Candidate, Knowledge, Row
from optadvisor.advisor.recommend import Advice
from optadvisor.config import OptimizerConfig
from optadvisor.profile import ARCHITECTURES, DOMAINS, GOALS, TaskProfile

NOTHING = Knowledge([], [])
SMALL = {"parameters": 3000, "steps": 1000}
LARGE = {"parameters": 10**9, "steps": 10**6}
RATES = [10 ** (n / 4 - 4) for n in range(17)]
RULES = ("sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamw")


def planted(best: dict[str, float], profile: TaskProfile, tasks: int = 8) -> Knowledge:
    """Rules whose regret falls to that of `best` at lr 0.01, a decade away it is 1; on so many tasks like the profile."""
    candidates = [Candidate(rule, {"lr": lr}, "constant", 0.0, CONSTANT) for rule in RULES for lr in RATES]
    regrets = [min(1.0, best.get(c.optimizer, 1.0) + abs(math.log10(c.lr / 0.01))) for c in candidates]
    kept = bytes(round(STEPS * regret) for regret in regrets)
    rows = [Row(f"task {n}", f"family {n}", STUDIED, profile, kept) for n in range(tasks)]
    return Knowledge(candidates, rows)


def order(advice: Advice) -> list[str]:
    return list(dict.fromkeys(entry.optimizer for entry in advice))


def configs(advice: Advice) -> list[OptimizerConfig]:
    return [entry.config for entry in advice]


# Who leads -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "profile",
    [
        TaskProfile(),
        TaskProfile(domain="vision", architecture="resnet", **LARGE),
        TaskProfile(domain="recsys", **SMALL),
        TaskProfile(convex=True, samples=500),
        TaskProfile(domain="rl", goal="memory"),
    ],
)
def test_with_nothing_known_the_list_is_the_guides(profile: TaskProfile):
    advice = recommend(profile, 12, NOTHING)
    decision = guide.decide(profile)
    assert order(advice) == decision.order[: len(order(advice))]
    assert advice.basis == {"outcomes": 0.0, "guide": 1.0, "tasks": 0.0}
    assert all(entry.expected_regret is None for entry in advice)
    assert all(entry.config.provenance["source"] != "outcomes" for entry in advice)
    assert all(entry.moved_by["outcomes"] == 0.0 for entry in advice)
    assert advice.disagreements == []


@pytest.mark.parametrize("domain", [None, *DOMAINS])
@pytest.mark.parametrize("goal", [None, "speed"])
def test_far_beyond_what_was_studied_the_first_five_are_the_guides(domain: str | None, goal: str | None):
    for architecture in (None, "resnet", "transformer", "embedding-tower"):
        profile = TaskProfile(domain=domain, architecture=architecture, goal=goal, **LARGE)
        advice = recommend(profile, 5)
        assert configs(advice) == configs(recommend(profile, 5, NOTHING))
        assert advice.basis["outcomes"] < 0.1
        assert advice.disagreements == []


def test_outcomes_fade_as_the_profile_grows():
    shares = [
        recommend(TaskProfile(domain="tabular", architecture="mlp", parameters=10**n, steps=1000)).basis["outcomes"]
        for n in range(4, 11)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.8
    assert shares[-1] < 0.05


def test_outcomes_choose_the_optimizers_where_no_rule_of_the_guide_binds_them():
    """R11: adamw leads; then nothing but the outcomes' favourites, and learning rates that they find good."""
    profile = TaskProfile(domain="timeseries", architecture="mlp", **SMALL)
    known = planted({"rmsprop": 0.0, "adamw": 0.3}, profile)
    advice = recommend(profile, 5, known)
    assert order(advice)[:2] == ["adamw", "rmsprop"]
    first = next(entry for entry in advice if entry.optimizer == "rmsprop")
    assert first.config.hyperparameters["lr"] == pytest.approx(0.01)
    assert first.config.provenance["source"] == "outcomes"
    assert first.expected_regret == 0.0
    assert first.moved_by["outcomes"] > first.moved_by["guide"]
    assert advice.best.config.hyperparameters["lr"] == pytest.approx(0.01)
    assert advice.best.expected_regret == pytest.approx(0.3)


def test_what_did_not_fit_or_is_not_like_it_moves_nothing():
    profile = TaskProfile(domain="timeseries", architecture="mlp", **SMALL)
    known = planted({"rmsprop": 0.0}, replace(profile, domain="vision", architecture="cnn", parameters=10**8))
    far = replace(known, scales=Scales(floor=0.0))
    assert order(recommend(profile, 5, far)) == order(recommend(profile, 5, NOTHING))
    assert recommend(profile, 5, far).basis["outcomes"] < 0.05
    missing = replace(known, rows=[replace(row, regrets=bytes([MISSING] * len(row.regrets))) for row in known.rows])
    same = replace(missing, rows=[replace(row, profile=profile) for row in missing.rows])
    assert all(entry.expected_regret == 1.0 for entry in recommend(profile, 5, same))
    assert order(recommend(profile, 5, same)) == order(recommend(profile, 5, NOTHING))


# The sum ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [TaskProfile(**SMALL), TaskProfile(domain="vision", architecture="cnn", **SMALL)])
def test_the_gains_are_shares_of_outcomes_and_guide_and_add_up(profile: TaskProfile):
    known = keeping.shipped()
    ranked = ranking.rank(profile, guide.decide(profile), known, ranking.LEARNED)
    assert len(ranked.picks) == ranking.LEARNED
    gains = [pick.gain for pick in ranked.picks]
    assert all(gain >= 0 for gain in gains)
    assert 0 < sum(gains) < 1
    assert all(-1e-9 <= pick.from_outcomes <= 1 + 1e-9 for pick in ranked.picks)
    first = ranked.picks[0]
    assert first.regret is not None
    # The whole falls by what the first config lacks of regret 1, on the share of the sum that outcomes have.
    assert first.gain * first.from_outcomes == pytest.approx(ranked.outcomes * (1.0 - first.regret))
    weights = [w for _, w in ranking.sure(ranked.weighed)]
    assert weights == sorted(weights, reverse=True)
    assert ranked.rows == sum(weights)
    assert ranked.outcomes == pytest.approx(ranked.rows / (ranked.rows + known.guide_weight))
    for entry in recommend(profile, 12):
        moved = entry.moved_by
        assert moved["gain"] == pytest.approx(moved["outcomes"] + moved["guide"], abs=2e-4)


def test_the_favourite_is_the_best_config_by_outcomes_alone():
    profile = TaskProfile(domain="vision", architecture="cnn", **SMALL)
    known = planted({"adamw": 0.0, "momentum": 0.6}, profile)
    favourite = ranking.rank(profile, guide.decide(profile), known, 3).favourite
    assert favourite is not None
    assert (favourite.option.optimizer, favourite.regret) == ("adamw", 0.0)
    assert favourite.option.lr == pytest.approx(0.01)


@pytest.mark.parametrize(
    "profile",
    [
        TaskProfile(domain="vision", architecture="cnn", **SMALL),
        TaskProfile(domain="recsys", **SMALL),
        TaskProfile(samples=1000, convex=True, steps=500),
        TaskProfile(domain="rl", **SMALL),
        TaskProfile(**LARGE),
    ],
)
def test_a_shorter_list_is_the_beginning_of_a_longer_one(profile: TaskProfile):
    whole = recommend(profile, 30)
    for top in (1, 2, 3, 5, 8, 9, 13):
        short = recommend(profile, top)
        assert short.recommendations == whole.recommendations[:top]
        assert short.disagreements == whole.disagreements
        assert short.basis == whole.basis


# The law ---------------------------------------------------------------------------------------------------------------


def may_lead(profile: TaskProfile) -> set[str]:
    """The first optimizer by the contract, for a domain, an architecture, and perhaps a goal and trials."""
    domain, architecture = profile.domain, profile.architecture
    if profile.goal == "memory":
        # At most one state; a hybrid's embeddings have one. A vision transformer keeps AdamW whatever the goal.
        if domain == "vision" and architecture == "transformer":
            return {"adamw"}
        return {"sgd", "momentum", "nag", "adagrad", "rmsprop", "hybrid"}
    if architecture == "embedding-tower" or (domain == "recsys" and architecture in (None, "mlp", "other")):
        return {"hybrid"}
    if domain == "language" or architecture == "transformer":
        return {"adamw"}
    if domain == "rl" or architecture in ("gan", "policy"):
        return {"adam", "rmsprop"}
    if domain == "vision" and architecture in (None, "cnn", "resnet", "unet", "mlp", "other"):
        return {"adamw"} if profile.goal == "speed" or (profile.trials or 99) <= 4 else {"momentum"}
    return {"adamw"}


@pytest.mark.parametrize("domain", [None, *DOMAINS])
def test_the_first_optimizer_is_the_contracts_whatever_the_outcomes(domain: str | None):
    for architecture, more in itertools.product((None, *ARCHITECTURES), ({}, {"goal": "speed"}, {"trials": 2})):
        profile = TaskProfile(domain=domain, architecture=architecture, **SMALL, **more)
        advice = recommend(profile, 8)
        assert advice.best.optimizer in may_lead(profile), profile
        names = [entry.optimizer for entry in advice]
        again = sum(name in names[:i] for i, name in enumerate(names[:6]))
        assert 2 <= again <= 4, f"about a third or more are other learning rates: {profile}"
        for one, other in itertools.combinations(configs(advice), 2):
            if (one.optimizer, one.schedule) == (other.optimizer, other.schedule):
                a, b = (float(config.roles()["dense"][1]["lr"]) for config in (one, other))
                assert max(a / b, b / a) >= 1.5, profile


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("rule", RULES)
def test_no_outcome_however_clear_puts_another_rule_first(rule: str, goal: str):
    for domain, architecture in (("vision", "cnn"), ("vision", "transformer"), ("rl", "policy"), ("speech", "rnn")):
        profile = TaskProfile(domain=domain, architecture=architecture, goal=goal, **SMALL)
        advice = recommend(profile, 8, planted({rule: 0.0}, profile))
        assert advice.best.optimizer in may_lead(profile), profile
        names = order(advice)
        if "adam" in names and "adam" not in may_lead(profile):
            assert names.index("adamw") < names.index("adam"), profile


@pytest.mark.parametrize("architecture", [None, "cnn", "resnet", "unet", "mlp", "other"])
def test_vision_with_few_trials_is_adamw_then_momentum(architecture: str | None):
    for known in (None, planted({"sgd": 0.0}, TaskProfile(domain="vision", **SMALL))):
        advice = recommend(TaskProfile(domain="vision", architecture=architecture, trials=4, **SMALL), 5, known)
        assert [entry.optimizer for entry in advice][:2] == ["adamw", "momentum"]


@pytest.mark.parametrize("known", [None, "sgd", "adam"])
@pytest.mark.parametrize("domain", [None, "vision", "tabular", "other"])
def test_r8_plain_descent_never_stands_above_momentum_or_nag(domain: str | None, known: str | None):
    for more in ({}, {"samples": 1000}, {"samples": 1000, "convex": True}, {"goal": "memory"}, {"trials": 2}):
        profile = TaskProfile(domain=domain, ill_conditioned=True, **SMALL, **more)
        outcomes = planted({known: 0.0}, profile) if known else None
        names = order(recommend(profile, 20, outcomes))
        assert names.index("momentum") < names.index("sgd") > names.index("nag"), profile


@pytest.mark.parametrize("known", [None, "adam"])
def test_r10_adamw_stands_above_adam_which_has_no_decay(known: str | None):
    for domain, architecture in itertools.product((None, *DOMAINS), (None, "mlp", "cnn")):
        profile = TaskProfile(domain=domain, architecture=architecture, **SMALL)
        advice = recommend(profile, 20, planted({known: 0.0}, profile) if known else None)
        if may_lead(profile) == {"adam", "rmsprop"}:
            continue  # R4 favours adam itself
        names = order(advice)
        assert names.index("adamw") < names.index("adam"), profile
        for entry in advice:
            if entry.optimizer == "adam":
                assert not entry.config.hyperparameters["weight_decay"]
            if entry.config.hyperparameters.get("weight_decay"):
                assert "no_decay" in [group["role"] for group in entry.config.groups]


@pytest.mark.parametrize("known", [None, "adamw", "sgd"])
@pytest.mark.parametrize("ill_conditioned", [None, True])
@pytest.mark.parametrize("convex", [None, True, False])
def test_r5_the_full_batch_is_within_the_first_five(
    known: str | None, convex: bool | None, ill_conditioned: bool | None
):
    for domain, architecture in itertools.product((None, *DOMAINS), (None, "linear", "mlp")):
        profile = TaskProfile(
            domain, architecture, None, 3000, 1000, 32, 500, convex=convex, ill_conditioned=ill_conditioned
        )
        advice = recommend(profile, 5, planted({known: 0.0}, profile) if known else None)
        full = [entry for entry in advice if entry.config.batch == "full"]
        assert full, profile
        assert all(entry.optimizer == "sgd" for entry in full)
        assert "R5" in [reason["rule"] for reason in full[0].reasons]
        assert full[0].config.schedule["name"] == "constant"
        if convex and not ill_conditioned:
            assert advice.best is full[0]


@pytest.mark.parametrize(
    ("more", "out"),
    [
        ({"non_stationary": True}, {"adagrad"}),
        ({"steps": 100_000}, {"adagrad"}),
        ({"memory_limit": 12_000}, {"adam", "adamw"}),
        ({"memory_limit": 0}, {"momentum", "nag", "adagrad", "rmsprop", "adam", "adamw"}),
    ],
)
def test_what_is_excluded_is_in_no_recommendation(more: dict[str, int], out: set[str]):
    profile = TaskProfile(domain="tabular", architecture="mlp", **{**SMALL, **more})
    for known in (None, planted(dict.fromkeys(out, 0.0), profile)):
        advice = recommend(profile, 20, known)
        assert {entry["optimizer"] for entry in advice.excluded} == out
        assert not {entry.optimizer for entry in advice} & out


def test_a_default_or_a_rate_that_nobody_starts_at_is_never_advised():
    profile = TaskProfile(domain="timeseries", architecture="mlp", **SMALL)
    candidates = [
        Candidate("rmsprop", {"lr": 0.01}, "constant", 0.0, keeping.DEFAULT),
        Candidate("rmsprop", {"lr": 50.0}, "constant", 0.0, DRAWN),
        Candidate("adam", {"lr": 0.01, "weight_decay": 0.1}, "constant", 0.0, DRAWN),
    ]
    known = Knowledge(candidates, [Row("a", "a", STUDIED, profile, bytes(3))] * 5)
    assert all(entry.config.provenance["source"] != "outcomes" for entry in recommend(profile, 20, known))


# What is said of it ----------------------------------------------------------------------------------------------------


def test_a_disagreement_says_what_is_kept_and_what_outcomes_would_do():
    profile = TaskProfile(domain="vision", architecture="cnn", **SMALL)
    advice = recommend(profile, 5, planted({"adamw": 0.0, "momentum": 0.6}, profile))
    assert advice.best.optimizer == "momentum"
    (found,) = advice.disagreements
    assert (found["guide"], found["outcomes"], found["kept"], found["rule"]) == ("momentum", "adamw", "momentum", "R1")
    assert found["expected_regret"]["momentum"] == advice.best.expected_regret
    assert found["expected_regret"]["adamw"] == 0.0
    for words in ("R1", "momentum", "adamw", "0.01"):
        assert words in found["text"]


@pytest.mark.parametrize(
    "known",
    [
        planted({"adamw": 0.6, "momentum": 0.0}, TaskProfile(domain="vision", architecture="cnn", **SMALL)),  # agrees
        planted({"adamw": 0.0, "momentum": 0.0}, TaskProfile(domain="vision", architecture="cnn", **SMALL)),  # level
        planted(
            {"adamw": 0.0}, TaskProfile(domain="rl", architecture="policy", parameters=10**6, steps=10)
        ),  # unlike it
        NOTHING,
    ],
)
def test_no_disagreement_where_outcomes_agree_or_hardly_speak(known: Knowledge):
    profile = TaskProfile(domain="vision", architecture="cnn", **SMALL)
    assert recommend(profile, 5, replace(known, scales=Scales(floor=0.0))).disagreements == []


def test_a_low_confidence_names_the_configs_to_race():
    unsure = [
        advice
        for domain, architecture in itertools.product((None, *DOMAINS), (None, "mlp", "gnn"))
        if (advice := recommend(TaskProfile(domain=domain, architecture=architecture, **SMALL), 8)).best.confidence
        < 0.5
    ]
    assert unsure
    for advice in unsure:
        race = advice.race
        assert race is not None
        assert race["ranks"][:2] == [1, 2]
        assert race["configs"] == len(race["ranks"])
        assert race["ranks"] == sorted(race["ranks"])
        for entry in advice.recommendations[2:]:
            assert (entry.rank in race["ranks"]) is (entry.moved_by["gain"] >= 0.02)
        assert race["text"] in advice.warnings
        assert f"--advised {race['ranks'][-1]}" in race["text"]
        once = recommend(replace(advice.profile, trials=1), 8)
        assert once.race is None, "one trial is no race"
        assert recommend(advice.profile, 1).race is None


def test_a_high_confidence_asks_for_no_race():
    advice = recommend(TaskProfile(domain="language", architecture="transformer", **LARGE))
    assert advice.best.confidence >= 0.5
    assert advice.race is None
    assert not any("race" in warning for warning in advice.warnings)
