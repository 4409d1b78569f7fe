"""digits-vit: a small vision transformer on scikit-learn's handwritten digits (1,797 images of 8 x 8).

Square patches, a linear layer and positions, blocks of layers/transformer.py that see every place, a last norm, the
mean over the places instead of a class token (Dosovitskiy et al. 2021, section 3.1; Beyer et al. 2022).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks import datasets
from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values, views
from optadvisor.studies.tasks.layers.dense import dense, dense_backward
from optadvisor.studies.tasks.layers.embedding import add_positions, positions_backward
from optadvisor.studies.tasks.layers.layer_norm import layer_norm, layer_norm_backward
from optadvisor.studies.tasks.layers.losses import correct, softmax_cross_entropy
from optadvisor.studies.tasks.layers.patches import mean_of_places, mean_of_places_backward, patches
from optadvisor.studies.tasks.layers.transformer import (
    MATRICES,
    VECTORS,
    block,
    block_backward,
    initial_block,
    kept_size,
    scratch_size,
)

SIDE, CLASSES = 8, 10
TRAINING, VALIDATION = 1200, 297  # the 300 that are left are the test part, which no study looks at


def _weights(theta, side, width, depth):
    """Patches to stream, positions, blocks' matrices, output; b_in, blocks' vectors, last gain and bias, b_out."""
    pixels, length = side * side, (SIDE // side) ** 2
    a = pixels * width
    b = a + length * width
    c = b + depth * MATRICES * width * width
    d = c + width * CLASSES
    e = d + width
    f = e + depth * VECTORS * width
    w_in, positions = theta[:a].reshape(pixels, width), theta[a:b].reshape(length, width)
    inner, out = theta[b:c].reshape(depth, MATRICES * width * width), theta[c:d].reshape(width, CLASSES)
    others = theta[e:f].reshape(depth, VECTORS * width)
    gain, bias, b_out = theta[f : f + width], theta[f + width : f + 2 * width], theta[f + 2 * width :]
    return w_in, positions, inner, out, theta[d:e], others, gain, bias, b_out


def _buffers(work, batch, side, width):
    """Patches; the stream; the last norm's hat, output and scale; the mean; logits; what the blocks need."""
    n = batch * (SIDE // side) ** 2
    size, pixels = n * width, n * side * side
    shape = (n, width)
    stream = work[pixels : pixels + size].reshape(shape)
    hat, last = work[pixels + size : pixels + 2 * size].reshape(shape), work[pixels + 2 * size : pixels + 3 * size]
    a = pixels + 3 * size + n
    b = a + batch * width
    c = b + batch * CLASSES
    mean, z = work[a:b].reshape(batch, width), work[b:c].reshape(batch, CLASSES)
    return work[:pixels].reshape(n, side * side), stream, hat, last.reshape(shape), work[a - n : a], mean, z, work[c:]


def _forward(theta, images, dims, rows, work):
    """Logits of the images, in their buffer."""
    side, width, depth, heads = dims[0], dims[1], dims[2], dims[3]
    batch, length = rows.size, (SIDE // side) ** 2
    w_in, positions, inner, out, b_in, others, gain, bias, b_out = _weights(theta, side, width, depth)
    pixels, x, hat, last, scale, mean, z, rest = _buffers(work, batch, side, width)
    kept, shared = kept_size(batch, length, width, heads), scratch_size(batch, length, width, heads)
    patches(images, rows, side, pixels)
    dense(pixels, w_in, b_in, x)
    add_positions(positions, batch, x)
    for i in range(depth):
        own = rest[shared + i * kept : shared + (i + 1) * kept]
        block(x, inner[i], others[i], batch, heads, False, own, rest)
    layer_norm(x, gain, bias, hat, scale, last)
    mean_of_places(last, mean)
    dense(mean, out, b_out, z)


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean cross-entropy on a mini-batch, and its gradient."""
    side, width, depth, heads = dims[0], dims[1], dims[2], dims[3]
    batch, length = rows.size, (SIDE // side) ** 2
    _forward(theta, reals.reshape(reals.size // (SIDE * SIDE), SIDE, SIDE), dims, rows, work)
    _, _, inner, out, _, others, gain, _, _ = _weights(theta, side, width, depth)
    gw_in, gpositions, ginner, gout, gb_in, gothers, ggain, gbias, gb_out = _weights(grad, side, width, depth)
    pixels, delta, hat, last, scale, mean, z, rest = _buffers(work, batch, side, width)
    kept, shared = kept_size(batch, length, width, heads), scratch_size(batch, length, width, heads)
    loss = softmax_cross_entropy(z, rows, integers, z)
    dense_backward(mean, z, gout, gb_out)
    np.dot(z, out.T, mean)
    mean_of_places_backward(mean, last)
    delta[:] = 0
    layer_norm_backward(last, gain, hat, scale, ggain, gbias, delta)
    for i in range(depth - 1, -1, -1):
        own = rest[shared + i * kept : shared + (i + 1) * kept]
        block_backward(delta, inner[i], others[i], ginner[i], gothers[i], batch, heads, own, rest)
    positions_backward(batch, delta, gpositions)
    dense_backward(pixels, delta, gw_in, gb_in)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Cross-entropy and accuracy on the validation (part 0) or test (part 1) images."""
    batch, begin, end = dims[4], dims[5 + part], dims[6 + part]
    images = reals.reshape(reals.size // (SIDE * SIDE), SIDE, SIDE)
    loss, right = 0.0, 0
    for first in range(begin, end, batch):
        rows = np.arange(first, min(first + batch, end))
        _forward(theta, images, dims, rows, work)
        _, _, _, _, _, _, z, _ = _buffers(work, rows.size, dims[0], dims[1])
        right += correct(z, rows, integers)
        loss += softmax_cross_entropy(z, rows, integers, z) * rows.size
    scores[0], scores[1] = loss / (end - begin), right / (end - begin)


def _layout(values: Values) -> Layout:
    side, width, depth = values["patch"], values["width"], values["depth"]
    outer = side * side + (SIDE // side) ** 2 + CLASSES
    return Layout(0, width * (outer + depth * MATRICES * width), width * (3 + depth * VECTORS) + CLASSES)


def _initial(values: Values, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """Linear layers uniform in +-1/sqrt(inputs), positions normal with deviation 0.1, blocks as initial_block says."""
    side, width, depth = values["patch"], values["width"], values["depth"]
    theta = np.zeros(_layout(values).total)
    w_in, positions, inner, out, _, others, gain, _ = views(
        (
            (side * side, width),
            ((SIDE // side) ** 2, width),
            (depth, MATRICES * width * width),
            (width, CLASSES),
            (width,),
            (depth, VECTORS * width),
            (width,),
            (width + CLASSES,),
        ),
        theta,
    )
    for part in (w_in, out):
        part[...] = rng.uniform(-1, 1, part.shape) / np.sqrt(part.shape[0])
    positions[...] = 0.1 * rng.standard_normal(positions.shape)
    for weights, vectors in zip(inner, others, strict=True):
        initial_block(weights, vectors, width, depth, rng)
    gain[...] = 1
    return theta


def build(values: Values) -> Problem:
    """The first values["samples"] training images; validation and test are the same for all."""
    x, labels = datasets.digits()
    side, width, depth, heads, batch = (values[name] for name in ("patch", "width", "depth", "heads", "batch"))
    length = (SIDE // side) ** 2
    n = batch * length
    blocks = depth * kept_size(batch, length, width, heads) + scratch_size(batch, length, width, heads)
    return Problem(
        _layout(values),
        functools.partial(_initial, values),
        reals=x.reshape(-1),
        integers=labels,
        dims=np.array([side, width, depth, heads, batch, TRAINING, TRAINING + VALIDATION, len(x)]),
        samples=values["samples"],
        batch=batch,
        work=n * (side * side + 3 * width + 1) + batch * (width + CLASSES) + blocks,
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "vision",
        "architecture": "transformer",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


DIGITS_VIT = Family(
    name="digits-vit",
    title="small vision transformer on scikit-learn's handwritten digits",
    program=Program("digits_vit", gradient, evaluate),
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes={
        "patch": Axis(2, (2, 4), "pixels of a patch's side"),
        "width": Axis(16, (8, 16, 32), "size of the stream"),
        "depth": Axis(1, (1, 2), "blocks"),
        "heads": Axis(2, (1, 2, 4), "heads of attention"),
        "batch": Axis(16, (8, 16, 32), "images a step"),
        "samples": Axis(1200, (150, 400, 1200), "training images"),
        "steps": Axis(200, (50, 100, 200, 300), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (DIGITS_VIT,)
