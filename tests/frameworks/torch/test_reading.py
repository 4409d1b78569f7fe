"""PyTorch models as records: the role of every kind of parameter that people write, each tensor once."""

from __future__ import annotations

import warnings

import pytest

from optadvisor.kernels.errors import InputError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize  # noqa: E402

from optadvisor.frameworks.torch.reading import parameters, unwrap, wrappers  # noqa: E402

torch.set_num_threads(1)


def found(model):
    return {p.name: (p.role, p.decay) for p in parameters(model)}


def weight(*shape, **more):
    return nn.Parameter(torch.zeros(shape), **more)


def holder(**members):
    """A module with these attributes."""
    made = nn.Module()
    for name, member in members.items():
        setattr(made, name, member)
    return made


def compiled(module):
    return torch.compile(module, backend="eager")  # without a compiler's imports


def old(wrap, module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return wrap(module)


# what people write as their own layers -------------------------------------------------------------------------------


class LlamaRMSNorm(nn.Module):
    def __init__(self, size=4):
        super().__init__()
        self.scale = weight(size)


class LayerNorm2d(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = weight(1, 4, 1, 1), weight(1, 4, 1, 1)


class NormalizedLinear(nn.Linear):
    pass


class WeightNormConv(nn.Conv2d):
    pass


class CausalSelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn, self.c_proj, self.norm = nn.Linear(4, 12), nn.Linear(4, 4), nn.LayerNorm(4)
        self.relative = nn.Embedding(9, 2)


class Block(nn.Module):
    """An attention whose class does not say so, beside an MLP."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(4, 4) for _ in range(4))
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)


class AttentionUNet(nn.Module):
    """Called after an attention that it has only a little of."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 4)


class TokenEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = weight(50, 4)


class PatchEmbed(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = weight(12, 4)


class ConvLSTMCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.gates = nn.Linear(4, 16)
        self.conv = nn.Conv2d(2, 2, 3)


class LSTM(nn.Module):
    """A classifier around a recurrent layer, whose head is not recurrent."""

    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(3, 4), nn.Linear(4, 2)


class LoRA(nn.Module):
    def __init__(self):
        super().__init__()
        self.lora_a, self.lora_b = weight(2, 4), weight(4, 2)

    def forward(self, base):
        return base + self.lora_b @ self.lora_a


MATRIX, CONVOLUTION, ATTENTION = ("matrix", True), ("convolution", True), ("attention", True)
RECURRENT, EMBEDDING = ("recurrent", True), ("embedding", True)
NORM, BIAS, VECTOR, OTHER = ("norm", False), ("bias", False), ("other", False), ("other", True)

CASES = {
    "linear": (lambda: nn.Linear(3, 2), {"weight": MATRIX, "bias": BIAS}),
    "one output": (lambda: nn.Linear(3, 1, bias=False), {"weight": MATRIX}),
    "bilinear": (lambda: nn.Bilinear(2, 3, 2, bias=False), {"weight": MATRIX}),
    "convolution": (lambda: nn.Conv2d(3, 4, 3), {"weight": CONVOLUTION, "bias": BIAS}),
    "one channel": (lambda: nn.Conv1d(1, 1, 5, bias=False), {"weight": CONVOLUTION}),
    "transposed": (lambda: nn.ConvTranspose1d(2, 2, 3, bias=False), {"weight": CONVOLUTION}),
    "embedding": (lambda: nn.Embedding(10, 3), {"weight": EMBEDDING}),
    "sparse": (lambda: nn.EmbeddingBag(10, 3, sparse=True), {"weight": ("sparse embedding", True)}),
    "one column": (lambda: nn.Embedding(10, 1), {"weight": EMBEDDING}),
    "layer norm": (lambda: nn.LayerNorm(4), {"weight": NORM, "bias": NORM}),
    "layer norm of an image": (lambda: nn.LayerNorm((3, 4, 4)), {"weight": NORM, "bias": NORM}),
    "rms norm": (lambda: nn.RMSNorm(4), {"weight": NORM}),
    "group norm": (lambda: nn.GroupNorm(2, 4), {"weight": NORM, "bias": NORM}),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True), {"weight": NORM, "bias": NORM}),
    "sync batch norm": (lambda: nn.SyncBatchNorm(4), {"weight": NORM, "bias": NORM}),
    "own rms norm": (LlamaRMSNorm, {"scale": NORM}),
    "own layer norm of maps": (LayerNorm2d, {"weight": NORM, "bias": NORM}),
    "no norm by name": (lambda: NormalizedLinear(3, 2), {"weight": MATRIX, "bias": BIAS}),
    "no norm by name, one output": (lambda: WeightNormConv(1, 1, 3, bias=False), {"weight": CONVOLUTION}),
    "lstm": (
        lambda: nn.LSTM(3, 4, proj_size=2),
        {
            "weight_ih_l0": RECURRENT,
            "weight_hh_l0": RECURRENT,
            "bias_ih_l0": BIAS,
            "bias_hh_l0": BIAS,
            "weight_hr_l0": RECURRENT,
        },
    ),
    "gru cell": (lambda: nn.GRUCell(3, 4, bias=False), {"weight_ih": RECURRENT, "weight_hh": RECURRENT}),
    "own cell": (
        ConvLSTMCell,
        {"gates.weight": RECURRENT, "gates.bias": BIAS, "conv.weight": CONVOLUTION, "conv.bias": BIAS},
    ),
    "head of a recurrent net": (
        lambda: holder(net=LSTM()),
        {
            "net.rnn.weight_ih_l0": RECURRENT,
            "net.rnn.weight_hh_l0": RECURRENT,
            "net.rnn.bias_ih_l0": BIAS,
            "net.rnn.bias_hh_l0": BIAS,
            "net.fc.weight": MATRIX,
            "net.fc.bias": BIAS,
        },
    ),
    "attention": (
        lambda: nn.MultiheadAttention(4, 2),
        {"in_proj_weight": ATTENTION, "in_proj_bias": BIAS, "out_proj.weight": ATTENTION, "out_proj.bias": BIAS},
    ),
    "attention with its own sizes": (
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=2, bias=False, add_bias_kv=True),
        {
            "q_proj_weight": ATTENTION,
            "k_proj_weight": ATTENTION,
            "v_proj_weight": ATTENTION,
            "bias_k": BIAS,
            "bias_v": BIAS,
            "out_proj.weight": ATTENTION,
        },
    ),
    "own attention": (
        CausalSelfAttention,
        {
            "c_attn.weight": ATTENTION,
            "c_attn.bias": BIAS,
            "c_proj.weight": ATTENTION,
            "c_proj.bias": BIAS,
            "norm.weight": NORM,
            "norm.bias": NORM,
            "relative.weight": EMBEDDING,
        },
    ),
    "attention by hand": (
        Block,
        {
            **{f"{n}_proj.weight": ATTENTION for n in "qkvo"},
            **{f"{n}_proj.bias": BIAS for n in "qkvo"},
            "up.weight": MATRIX,
            "up.bias": BIAS,
            "down.weight": MATRIX,
            "down.bias": BIAS,
        },
    ),
    "called after attention": (AttentionUNet, {"head.weight": MATRIX, "head.bias": BIAS}),
    "prelu": (lambda: nn.PReLU(4), {"weight": VECTOR}),
    "layer scale": (lambda: holder(gamma=weight(4), maps=weight(4, 1, 1)), {"gamma": VECTOR, "maps": VECTOR}),
    "temperature": (lambda: holder(logit_scale=nn.Parameter(torch.tensor(1.0))), {"logit_scale": VECTOR}),
    "tokens": (
        lambda: holder(cls_token=weight(1, 1, 4), pos_embed=weight(1, 5, 4), position_embeddings=weight(5, 4)),
        {"cls_token": VECTOR, "pos_embed": OTHER, "position_embeddings": OTHER},
    ),
    "bias tables": (
        lambda: holder(relative_position_bias_table=weight(9, 2), q_bias=weight(4), b=weight(4)),
        {"relative_position_bias_table": BIAS, "q_bias": BIAS, "b": BIAS},
    ),
    "bare matrices": (
        lambda: holder(
            theta=weight(3, 3), cube=weight(2, 2, 2), phase=nn.Parameter(torch.zeros(2, 2, dtype=torch.cfloat))
        ),
        {"theta": MATRIX, "cube": OTHER, "phase": MATRIX},
    ),
    "bare tables": (
        lambda: holder(item_embedding=weight(100, 4), tokens=TokenEmbedding(), patches=PatchEmbed()),
        {"item_embedding": EMBEDDING, "tokens.weight": EMBEDDING, "patches.weight": MATRIX},
    ),
    "lists": (
        lambda: holder(theta=nn.ParameterList([weight(3, 3), weight(3)]), biases=nn.ParameterDict({"a": weight(3, 2)})),
        {"theta.0": MATRIX, "theta.1": VECTOR, "biases.a": BIAS},
    ),
    "weight norm": (
        lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
        {"bias": BIAS, "parametrizations.weight.original0": NORM, "parametrizations.weight.original1": MATRIX},
    ),
    "weight norm, old": (
        lambda: holder(fc=old(nn.utils.weight_norm, nn.Conv1d(4, 3, 1))),
        {"fc.bias": BIAS, "fc.weight_g": NORM, "fc.weight_v": CONVOLUTION},
    ),
    "spectral norm": (
        lambda: holder(conv=parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))),
        {"conv.bias": BIAS, "conv.parametrizations.weight.original": CONVOLUTION},
    ),
    "spectral norm, old": (
        lambda: old(nn.utils.spectral_norm, nn.Linear(4, 3)),
        {"bias": BIAS, "weight_orig": MATRIX},
    ),
    "spectral norm of a table": (
        lambda: parametrizations.spectral_norm(nn.Embedding(10, 4)),
        {"parametrizations.weight.original": EMBEDDING},
    ),
    "low rank": (
        lambda: parametrize.register_parametrization(nn.Linear(4, 4), "weight", LoRA()),
        {
            "bias": BIAS,
            "parametrizations.weight.original": MATRIX,
            "parametrizations.weight.0.lora_a": MATRIX,
            "parametrizations.weight.0.lora_b": MATRIX,
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_roles_and_decay(name):
    make, expected = CASES[name]
    assert found(make()) == expected


def test_reading_changes_nothing():
    model = parametrizations.spectral_norm(nn.Linear(4, 3))  # computing its weight would move its vectors
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    parameters(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert model.training


# one tensor, several places ------------------------------------------------------------------------------------------


def test_a_tensor_in_three_places_is_one_parameter_with_the_role_of_the_table():
    head, table, loss = nn.Linear(4, 10, bias=False), nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
    table.weight = loss.weight = head.weight
    (parameter,) = parameters(holder(head=head, table=table, loss=loss))
    assert parameter.name == "head.weight"
    assert parameter.names == ("head.weight", "table.weight", "loss.weight")
    assert (parameter.role, parameter.why) == ("embedding", "Embedding")
    assert parameter.value is head.weight


def test_a_module_used_twice_is_there_once_under_both_names():
    shared = nn.Linear(4, 4)
    first, second = parameters(holder(one=shared, two=nn.Sequential(shared)))
    assert (first.names, second.names) == (("one.weight", "two.0.weight"), ("one.bias", "two.0.bias"))


def test_a_compiled_copy_beside_the_module_is_the_same_parameter():
    model = holder(net=nn.Linear(4, 4, bias=False))
    model.fast = compiled(model.net)
    (parameter,) = parameters(model)
    assert parameter.names == ("net.weight", "fast.weight")


def test_the_order_is_that_of_named_parameters():
    model = nn.Sequential(nn.Embedding(5, 3), nn.LSTM(3, 3), nn.MultiheadAttention(4, 2))
    assert [p.name for p in parameters(model)] == [name for name, _ in model.named_parameters()]


def test_frozen_parameters_are_there_and_not_trainable():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).requires_grad_(False)
    model[1].requires_grad_(True)
    assert [p.trainable for p in parameters(model)] == [False, False, True, True]


# what the model wants ------------------------------------------------------------------------------------------------


class Listing(nn.Module):
    def __init__(self, names=(), keywords=()):
        super().__init__()
        self.pos_embed, self.head, self.names, self.keywords = weight(1, 5, 4), nn.Linear(4, 4), names, keywords

    def no_weight_decay(self):
        return self.names

    def no_weight_decay_keywords(self):
        return self.keywords


@pytest.mark.parametrize(
    ("names", "keywords", "spared"),
    [
        ({"pos_embed"}, (), {"pos_embed"}),
        ("pos_embed", (), {"pos_embed"}),
        (["head.*"], (), {"head.weight"}),
        ((), ("head",), {"head.weight"}),
        (None, None, set()),
        (True, (), {"pos_embed", "head.weight"}),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_what_a_module_lists(names, keywords, spared, inside):
    model = Listing(names, keywords)
    whole = holder(body=model, head=nn.Linear(2, 2)) if inside else model
    start = "body." if inside else ""
    decayed = {p.name for p in parameters(whole) if p.decay}
    assert {f"{start}pos_embed", f"{start}head.weight"} - decayed == {start + name for name in spared}
    if inside:
        assert "head.weight" in decayed  # a list is about the module that has it


def test_an_attribute_and_a_compiled_part():
    model = holder(body=Listing(["pos_embed"]), head=nn.Linear(2, 2))
    model.head.weight._no_weight_decay = True
    model.body = compiled(model.body)
    assert {p.name for p in parameters(model) if p.decay} == {"body.head.weight"}


# wrappers ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_distributed_and_compiled(process_group):
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    wrapped = compiled(nn.parallel.DistributedDataParallel(model))
    assert unwrap(wrapped) is model
    assert wrappers(wrapped) == ["torch.compile", "DistributedDataParallel"]
    assert [p.name for p in parameters(wrapped)] == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_other_wrappers():
    model = nn.Linear(2, 2)
    assert wrappers(model) == []
    assert wrappers(nn.DataParallel(model)) == ["DataParallel"]
    assert [p.name for p in parameters(nn.DataParallel(model))] == ["weight", "bias"]
    averaged = torch.optim.swa_utils.AveragedModel(model)
    assert wrappers(averaged) == ["AveragedModel"]


# errors --------------------------------------------------------------------------------------------------------------


class FlatParameter(nn.Parameter):
    """What FSDP puts in place of the parameters it shards."""


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: nn.Linear, ("model is type", "torch.nn.Module")),
        (lambda: [weight(2)], ("model is list",)),
        (lambda: nn.Sequential(nn.LazyLinear(3)), ("0.weight has no shape yet", "one batch")),
        (lambda: holder(flat=FlatParameter(torch.zeros(8))), ("flat is several parameters", "use_orig_params=True")),
    ],
)
def test_refuses(model, words):
    with pytest.raises(InputError) as error:
        parameters(model())
    assert all(word in str(error.value) for word in words)


def test_a_lazy_module_that_has_run_is_read():
    model = nn.Sequential(nn.LazyLinear(3))
    model(torch.zeros(1, 2))
    assert found(model) == {"0.weight": MATRIX, "0.bias": BIAS}
