"""What names tell: the words in the names of layers, classes and parameters, the same in every framework."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")

_NORM = {"normalization", "normalisation", "ln", "bn", "gn", "grn"}
_NORM_KINDS = {
    "batch": {"batch", "bn", "batchnorm"},
    "rms": {"rms", "rmsnorm"},
    "layer": {"layer", "ln", "layernorm"},
    "group": {"group", "gn", "groupnorm"},
    "instance": {"instance", "instancenorm"},
}
_NO_NORM = {"linear", "dense", "conv", "flow", "flows", "weight", "spectral"}  # WeightNormLinear is a Linear
_ATTENTION = {"attention", "attn", "mha"}
_RECURRENT = {"lstm", "gru", "rnn"}
_EMBEDDING = {"embedding", "embeddings", "embed", "embeds", "emb", "wte"}
# Learned tables that are read as a whole at every step, not row by row.
_WHOLE = {"pos", "position", "positional", "positions", "wpe", "abs", "rel", "relative", "time", "cls", "mask", "query"}
_QUERIES = {"q", "query", "queries", "wq", "to_q"}
_KEYS = {"k", "key", "keys", "wk", "to_k"}
_PROJECTIONS = {*_QUERIES, *_KEYS, "v", "value", "values", "wv", "to_v", "o", "out", "output", "wo", "to_out"}
_FUSED = {"qkv", "to_qkv", "c_attn", "in_proj_qkv", "query_key_value", "wqkv", "qkv_proj"}


def words(name: str) -> list[str]:
    """The words of a name, small: "MultiHeadAttention_0" is multi, head, attention, 0."""
    return [word.lower() for word in _WORD.findall(name)]


def is_norm(name: str) -> bool:
    """Whether a layer of this name or class normalises: LayerNorm2d, T5LayerNorm, batch_normalization, ln_1."""
    found = words(name)
    return not _NO_NORM.intersection(found) and any(w.endswith("norm") or w in _NORM for w in found)


def norm(name: str) -> str:
    """Kind of the normalisation in a layer of this name or class: batch, layer, group, instance, rms or other."""
    found = set(words(name))
    for kind, known in _NORM_KINDS.items():
        if found & known:
            return kind
    return "other"


def is_attention(name: str) -> bool:
    """Whether a layer of this name or class is an attention: it ends so (CausalSelfAttention, attn_2, AttentionBlock)."""
    found = [w for w in words(name) if not w.isdigit() and w not in ("d", "block", "layer", "module")]
    return bool(found) and (found[-1] in _ATTENTION or found[-1].endswith("attention"))


def is_recurrent(name: str) -> bool:
    """Whether a layer of this name or class is a recurrent cell or layer itself: LSTMCell, gru_1, OptimizedLSTMCell_0."""
    found = [w for w in words(name) if not w.isdigit() and w not in ("d", "cell", "layer")]
    return bool(found) and found[-1] in _RECURRENT


def is_embedding(name: str) -> bool:
    """Whether a table of this name is read row by row; positions, masks and patches are not."""
    found = set(words(name))
    return bool(found & _EMBEDDING) and not found & (_WHOLE | {"patch"})


def is_whole(name: str) -> bool:
    """Whether a table of this name is read whole at every step: pos_embed, cls_token, relative_position, queries."""
    return not _WHOLE.isdisjoint(words(name))


def is_bias(name: str) -> bool:
    """Whether a parameter of this name is a bias: bias_hh_l0, q_bias, relative_position_bias_table."""
    return not {"bias", "biases"}.isdisjoint(words(name))


def projects(name: str, siblings: Iterable[str]) -> bool:
    """Whether a layer is a projection of an attention: it is named so, and those for queries and keys stand beside it."""
    if name in _FUSED:
        return True
    stems = {_stem(sibling) for sibling in siblings}
    return _stem(name) in _PROJECTIONS and bool(stems & _QUERIES) and bool(stems & _KEYS)


def _stem(name: str) -> str:
    for end in ("_proj", "_projection", "_linear", "_layer"):
        if name.endswith(end):
            return name[: -len(end)]
    return name


def is_vector(shape: Sequence[int]) -> bool:
    """Whether an array has one number or one line of numbers: at most one dimension is longer than 1."""
    return sum(n != 1 for n in shape) < 2
