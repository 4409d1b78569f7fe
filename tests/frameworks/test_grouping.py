"""Which parameter goes to which group of a config: rules, declared roles, errors, the table. Needs no framework."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optadvisor.config import OptimizerConfig
from optadvisor.frameworks.grouping import assign, table
from optadvisor.frameworks.parameters import ROLES, Parameter, counts, distinct
from optadvisor.kernels.errors import InputError

ADAMW = OptimizerConfig.of("adamw", {"lr": 1e-3, "weight_decay": 0.1})
SGD = OptimizerConfig.of("sgd", {"lr": 0.1})


def hybrid(**embedding):
    groups = [
        {"role": "embedding", "optimizer": "adagrad", "hyperparameters": {"lr": 0.05, **embedding}},
        {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 1e-3, "weight_decay": 0.1}},
        {"role": "no_decay", "optimizer": "adamw", "hyperparameters": {"weight_decay": 0.0}},
    ]
    return OptimizerConfig("hybrid", groups=groups)


def parameter(name, role="matrix", shape=(4, 4), **more):
    left = role in ("norm", "bias")
    return Parameter(name, shape, role, "a test", **{"decay": not left, **more})


TABLE = parameter("emb.weight", "embedding", (100, 4))
SPARSE = parameter("ids.weight", "sparse embedding", (1000, 4))
WEIGHT = parameter("fc.weight")
BIAS = parameter("fc.bias", "bias", (4,))
NORM = parameter("norm.weight", "norm", (4,))
MODEL = [TABLE, SPARSE, WEIGHT, BIAS, NORM]


def where(config, parameters, roles=None):
    return {p.name: group.role for group in assign(config, parameters, roles) for p in group.parameters}


# what goes where -----------------------------------------------------------------------------------------------------


def test_norms_and_biases_are_not_decayed_and_embeddings_have_no_group_of_their_own():
    assert where(ADAMW, MODEL) == {
        "emb.weight": "dense",
        "ids.weight": "dense",
        "fc.weight": "dense",
        "fc.bias": "no_decay",
        "norm.weight": "no_decay",
    }
    dense, no_decay = assign(ADAMW, MODEL)
    assert (dense.hyperparameters["weight_decay"], no_decay.hyperparameters["weight_decay"]) == (0.1, 0.0)
    assert dense.hyperparameters["lr"] == no_decay.hyperparameters["lr"] == 1e-3


def test_a_config_without_no_decay_has_one_group():
    assert set(where(SGD, MODEL).values()) == {"dense"}


def test_embeddings_get_their_rule_in_a_hybrid():
    groups = assign(hybrid(), MODEL)
    assert [(g.role, g.rule, [p.name for p in g.parameters]) for g in groups] == [
        ("embedding", "adagrad", ["emb.weight", "ids.weight"]),
        ("dense", "adamw", ["fc.weight"]),
        ("no_decay", "adamw", ["fc.bias", "norm.weight"]),
    ]


def test_groups_without_parameters_are_left_out():
    assert [group.role for group in assign(hybrid(), [WEIGHT])] == ["dense"]


def test_frozen_parameters_are_in_no_group():
    frozen = parameter("old.weight", trainable=False)
    assert "old.weight" not in where(ADAMW, [frozen, WEIGHT])


def test_what_the_model_lists_is_not_decayed():
    assert where(ADAMW, [parameter("pos_embed", "other", (1, 5, 4), decay=False), WEIGHT])["pos_embed"] == "no_decay"


def test_an_embedding_without_decay_stays_with_its_rule_where_that_does_not_decay():
    spared = parameter("emb.weight", "embedding", decay=False)
    assert where(hybrid(weight_decay=0.0), [spared, WEIGHT])["emb.weight"] == "embedding"


def test_an_embedding_without_decay_under_a_rule_that_decays():
    spared = parameter("emb.weight", "embedding", decay=False)
    with pytest.raises(InputError, match=r"no weight decay for emb\.weight.*\(adagrad\) has weight_decay 0\.01"):
        assign(hybrid(weight_decay=0.01), [spared, WEIGHT])
    same = OptimizerConfig(
        "adamw",
        {"lr": 1e-3, "weight_decay": 0.1},
        groups=[
            {"role": "embedding", "hyperparameters": {"lr": 1e-2}},
            {"role": "no_decay", "hyperparameters": {"weight_decay": 0.0}},
        ],
    )
    assert where(same, [spared, WEIGHT])["emb.weight"] == "no_decay"
    assert where(same, [TABLE, WEIGHT])["emb.weight"] == "embedding"


# declared roles ------------------------------------------------------------------------------------------------------


def test_declared_roles_win():
    assert where(hybrid(), MODEL, {"fc.*": "embedding"})["fc.bias"] == "embedding"
    assert where(hybrid(), MODEL, {"emb.weight": "dense"})["emb.weight"] == "dense"
    assert where(ADAMW, MODEL, {"*.bias": "dense"})["fc.bias"] == "dense"


def test_a_role_that_the_config_has_not_is_dense():
    assert where(ADAMW, MODEL, {"emb.weight": "embedding"})["emb.weight"] == "dense"
    assert where(SGD, MODEL, {"fc.weight": "no_decay"})["fc.weight"] == "dense"


@pytest.mark.parametrize("order", [1, -1])
def test_a_full_name_wins_over_patterns_in_any_order(order):
    roles = dict([("fc.*", "no_decay"), ("fc.weight", "embedding")][::order])
    found = where(hybrid(), MODEL, roles)
    assert (found["fc.weight"], found["fc.bias"]) == ("embedding", "no_decay")


def test_any_name_of_a_tied_parameter_names_it():
    tied = parameter("emb.weight", "embedding", names=("emb.weight", "head.weight"))
    assert where(hybrid(), [tied, BIAS], {"head.*": "dense"})["emb.weight"] == "dense"


def test_a_name_with_brackets_is_no_pattern():
    listed = parameter("theta[0]")
    assert where(ADAMW, [listed, WEIGHT], {"theta[0]": "no_decay"})["theta[0]"] == "no_decay"


# errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "roles", "words"),
    [
        ([], None, ("no parameters", "nothing to optimize")),
        ([parameter("w", trainable=False)], None, ("no trainable parameters", "1 are frozen", "requires_grad")),
        (MODEL, {"fc.weigth": "dense"}, ("'fc.weigth'", "matches no parameter", "did you mean 'fc.weight'?")),
        (MODEL, {"zzz*": "dense"}, ("'zzz*'", "matches no parameter", "emb.weight")),
        (MODEL, {"fc.*": "sparse"}, ("unknown role of 'fc.*' 'sparse'", "embedding, dense, no_decay")),
        (MODEL, {"fc.*": "dense", "*.bias": "no_decay"}, ("fc.bias", "'fc.*'", "'*.bias'", "one group", "full name")),
        (MODEL, ["fc.*"], ("roles is list", "a dict")),
    ],
)
def test_errors_are_one_line_with_the_remedy(parameters, roles, words):
    with pytest.raises(InputError) as error:
        assign(ADAMW, parameters, roles)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_two_full_names_of_a_tied_parameter_that_disagree():
    tied = parameter("emb.weight", "embedding", names=("emb.weight", "head.weight"))
    with pytest.raises(InputError, match=r"emb\.weight is dense by 'emb\.weight' and no_decay by 'head\.weight'"):
        assign(hybrid(), [tied, BIAS], {"emb.weight": "dense", "head.weight": "no_decay"})


# every parameter, once -----------------------------------------------------------------------------------------------

models = st.lists(
    st.tuples(st.sampled_from(ROLES), st.booleans(), st.booleans()),
    min_size=1,
    max_size=12,
)


@given(
    models,
    st.sampled_from([ADAMW, SGD, hybrid()]),
    st.sampled_from(["embedding", "dense", "no_decay", None]),
)
def test_each_trainable_parameter_is_in_exactly_one_group(model, config, declared):
    parameters = [
        parameter(f"layers.{i}", role, trainable=trainable, decay=decay)
        for i, (role, trainable, decay) in enumerate(model)
    ]
    roles = {"layers.1*": declared} if declared and len(parameters) > 1 else None
    trained = sorted(p.name for p in parameters if p.trainable)
    if not trained:
        with pytest.raises(InputError, match="no trainable parameters"):
            assign(config, parameters, roles)
        return
    groups = assign(config, parameters, roles)
    assert sorted(p.name for group in groups for p in group.parameters) == trained
    roles_of_config = list(config.roles())
    assert [g.role for g in groups] == [r for r in roles_of_config if r in {g.role for g in groups}]
    for group in groups:
        if group.hyperparameters.get("weight_decay") and roles is None:
            assert all(p.decay for p in group.parameters)


# the table -----------------------------------------------------------------------------------------------------------


def test_the_table_names_everything_once():
    tied = parameter("emb.weight", "embedding", (1000, 4), names=("emb.weight", "head.weight"))
    frozen = parameter("old.weight", shape=(2, 3), trainable=False)
    scale = parameter("scale", "other", (), decay=False)
    members = [tied, WEIGHT, BIAS, frozen, scale]
    assert table(assign(ADAMW, members), members) == (
        "dense (adamw: lr 0.001, betas (0.9, 0.999), eps 1e-08, weight_decay 0.1, amsgrad false):"
        " 2 tensors, 4,016 parameters\n"
        "  emb.weight = head.weight  1000x4  embedding (a test)\n"
        "  fc.weight                 4x4     matrix (a test)\n"
        "no_decay (adamw: lr 0.001, betas (0.9, 0.999), eps 1e-08, weight_decay 0, amsgrad false):"
        " 2 tensors, 5 parameters\n"
        "  fc.bias                   4       bias (a test)\n"
        "  scale                     scalar  other (a test)\n"
        "frozen, in no group: 1 tensor, 6 parameters\n"
        "  old.weight                2x3     matrix (a test)"
    )


def test_counts_are_of_what_trains_in_the_order_of_roles():
    members = [BIAS, WEIGHT, TABLE, parameter("old", trainable=False)]
    assert list(counts(members).items()) == [("embedding", 400), ("matrix", 16), ("bias", 4)]


def test_distinct_names():
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a#2", "a#3"]
