"""JAX pytrees as records: the trees that Flax, Haiku and Equinox make, and plain dicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from optadvisor.frameworks.parameters import Parameter
from optadvisor.kernels.errors import InputError

jax = pytest.importorskip("jax")
pytest.importorskip("optax")
pytestmark = pytest.mark.parity

from optadvisor.frameworks.optax.reading import parameters  # noqa: E402


def tree(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Nested dicts of a flat list of paths, as Flax and Haiku nest them."""
    found: dict[str, Any] = {}
    for path, shape in shapes.items():
        *around, own = path.split(" ")
        node = found
        for key in around:
            node = node.setdefault(key, {})
        node[own] = np.zeros(shape, np.float32)
    return found


def roles(given: Any) -> dict[str, str]:
    return {parameter.name: parameter.role for parameter in parameters(given)}


def one(given: Any, name: str) -> Parameter:
    return next(parameter for parameter in parameters(given) if parameter.name == name)


# Flax linen: what `init` returned of a block with attention, of a small convolutional net, and of a GRU.
LINEN = tree(
    {
        "params wte embedding": (50, 8),
        "params pos_embedding": (1, 6, 8),
        "params Block_0 LayerNorm_0 scale": (8,),
        "params Block_0 LayerNorm_0 bias": (8,),
        "params Block_0 MultiHeadDotProductAttention_0 query kernel": (8, 2, 4),
        "params Block_0 MultiHeadDotProductAttention_0 query bias": (2, 4),
        "params Block_0 MultiHeadDotProductAttention_0 out kernel": (2, 4, 8),
        "params Block_0 Dense_0 kernel": (8, 16),
        "params Block_0 RMSNorm_0 scale": (8,),
        "params Conv_0 kernel": (3, 3, 3, 4),
        "params BatchNorm_0 scale": (4,),
        "params ConvTranspose_0 kernel": (3, 3, 4, 4),
        "params OptimizedLSTMCell_0 hf kernel": (4, 4),
        "params OptimizedLSTMCell_0 hf bias": (4,),
    }
)


def test_flax_linen():
    assert roles(LINEN) == {
        "params/BatchNorm_0/scale": "norm",
        "params/Block_0/Dense_0/kernel": "matrix",
        "params/Block_0/LayerNorm_0/bias": "norm",
        "params/Block_0/LayerNorm_0/scale": "norm",
        "params/Block_0/MultiHeadDotProductAttention_0/out/kernel": "attention",
        "params/Block_0/MultiHeadDotProductAttention_0/query/bias": "bias",
        "params/Block_0/MultiHeadDotProductAttention_0/query/kernel": "attention",
        "params/Block_0/RMSNorm_0/scale": "norm",
        "params/ConvTranspose_0/kernel": "convolution",
        "params/Conv_0/kernel": "convolution",
        "params/OptimizedLSTMCell_0/hf/bias": "bias",
        "params/OptimizedLSTMCell_0/hf/kernel": "recurrent",
        "params/pos_embedding": "other",
        "params/wte/embedding": "embedding",
    }
    assert not one(LINEN, "params/Block_0/MultiHeadDotProductAttention_0/query/bias").decay  # two dimensions, a bias
    assert one(LINEN, "params/pos_embedding").decay


def test_the_order_is_that_of_the_leaves():
    leaves = jax.tree.leaves(LINEN)
    assert [id(parameter.value) for parameter in parameters(LINEN)] == [id(leaf) for leaf in leaves]


def test_haiku():
    given = tree(
        {
            "batch_norm scale": (1, 1, 1, 4),
            "conv2_d w": (3, 3, 3, 4),
            "conv2_d b": (4,),
            "embed embeddings": (10, 4),
            "gru w_h": (4, 12),
            "gru b": (12,),
            "lstm/linear w": (12, 16),
            "mlp/~/linear_0 w": (144, 5),
            "multi_head_attention/query w": (4, 8),
            "~ temperature": (),
        }
    )
    assert roles(given) == {
        "batch_norm/scale": "norm",
        "conv2_d/b": "bias",
        "conv2_d/w": "convolution",
        "embed/embeddings": "embedding",
        "gru/b": "bias",
        "gru/w_h": "recurrent",
        "lstm/linear/w": "recurrent",
        "mlp/linear_0/w": "matrix",
        "multi_head_attention/query/w": "attention",
        "temperature": "other",
    }
    assert not one(given, "temperature").decay


def module(*fields: str, static: tuple[str, ...] = ()) -> Any:
    """A class decorator as Equinox has it: a dataclass that is a pytree with attributes as keys."""

    def make(cls: type) -> type:
        return jax.tree_util.register_dataclass(dataclass(cls), list(fields), list(static))

    return make


@module("weight", "bias")
class Linear:
    weight: Any
    bias: Any


@module("weight")
class Embedding:
    weight: Any


@module("weight", "bias")
class Conv2d:
    weight: Any
    bias: Any


@module("weight", "bias")
class LayerNorm:
    weight: Any
    bias: Any


@module("query_proj", "output_proj")
class MultiheadAttention:
    query_proj: Linear
    output_proj: Linear


@module("table", "layers", "conv", "norm", "attention", "act", "rate")
class Model:
    table: Embedding
    layers: list[Linear]
    conv: Conv2d
    norm: LayerNorm
    attention: MultiheadAttention
    act: Any
    rate: float


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def test_equinox_like_modules_are_told_by_their_classes():
    linear = Linear(zeros(4, 4), zeros(4))
    given = Model(
        Embedding(zeros(10, 4)),
        [linear],
        Conv2d(zeros(4, 3, 3, 3), zeros(4, 1, 1)),
        LayerNorm(zeros(4), zeros(4)),
        MultiheadAttention(linear, linear),
        jax.nn.relu,
        0.1,
    )
    assert roles(given) == {
        "table/weight": "embedding",
        "layers/0/weight": "matrix",
        "layers/0/bias": "bias",
        "conv/weight": "convolution",
        "conv/bias": "bias",
        "norm/weight": "norm",
        "norm/bias": "norm",
        "attention/query_proj/weight": "attention",
        "attention/query_proj/bias": "bias",
        "attention/output_proj/weight": "attention",
        "attention/output_proj/bias": "bias",
    }
    assert not one(given, "conv/bias").decay  # 4x1x1 is a vector


def test_plain_dicts():
    given = {"w1": zeros(4, 8), "b1": zeros(8), "blocks": [{"wq": zeros(8, 8), "wk": zeros(8, 8), "wo": zeros(8, 8)}]}
    assert roles(given) == {
        "b1": "bias",
        "blocks/0/wk": "attention",
        "blocks/0/wo": "attention",
        "blocks/0/wq": "attention",
        "w1": "matrix",
    }
    assert roles(zeros(3, 3)) == {"": "matrix"}
    assert roles({"k": zeros(8, 8)}) == {"k": "matrix"}  # nothing says that it makes keys


def test_integers_and_keys_are_not_trained():
    given = {"steps": np.zeros((), np.int32), "key": jax.random.key(0), "kernel": zeros(2, 2)}
    assert {p.name: p.trainable for p in parameters(given)} == {"kernel": True, "key": False, "steps": False}


def test_names_are_distinct_where_two_keys_read_the_same():
    given = {"a": {"w": zeros(2, 2)}, "a/w": zeros(2, 2)}
    assert [p.name for p in parameters(given)] == ["a/w", "a/w#2"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batch_stats": {"mean": zeros(3)}, "params": {}}, ("batch_stats/mean", "variables['params']")),
        ({}, ("dict", "no arrays")),
        (3, ("int", "no arrays")),
        ({"f": jax.nn.relu}, ("no arrays",)),
    ],
)
def test_refuses(given, words):
    with pytest.raises(InputError) as error:
        parameters(given)
    assert all(word in str(error.value) for word in words)
