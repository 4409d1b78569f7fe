"""Every line of "How the guide's rules meet" in the contract, on both sides of each threshold."""

from __future__ import annotations

import pytest

from optadvisor.profile import ARCHITECTURES, DOMAINS

VISION_R1 = [None, "cnn", "resnet", "unet", "mlp", "other"]
# The rules that decide who is first; R7 to R10 only change what others decide.
DECIDING = {"R1", "R2", "R3", "R4", "R5", "R6", "R11"}


def decided_by(answer):
    return answer.rules()[0]


# R1 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", VISION_R1)
def test_r1_architectures(advise, architecture):
    answer = advise(domain="vision", architecture=architecture)
    assert answer.first == "momentum"
    assert decided_by(answer) == "R1"
    assert answer.conflicts == {}


@pytest.mark.parametrize("goal", [None, "generalization", "speed", "stability", "memory"])
def test_r1_yields_to_r2_for_a_vision_transformer_whatever_the_goal(advise, goal):
    answer = advise(domain="vision", architecture="transformer", goal=goal)
    assert answer.first == "adamw"
    assert decided_by(answer) == "R2"
    assert answer.conflict("R1", "R2") == "R2"


@pytest.mark.parametrize("trials", [1, 4, 5, 100])
def test_r1_yields_to_r2_for_a_vision_transformer_whatever_the_budget(advise, trials):
    answer = advise(domain="vision", architecture="transformer", trials=trials)
    assert answer.first == "adamw"
    assert answer.conflict("R1", "R2") == "R2"


@pytest.mark.parametrize("known", [{"architecture": "gan"}, {"unstable": True}, {"non_stationary": True}])
def test_r1_yields_to_r4_and_shows_it(advise, known):
    answer = advise(domain="vision", **known)
    assert answer.first in ("adam", "rmsprop")
    assert decided_by(answer) == "R4"
    assert answer.conflicts == {frozenset(("R1", "R4")): "R4"}


@pytest.mark.parametrize("flag", ["unstable", "non_stationary"])
def test_a_flag_that_is_denied_changes_nothing(advise, flag):
    assert advise(domain="vision", **{flag: False}).first == "momentum"


@pytest.mark.parametrize("architecture", VISION_R1)
@pytest.mark.parametrize("known", [{"unstable": True}, {"non_stationary": True}])
def test_r4_beats_r1_with_every_architecture_of_r1(advise, architecture, known):
    answer = advise(domain="vision", architecture=architecture, **known)
    assert answer.first in ("adam", "rmsprop")
    assert answer.conflict("R1", "R4") == "R4"


@pytest.mark.parametrize("architecture", ["linear", "rnn", "gnn", "diffusion"])
def test_r1_leaves_other_architectures_to_r11(advise, architecture):
    answer = advise(domain="vision", architecture=architecture, top=20)
    assert answer.first == "adamw"
    assert decided_by(answer) == "R11"
    assert all("R1" not in answer.rules(name) for name in answer.order)
    assert answer.conflicts == {}


def test_r1_leaves_a_vision_policy_to_r4_without_a_conflict(advise):
    answer = advise(domain="vision", architecture="policy")
    assert decided_by(answer) == "R4"
    assert answer.conflicts == {}


@pytest.mark.parametrize("domain", [name for name in DOMAINS if name != "vision"])
def test_r1_is_for_vision_only(advise, domain):
    answer = advise(domain=domain, architecture="cnn", top=20)
    assert all("R1" not in answer.rules(name) for name in answer.order)


@pytest.mark.parametrize("known", [{"goal": "speed"}, {"trials": 1}, {"trials": 4}, {"goal": "speed", "trials": 50}])
@pytest.mark.parametrize("architecture", VISION_R1)
def test_r1_yields_to_adamw_for_speed_or_few_trials(advise, architecture, known):
    answer = advise(domain="vision", architecture=architecture, **known)
    assert answer.order[:2] == ["adamw", "momentum"]
    assert decided_by(answer) == "R1"
    assert answer.conflicts == {}


@pytest.mark.parametrize("known", [{"trials": 5}, {"goal": "stability"}, {"goal": "generalization", "trials": 5}])
def test_r1_keeps_momentum_first_otherwise(advise, known):
    assert advise(domain="vision", **known).first == "momentum"


@pytest.mark.parametrize("known", [{"goal": "speed"}, {"trials": 4}])
def test_r1_favours_momentum_also_where_it_yields_to_adamw(advise, known):
    answer = advise(domain="vision", unstable=True, **known)
    assert answer.first in ("adam", "rmsprop")
    assert answer.conflict("R1", "R4") == "R4"


def test_r1_that_yields_still_finds_momentum_where_adamw_does_not_fit(advise):
    answer = advise(domain="vision", goal="speed", parameters="1M", memory_limit="4M")
    assert answer.first == "momentum"
    assert answer.conflicts == {}
    assert answer.excluded["adamw"] == "R9"


# R2 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", [None, *DOMAINS])
def test_r2_transformer_in_any_domain(advise, domain):
    answer = advise(domain=domain, architecture="transformer")
    assert answer.first == "adamw"
    assert decided_by(answer) == "R2"
    assert answer.schedule["name"] == "warmup_cosine"


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a != "embedding-tower"])
def test_r2_language_with_any_architecture(advise, architecture):
    answer = advise(domain="language", architecture=architecture)
    assert answer.first == "adamw"
    assert decided_by(answer) == "R2"


def test_r2_in_rl_shows_the_conflict_with_r4(advise):
    answer = advise(domain="rl", architecture="transformer")
    assert answer.first == "adamw"
    assert answer.conflicts == {frozenset(("R2", "R4")): "R2"}


@pytest.mark.parametrize("known", [{"domain": "language"}, {"architecture": "transformer"}])
@pytest.mark.parametrize("steps", [None, 10_000])
def test_r2_unstable_keeps_adamw_first_with_a_longer_warm_up(advise, known, steps):
    calm, unstable = advise(steps=steps, **known), advise(steps=steps, unstable=True, **known)
    assert unstable.first == "adamw"
    assert decided_by(unstable) == "R2"
    assert unstable.schedule["name"] == "warmup_cosine"
    field = "warmup_fraction" if steps is None else "warmup_steps"
    assert unstable.schedule[field] > calm.schedule[field] > 0
    assert unstable.conflicts == {frozenset(("R2", "R4")): "R2"}
    assert calm.conflicts == {}


@pytest.mark.parametrize("goal", [None, "stability"])
def test_r2_unstable_has_the_longer_warm_up_with_any_goal(advise, goal):
    calm, unstable = advise(domain="language", goal=goal), advise(domain="language", goal=goal, unstable=True)
    assert unstable.schedule["warmup_fraction"] > calm.schedule["warmup_fraction"]


@pytest.mark.parametrize("known", [{"architecture": "gan"}, {"architecture": "policy"}, {"non_stationary": True}])
def test_r2_beats_r4_in_language(advise, known):
    answer = advise(domain="language", **known)
    assert answer.first == "adamw"
    assert answer.conflict("R2", "R4") == "R2"


# R3 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", [None, *DOMAINS])
@pytest.mark.parametrize("sparse_fraction", [None, 0.0, 0.49, 0.99])
def test_r3_embedding_tower_in_any_domain(advise, domain, sparse_fraction):
    answer = advise(domain=domain, architecture="embedding-tower", sparse_fraction=sparse_fraction)
    assert answer.first == "hybrid"
    assert decided_by(answer) == "R3"


def test_r3_recsys_with_nothing_else_said(advise):
    assert advise(domain="recsys").first == "hybrid"


@pytest.mark.parametrize("architecture", [None, "mlp", "other", "cnn", "resnet", "unet", "rnn", "gnn", "transformer"])
def test_r3_recsys_starts_at_a_sparse_fraction_of_a_half(advise, architecture):
    at = advise(domain="recsys", architecture=architecture, sparse_fraction=0.5)
    below = advise(domain="recsys", architecture=architecture, sparse_fraction=0.4999, top=20)
    assert at.first == "hybrid"
    assert decided_by(at) == "R3"
    assert "hybrid" not in below.order, "a recommender without a sparse part is not a hybrid"
    assert all("R3" not in below.rules(name) for name in below.order)


@pytest.mark.parametrize("architecture", [None, "mlp", "other"])
def test_r3_recsys_with_unknown_sparsity(advise, architecture):
    assert advise(domain="recsys", architecture=architecture).first == "hybrid"


@pytest.mark.parametrize("architecture", ["cnn", "resnet", "unet", "rnn", "gnn", "transformer", "diffusion"])
def test_r3_wants_to_know_the_sparsity_of_other_recommenders(advise, architecture):
    answer = advise(domain="recsys", architecture=architecture, top=20)
    assert answer.first == "adamw"
    assert "hybrid" not in answer.order


@pytest.mark.parametrize("architecture", ["linear", "gan", "policy", "diffusion"])
@pytest.mark.parametrize("sparse_fraction", [None, 0.5, 0.99])
def test_r3_is_not_for_models_without_embeddings_and_tower(advise, architecture, sparse_fraction):
    answer = advise(domain="recsys", architecture=architecture, sparse_fraction=sparse_fraction, top=20)
    assert "hybrid" not in answer.order


def test_r3_beats_r2_and_shows_it(advise):
    language = advise(domain="language", architecture="embedding-tower")
    transformer = advise(domain="recsys", architecture="transformer", sparse_fraction=0.9)
    for answer in (language, transformer):
        assert answer.first == "hybrid"
        assert answer.conflicts == {frozenset(("R2", "R3")): "R3"}


@pytest.mark.parametrize("known", [{"unstable": True}, {"non_stationary": True}])
def test_r3_beats_r4_and_shows_it(advise, known):
    answer = advise(domain="recsys", **known)
    assert answer.first == "hybrid"
    assert answer.conflicts == {frozenset(("R3", "R4")): "R3"}


@pytest.mark.parametrize(("drifts", "embedding"), [(None, "adagrad"), (False, "adagrad"), (True, "ftrl")])
def test_r3_takes_ftrl_for_embeddings_where_the_objective_drifts(advise, drifts, embedding):
    answer = advise(domain="recsys", non_stationary=drifts)
    groups = {group["role"]: group["optimizer"] for group in answer.all[0]["config"]["groups"]}
    assert groups == {"embedding": embedding, "dense": "adamw", "no_decay": "adamw"}


# R4 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "architecture", [None, *(a for a in ARCHITECTURES if a not in ("transformer", "embedding-tower"))]
)
def test_r4_rl_with_any_architecture(advise, architecture):
    answer = advise(domain="rl", architecture=architecture)
    assert answer.first in ("adam", "rmsprop")
    assert decided_by(answer) == "R4"
    assert answer.conflicts == {}


@pytest.mark.parametrize("architecture", ["gan", "policy"])
@pytest.mark.parametrize("domain", [None, *(d for d in DOMAINS if d != "language")])
def test_r4_gan_and_policy_in_any_domain(advise, domain, architecture):
    answer = advise(domain=domain, architecture=architecture)
    assert answer.first in ("adam", "rmsprop")
    assert decided_by(answer) == "R4"


def test_r4_is_not_generative_alone_and_not_diffusion(advise):
    for known in (
        {"domain": "generative"},
        {"architecture": "diffusion"},
        {"domain": "generative", "architecture": "diffusion"},
        {"domain": "vision", "architecture": "diffusion"},
        {"domain": "generative", "architecture": "unet"},
    ):
        answer = advise(**known)
        assert answer.first == "adamw"
        assert decided_by(answer) == "R11"
        assert answer.conflicts == {}


def test_r4_diffusion_that_is_unstable_is_r4(advise):
    answer = advise(architecture="diffusion", unstable=True)
    assert answer.first in ("adam", "rmsprop")
    assert decided_by(answer) == "R4"


# R5 ------------------------------------------------------------------------------------------------------------------


def full_batch(answer):
    """Whether plain descent over all samples is within the first five and says why."""
    top = answer.all[:5]
    found = [entry for entry in top if entry["optimizer"] == "sgd" and entry["config"]["batch"] == "full"]
    return bool(found) and all(reason["rule"] == "R5" for reason in found[0]["reasons"][:1])


def any_full(answer):
    return any(entry["config"]["batch"] == "full" for entry in answer.all)


@pytest.mark.parametrize("architecture", ["linear", "mlp", None])
@pytest.mark.parametrize("domain", [None, *DOMAINS])
def test_r5_up_to_10_000_samples_with_a_small_model(advise, domain, architecture):
    assert full_batch(advise(domain=domain, architecture=architecture, samples=10_000))
    assert not any_full(advise(domain=domain, architecture=architecture, samples=10_001, top=20))


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a not in ("linear", "mlp")])
def test_r5_is_not_for_large_models_on_small_data(advise, architecture):
    answer = advise(architecture=architecture, samples=100, top=20)
    assert not any_full(answer)
    assert "R5" not in answer.rules("sgd")


@pytest.mark.parametrize("architecture", [None, *ARCHITECTURES])
def test_r5_convex_up_to_100_000_samples_comes_first(advise, architecture):
    at = advise(architecture=architecture, convex=True, samples=100_000)
    assert at.first == "sgd"
    assert full_batch(at)
    above = advise(architecture=architecture, convex=True, samples=100_001, top=20)
    assert not any_full(above)
    assert above.first != "sgd"


def test_r5_convex_small_data_comes_first(advise):
    assert advise(convex=True, samples=10_000).first == "sgd"
    assert advise(convex=True, samples=10_001).first == "sgd"


@pytest.mark.parametrize("convex", [None, False])
def test_r5_small_data_that_is_not_convex_only_admits(advise, convex):
    answer = advise(convex=convex, samples=5000)
    assert full_batch(answer)
    assert answer.first != "sgd"
    assert answer.conflicts == {}, "to admit is not to favour"


def test_r5_wants_to_know_the_samples(advise):
    assert not any_full(advise(convex=True, top=20))


def test_r5_admitting_is_no_conflict_with_any_rule(advise):
    for known in (
        {"domain": "vision", "architecture": "mlp"},
        {"domain": "language"},
        {"domain": "rl"},
        {"domain": "recsys"},
    ):
        answer = advise(samples=1000, **known)
        assert full_batch(answer)
        assert answer.conflicts == {}


@pytest.mark.parametrize(
    ("known", "loser"),
    [
        ({"domain": "vision"}, "R1"),
        ({"domain": "language"}, "R2"),
        ({"domain": "recsys"}, "R3"),
        ({"domain": "rl"}, "R4"),
        ({"architecture": "linear", "sparse_fraction": 0.95}, "R6"),
    ],
)
def test_r5_convex_beats_every_other_rule_and_shows_it(advise, known, loser):
    answer = advise(convex=True, samples=1000, **known)
    assert answer.first == "sgd"
    assert decided_by(answer) == "R5"
    assert answer.conflicts == {frozenset(("R5", loser)): "R5"}


@pytest.mark.parametrize("goal", [None, "memory"])
def test_r5_convex_beats_the_firm_vision_transformer_too(advise, goal):
    answer = advise(domain="vision", architecture="transformer", convex=True, samples=1000, goal=goal)
    assert answer.first == "sgd"
    assert answer.conflict("R2", "R5") == "R5"
    assert answer.conflict("R1", "R5") == "R5"
    assert answer.conflict("R1", "R2") == "R2"


def test_r5_convex_and_ill_conditioned_is_admitted_below_momentum_and_nag(advise):
    answer = advise(convex=True, samples=1000, ill_conditioned=True)
    assert answer.first == "momentum"
    assert full_batch(answer)
    assert answer.above("momentum", "sgd")
    assert answer.above("nag", "sgd")
    assert answer.conflicts == {frozenset(("R5", "R8")): "R8"}


@pytest.mark.parametrize("domain", [None, *DOMAINS])
@pytest.mark.parametrize("convex", [None, True])
def test_r5_with_r8_stands_in_the_top_five_below_momentum_and_nag(advise, domain, convex):
    answer = advise(domain=domain, convex=convex, samples=1000, ill_conditioned=True)
    assert full_batch(answer)
    assert answer.above("momentum", "sgd")
    assert answer.above("nag", "sgd")


# R6 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", [None, *DOMAINS])
def test_r6_linear_and_sparse_in_any_domain(advise, domain):
    at = advise(domain=domain, architecture="linear", sparse_fraction=0.9)
    assert at.order[:2] == ["adagrad", "ftrl"]
    assert decided_by(at) == "R6"
    below = advise(domain=domain, architecture="linear", sparse_fraction=0.8999, top=20)
    assert all("R6" not in below.rules(name) for name in below.order)


@pytest.mark.parametrize("architecture", [None, *(a for a in ARCHITECTURES if a != "linear")])
def test_r6_wants_a_linear_model(advise, architecture):
    answer = advise(architecture=architecture, sparse_fraction=0.99, top=20)
    assert all("R6" not in answer.rules(name) for name in answer.order)


def test_r6_wants_to_know_the_sparsity(advise):
    answer = advise(architecture="linear", top=20)
    assert decided_by(answer) == "R11"
    assert "ftrl" not in answer.order


@pytest.mark.parametrize(
    ("known", "loser"), [({"domain": "language"}, "R2"), ({"domain": "rl"}, "R4"), ({"unstable": True}, "R4")]
)
def test_r6_beats_r2_and_r4_and_shows_it(advise, known, loser):
    answer = advise(architecture="linear", sparse_fraction=0.99, **known)
    assert answer.first == "adagrad"
    assert answer.conflicts == {frozenset(("R6", loser)): "R6"}


# R7 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "long"),
    [
        ({"steps": 99_999}, False),
        ({"steps": 100_000}, True),
        ({"steps": 1000, "samples": 20_000, "batch_size": 2000}, True),  # 100 epochs exactly
        ({"steps": 1000, "samples": 20_001, "batch_size": 2000}, False),
        ({"steps": 999, "samples": 20_000, "batch_size": 2000}, False),
        ({"samples": 20_000, "batch_size": 2000}, False),
        ({"steps": 1000, "samples": 20_000}, False),
        ({"non_stationary": True}, True),
        ({"non_stationary": False}, False),
    ],
)
def test_r7_excludes_adagrad_from_a_long_or_drifting_training(advise, known, long):
    answer = advise(top=20, **known)
    assert ("adagrad" in answer.order) is not long
    assert answer.excluded == ({"adagrad": "R7"} if long else {})
    assert not any("R7" in pair for pair in answer.conflicts), "an exclusion is no conflict"


@pytest.mark.parametrize("known", [{"steps": 100_000}, {"non_stationary": True}])
def test_r7_leaves_adagrads_place_to_ftrl_with_a_warning(advise, known):
    answer = advise(architecture="linear", sparse_fraction=0.99, top=20, **known)
    assert answer.first == "ftrl"
    assert "adagrad" not in answer.order
    assert any("FTRL" in warning for warning in answer.data["warnings"])
    assert "R7" in answer.rules("ftrl")
    short = advise(architecture="linear", sparse_fraction=0.99, steps=99_999, top=20)
    assert short.data["warnings"] == []


def test_r7_is_not_in_conflict_with_r6(advise):
    assert advise(architecture="linear", sparse_fraction=0.99, steps=100_000).conflicts == {}


@pytest.mark.parametrize("known", [{"domain": "recsys"}, {"architecture": "embedding-tower"}])
def test_r7_leaves_adagrad_to_a_hybrids_embeddings(advise, known):
    answer = advise(steps=100_000, top=20, **known)
    assert answer.first == "hybrid"
    assert answer.all[0]["config"]["groups"][0]["optimizer"] == "adagrad"
    assert "adagrad" not in answer.order
    assert answer.excluded == {"adagrad": "R7"}


# R8 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", [None, *DOMAINS])
@pytest.mark.parametrize("known", [{}, {"samples": 1000}, {"convex": True, "samples": 1000}, {"goal": "memory"}])
def test_r8_plain_descent_never_before_momentum_or_nag(advise, domain, known):
    answer = advise(domain=domain, ill_conditioned=True, top=20, **known)
    assert answer.above("momentum", "sgd")
    assert answer.above("nag", "sgd")


def test_r8_contradicts_only_a_rule_for_nothing_but_plain_descent(advise):
    for known in ({}, {"domain": "language"}, {"domain": "vision"}, {"domain": "rl"}, {"samples": 1000}):
        assert advise(ill_conditioned=True, **known).conflicts == {}
    assert advise(ill_conditioned=True, convex=True, samples=1000).conflict("R5", "R8") == "R8"


def test_r8_is_overridden_by_a_limit_that_leaves_only_plain_descent(advise):
    answer = advise(ill_conditioned=True, parameters=1000, memory_limit=0)
    assert answer.order == ["sgd"]
    assert answer.conflict("R8", "R9") == "R9"


def test_r8_denied_changes_nothing(advise):
    assert advise(convex=True, samples=1000, ill_conditioned=False).first == "sgd"


# R9 ------------------------------------------------------------------------------------------------------------------

STATES = {"sgd": 0, "momentum": 1, "nag": 1, "adagrad": 1, "rmsprop": 1, "adam": 2, "adamw": 2}


@pytest.mark.parametrize("limit", [0, 3999, 4000, 7999, 8000])
def test_r9_excludes_by_the_byte(advise, limit):
    answer = advise(parameters=1000, memory_limit=limit, top=40)
    fits = {name for name, kept in STATES.items() if 4 * kept * 1000 <= limit}
    assert set(answer.order) == fits
    assert answer.excluded == {name: "R9" for name in STATES if name not in fits}
    assert all(entry["memory_bytes"] <= limit for entry in answer.all)


@pytest.mark.parametrize(
    ("known", "rule"),
    [
        ({}, "R11"),
        ({"domain": "language"}, "R2"),
        ({"architecture": "transformer"}, "R2"),
        ({"domain": "vision", "architecture": "transformer"}, "R2"),
    ],
)
def test_r9_overrides_adamw_one_byte_below_its_need(advise, known, rule):
    fits = advise(parameters=1000, memory_limit=8000, **known)
    assert fits.first == "adamw"
    assert not any("R9" in pair for pair in fits.conflicts)
    tight = advise(parameters=1000, memory_limit=7999, **known)
    assert tight.first not in ("adamw", "adam")
    assert tight.conflict("R9", rule) == "R9"
    assert tight.excluded["adamw"] == "R9"


def test_r9_overrides_momentum(advise):
    assert advise(domain="vision", parameters=1000, memory_limit=4000).first == "momentum"
    answer = advise(domain="vision", parameters=1000, memory_limit=3999)
    assert answer.order == ["sgd"]
    assert answer.conflict("R1", "R9") == "R9"


def test_r9_leaves_r4_its_rmsprop(advise):
    answer = advise(domain="rl", parameters=1000, memory_limit=7999)
    assert answer.first == "rmsprop"
    assert answer.conflicts == {}, "the two rules agree on rmsprop"
    assert advise(domain="rl", parameters=1000, memory_limit=3999).conflict("R4", "R9") == "R9"


def test_r9_leaves_r6_its_adagrad_but_not_in_a_long_training(advise):
    sparse = {"architecture": "linear", "sparse_fraction": 0.99, "parameters": 1000}
    assert advise(memory_limit=4000, **sparse).first == "adagrad"
    assert advise(memory_limit=4000, **sparse).conflicts == {}
    long = advise(memory_limit=4000, steps=100_000, **sparse)
    assert long.excluded == {"adagrad": "R7", "ftrl": "R9", "adam": "R9", "adamw": "R9"}
    assert long.conflict("R6", "R9") == "R9"


def test_r9_excludes_a_hybrid_by_its_lower_bound_and_warns_between_the_bounds(advise):
    known = {"domain": "recsys", "parameters": 1000}
    below, low, between, above = (advise(memory_limit=limit, **known) for limit in (3999, 4000, 7999, 8000))
    assert below.excluded["hybrid"] == "R9"
    assert below.conflict("R3", "R9") == "R9"
    for answer in (low, between):
        assert answer.first == "hybrid"
        assert answer.all[0]["memory_bytes"] is None
        (warning,) = answer.data["warnings"]
        assert "hybrid" in warning
    assert above.first == "hybrid"
    assert above.data["warnings"] == []


def test_r9_knows_that_ftrl_on_embeddings_has_two_states_everywhere(advise):
    known = {"domain": "recsys", "parameters": 1000, "non_stationary": True}
    tight, fits = advise(memory_limit=7999, **known), advise(memory_limit=8000, **known)
    assert tight.excluded["hybrid"] == "R9"
    assert tight.conflict("R3", "R9") == "R9"
    assert fits.first == "hybrid"
    assert not any("hybrid" in warning for warning in fits.data["warnings"])


def test_r9_without_parameters_warns_and_excludes_nothing(advise):
    answer = advise(memory_limit=1, top=20)
    assert answer.excluded == {}
    assert "parameters" in answer.data["warnings"][0]
    assert "parameters" in [question["field"] for question in answer.data["questions"]]
    assert answer.conflicts == {}


@pytest.mark.parametrize(
    ("known", "first", "conflicts"),
    [
        ({}, {"momentum"}, {("R9", "R11"): "R9"}),
        ({"domain": "language"}, {"rmsprop", "momentum"}, {("R2", "R9"): "R9"}),
        ({"domain": "vision"}, {"momentum"}, {}),
        ({"domain": "recsys"}, {"hybrid"}, {}),
        ({"domain": "rl"}, {"rmsprop"}, {}),
        ({"architecture": "linear", "sparse_fraction": 0.99}, {"adagrad"}, {}),
        ({"convex": True, "samples": 1000}, {"sgd"}, {}),
    ],
)
def test_goal_memory_prefers_at_most_one_state(advise, known, first, conflicts):
    answer = advise(goal="memory", top=20, **known)
    assert answer.first in first
    assert answer.conflicts == {frozenset(pair): kept for pair, kept in conflicts.items()}
    assert answer.excluded == {}
    one_state = [STATES.get(name, 2 if name == "ftrl" else 1) <= 1 for name in answer.order]
    assert one_state == sorted(one_state, reverse=True), "all with at most one state before all with two"


def test_goal_memory_of_a_hybrid_with_ftrl_counts_two_states(advise):
    answer = advise(goal="memory", domain="recsys", non_stationary=True)
    assert answer.first in ("rmsprop", "momentum")
    assert answer.conflict("R3", "R9") == "R9"


def test_goal_memory_of_a_vision_transformer_is_adamw_with_the_rest_by_states(advise):
    answer = advise(goal="memory", domain="vision", architecture="transformer", top=20)
    assert answer.first == "adamw"
    assert answer.conflict("R2", "R9") == "R2"
    assert answer.order[-1] == "adam"


@pytest.mark.parametrize("limit", [7999, 8000, 10**9])
def test_goal_memory_and_a_limit_together(advise, limit):
    answer = advise(goal="memory", domain="language", parameters=1000, memory_limit=limit)
    assert answer.first in ("rmsprop", "momentum")
    assert answer.conflicts == {frozenset(("R2", "R9")): "R9"}, "a generous limit does not hide the goal's conflict"


def test_goal_memory_of_a_vision_transformer_gives_way_to_the_limit(advise):
    answer = advise(goal="memory", domain="vision", architecture="transformer", parameters=1000, memory_limit=7999)
    assert answer.first in ("rmsprop", "momentum")
    assert answer.conflict("R2", "R9") == "R9"


# R10 and R11 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", [None, "vision", "language", "tabular", "graph", "speech", "generative"])
def test_r10_adamw_above_adam_with_a_no_decay_group(advise, domain):
    answer = advise(domain=domain, top=20)
    assert answer.above("adamw", "adam")
    config = answer.of("adamw")["config"]
    assert config["hyperparameters"]["weight_decay"] > 0
    assert [group["role"] for group in config["groups"]] == ["no_decay"]


def test_r10_where_adam_leads_it_carries_no_l2(advise):
    answer = advise(domain="rl", top=20)
    assert answer.above("adam", "adamw")
    assert all(e["config"]["hyperparameters"]["weight_decay"] == 0 for e in answer.all if e["optimizer"] == "adam")


@pytest.mark.parametrize("domain", [None, *DOMAINS])
@pytest.mark.parametrize("architecture", [None, *ARCHITECTURES])
def test_r11_exactly_where_none_of_r1_to_r6_applies(advise, domain, architecture):
    answer = advise(domain=domain, architecture=architecture, top=20)
    cited = {rule for name in answer.order for rule in answer.rules(name)}
    others = cited & {"R1", "R2", "R3", "R4", "R5", "R6"}
    assert ("R11" in cited) is not bool(others)
    assert (decided_by(answer) == "R11") is not bool(others)
    assert decided_by(answer) in DECIDING


def test_r11_is_not_cited_where_r5_only_admits(advise):
    answer = advise(samples=5000, top=20)
    assert all("R11" not in answer.rules(name) for name in answer.order)
    assert answer.first == "adamw"
