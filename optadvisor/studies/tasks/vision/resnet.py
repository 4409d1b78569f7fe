"""digits-resnet: a residual net with batch norm on scikit-learn's handwritten digits.

He et al. 2016, Identity mappings in deep residual networks (figure 1b: normalise, ReLU, convolve, twice a block, and
nothing on the way past). 3 x 3 convolution (1 to width channels), 2 x 2 max pooling, `depth` such blocks of width
channels at 4 x 4 pixels, batch norm, ReLU, the mean over the pixels, one dense layer. Convolutions have no biases.

Evaluated with the means and variances over some 256 training images, as digits-cnn-bn (cnn.py).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.layers.batch_norm import (
    add_statistics,
    batch_norm_backward,
    batch_statistics,
    normalise,
    scale_shift,
    whole_statistics,
)
from optadvisor.studies.tasks.layers.convolution import (
    convolution,
    convolution_inputs,
    convolution_weights,
    gather_images,
)
from optadvisor.studies.tasks.layers.dense import relu, relu_backward
from optadvisor.studies.tasks.layers.losses import correct, softmax_cross_entropy
from optadvisor.studies.tasks.layers.pooling import max_pool, max_pool_backward, mean_pool, mean_pool_backward
from optadvisor.studies.tasks.vision.images import (
    CLASSES,
    PARTS,
    PIXELS,
    SIZE,
    TRAINING,
    flat,
    image_view,
    labelled_digits,
    statistics_turns,
    top,
    top_backward,
    top_views,
    uniform_start,
)

HALF = SIZE // 2
INNER = HALF * HALF  # pixels of the blocks' images
# dims: batch, ends of the training, validation and test part, mini-batches for the statistics, width, depth
BATCH, END, TURNS, WIDTH, DEPTH = 0, 1, 4, 5, 6


def _places(width, depth):
    """Where things begin in the buffer, in elements an image (the images are in front), and how many there are."""
    stem = PIXELS
    trunk = stem + PIXELS * width
    branch = trunk + INNER * width  # what a block adds; in the backward pass the gradient of that
    normal = branch + INNER * width  # the normalised images of every batch norm, then the activated ones
    active = normal + (2 * depth + 1) * INNER * width
    features = active + (2 * depth + 1) * INNER * width
    logits = features + width
    delta = logits + 2 * CLASSES  # the gradient of the stem
    tile = delta + PIXELS * width
    return stem, trunk, branch, normal, active, features, logits, delta, tile, tile + 9 * max(HALF * width, SIZE)


def _front(width, depth):
    """Elements in front of the buffer: means and variances, their sums, scratch for weights."""
    statistics = 2 * (2 * depth + 1) * width
    return statistics, 2 * statistics, 2 * statistics + max(9 * width, CLASSES) * width


def _weights(theta, width, depth):
    """The stem's (width, 9), the blocks' (2 depth, width, 9 width), the top's (classes, width); gains and shifts
    (2 depth + 1, 2, width), the top's biases."""
    stem = 9 * width
    blocks = stem + 2 * depth * 9 * width * width
    head = blocks + CLASSES * width
    norms = head + (2 * depth + 1) * 2 * width
    return (
        theta[:stem].reshape(width, 9),
        theta[stem:blocks].reshape(2 * depth, width, 9 * width),
        theta[blocks:head].reshape(CLASSES, width),
        theta[head:norms].reshape(2 * depth + 1, 2, width),
        theta[norms:],
    )


def _norm_views(buffer, n, width, depth, i):
    """The normalised and the activated images of batch norm i."""
    _, _, _, normal, active, _, _, _, _, _ = _places(width, depth)
    at = i * INNER * width
    return image_view(buffer, normal + at, n, HALF, width), image_view(buffer, active + at, n, HALF, width)


def _mean_and_variance(work, width, depth, i):
    half = (2 * depth + 1) * width
    return work[i * width : (i + 1) * width], work[half + i * width : half + (i + 1) * width]


def _activate(work, buffer, norms, n, width, depth, i, own):
    """active = relu(batch norm of what is in the normalised images' place)"""
    normal, active = _norm_views(buffer, n, width, depth, i)
    mean, variance = _mean_and_variance(work, width, depth, i)
    if own:
        batch_statistics(normal, mean, variance)
    normalise(normal, mean, variance)
    scale_shift(normal, norms[i, 0], norms[i, 1], active)
    relu(flat(active))


def _activate_backward(work, buffer, norms, gnorms, n, width, depth, i, delta):
    """delta, the gradient of the activated images, becomes that of what was normalised."""
    normal, active = _norm_views(buffer, n, width, depth, i)
    _, variance = _mean_and_variance(work, width, depth, i)
    relu_backward(flat(active), flat(delta))
    batch_norm_backward(normal, variance, norms[i, 0], delta, gnorms[i, 0], gnorms[i, 1])


def _copy(x, out):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j]


def _add(x, out):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] += x[i, j]


def _forward(theta, reals, dims, rows, work, own):
    """Logits of some images, (n, classes). own: normalise with these images' means and variances, which are left in
    front of work; otherwise with those that are there."""
    n, width, depth = rows.size, dims[WIDTH], dims[DEPTH]
    stem_at, trunk_at, branch_at, _, _, features_at, logits_at, _, tile_at, _ = _places(width, depth)
    buffer = work[_front(width, depth)[2] :]
    tile = buffer[tile_at * n :]
    stem, blocks, head, norms, biases = _weights(theta, width, depth)
    images = image_view(buffer, 0, n, SIZE, 1)
    wide = image_view(buffer, stem_at, n, SIZE, width)
    trunk, branch = image_view(buffer, trunk_at, n, HALF, width), image_view(buffer, branch_at, n, HALF, width)
    gather_images(reals.reshape(reals.size // PIXELS, PIXELS), rows, images)
    convolution(images, stem, n, tile, wide)
    max_pool(wide, n, trunk)
    for i in range(0, 2 * depth, 2):
        first, first_active = _norm_views(buffer, n, width, depth, i)
        second, second_active = _norm_views(buffer, n, width, depth, i + 1)
        _copy(flat(trunk), flat(first))
        _activate(work, buffer, norms, n, width, depth, i, own)
        convolution(first_active, blocks[i], n, tile, second)
        _activate(work, buffer, norms, n, width, depth, i + 1, own)
        convolution(second_active, blocks[i + 1], n, tile, branch)
        _add(flat(branch), flat(trunk))
    final, active = _norm_views(buffer, n, width, depth, 2 * depth)
    _copy(flat(trunk), flat(final))
    _activate(work, buffer, norms, n, width, depth, 2 * depth, own)
    features, across, z = top_views(buffer, features_at, logits_at, n, width)
    mean_pool(active, n, features)
    top(features, head, biases, across, z)
    return z


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean cross-entropy on a mini-batch, and its gradient."""
    n, width, depth = rows.size, dims[WIDTH], dims[DEPTH]
    stem_at, trunk_at, branch_at, _, _, features_at, logits_at, delta_at, tile_at, _ = _places(width, depth)
    _, part_at, buffer_at = _front(width, depth)
    part, buffer = work[part_at:buffer_at], work[buffer_at:]
    tile = buffer[tile_at * n :]
    logits = _forward(theta, reals, dims, rows, work, True)
    loss = softmax_cross_entropy(logits, rows, integers, logits)
    _, blocks, head, norms, _ = _weights(theta, width, depth)
    gstem, gblocks, ghead, gnorms, gbiases = _weights(grad, width, depth)
    # The trunk's gradient runs back in delta; the trunk's own images are not needed any more: what they came from is.
    delta, branch = image_view(buffer, trunk_at, n, HALF, width), image_view(buffer, branch_at, n, HALF, width)
    wide = image_view(buffer, delta_at, n, SIZE, width)
    features, across, z = top_views(buffer, features_at, logits_at, n, width)
    below = buffer[delta_at * n : (delta_at + width) * n].reshape(width, n)
    top_backward(features, head, z, across, part, ghead, gbiases, below)
    mean_pool_backward(below, n, delta)
    _activate_backward(work, buffer, norms, gnorms, n, width, depth, 2 * depth, delta)
    between = image_view(buffer, delta_at, n, HALF, width)
    for i in range(2 * depth - 2, -1, -2):
        _, first_active = _norm_views(buffer, n, width, depth, i)
        _, second_active = _norm_views(buffer, n, width, depth, i + 1)
        convolution_weights(second_active, delta, n, tile, part, gblocks[i + 1])
        convolution_inputs(delta, blocks[i + 1], n, tile, part, branch)
        _activate_backward(work, buffer, norms, gnorms, n, width, depth, i + 1, branch)
        convolution_weights(first_active, branch, n, tile, part, gblocks[i])
        convolution_inputs(branch, blocks[i], n, tile, part, between)
        _activate_backward(work, buffer, norms, gnorms, n, width, depth, i, between)
        _add(flat(between), flat(delta))
    stem = image_view(buffer, stem_at, n, SIZE, width)
    max_pool(stem, n, branch)
    max_pool_backward(stem, branch, delta, n, wide)
    convolution_weights(image_view(buffer, 0, n, SIZE, 1), wide, n, tile, part, gstem)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Cross-entropy and accuracy on the validation (part 0) or test (part 1) images."""
    batch, begin, end, turns = dims[BATCH], dims[END + part], dims[END + part + 1], dims[TURNS]
    count, part_at, _ = _front(dims[WIDTH], dims[DEPTH])
    statistics, sums = work[:count], work[count:part_at]
    sums[:] = 0
    for turn in range(turns):
        _forward(theta, reals, dims, np.arange(turn * batch, (turn + 1) * batch), work, True)
        add_statistics(statistics, work.dtype.type(1.0 / turns), sums)
    whole_statistics(sums, statistics)
    loss, right = 0.0, 0
    for first in range(begin, end, batch):
        rows = np.arange(first, min(first + batch, end))
        z = _forward(theta, reals, dims, rows, work, False)
        right += correct(z, rows, integers)
        loss += softmax_cross_entropy(z, rows, integers, z) * rows.size
    scores[0], scores[1] = loss / (end - begin), right / (end - begin)


def _layout(values: Values) -> Layout:
    width, depth = values["width"], values["depth"]
    weights = 9 * width + 2 * depth * 9 * width * width + CLASSES * width
    return Layout(0, weights, (2 * depth + 1) * 2 * width + CLASSES)


def _initial(values: Values, layout: Layout, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    width, depth = values["width"], values["depth"]
    theta = np.empty(layout.total)
    stem, blocks, head, norms, biases = _weights(theta, width, depth)
    for part, inputs in ((stem, 9), (blocks, 9 * width), (head, width), (biases, width)):
        part[...] = uniform_start(rng, part.size, inputs).reshape(part.shape)
    norms[:, 0], norms[:, 1] = 1, 0
    return theta


def build(values: Values) -> Problem:
    """The first values["samples"] training images; validation and test are the same for all."""
    x, labels = labelled_digits(values["wrong"])
    width, depth, batch, layout = values["width"], values["depth"], values["batch"], _layout(values)
    return Problem(
        layout,
        functools.partial(_initial, values, layout),
        reals=x,
        integers=labels,
        dims=np.array([batch, *PARTS, statistics_turns(values), width, depth]),
        samples=values["samples"],
        batch=batch,
        work=_front(width, depth)[-1] + batch * _places(width, depth)[-1],
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "vision",
        "architecture": "resnet",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


DIGITS_RESNET = Family(
    name="digits-resnet",
    title="Residual net with batch norm on scikit-learn's handwritten digits",
    program=Program("digits_resnet", gradient, evaluate),
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes={
        "width": Axis(8, (4, 8, 12), "channels"),
        "depth": Axis(2, (1, 2, 3), "residual blocks of two convolutions"),
        "batch": Axis(16, (8, 16, 32), "images a step"),
        "samples": Axis(TRAINING, (150, 400, TRAINING), "training images"),
        "wrong": Axis(0.0, (0.0, 0.1, 0.3), "share of the training labels that are wrong"),
        "steps": Axis(200, (100, 200, 400), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (DIGITS_RESNET,)
