"""The JSON of recommend, as the contract has it."""

from __future__ import annotations

import itertools
import json
import math

import pytest

import optadvisor as oa
from optadvisor.kernels.rules import RULES
from optadvisor.profile import TaskProfile

TOP = 20
PROFILES = [
    {},
    {"domain": "vision"},
    {"domain": "vision", "architecture": "resnet", "parameters": "25M", "steps": "90k", "batch_size": 256},
    {"domain": "vision", "architecture": "mlp", "samples": 1200, "parameters": 2410, "batch_size": 32},
    {"domain": "vision", "goal": "speed"},
    {"domain": "vision", "architecture": "transformer", "goal": "memory"},
    {"domain": "language", "architecture": "transformer", "parameters": "124M"},
    {"domain": "language", "unstable": True, "steps": 1000},
    {"domain": "language", "samples": 5000, "ill_conditioned": True},
    {"domain": "recsys"},
    {"domain": "recsys", "steps": "1M", "parameters": "1B", "sparse_fraction": 0.999},
    {"domain": "recsys", "non_stationary": True, "parameters": "1M"},
    {"domain": "rl", "architecture": "policy", "steps": "1M"},
    {"architecture": "gan"},
    {"convex": True, "samples": 50_000},
    {"convex": True, "samples": 500, "ill_conditioned": True, "architecture": "linear"},
    {"architecture": "linear", "sparse_fraction": 0.95},
    {"architecture": "linear", "sparse_fraction": 0.95, "steps": "200k"},
    {"ill_conditioned": True},
    {"goal": "memory", "parameters": "1M"},
    {"parameters": "1M", "memory_limit": "4M"},
    {"domain": "speech", "architecture": "transformer"},
    {"domain": "generative", "architecture": "diffusion"},
    {"domain": "timeseries", "architecture": "rnn", "goal": "stability"},
]
WRITTEN = {
    "sgd": {"lr", "weight_decay"},
    "momentum": {"lr", "momentum", "dampening", "weight_decay"},
    "nag": {"lr", "momentum", "weight_decay"},
    "adagrad": {"lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"},
    "rmsprop": {"lr", "alpha", "eps", "weight_decay", "momentum", "centered"},
    "adam": {"lr", "betas", "eps", "weight_decay", "amsgrad"},
    "adamw": {"lr", "betas", "eps", "weight_decay", "amsgrad"},
    "ftrl": {"lr", "beta", "l1", "l2"},
}
SCHEDULES = {"constant", "warmup", "cosine", "warmup_cosine", "step", "linear", "inverse_sqrt", "wsd"}
STATES = {"sgd": 0, "momentum": 1, "nag": 1, "adagrad": 1, "rmsprop": 1, "adam": 2, "adamw": 2, "ftrl": 2}

every_profile = pytest.mark.parametrize(
    "known", PROFILES, ids=lambda known: "-".join(map(str, known.values())) or "none"
)


@every_profile
def test_structure(advise, known):
    data = advise(top=TOP, **known).data
    assert set(data) == {
        *("profile", "recommendations", "conflicts", "excluded", "questions", "warnings"),
        *("disagreements", "basis", "race"),
    }
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert set(data["profile"]) == set(TaskProfile().to_dict())
    for entry in data["conflicts"]:
        assert set(entry) == {"rules", "kept", "text"}
        assert entry["kept"] in entry["rules"]
        assert len(entry["rules"]) == 2
    for entry in data["excluded"]:
        assert set(entry) == {"optimizer", "rule", "text"}
        assert entry["optimizer"] in (*RULES, "hybrid")
    for entry in data["questions"]:
        assert set(entry) == {"field", "why"}
        assert data["profile"][entry["field"]] is None, "only what is unknown is asked"
    assert all(isinstance(warning, str) and warning for warning in data["warnings"])


@every_profile
def test_recommendations(advise, known):
    answer = advise(top=TOP, **known)
    assert [entry["rank"] for entry in answer.all] == list(range(1, TOP + 1))
    for entry in answer.all:
        assert {
            "rank",
            "optimizer",
            "confidence",
            "config",
            "reasons",
            "evidence",
            "memory_bytes",
            "search_space",
        } <= set(entry)
        assert entry["optimizer"] in (*RULES, "hybrid")
        assert entry["optimizer"] == entry["config"]["optimizer"]
        assert 0 < entry["confidence"] < 1
        for reason in entry["reasons"]:
            assert set(reason) == {"rule", "text"}
            assert reason["rule"] in {f"R{i}" for i in range(1, 12)}
            assert reason["text"]
        rules = [reason["rule"] for reason in entry["reasons"]]
        assert len(rules) == len(set(rules))
        assert entry["evidence"]
        for piece in entry["evidence"]:
            assert piece["source"]
            assert piece["text"]
        assert entry["search_space"]
        for axis in entry["search_space"].values():
            assert 0 < axis["low"] < axis["high"]
    assert answer.all[0]["reasons"], "the first recommendation has a reason"


def plain(value):
    """Numbers, booleans, or a pair of numbers."""
    if isinstance(value, list):
        return len(value) == 2 and all(type(number) in (int, float) for number in value)
    return type(value) in (int, float, bool)


def check_hyperparameters(optimizer, values):
    assert set(values) == WRITTEN[optimizer], "every key that the rule has, and no other"
    assert all(plain(value) for value in values.values())
    assert values["lr"] > 0


@every_profile
def test_configs(advise, known):
    for entry in advise(top=TOP, **known).all:
        config = entry["config"]
        assert set(config) == {
            "schema",
            "optimizer",
            "hyperparameters",
            "schedule",
            "groups",
            "batch",
            "convention",
            "provenance",
        }
        assert config["schema"] == 1
        assert config["convention"] == "pytorch"
        assert config["batch"] in ("mini", "full")
        assert config["batch"] == "mini" or config["optimizer"] == "sgd"
        assert oa.OptimizerConfig.from_dict(config).to_dict() == config
        assert json.loads(json.dumps(config, allow_nan=False)) == config
        if config["optimizer"] == "hybrid":  # sparse gradients cannot have decay
            assert config["groups"][0]["role"] == "embedding"
            assert not config["groups"][0]["hyperparameters"].get("weight_decay")
            continue
        check_hyperparameters(config["optimizer"], config["hyperparameters"])
        decays = config["hyperparameters"].get("weight_decay", 0) > 0
        no_decay = {"role": "no_decay", "optimizer": config["optimizer"], "hyperparameters": {"weight_decay": 0}}
        assert config["groups"] == ([no_decay] if decays else [])


@every_profile
def test_schedules(advise, known):
    steps = TaskProfile(**known).steps
    for entry in advise(top=TOP, **known).all:
        schedule = entry["config"]["schedule"]
        assert schedule["name"] in SCHEDULES
        assert schedule["floor"] == 0
        if steps is None:
            assert schedule["warmup_steps"] is None
            assert schedule["total_steps"] is None
            assert 0 <= schedule["warmup_fraction"] < 1
        else:
            assert type(schedule["warmup_steps"]) is int
            assert schedule["total_steps"] == steps
            assert 0 <= schedule["warmup_steps"] < steps
            assert "warmup_fraction" not in schedule
        learned = entry["config"]["provenance"]["source"] == "outcomes"
        if entry["optimizer"] in ("ftrl", "hybrid") or (entry["optimizer"] == "adagrad" and not learned):
            assert schedule["name"] == "constant"
        if entry["config"]["batch"] == "full":
            assert schedule["name"] == "constant"


@pytest.mark.parametrize("known", [{}, {"non_stationary": True}, {"steps": "1M", "parameters": "1M"}])
def test_hybrid_groups_are_complete(advise, known):
    config = advise(domain="recsys", **known).of("hybrid")["config"]
    assert config["hyperparameters"] == {}
    assert [group["role"] for group in config["groups"]] == ["embedding", "dense", "no_decay"]
    for group in config["groups"][:2]:
        check_hyperparameters(group["optimizer"], group["hyperparameters"])
    dense, no_decay = config["groups"][1:]
    assert dense["hyperparameters"]["weight_decay"] > 0
    assert no_decay == {"role": "no_decay", "optimizer": "adamw", "hyperparameters": {"weight_decay": 0}}
    roles = oa.OptimizerConfig.from_dict(config).roles()
    assert roles["no_decay"][1] == {**roles["dense"][1], "weight_decay": 0.0}


@every_profile
def test_memory_bytes(advise, known):
    parameters = TaskProfile(**known).parameters
    for entry in advise(top=TOP, **known).all:
        if parameters is None or entry["optimizer"] == "hybrid":
            assert entry["memory_bytes"] is None
        else:
            assert entry["memory_bytes"] == 4 * STATES[entry["optimizer"]] * parameters


def test_full_batch_descent_is_not_said_to_have_a_decay_that_it_has_not(advise):
    answer = advise(domain="vision", architecture="mlp", samples=1000)
    config = answer.of("sgd")["config"]
    assert config["hyperparameters"]["weight_decay"] == 0
    assert [note["field"] for note in config["provenance"]["settings"]] == ["lr"]
    assert not any("weight_decay" in piece["text"] for piece in answer.of("sgd")["evidence"])


# --top K -------------------------------------------------------------------------------------------------------------


def rates(config):
    if config["optimizer"] == "hybrid":
        return [g["hyperparameters"]["lr"] for g in config["groups"] if g["role"] != "no_decay"]
    return [config["hyperparameters"]["lr"]]


def distinct(one, other):
    """Another optimizer, or lr different by at least 1.5x, or another schedule."""
    if one["optimizer"] != other["optimizer"] or one["schedule"] != other["schedule"]:
        return True
    ratios = [a / b for a, b in zip(rates(one), rates(other), strict=True)]
    return any(max(ratio, 1 / ratio) >= 1.5 for ratio in ratios)


@every_profile
def test_top_k_is_exactly_k_distinct_configs_and_a_prefix_of_k_plus_1(advise, known):
    longest = advise(top=TOP + 1, **known)
    assert len(longest.all) == TOP + 1
    for one, other in itertools.combinations([entry["config"] for entry in longest.all], 2):
        assert distinct(one, other)
    for top in range(1, TOP + 1):
        assert advise(top=top, **known).all == longest.all[:top]


@every_profile
def test_about_a_third_are_other_learning_rates_of_leading_optimizers(advise, known):
    answer = advise(top=TOP, **known)
    for top in range(3, TOP + 1):
        seen, again = set(), 0
        for entry in answer.all[:top]:
            again += entry["optimizer"] in seen
            seen.add(entry["optimizer"])
        assert again >= top // 3, f"{again} of {top}"
    leading = answer.order[:2]
    first_again = [
        e["optimizer"] for i, e in enumerate(answer.all) if e["optimizer"] in {p["optimizer"] for p in answer.all[:i]}
    ]
    assert set(first_again[:4]) <= set(leading)


@pytest.mark.parametrize("top", [40, 1000])
def test_fewer_than_k_only_with_a_warning(advise, top):
    answer = advise(parameters=1000, memory_limit=0, top=top)
    assert answer.order == ["sgd"]
    assert len(answer.all) < top
    assert any(str(top) in warning and str(len(answer.all)) in warning for warning in answer.data["warnings"])


@pytest.mark.parametrize("top", [0, -1, 1.5, "5", None, True, math.nan])
def test_top_takes_a_whole_number_of_at_least_one(top):
    with pytest.raises(oa.InputError, match="top is"):
        oa.recommend(oa.TaskProfile(), top=top)


# questions, evidence, the library ------------------------------------------------------------------------------------


def test_without_a_profile_r11_and_questions():
    for answer in (oa.recommend(), oa.recommend(oa.TaskProfile())):
        assert answer.best.optimizer == "adamw"
        assert answer.best.reasons[0]["rule"] == "R11"
        assert answer.questions[0]["field"] == "domain"
        assert [question["field"] for question in answer.questions] == ["domain", "architecture", "steps"]


def test_a_profile_that_says_everything_has_no_questions(advise):
    answer = advise(
        domain="vision",
        architecture="cnn",
        goal="speed",
        parameters="1M",
        samples=50_000,
        batch_size=128,
        steps=10_000,
        trials=10,
        sparse_fraction=0.0,
        convex=False,
        unstable=False,
        non_stationary=False,
        ill_conditioned=False,
        memory_limit="1G",
    )
    assert answer.data["questions"] == []


def test_the_deciding_rule_comes_first(advise):
    answer = advise(domain="vision", ill_conditioned=True, steps="100k", parameters="1M", memory_limit="1G")
    assert answer.rules("momentum") == ["R1", "R8", "R9"]
    assert answer.rules("adamw") == ["R1", "R7", "R9", "R10"]
    assert advise(domain="language", goal="memory").rules()[0] == "R9"


def test_the_library_answers_as_the_contract_shows():
    advice = oa.recommend(oa.TaskProfile(domain="vision", architecture="resnet"), top=3)
    assert len(advice) == 3
    assert [entry.rank for entry in advice] == [1, 2, 3]
    assert advice[0] is advice.best
    assert isinstance(advice.best.config, oa.OptimizerConfig)
    assert advice.best.config.hyperparameters["lr"] == 0.1
    assert advice.to_dict()["recommendations"][0]["config"] == advice.best.config.to_dict()


def test_the_answer_does_not_share_state_with_the_next_one(advise):
    first = advise(domain="vision")
    first.all[0]["config"]["hyperparameters"]["lr"] = -1
    first.all[0]["reasons"].clear()
    assert advise(domain="vision").all[0]["config"]["hyperparameters"]["lr"] > 0
    assert advise(domain="vision").rules()
