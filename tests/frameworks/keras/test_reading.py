"""Keras models as records: roles by the classes of layers, statistics left out, frozen layers kept."""

from __future__ import annotations

import os

import pytest

from optadvisor.kernels.errors import InputError

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("jax")
keras = pytest.importorskip("keras")
pytestmark = pytest.mark.parity

from optadvisor.frameworks.keras.reading import parameters  # noqa: E402


def roles(model):
    return {parameter.name.partition("/")[2]: parameter.role for parameter in parameters(model)}


@pytest.fixture
def images():
    layers = [
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.BatchNormalization(name="bn"),
        keras.layers.SeparableConv2D(4, 3, name="separable"),
        keras.layers.GroupNormalization(2, name="gn"),
        keras.layers.Flatten(),
        keras.layers.Dense(3, name="dense"),
    ]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers], name="net")


def test_roles_of_layers(images):
    assert roles(images) == {
        "conv/kernel": "convolution",
        "conv/bias": "bias",
        "bn/gamma": "norm",
        "bn/beta": "norm",
        "separable/depthwise_kernel": "convolution",
        "separable/pointwise_kernel": "convolution",
        "separable/bias": "bias",
        "gn/gamma": "norm",
        "gn/beta": "norm",
        "dense/kernel": "matrix",
        "dense/bias": "bias",
    }
    assert {p.name for p in parameters(images) if p.decay} == {
        "net/conv/kernel",
        "net/separable/depthwise_kernel",
        "net/separable/pointwise_kernel",
        "net/dense/kernel",
    }


def test_statistics_are_left_out_and_frozen_layers_are_not(images):
    images.get_layer("conv").trainable = False
    images.get_layer("bn").trainable = False
    found = {p.name: p.trainable for p in parameters(images)}
    assert {name for name, trainable in found.items() if not trainable} == {
        "net/conv/kernel",
        "net/conv/bias",
        "net/bn/gamma",
        "net/bn/beta",
    }
    assert not any("moving" in name for name in found)
    trained = [v.path for v in images.trainable_variables]
    assert [p.name for p in parameters(images) if p.trainable] == trained


def test_embeddings_attention_and_recurrent_layers():
    ids = keras.Input((5,))
    table = keras.layers.Embedding(100, 8, name="table")(ids)
    attended = table + keras.layers.MultiHeadAttention(2, 4, name="mha")(table, table)
    out = keras.layers.Bidirectional(keras.layers.LSTM(3, name="lstm"), name="both")(attended)
    found = {p.name: (p.role, p.decay) for p in parameters(keras.Model(ids, out))}
    assert found["table/embeddings"] == ("embedding", True)
    assert found["mha/query/kernel"] == found["mha/attention_output/kernel"] == ("attention", True)
    assert found["mha/query/bias"] == ("bias", False)  # heads x size
    assert found["both/forward_lstm/lstm_cell/recurrent_kernel"] == ("recurrent", True)
    assert found["both/backward_lstm/lstm_cell/bias"] == ("bias", False)


class Mine(keras.Model):
    """Two layers of one name, one of them used twice, and a weight of its own."""

    def __init__(self):
        super().__init__(name="mine")
        self.first = keras.layers.Dense(3, name="d")
        self.second = keras.layers.Dense(3, name="d")
        self.again = self.first
        self.table = self.add_weight(shape=(1, 4, 3), name="pos_embedding")

    def call(self, x):
        return self.again(self.second(self.first(x))) + self.table[:, 0]


def test_a_subclass_has_each_weight_once_and_distinct_names():
    model = Mine()
    model(keras.ops.ones((2, 3)))
    assert [(p.name, p.role) for p in parameters(model)] == [
        ("mine/pos_embedding", "other"),
        ("mine/d/kernel", "matrix"),
        ("mine/d/bias", "bias"),
        ("mine/d/kernel#2", "matrix"),
        ("mine/d/bias#2", "bias"),
    ]


def test_refuses_what_is_no_model_and_what_is_not_built():
    with pytest.raises(InputError, match=r"model is int; it takes a keras\.Model"):
        parameters(3)
    with pytest.raises(InputError, match=r"mine has no weights yet: call it on one batch"):
        parameters(Mine())
