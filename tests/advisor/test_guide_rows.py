"""Every row of the selection guide: state only what the row states, get the row's answer."""

from __future__ import annotations

import pytest

from optadvisor.advisor.guide import family, load
from optadvisor.cli.explain import explanation

# R1..R11 -------------------------------------------------------------------------------------------------------------


def test_r1_vision_is_momentum_with_cosine_decay(advise):
    answer = advise(domain="vision")
    assert answer.first == "momentum"
    assert answer.rules()[0] == "R1"
    assert answer.schedule["name"] == "cosine"
    assert "nag" in answer.order
    assert "R1" in answer.rules("nag")
    assert "adamw" in answer.order[:2]
    (warning,) = answer.data["warnings"]
    assert "tuning" in warning
    assert "augmentation" in warning
    assert "AdamW" in warning


def test_r1_holds_where_generalization_is_said(advise):
    assert advise(domain="vision", goal="generalization").data["recommendations"] == advise(domain="vision").all


@pytest.mark.parametrize("known", [{"domain": "language"}, {"architecture": "transformer"}])
def test_r2_language_or_transformer_is_adamw_with_warm_up_and_cosine(advise, known):
    answer = advise(**known)
    assert answer.first == "adamw"
    assert answer.rules()[0] == "R2"
    assert answer.schedule["name"] == "warmup_cosine"
    assert answer.schedule["warmup_fraction"] > 0


def test_r2_of_the_issue_a_language_model_of_124m_parameters(advise):
    answer = advise(domain="language", architecture="transformer", parameters="124M")
    assert answer.first == "adamw"
    assert answer.rules()[0] == "R2"
    assert answer.schedule["name"] == "warmup_cosine"
    assert [group["role"] for group in answer.all[0]["config"]["groups"]] == ["no_decay"]
    assert answer.all[0]["memory_bytes"] == 992_000_000


@pytest.mark.parametrize("known", [{"domain": "recsys"}, {"architecture": "embedding-tower"}])
def test_r3_recommender_is_a_hybrid_with_a_config_per_group(advise, known):
    answer = advise(**known)
    assert answer.first == "hybrid"
    assert answer.rules()[0] == "R3"
    groups = {group["role"]: group["optimizer"] for group in answer.all[0]["config"]["groups"]}
    assert groups["embedding"] in ("adagrad", "ftrl")
    assert groups["dense"] == "adamw"


@pytest.mark.parametrize(
    "known",
    [
        {"domain": "rl"},
        {"architecture": "gan"},
        {"architecture": "policy"},
        {"unstable": True},
        {"non_stationary": True},
    ],
)
def test_r4_moving_or_unstable_training_is_adam_or_rmsprop(advise, known):
    answer = advise(**known)
    assert set(answer.order[:2]) == {"adam", "rmsprop"}
    assert answer.rules("adam")[0] == answer.rules("rmsprop")[0] == "R4"


@pytest.mark.parametrize("known", [{"samples": 5000}, {"convex": True, "samples": 50_000}])
def test_r5_small_or_convex_admits_batch_gradient_descent(advise, known):
    answer = advise(**known)
    config = answer.of("sgd")["config"]
    assert config["batch"] == "full"
    assert config["schedule"]["name"] == "constant"
    assert "R5" in answer.rules("sgd")
    assert [entry["config"]["batch"] for entry in answer.all if entry["optimizer"] != "sgd"].count("full") == 0


def test_r6_sparse_features_without_a_tower_are_adagrad_or_ftrl(advise):
    answer = advise(architecture="linear", sparse_fraction=0.95)
    assert answer.order[:2] == ["adagrad", "ftrl"]
    assert answer.rules("adagrad")[0] == answer.rules("ftrl")[0] == "R6"
    assert answer.conflicts == {}


def test_r7_a_long_training_is_not_for_adagrad(advise):
    answer = advise(steps="1M", top=20)
    assert answer.excluded == {"adagrad": "R7"}
    assert "adagrad" not in answer.order
    for adaptive in ("rmsprop", "adam", "adamw"):
        assert "R7" in answer.rules(adaptive)
    assert "adagrad" in advise(steps="1k", top=20).order


def test_r8_a_ravine_puts_momentum_and_nag_before_plain_descent(advise):
    answer = advise(ill_conditioned=True, top=20)
    assert answer.above("momentum", "sgd")
    assert answer.above("nag", "sgd")
    assert "R8" in answer.rules("momentum")
    assert "R8" in answer.rules("nag")
    assert "R8" not in answer.rules("sgd")


def test_r9_tight_memory_takes_fewer_states_and_says_the_bytes(advise):
    answer = advise(memory_limit="4M", parameters="1M", top=20)
    states = {"sgd": 0, "momentum": 1, "nag": 1, "adagrad": 1, "rmsprop": 1}
    assert {name: answer.of(name)["memory_bytes"] for name in answer.order} == {
        name: 4_000_000 * kept for name, kept in states.items()
    }
    assert answer.excluded == {"adam": "R9", "adamw": "R9"}
    assert "8 MB" in answer.data["excluded"][0]["text"]
    assert answer.rules()[0] == "R9"


def test_r9_memory_as_the_goal_starts_with_at_most_one_state(advise):
    answer = advise(goal="memory", parameters="1M", top=20)
    assert answer.all[0]["memory_bytes"] <= 4_000_000
    assert answer.rules()[0] == "R9"
    assert {"adam", "adamw"} <= set(answer.order), "a preference excludes nobody"


def test_r10_weight_decay_is_adamw_and_not_adam_with_l2(advise):
    answer = advise(top=20)
    assert answer.above("adamw", "adam")
    assert "R10" in answer.rules("adamw")
    assert "R10" not in answer.rules("adam")
    for entry in answer.all:
        if entry["optimizer"] == "adam":
            assert entry["config"]["hyperparameters"]["weight_decay"] == 0
        if entry["optimizer"] == "adamw":
            assert entry["config"]["hyperparameters"]["weight_decay"] > 0
            (group,) = entry["config"]["groups"]
            assert group == {"role": "no_decay", "optimizer": "adamw", "hyperparameters": {"weight_decay": 0}}


@pytest.mark.parametrize(
    "known",
    [
        {},
        *({"domain": domain} for domain in ("generative", "tabular", "speech", "graph", "timeseries", "other")),
        *({"architecture": name} for name in ("mlp", "cnn", "resnet", "unet", "rnn", "gnn", "diffusion", "other")),
    ],
)
def test_r11_anything_else_is_adamw(advise, known):
    answer = advise(**known)
    assert answer.first == "adamw"
    assert answer.rules()[0] == "R11"
    assert answer.conflicts == {}


# G1..G11: the facts of spec/selection-guide.md, as the words that a row cannot do without ----------------------------

FAMILIES = {
    "G1": (
        "sgd",
        {
            "direction": ["exact"],
            "step_size": ["one for all"],
            "strengths": ["stable", "theory"],
            "weaknesses": ["N samples", "saddles", "non-convex"],
            "use_for": ["small data", "convex"],
        },
    ),
    "G2": (
        "sgd",
        {
            "direction": ["unbiased", "huge variance"],
            "step_size": ["one for all"],
            "fixes": ["full pass", "O(1)", "O(N)", "noise is useful"],
            "strengths": ["cheapest", "local minima", "saddles"],
            "weaknesses": ["oscillates", "learning rate is delicate"],
            "use_for": ["theory", "base"],
        },
    ),
    "G3": (
        "sgd",
        {
            "direction": ["variance cut by the batch"],
            "step_size": ["one for all"],
            "fixes": ["variance", "parallel hardware"],
            "strengths": ["standard"],
            "weaknesses": ["zig-zag", "ill-conditioned ravines"],
            "use_for": ["deep learning's base case"],
        },
    ),
    "G4": (
        "momentum",
        {
            "direction": ["history", "decayed sum", "0.9"],
            "step_size": ["one for all"],
            "fixes": ["zig-zag", "ravine"],
            "strengths": ["faster on ill-conditioned", "larger learning rate"],
            "weaknesses": ["one more hyperparameter", "overshoots"],
            "use_for": ["vision", "cosine"],
        },
    ),
    "G5": (
        "nag",
        {
            "direction": ["history", "look-ahead"],
            "step_size": ["one for all"],
            "fixes": ["heavy ball's overshoot"],
            "strengths": ["brakes early", "faster and steadier", "convex"],
            "weaknesses": ["as momentum"],
            "use_for": ["as momentum"],
        },
    ),
    "G6": (
        "adagrad",
        {
            "direction": ["local"],
            "step_size": ["one for each parameter", "only ever shrinks"],
            "fixes": ["one learning rate for all"],
            "strengths": ["excellent on sparse features", "robust early"],
            "weaknesses": ["effective learning rate goes to 0", "dies"],
            "use_for": ["sparse features", "embeddings"],
        },
    ),
    "G7": (
        "rmsprop",
        {
            "direction": ["local"],
            "step_size": ["one for each parameter", "recovers", "0.9 or 0.99"],
            "fixes": ["Adagrad's dying learning rate"],
            "strengths": ["non-stationary", "noisy", "long runs"],
            "weaknesses": ["by hand", "little theory"],
            "use_for": ["reinforcement learning", "non-stationary"],
        },
    ),
    "G8": (
        "adam",
        {
            "direction": ["history"],
            "step_size": ["one for each parameter", "bias-corrected"],
            "fixes": ["unites", "momentum", "RMSProp", "unbiased early steps"],
            "strengths": ["fast", "forgiving about its hyperparameters"],
            "weaknesses": ["vision", "generalises slightly worse than tuned momentum", "two states a parameter"],
            "use_for": ["reinforcement learning", "GANs", "unstable starts"],
        },
    ),
    "G9": (
        "adamw",
        {
            "direction": ["history"],
            "step_size": ["one for each parameter", "weight decay"],
            "fixes": ["L2 inside Adam", "second moment"],
            "strengths": ["generalises better on large models", "default of modern deep learning"],
            "weaknesses": ["as Adam"],
            "use_for": ["language", "transformers", "dense towers"],
        },
    ),
    "G10": (
        "ftrl",
        {
            "direction": ["local"],
            "step_size": ["one for each coordinate"],
            "fixes": ["dense weights on sparse data", "L1", "exact zeros"],
            "strengths": ["sparse models"],
            "weaknesses": ["more hyperparameters"],
            "use_for": ["huge sparse id features"],
        },
    ),
    "G11": (
        "hybrid",
        {
            "fixes": ["one optimizer for unlike parts"],
            "strengths": ["sparse", "dense"],
            "weaknesses": ["two sets of hyperparameters"],
            "use_for": ["recommender"],
        },
    ),
}


@pytest.mark.parametrize("row", FAMILIES)
def test_families_reproduce_the_guides_rows(row):
    optimizer, facts = FAMILIES[row]
    (found,) = [entry for entry in family(optimizer) if entry.row == row]
    for field, words in facts.items():
        text = getattr(found, field)
        for word in words:
            assert word.lower() in text.lower(), f"{row} {field}: {text!r} does not say {word!r}"
    (shown,) = [entry for entry in explanation(optimizer)["families"] if entry["row"] == row]
    assert shown == vars(found)


def test_every_row_of_the_guide_belongs_to_exactly_one_optimizer():
    from optadvisor.kernels.rules import RULES

    rows = [row.row for name in (*RULES, "hybrid") for row in family(name)]
    assert sorted(rows, key=lambda row: int(row[1:])) == [f"G{i}" for i in range(1, 12)]


def test_the_guide_has_exactly_the_rules_r1_to_r11():
    assert list(load().rules) == [f"R{i}" for i in range(1, 12)]


@pytest.mark.parametrize(
    ("optimizer", "rules"),
    [
        ("sgd", {"R5"}),
        ("momentum", {"R1", "R8"}),
        ("nag", {"R1", "R8"}),
        ("adagrad", {"R3", "R6", "R7"}),
        ("rmsprop", {"R4", "R7"}),
        ("adam", {"R4", "R7"}),
        ("adamw", {"R1", "R2", "R7", "R10", "R11"}),
        ("ftrl", {"R6", "R7"}),
        ("hybrid", {"R3", "R7", "R10"}),
    ],
)
def test_explain_names_every_rule_that_speaks_of_the_optimizer(optimizer, rules):
    assert {entry["rule"] for entry in explanation(optimizer)["guide"]} == rules
