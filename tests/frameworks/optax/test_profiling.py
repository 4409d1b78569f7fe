"""oa.optax.profile: what names and shapes of a pytree say, and what they do not."""

from __future__ import annotations

import numpy as np
import pytest

import optadvisor as oa
from optadvisor.kernels.errors import InputError

pytest.importorskip("jax")
pytest.importorskip("optax")
pytestmark = pytest.mark.parity

from .test_reading import LINEN, tree  # noqa: E402

VIT = tree(
    {
        "params embedding kernel": (16, 16, 3, 64),
        "params pos_embedding": (1, 17, 64),
        "params cls": (1, 1, 64),
        **{
            f"params Transformer encoderblock_{i} {path}": shape
            for i in range(2)
            for path, shape in {
                "LayerNorm_0 scale": (64,),
                "MultiHeadDotProductAttention_0 query kernel": (64, 4, 16),
                "MultiHeadDotProductAttention_0 key kernel": (64, 4, 16),
                "MultiHeadDotProductAttention_0 value kernel": (64, 4, 16),
                "MultiHeadDotProductAttention_0 out kernel": (4, 16, 64),
                "MlpBlock_0 Dense_0 kernel": (64, 256),
                "MlpBlock_0 Dense_1 kernel": (256, 64),
            }.items()
        },
        "params head kernel": (64, 10),
    }
)
GPT = tree(
    {
        "wte embedding": (300, 32),
        "h_0 ln_1 scale": (32,),
        "h_0 attn c_attn kernel": (32, 96),
        "h_0 attn c_proj kernel": (32, 32),
        "h_0 mlp c_fc kernel": (32, 128),
        "h_0 mlp c_proj kernel": (128, 32),
    }
)
CNN = tree({"params Conv_0 kernel": (3, 3, 3, 8), "params BatchNorm_0 scale": (8,), "params Dense_0 kernel": (72, 10)})
LSTM = tree({"embed embeddings": (5000, 16), "lstm/linear w": (48, 128), "lstm/linear b": (128,), "linear w": (32, 2)})
CASES = {
    "ViT of Flax": (VIT, "transformer", "vision"),
    "GPT of Flax": (GPT, "transformer", "language"),
    "convolutional net": (CNN, None, "vision"),  # whether it has residual additions is not in it
    "LSTM of Haiku": (LSTM, "rnn", "language"),
    "MLP of Haiku": (tree({"mlp/~/linear_0 w": (20, 64), "mlp/~/linear_1 w": (64, 1)}), "mlp", None),
    "dense layers": (tree({"Dense_0 kernel": (20, 64), "Dense_1 kernel": (64, 1)}), None, None),
    "one layer": (tree({"w": (20, 10), "b": (10,)}), "linear", None),
    "matrices": ({"w1": np.zeros((4, 8)), "w2": np.zeros((8, 2))}, None, None),
    "graph network": (tree({"GCNConv_0 kernel": (6, 16), "GCNConv_1 kernel": (16, 3)}), "gnn", "graph"),
}


@pytest.mark.parametrize("name", CASES)
def test_guesses(name):
    given, architecture, domain = CASES[name]
    look = oa.optax.profile(given)
    assert (look.profile.architecture, look.profile.domain) == (architecture, domain)
    for field in ("architecture", "domain"):
        assert (field in look.reasons) != (field in look.undecided)


def test_counts_norms_and_batch():
    look = oa.optax.profile(LINEN, batch={"x": np.zeros((32, 6)), "y": np.zeros(32)}, samples=320, epochs=2)
    assert look.norms == {"batch": 1, "layer": 1, "rms": 1}
    assert look.counts["embedding"] == 400
    assert sum(look.counts.values()) == look.profile.parameters
    assert (look.profile.batch_size, look.profile.steps) == (32, 20)
    assert "norms" not in look.undecided


def test_declared_fields_win_and_errors_are_one_line():
    look = oa.optax.profile(CNN, architecture="resnet", parameters="25M")
    assert (look.profile.architecture, look.profile.parameters) == ("resnet", 25_000_000)
    assert look.reasons["architecture"] == "declared"
    assert oa.recommend(look, top=2).best.optimizer == "momentum"
    with pytest.raises(InputError, match="unknown architecture 'resnt': did you mean 'resnet'"):
        oa.optax.profile(CNN, architecture="resnt")
