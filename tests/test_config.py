"""`OptimizerConfig`: what it writes, reads, inherits and refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from optadvisor import InputError, OptimizerConfig
from optadvisor.config import no_decay
from optadvisor.kernels import RULES, Schedule

KEYS = ["schema", "optimizer", "hyperparameters", "schedule", "groups", "batch", "convention", "provenance"]
HYBRID_GROUPS = [
    {"role": "embedding", "optimizer": "ftrl", "hyperparameters": {"lr": 0.05}},
    {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 0.01, "weight_decay": 0.1}},
    no_decay("adamw"),
]
EXAMPLES = [
    *[OptimizerConfig(rule) for rule in RULES],
    *[OptimizerConfig.of(rule) for rule in RULES],
    OptimizerConfig("nag", {"lr": 0.3}, convention="paper"),
    OptimizerConfig("hybrid", groups=HYBRID_GROUPS),
    OptimizerConfig.of(
        "adamw",
        {"lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.1},
        Schedule("warmup_cosine", warmup_fraction=0.05),
        batch="full",
        provenance={"source": "test", "seeds": [1, 2]},
    ),
]


@pytest.mark.parametrize("config", EXAMPLES, ids=lambda c: c.optimizer)
def test_dict_round_trip_is_plain_json(config: OptimizerConfig):
    data = config.to_dict()
    assert list(data) == KEYS
    assert OptimizerConfig.from_dict(data) == config
    again = json.loads(json.dumps(data, allow_nan=False))
    assert again == data
    assert OptimizerConfig.from_dict(again) == config


@pytest.mark.parametrize("config", EXAMPLES, ids=lambda c: c.optimizer)
def test_file_round_trip(config: OptimizerConfig, tmp_path: Path):
    path = tmp_path / "config.json"
    config.to_json(path)
    assert OptimizerConfig.from_json(path) == config
    assert OptimizerConfig.from_json(str(path)) == config
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("rule", RULES)
def test_every_hyperparameter_is_written_and_none_is_null(rule: str):
    data = OptimizerConfig(rule, {"lr": 0.5}).to_dict()
    assert set(data["hyperparameters"]) == set(RULES[rule].names)
    assert data["hyperparameters"]["lr"] == 0.5
    for value in data["hyperparameters"].values():
        assert isinstance(value, (bool, float)) or (
            isinstance(value, list) and [type(v) for v in value] == [float, float]
        )


def test_dicts_are_copies():
    given: dict[str, Any] = {"lr": 0.1}
    source = {"seeds": [1]}
    config = OptimizerConfig("adam", given, provenance=source)
    given["lr"] = 5.0
    source["seeds"].append(2)
    config.to_dict()["hyperparameters"]["lr"] = 7.0
    config.to_dict()["provenance"]["seeds"].append(3)
    assert config.hyperparameters["lr"] == 0.1
    assert config.provenance == {"seeds": [1]}


def test_schedule_is_always_an_object():
    assert OptimizerConfig("adam").schedule == {
        "name": "constant",
        "warmup_steps": 0,
        "total_steps": None,
        "floor": 0.0,
    }
    short = OptimizerConfig("adam", schedule={"name": "cosine"}).schedule
    assert set(short) == {"name", "warmup_steps", "total_steps", "floor"}


@pytest.mark.parametrize("rule", RULES)
def test_weight_decay_brings_a_no_decay_group(rule: str):
    if not RULES[rule].decays:
        assert OptimizerConfig.of(rule).groups == []
        return
    assert OptimizerConfig.of(rule, {"weight_decay": 0.0}).groups == []
    assert OptimizerConfig.of(rule, {"weight_decay": 0.1}).groups == [
        {"role": "no_decay", "optimizer": rule, "hyperparameters": {"weight_decay": 0.0}}
    ]


# Roles


def test_roles_inherit_what_a_group_leaves_out():
    config = OptimizerConfig.of("adamw", {"lr": 0.02, "betas": (0.8, 0.9), "weight_decay": 0.1})
    roles = config.roles()
    assert set(roles) == {"dense", "no_decay"}
    rule, values = roles["no_decay"]
    assert (rule, values["weight_decay"], values["lr"], values["betas"]) == ("adamw", 0.0, 0.02, (0.8, 0.9))
    assert roles["dense"][1]["weight_decay"] == 0.1


def test_a_group_of_another_rule_starts_from_that_rules_defaults():
    config = OptimizerConfig(
        "adamw", {"lr": 0.02}, groups=[{"role": "embedding", "optimizer": "adagrad", "hyperparameters": {"eps": 1e-6}}]
    )
    assert config.roles()["embedding"] == ("adagrad", {**RULES["adagrad"].defaults, "eps": 1e-6})


def test_a_group_without_a_rule_has_that_of_the_config():
    config = OptimizerConfig("adamw", {"eps": 1e-6}, groups=[{"role": "embedding", "hyperparameters": {"lr": 0.5}}])
    assert config.groups == [{"role": "embedding", "optimizer": "adamw", "hyperparameters": {"lr": 0.5}}]
    rule, values = config.roles()["embedding"]
    assert (rule, values["lr"], values["eps"]) == ("adamw", 0.5, 1e-6)


def test_hybrid_groups_are_complete_and_no_decay_follows_dense():
    config = OptimizerConfig("hybrid", groups=HYBRID_GROUPS)
    assert config.hyperparameters == {}
    embedding, dense, plain = config.groups
    assert set(embedding["hyperparameters"]) == set(RULES["ftrl"].names)
    assert set(dense["hyperparameters"]) == set(RULES["adamw"].names)
    assert plain["hyperparameters"] == {"weight_decay": 0.0}
    values = config.roles()["no_decay"][1]
    assert (values["lr"], values["weight_decay"]) == (0.01, 0.0)


def test_role_of_shape():
    hybrid, plain, decaying = (
        OptimizerConfig("hybrid", groups=HYBRID_GROUPS),
        OptimizerConfig("sgd"),
        OptimizerConfig.of("adamw"),
    )
    shapes = [(), (5000,), (1000, 125), (999, 1), (1000, 126), (10**6, 64, 2)]
    assert [hybrid.role_of_shape(s) for s in shapes] == [
        "no_decay",
        "no_decay",
        "embedding",
        "dense",
        "dense",
        "dense",
    ]
    assert {plain.role_of_shape(s) for s in shapes} == {"dense"}
    assert [decaying.role_of_shape(s) for s in shapes] == ["no_decay"] * 2 + ["dense"] * 4


def test_role_of_a_parameter():
    hybrid, plain = OptimizerConfig("hybrid", groups=HYBRID_GROUPS), OptimizerConfig("sgd")
    assert hybrid.role_of((3,)) == "no_decay"
    assert hybrid.role_of((3,), "embedding") == "embedding"
    assert plain.role_of((3,), "embedding") == "dense"  # no group differs
    assert plain.role_of((3,), "embeding") == "embeding"  # for the caller to refuse


# Refusals


def hybrid(*groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schema": 1, "optimizer": "hybrid", "groups": list(groups), **more}


def adam(**more: Any) -> dict[str, Any]:
    return {"schema": 1, "optimizer": "adam", **more}


EMBEDDING, DENSE = HYBRID_GROUPS[0], HYBRID_GROUPS[1]
REFUSED: dict[str, tuple[Any, str]] = {
    "no object": ([], "config is []; it takes an object"),
    "no schema": ({"optimizer": "adam"}, "config has no 'schema'"),
    "no optimizer": ({"schema": 1}, "config has no 'optimizer'"),
    "schema": (adam(schema=2), "config schema is 2; this version reads schema 1"),
    "schema of another type": (adam(schema="1"), "config schema is '1'"),
    "schema bool": (adam(schema=True), "config schema is True"),
    "field": (adam(hyperparameter={}), "unknown config field 'hyperparameter': did you mean 'hyperparameters'"),
    "optimizer": (adam(optimizer="adamv"), "unknown optimizer 'adamv': did you mean 'adam"),
    "optimizer of another type": (adam(optimizer=["adam"]), "unknown optimizer ['adam']"),
    "optimizer null": (adam(optimizer=None), "unknown optimizer None"),
    "batch": (adam(batch="ful"), "unknown batch 'ful': did you mean 'full'"),
    "convention": (adam(convention="kears"), "unknown convention of adam 'kears': did you mean 'keras'"),
    "what a convention has not": (
        {"schema": 1, "optimizer": "momentum", "hyperparameters": {"dampening": 0.5}, "convention": "optax"},
        "dampening is 0.5; convention 'optax' has none",
    ),
    "convention of nag elsewhere": (adam(convention="paper"), "unknown convention of adam 'paper'"),
    "provenance": (adam(provenance="me"), "provenance is 'me'; it takes an object"),
    "hyperparameters": (adam(hyperparameters=[0.1]), "hyperparameters is [0.1]; it takes an object"),
    "keyword": (adam(hyperparameters={"beta": 1}), "unknown hyperparameter of adam 'beta': did you mean 'betas'"),
    "null": (adam(hyperparameters={"lr": None}), "adam: lr is None; it takes a number"),
    "NaN": (adam(hyperparameters={"lr": math.nan}), "adam: lr is nan; it must be at least 0"),
    "range": (adam(hyperparameters={"betas": [0.9, 1]}), "adam: betas is 1.0; it must be 0 to 1 (1 excluded)"),
    "huge integer": (adam(hyperparameters={"lr": 10**400}), "it takes a number"),
    "schedule": (adam(schedule="cosine"), "schedule is 'cosine'; it takes an object"),
    "schedule name": (adam(schedule={"name": "cosin"}), "did you mean 'cosine'"),
    "schedule of ftrl": (
        {"schema": 1, "optimizer": "ftrl", "schedule": {"name": "linear"}},
        "ftrl keeps its state in units of 1/lr: its schedule is constant, not linear",
    ),
    "groups": (adam(groups={"role": "dense"}), "it takes a list"),
    "group": (adam(groups=["dense"]), "a group is 'dense'; it takes an object"),
    "group field": (adam(groups=[{"role": "dense", "lr": 1}]), "unknown field of a group 'lr'"),
    "role": (adam(groups=[{"role": "embeding"}]), "unknown role of a group 'embeding': did you mean 'embedding'"),
    "no role": (adam(groups=[{"optimizer": "adam"}]), "unknown role of a group None"),
    "role twice": (adam(groups=[{"role": "dense"}] * 2), "groups name the role 'dense' 2 times; each role once"),
    "group rule": (adam(groups=[{"role": "dense", "optimizer": "adma"}]), "did you mean 'adam'"),
    "group rule of another type": (adam(groups=[{"role": "dense", "optimizer": {}}]), "unknown optimizer {}"),
    "group keyword": (
        adam(groups=[{"role": "dense", "hyperparameters": {"wd": 1}}]),
        "unknown hyperparameter of adam 'wd'",
    ),
    "group value": (
        adam(groups=[{"role": "no_decay", "hyperparameters": {"weight_decay": -1}}]),
        "adam (no_decay group): weight_decay is -1.0; it must be at least 0",
    ),
    "hybrid hyperparameters": (
        hybrid(EMBEDDING, DENSE, hyperparameters={"lr": 1}),
        "hybrid has no hyperparameters of its own, found ['lr']: put them in its groups",
    ),
    "hybrid without dense": (hybrid(EMBEDDING), "hybrid needs the groups embedding and dense, 'dense' is missing"),
    "hybrid without embedding": (hybrid(DENSE), "'embedding' is missing"),
    "hybrid without groups": (hybrid(), "'embedding' is missing"),
    "hybrid group without a rule": (
        hybrid({"role": "embedding"}, DENSE),
        "the embedding group of hybrid names no rule",
    ),
    "hybrid in a hybrid": (
        hybrid({"role": "dense", "optimizer": "hybrid"}, EMBEDDING),
        "the dense group of hybrid names no rule",
    ),
    "hybrid convention": (hybrid(EMBEDDING, DENSE, convention="paper"), "unknown convention of hybrid 'paper'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str):
    data, message = REFUSED[case]
    with pytest.raises(InputError) as caught:
        OptimizerConfig.from_dict(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


FILES = {
    "not JSON": ("{", "is not JSON"),
    "empty": ("", "is not JSON"),
    "not an object": ("[1]", "holds list; it takes a JSON object"),
    "wrong schema": ('{"schema": 9, "optimizer": "adam"}', "config schema is 9"),
    "wrong value": ('{"schema": 1, "optimizer": "adam", "hyperparameters": {"lr": -1}}', "adam: lr is -1"),
}


@pytest.mark.parametrize("case", FILES)
def test_refused_file_is_named(case: str, tmp_path: Path):
    text, message = FILES[case]
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        OptimizerConfig.from_json(path)
    assert message in str(caught.value)
    assert str(caught.value).count(str(path)) == 1


def test_unreadable_file(tmp_path: Path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(InputError, match="cannot read the config"):
            OptimizerConfig.from_json(path)


@pytest.mark.parametrize(
    ("call", "install"),
    [
        ("build_torch(None)", "pip install torch"),
        ("param_groups(None)", "pip install torch"),
        ("build_optax({})", "pip install jax"),
        ("build_keras()", "pip install keras"),
    ],
)
def test_a_framework_that_is_missing_is_one_line_with_the_remedy(call: str, install: str):
    script = (
        "import sys; sys.modules.update(torch=None, jax=None, optax=None, keras=None)\n"
        "import optadvisor as oa\n"
        f"try: oa.OptimizerConfig.of('adamw').{call}\n"
        "except oa.InputError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.endswith(f"is not installed: {install}\n")
