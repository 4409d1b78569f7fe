"""config.param_groups: dicts that torch.optim takes as they are, and a check of groups made by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optadvisor as oa
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

from torch import nn  # noqa: E402

torch.set_num_threads(1)

ADAMW = oa.OptimizerConfig.of("adamw", {"lr": 1e-3, "weight_decay": 0.1})
HYBRID = oa.OptimizerConfig(
    "hybrid",
    groups=[
        {"role": "embedding", "optimizer": "adagrad", "hyperparameters": {"lr": 0.05}},
        {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 1e-3, "weight_decay": 0.1}},
        {"role": "no_decay", "optimizer": "adamw", "hyperparameters": {"weight_decay": 0.0}},
    ],
)
# Rule -> the class of torch.optim whose keywords are the rule's.
CLASSES = {
    "sgd": "SGD",
    "momentum": "SGD",
    "nag": "SGD",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "radam": "RAdam",
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(12, 4)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU())
        self.head = nn.Linear(8, 12, bias=False)
        self.body[0].bias.requires_grad_(False)

    def forward(self, ids):
        return self.head(self.body(self.table(ids)))


@pytest.mark.parametrize("rule", CLASSES)
def test_torch_optim_takes_the_groups_and_trains_with_their_values(rule):
    values = rules.get(rule).complete({"weight_decay": 0.01})
    model = Net()
    groups = oa.OptimizerConfig.of(rule, values).param_groups(model)
    optimizer = getattr(torch.optim, CLASSES[rule])(groups)
    assert [group["role"] for group in optimizer.param_groups] == ["dense", "no_decay"]
    dense, spared = optimizer.param_groups
    assert dense.get("nesterov", False) == spared.get("nesterov", False) == (rule == "nag")
    assert {name: dense[name] for name in values} == values
    assert {name: spared[name] for name in values} == {**values, "weight_decay": 0.0}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    nn.functional.cross_entropy(model(torch.arange(12)), torch.arange(12)).backward()
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("rule", rules.RULES)
def test_every_rule_has_groups(rule):
    model = Net()
    oa.torch.check_groups(oa.OptimizerConfig.of(rule).param_groups(model), model)


def test_a_hybrid_has_a_rule_a_group():
    model = Net()
    groups = HYBRID.param_groups(model)
    assert [(g["role"], g["rule"], len(g["params"])) for g in groups] == [
        ("embedding", "adagrad", 1),
        ("dense", "adamw", 2),
        ("no_decay", "adamw", 2),
    ]
    assert groups[0]["params"][0] is model.table.weight
    assert groups[0]["lr"] == 0.05
    assert groups[1]["betas"] == (0.9, 0.999)


def test_declared_roles_and_their_errors():
    groups = HYBRID.param_groups(Net(), roles={"body.*": "embedding"})
    assert len(groups[0]["params"]) == 4
    with pytest.raises(InputError, match=r"'bodi\.\*' matches no parameter"):
        HYBRID.param_groups(Net(), roles={"bodi.*": "embedding"})


def test_the_table_is_the_text_of_the_groups():
    text = str(ADAMW.param_groups(Net()))
    assert "dense (adamw: lr 0.001" in text
    assert "  body.1.weight  8     norm (weight of LayerNorm)" in text
    assert "frozen, in no group: 1 tensor, 8 parameters\n  body.0.bias" in text
    for name, _ in Net().named_parameters():
        assert text.count(f"  {name} ") == 1


# random models -------------------------------------------------------------------------------------------------------

LEAVES = (
    lambda: nn.Linear(3, 3),
    lambda: nn.Embedding(5, 3),
    lambda: nn.EmbeddingBag(5, 3, sparse=True),
    lambda: nn.LayerNorm(3),
    lambda: nn.Conv1d(3, 3, 1),
    lambda: nn.GRUCell(3, 3),
    lambda: nn.MultiheadAttention(4, 2),
    lambda: nn.PReLU(3),
    lambda: nn.ParameterList([nn.Parameter(torch.zeros(3, 3)), nn.Parameter(torch.zeros(()))]),
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
)
trees = st.recursive(
    st.integers(0, len(LEAVES) - 1), lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=10
)


def build(tree, shared):
    """A module of a tree; every third leaf of a kind is one that is there already."""
    if isinstance(tree, list):
        return nn.Sequential(*(build(branch, shared) for branch in tree))
    made = shared.setdefault(tree, [])
    if len(made) == 2:
        return made[0]
    made.append(LEAVES[tree]())
    return made[-1]


@settings(max_examples=60, deadline=None)
@given(trees, st.sampled_from([ADAMW, HYBRID, oa.OptimizerConfig.of("sgd")]), st.data())
def test_every_trainable_parameter_of_any_model_is_in_exactly_one_group(tree, config, data):
    model = build(tree, {})
    everything = list(model.parameters())
    for p in everything[1:]:
        p.requires_grad_(data.draw(st.booleans()))
    groups = config.param_groups(model)
    members = [id(p) for group in groups for p in group["params"]]
    assert len(members) == len(set(members))
    assert set(members) == {id(p) for p in everything if p.requires_grad}
    oa.torch.check_groups(groups, model)
    for group in groups:
        if group.get("weight_decay"):
            assert not any(p.ndim < 2 for p in group["params"])


# groups made by hand -------------------------------------------------------------------------------------------------


def test_check_groups_takes_what_torch_takes():
    model = Net()
    oa.torch.check_groups(torch.optim.SGD(model.parameters(), lr=0.1).param_groups, model)
    oa.torch.check_groups([{"params": list(model.named_parameters())}], model)
    table, *rest = model.parameters()
    oa.torch.check_groups([{"params": table}, {"params": rest}], torch.compile(model, backend="eager"))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (lambda m: [{"params": [m.table.weight]}], ("body.0.weight, body.1.weight, body.1.bias and 1 more",)),
        (lambda m: [{"params": m.parameters()}], ("group 0", "generator", "make them a list")),
        (
            lambda m: [{"params": list(m.parameters())}, {"params": [m.head.weight]}],
            ("head.weight is in group 0 and again in group 1",),
        ),
        (lambda m: [{"params": [*m.parameters(), torch.zeros(2, 3)]}], ("group 0", "[2, 3]", "no parameter")),
    ],
)
def test_check_groups_names_what_is_wrong(groups, words):
    model = Net()
    with pytest.raises(InputError) as error:
        oa.torch.check_groups(groups(model), model)
    assert all(word in str(error.value) for word in words)
