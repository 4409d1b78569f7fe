"""Where the numbers of an advised config come from: published tables, scaling to the batch, the guide's references."""

from __future__ import annotations

import itertools
import math

import pytest

from optadvisor.advisor import guide, settings
from optadvisor.advisor import published as tables
from optadvisor.advisor.conditions import any_holds
from optadvisor.advisor.published import SOURCES
from optadvisor.kernels.rules import RULES
from optadvisor.profile import ARCHITECTURES, DOMAINS, TaskProfile


def values(answer, optimizer):
    return answer.of(optimizer)["config"]["hyperparameters"]


# learning rates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "lr"),
    [
        (1, 1e-3),
        (10_000_000, 1e-3),
        (125_000_000, 6e-4),
        (350_000_000, 3e-4),
        (760_000_000, 2.5e-4),
        (1_300_000_000, 2e-4),
        (2_700_000_000, 1.6e-4),
        (6_700_000_000, 1.2e-4),
        (13_000_000_000, 1e-4),
        (175_000_000_000, 6e-5),
        (10**15, 6e-5),
    ],
)
def test_language_models_have_gpt3s_learning_rate_at_its_sizes_and_beyond_its_ends(parameters, lr):
    assert of_practice("adamw", domain="language", architecture="transformer", parameters=parameters) == lr


def of_practice(optimizer, **known):
    """The learning rate of published practice, before the tuned tables draw it towards theirs."""
    profile = TaskProfile(**known)
    return settings._round(settings._learning_rate(settings.published(optimizer, profile), profile)[0])


@pytest.mark.parametrize(
    ("optimizer", "known"),
    [
        ("adamw", {"domain": "language", "architecture": "transformer", "parameters": 124_000_000}),
        ("adam", {"domain": "rl", "architecture": "policy"}),
    ],
)
def test_tuned_tables_of_the_domain_draw_practice_towards_theirs(advise, optimizer, known):
    practice, tuned = (
        of_practice(optimizer, **known),
        tables.learning_rate(optimizer, TaskProfile(**known), {"deepobs"}),
    )
    lr = values(advise(top=20, **known), optimizer)["lr"]
    assert min(practice, tuned.lr) < lr < max(practice, tuned.lr)
    share = tuned.weight / (tuned.weight + settings.PRACTICE)
    assert lr == pytest.approx(practice ** (1 - share) * tuned.lr**share, rel=0.05)
    notes = [n["source"] for n in advise(top=20, **known).of(optimizer)["config"]["provenance"]["settings"]]
    assert any("drawn by a share" in note for note in notes)


def test_other_domains_keep_practice_as_it_was_published(advise):
    assert values(advise(domain="vision", architecture="resnet"), "momentum")["lr"] == 0.1
    assert values(advise(), "adamw")["lr"] == 1e-3


@pytest.mark.parametrize(("x0", "y0", "x1", "y1"), [(125e6, 6e-4, 350e6, 3e-4), (13e9, 1e-4, 175e9, 6e-5)])
def test_between_two_sizes_the_logarithms_are_interpolated(advise, x0, y0, x1, y1):
    middle = round(math.sqrt(x0 * x1))
    lr = of_practice("adamw", domain="language", parameters=middle)
    assert lr == pytest.approx(math.sqrt(y0 * y1), rel=0.03)


def test_the_learning_rate_never_grows_with_the_size_of_what_was_published(advise):
    sizes = [10**k for k in range(8, 13)]
    rates = [values(advise(domain="language", parameters=size), "adamw")["lr"] for size in sizes]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) > 3


def test_whispers_learning_rate_by_size_and_without_one(advise):
    known = {"domain": "speech", "architecture": "transformer"}
    assert values(advise(parameters=74_000_000, **known), "adamw")["lr"] == 1e-3
    assert values(advise(**known), "adamw")["lr"] == 5e-4


@pytest.mark.parametrize(
    ("batch", "lr"), [(256, 0.1), (512, 0.2), (128, 0.05), (32, 0.0125), (1, 0.0125), (8192, 3.2), (10**6, 3.2)]
)
def test_linear_scaling_of_momentum_within_its_range(advise, batch, lr):
    answer = advise(domain="vision", architecture="resnet", batch_size=batch)
    assert values(answer, "momentum")["lr"] == pytest.approx(lr, rel=0.05)


@pytest.mark.parametrize(("batch", "lr"), [(None, 5e-4), (512, 5e-4), (1024, 1e-3), (64, 1.25e-4), (10**5, 4e-3)])
def test_linear_scaling_of_adamw_on_vision_transformers(advise, batch, lr):
    answer = advise(domain="vision", architecture="transformer", batch_size=batch)
    assert values(answer, "adamw")["lr"] == pytest.approx(lr, rel=0.05)


def test_a_published_learning_rate_is_carried_by_the_law_that_its_entry_names():
    entry = {"lr": 1e-3, "batch_size": 100, "scale": "sqrt", "range": [10, 1000], "source": "a paper"}
    lr, how = settings._learning_rate(entry, TaskProfile(batch_size=400))
    assert lr == pytest.approx(2e-3)
    assert "sqrt scaling to batch 400" in how


def test_how_the_learning_rate_was_carried_is_cited(advise):
    answer = advise(domain="vision", architecture="resnet", batch_size=1024)
    (note,) = [n for n in answer.all[0]["config"]["provenance"]["settings"] if n["field"] == "lr"]
    assert "He et al. 2016" in note["source"]
    assert "linear scaling to batch 1024" in note["source"]
    answer = advise(domain="language", parameters="1B")
    note, _ = [n for n in answer.all[0]["config"]["provenance"]["settings"] if n["field"] == "lr"]
    assert "GPT-3" in note["source"]
    assert "at 1B parameters" in note["source"]


def test_every_entry_of_practice_is_whole():
    for entry in settings.practice():
        assert set(entry) <= {
            *("optimizers", "when", "lr", "by_parameters", "weight_decay", "eps", "betas"),
            *("batch_size", "scale", "range", "source", "from"),
        }
        assert entry["lr"] > 0, f"{entry['source']}: needs an lr for profiles without parameters"
        assert entry["source"]
        assert entry.get("from", "deepobs") in SOURCES
        assert set(entry["optimizers"]) <= set(RULES)
        for condition in entry["when"]:
            assert set(condition) <= set(TaskProfile().to_dict())
            assert set(condition.get("domain", [])) <= {*DOMAINS, "unset"}
            assert set(condition.get("architecture", [])) <= {*ARCHITECTURES, "unset"}
        assert ("scale" in entry) is ("range" in entry)
        if "scale" in entry:
            assert entry["scale"] in ("linear", "sqrt")
            assert entry["range"][0] <= entry["batch_size"] <= entry["range"][1]
        for (x0, _), (x1, _) in itertools.pairwise(entry.get("by_parameters", [])):
            assert x0 < x1


def test_entries_that_rest_on_a_source_can_be_left_out():
    resting = [entry for entry in settings.practice() if "from" in entry]
    assert {(entry["lr"], *entry["optimizers"]) for entry in resting} == {
        (0.1, "momentum", "nag"),
        (0.1, "sgd"),
        (2e-4, "adam", "adamw"),
    }
    for entry in settings.practice():  # where DeepOBS only confirms the value of a paper, that paper comes first
        assert ("from" in entry) is entry["source"].startswith("DeepOBS")
    generative = TaskProfile(domain="generative")
    decision = guide.decide(generative)
    assert settings.make("adam", generative, decision).hyperparameters["lr"] == 2e-4
    assert settings.make("adam", generative, decision, without=("deepobs",)).hyperparameters["lr"] == 1e-3
    assert settings.make("adam", generative, decision, without=("marin",)).hyperparameters["lr"] == 2e-4


@pytest.mark.parametrize("optimizer", list(RULES))
def test_every_entry_of_practice_can_be_reached(optimizer):
    entries = [entry for entry in settings.practice() if optimizer in entry["optimizers"]]
    profiles = [
        TaskProfile(domain=domain, architecture=architecture, convex=convex)
        for domain in (None, *DOMAINS)
        for architecture in (None, *ARCHITECTURES)
        for convex in (None, True)
    ]
    reached = [settings.published(optimizer, profile) for profile in profiles]
    assert all(entry in reached for entry in entries)
    assert any_holds(entries[-1]["when"], TaskProfile()), "the last entry is for everything"


# other learning rates ------------------------------------------------------------------------------------------------


def ladder(answer, optimizer):
    return [e["config"]["hyperparameters"]["lr"] for e in answer.all if e["optimizer"] == optimizer]


def test_other_learning_rates_step_by_three_and_go_up_first(advise):
    lrs = ladder(advise(domain="vision", top=4), "momentum")
    assert lrs == [0.01, 0.03, 0.0033]


@pytest.mark.parametrize("known", [{"goal": "stability"}, {"unstable": True}, {"domain": "rl"}])
def test_shaky_training_tries_smaller_learning_rates_first(advise, known):
    answer = advise(top=4, **known)
    lrs = ladder(answer, answer.first)
    assert lrs[1] < lrs[0] < lrs[2]


def test_other_learning_rates_differ_in_nothing_else(advise):
    answer = advise(domain="vision", top=20)
    one, other = [entry["config"] for entry in answer.all if entry["optimizer"] == "momentum"][:2]
    assert {**one["hyperparameters"], "lr": 0} == {**other["hyperparameters"], "lr": 0}
    assert one["schedule"] == other["schedule"]
    assert "lr_factor" not in one["provenance"]
    assert other["provenance"]["lr_factor"] == 3.0


def test_a_hybrids_other_learning_rates_move_both_parts(advise):
    one, other = [entry["config"] for entry in advise(domain="recsys", top=3).all if entry["optimizer"] == "hybrid"]
    for role in (0, 1):
        before, after = (config["groups"][role]["hyperparameters"]["lr"] for config in (one, other))
        assert after == pytest.approx(3 * before, rel=0.05)


def test_the_search_space_is_centred_on_the_advised_learning_rate(advise):
    for entry in advise(domain="vision", top=20).all:
        axis = entry["search_space"]["lr"]
        lr = entry["config"]["hyperparameters"]["lr"]
        assert (axis["low"], axis["high"]) == pytest.approx((lr / 10, lr * 10), rel=0.05)
        assert axis["log"] is True
    space = advise(domain="recsys").all[0]["search_space"]
    assert {"embedding.lr", "dense.lr"} <= set(space)


# the guide's reference values ----------------------------------------------------------------------------------------


def test_reference_values(advise):
    answer = advise(top=20)
    assert values(answer, "momentum")["momentum"] == 0.9
    assert values(answer, "nag")["momentum"] == 0.9
    assert values(answer, "rmsprop")["alpha"] in (0.9, 0.99)
    for name in ("adam", "adamw"):
        assert values(answer, name)["betas"] == [0.9, 0.999]
        assert values(answer, name)["eps"] == 1e-8
    assert 0 < values(answer, "adagrad")["eps"] <= 1e-8


@pytest.mark.parametrize("domain", [None, *DOMAINS])
@pytest.mark.parametrize("architecture", [None, *ARCHITECTURES])
def test_weight_decay_is_in_the_guides_range_and_never_l2_in_an_adaptive_rule(advise, domain, architecture):
    for entry in advise(domain=domain, architecture=architecture, top=20).all:
        decay = entry["config"]["hyperparameters"].get("weight_decay", 0)
        if entry["optimizer"] == "adamw":
            assert 1e-4 <= decay <= 1e-1
        elif entry["optimizer"] in ("sgd", "momentum", "nag"):
            assert decay == 0 or 1e-4 <= decay <= 1e-1
        else:
            assert decay == 0


@pytest.mark.parametrize(
    ("known", "beta2"),
    [
        ({}, 0.999),
        ({"steps": 99_999}, 0.999),
        ({"steps": 100_000}, 0.98),
        ({"non_stationary": True}, 0.95),
        ({"non_stationary": True, "steps": 100_000}, 0.95),
        ({"domain": "language", "parameters": 10**9}, 0.95),
        ({"domain": "language", "parameters": 10**9 - 1}, 0.999),
        ({"architecture": "transformer", "parameters": 10**9}, 0.95),
        ({"domain": "vision", "architecture": "cnn", "parameters": 10**9}, 0.999),
    ],
)
def test_beta2(advise, known, beta2):
    answer = advise(top=20, **known)
    for name in ("adam", "adamw"):
        assert values(answer, name)["betas"] == [0.9, beta2]
        fields = [note["field"] for note in answer.of(name)["config"]["provenance"]["settings"]]
        assert ("betas" in fields) is (beta2 != 0.999), "a changed value has its source, a default has none"


def test_beta2_of_a_gan_keeps_the_published_beta1(advise):
    assert values(advise(architecture="gan"), "adam")["betas"] == [0.5, 0.999]
    assert values(advise(architecture="gan", steps=100_000), "adam")["betas"] == [0.5, 0.98]


@pytest.mark.parametrize(("drifts", "alpha"), [(None, 0.99), (True, 0.9)])
def test_rmsprop_forgets_faster_where_the_objective_drifts(advise, drifts, alpha):
    assert values(advise(non_stationary=drifts, top=20), "rmsprop")["alpha"] == alpha


# schedules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "name", "fraction"),
    [
        ({}, "warmup_cosine", 0.05),
        ({"domain": "vision"}, "cosine", 0.0),
        ({"domain": "vision", "goal": "speed"}, "warmup_cosine", 0.05),
        ({"domain": "language"}, "warmup_cosine", 0.05),
        ({"domain": "language", "unstable": True}, "warmup_cosine", 0.15),
        ({"domain": "language", "goal": "stability"}, "warmup_cosine", 0.1),
        ({"unstable": True}, "warmup_cosine", 0.15),
        ({"domain": "rl"}, "constant", 0.0),
        ({"non_stationary": True}, "constant", 0.0),
        ({"domain": "recsys"}, "constant", 0.0),
        ({"convex": True, "samples": 1000}, "constant", 0.0),
        ({"ill_conditioned": True, "samples": 1000}, "cosine", 0.0),
        ({"domain": "language", "goal": "memory"}, "warmup_cosine", 0.05),
    ],
)
def test_the_deciding_rules_schedule(advise, known, name, fraction):
    schedule = advise(**known).schedule
    assert schedule["name"] == name
    assert schedule["warmup_fraction"] == pytest.approx(fraction)
    counted = advise(steps=20_000, **known).schedule
    assert counted == {
        "name": name,
        "warmup_steps": round(fraction * 20_000),
        "total_steps": 20_000,
        "floor": 0.0,
    }
