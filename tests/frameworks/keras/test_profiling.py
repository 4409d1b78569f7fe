"""oa.keras.profile: functional and sequential models, whose joints are read, and subclasses, whose are not."""

from __future__ import annotations

import os

import numpy as np
import pytest

import optadvisor as oa

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("jax")
keras = pytest.importorskip("keras")
pytestmark = pytest.mark.parity

from keras import Input, Model, Sequential, layers  # noqa: E402


def cnn():
    body = [
        layers.Conv2D(8, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Flatten(),
    ]
    return Sequential([Input((16, 16, 3)), *body, layers.Dense(10)])


def resnet():
    x = begin = Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same")(x)
    for _ in range(2):
        y = layers.Conv2D(8, 3, padding="same")(layers.ReLU()(x))
        x = layers.Add()([x, y])
    return Model(begin, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def resnet_of_blocks():
    begin = Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same")(begin)
    block = Sequential([Input((16, 16, 8)), layers.Conv2D(8, 3, padding="same"), layers.ReLU()])
    return Model(begin, layers.Dense(10)(layers.GlobalAveragePooling2D()(x + block(x))))


def unet():
    begin = Input((16, 16, 3))
    a = layers.Conv2D(8, 3, padding="same", activation="relu")(begin)
    b = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(a))
    c = layers.Concatenate()([a, layers.UpSampling2D()(b)])
    return Model(begin, layers.Conv2D(1, 1)(c))


def transformer():
    ids = Input((12,), dtype="int32")
    x = layers.Embedding(2000, 16)(ids)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(16)(layers.Dense(32, activation="relu")(x)))
    return Model(ids, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def vit():
    image = Input((32, 32, 3))
    x = layers.Reshape((16, 32))(layers.Conv2D(32, 8, 8)(image))
    x = x + layers.MultiHeadAttention(2, 16)(x, x)
    return Model(image, layers.Dense(10)(layers.Flatten()(x)))


def lstm():
    return Sequential([Input((9, 5)), layers.Bidirectional(layers.LSTM(16)), layers.Dense(1)])


def tower():
    user, item = Input((1,), dtype="int32"), Input((1,), dtype="int32")
    x = layers.Concatenate()(
        [layers.Embedding(3000, 8, name="user")(user), layers.Embedding(1500, 8, name="item")(item)]
    )
    return Model([user, item], layers.Dense(1)(layers.Dense(32, activation="relu")(layers.Flatten()(x))))


def mlp():
    return Sequential([Input((20,)), layers.Dense(32, activation="relu"), layers.Dropout(0.1), layers.Dense(1)])


def linear():
    return Sequential([Input((20,)), layers.Dense(1)])


class Mine(keras.Model):
    def __init__(self):
        super().__init__()
        self.one, self.two = layers.Conv2D(4, 3), layers.Dense(2)

    def call(self, x):
        return self.two(keras.ops.mean(self.one(x), (1, 2)))


def subclass():
    model = Mine()
    model(np.zeros((1, 8, 8, 3), np.float32))
    return model


class Own(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 4))

    def call(self, x):
        return x @ self.w


def own_layer():
    return Sequential([Input((20,)), layers.Dense(8), Own(), layers.Dense(1)])


CASES = {
    "cnn": (cnn, "cnn", "vision"),
    "resnet": (resnet, "resnet", "vision"),
    "resnet of nested blocks": (resnet_of_blocks, "resnet", "vision"),
    "unet": (unet, "unet", "vision"),
    "transformer": (transformer, "transformer", "language"),
    "vit": (vit, "transformer", "vision"),
    "lstm": (lstm, "rnn", None),
    "tower": (tower, "embedding-tower", "recsys"),
    "mlp": (mlp, "mlp", None),
    "linear": (linear, "linear", None),
    "subclass": (subclass, None, "vision"),
    "a layer of one's own": (own_layer, None, None),
}


@pytest.mark.parametrize("name", CASES)
def test_guesses(name):
    make, architecture, domain = CASES[name]
    look = oa.keras.profile(make())
    assert (look.profile.architecture, look.profile.domain) == (architecture, domain)
    for field in ("architecture", "domain"):
        assert (field in look.reasons) != (field in look.undecided)


def test_counts_norms_batch_and_convexity():
    model = cnn()
    look = oa.keras.profile(model, batch=(np.zeros((4, 16, 16, 3)), np.zeros(4)), samples=40, epochs=3)
    assert look.norms == {"batch": 1}
    assert look.profile.parameters == sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert (look.profile.batch_size, look.profile.steps) == (4, 30)
    assert look.profile.convex is False
    straight = linear()
    assert oa.keras.profile(straight).profile.convex is None
    straight.compile(loss="mse")
    assert oa.keras.profile(straight).profile.convex is True
    curved = Sequential([Input((20,)), layers.Dense(1, activation="sigmoid")])
    curved.compile(loss="mse")
    assert oa.keras.profile(curved).profile.convex is None


def test_declared_fields_win():
    look = oa.keras.profile(cnn(), domain="other", architecture="resnet")
    assert (look.profile.domain, look.profile.architecture) == ("other", "resnet")
    assert look.reasons["domain"] == "declared"
