"""Names of PyTorch's operations, as functions and as methods, by kind (`optadvisor.frameworks.flow.KINDS`)."""

from __future__ import annotations

from typing import Any

_KINDS: dict[str, str] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), "convolution"),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), "transposed convolution"),
    **dict.fromkeys(("linear", "bilinear"), "linear"),
    **dict.fromkeys(
        ("matmul", "rmatmul", "imatmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "tensordot", "mv", "dot"), "product"
    ),
    **dict.fromkeys(("sparse_mm", "spmm", "smm"), "product"),
    **dict.fromkeys(("softmax", "sparsemax", "softmin"), "softmax"),
    **dict.fromkeys(("scaled_dot_product_attention", "multi_head_attention_forward", "flex_attention"), "attention"),
    **dict.fromkeys(("add", "radd", "iadd"), "add"),
    **dict.fromkeys(("cat", "concat", "concatenate"), "concatenate"),
    **dict.fromkeys(("interpolate", "upsample", "pixel_shuffle", "grid_sample", "max_unpool2d"), "upsample"),
    **dict.fromkeys(("index_add", "scatter_add", "scatter_reduce", "index_reduce", "segment_reduce"), "scatter"),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), "recurrent"),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), "recurrent"),
    **dict.fromkeys(("embedding", "embedding_bag"), "embedding"),
    **dict.fromkeys(("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize"), "norm"),
}
_MOVES = (
    "view reshape flatten unflatten transpose permute squeeze unsqueeze contiguous expand expand_as repeat "
    "repeat_interleave tile getitem get split chunk unbind select narrow index_select take gather roll flip pad "
    "movedim moveaxis swapaxes to type type_as float half bfloat16 double long clone detach dropout dropout1d dropout2d "
    "dropout3d alpha_dropout feature_alpha_dropout stochastic_depth drop_path mean sum unfold fold stack hstack vstack "
    "masked_fill where tril triu mul imul rmul div idiv truediv rtruediv neg t adjoint cumsum pixel_unshuffle "
    "channel_shuffle sub isub rsub view_as squeeze_ as_strided diagonal atleast_2d cuda cpu requires_grad_ identity nan_to_num"
)
_BINARY = ("mul", "imul", "rmul", "div", "idiv", "truediv", "rtruediv")  # of two that depend on the input: not linear


def kind(name: str, inputs: int) -> str:
    """Kind of an operation, of which so many inputs depend on the input of the model. A name that is not known is nonlinear."""
    if name in _KINDS:
        return _KINDS[name]
    if "pool" in name:
        return "pool"
    if name in _MOVES.split():
        return "nonlinear" if name in _BINARY and inputs > 1 else "moves"
    return "nonlinear"


def name(func: Any) -> str:
    """The name of a function or method, without underscores: __iadd__ and add_ are iadd and add."""
    return str(getattr(func, "__name__", func)).strip("_")


def strided(kind: str, args: Any, kwargs: Any) -> bool:
    """Whether a convolution makes its map smaller."""
    if kind != "convolution":
        return False
    stride = kwargs.get("stride", args[3] if len(args) > 3 else 1)
    return any(step > 1 for step in (stride if isinstance(stride, (tuple, list)) else (stride,)))
