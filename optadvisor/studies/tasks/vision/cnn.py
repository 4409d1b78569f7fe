"""digits-cnn and digits-cnn-bn: convolutional nets on scikit-learn's handwritten digits, plain and with batch norm.

3 x 3 convolution (1 to width channels), ReLU, 2 x 2 max pooling; depth - 1 times 3 x 3 convolution (to 2 width
channels) and ReLU at 4 x 4 pixels; 2 x 2 max pooling behind the last of those; one dense layer. Batch norm, where
there is, stands between convolution and ReLU, in place of the convolution's biases.

A net with batch norm is evaluated with the mean and variance over mini-batches of training images, some 256 in all,
under the weights as they are ("precise" statistics: Wu & Johnson 2021, Rethinking "Batch" in BatchNorm, section 3),
not with running averages: the value is then a function of the weights alone, averaged weights included.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
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
    add_bias,
    bias_gradient,
    convolution,
    convolution_inputs,
    convolution_weights,
    gather_images,
)
from optadvisor.studies.tasks.layers.dense import relu, relu_backward
from optadvisor.studies.tasks.layers.losses import correct, softmax_cross_entropy
from optadvisor.studies.tasks.layers.pooling import max_pool, max_pool_backward
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

# dims: batch, ends of the training, validation and test part, whether there is batch norm, mini-batches for its
# statistics, how many these are; where scratch for weights and where images begin in work, and behind the images, for
# one image each: the logits, two gradients, a line of shifted copies. Then a table with a row for every convolution
# and one for the dense layer.
BATCH, END, NORMED, TURNS, STATISTICS, PART, FIXED, LOGITS, UPPER, LOWER, TILE, HEAD = 0, 1, *range(4, 14)
# Its columns: side of the images, channels, filters, side behind the pooling; where weights and biases (or gains and
# shifts) begin in theta, and means in work; where input, convolved, activated and pooled images begin in the buffer,
# for one image each.
COLUMNS = 11
SIDE, CHANNELS, FILTERS, AFTER, WEIGHT, BIAS, NORM, SOURCE, CONVOLVED, ACTIVE, POOLED = range(COLUMNS)


def _table(dims):
    return dims[HEAD:].reshape((dims.size - HEAD) // COLUMNS, COLUMNS)


def _filters(theta, row):
    filters, taps = row[FILTERS], 9 * row[CHANNELS]
    return theta[row[WEIGHT] : row[WEIGHT] + filters * taps].reshape(filters, taps)


def _top_weights(theta, row):
    features, at = row[CHANNELS], row[WEIGHT]
    w = theta[at : at + CLASSES * features].reshape(CLASSES, features)
    return w, theta[row[BIAS] : row[BIAS] + CLASSES]


def _gain_and_shift(theta, row):
    at, filters = row[BIAS], row[FILTERS]
    return theta[at : at + filters], theta[at + filters : at + 2 * filters]


def _mean_and_variance(work, dims, row):
    at, half, filters = row[NORM], dims[STATISTICS] // 2, row[FILTERS]
    return work[at : at + filters], work[half + at : half + at + filters]


def _forward(theta, reals, dims, rows, work, own):
    """Logits of some images, (n, classes); every layer's output is left in work.

    With batch norm the means and variances of all layers are in front of work. own: they become those of these images;
    otherwise they are used as they are.
    """
    n, table, normed = rows.size, _table(dims), dims[NORMED]
    last = table.shape[0] - 1
    buffer = work[dims[FIXED] :]
    tile = buffer[dims[TILE] * n :]
    gather_images(reals.reshape(reals.size // PIXELS, PIXELS), rows, image_view(buffer, 0, n, SIZE, 1))
    for layer in range(last):
        row = table[layer]
        side, filters, after, at = row[SIDE], row[FILTERS], row[AFTER], row[BIAS]
        x = image_view(buffer, row[SOURCE], n, side, row[CHANNELS])
        convolved = image_view(buffer, row[CONVOLVED], n, side, filters)
        active = image_view(buffer, row[ACTIVE], n, side, filters)
        convolution(x, _filters(theta, row), n, tile, convolved)
        if normed:
            gain, shift = _gain_and_shift(theta, row)
            mean, variance = _mean_and_variance(work, dims, row)
            if own:
                batch_statistics(convolved, mean, variance)
            normalise(convolved, mean, variance)
            scale_shift(convolved, gain, shift, active)
        else:
            add_bias(active, theta[at : at + filters])
        relu(flat(active))
        if after < side:
            max_pool(active, n, image_view(buffer, row[POOLED], n, after, filters))
    row = table[last]
    w, b = _top_weights(theta, row)
    x, across, z = top_views(buffer, row[SOURCE], dims[LOGITS], n, row[CHANNELS])
    top(x, w, b, across, z)
    return z


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean cross-entropy on a mini-batch, and its gradient."""
    n, table, normed = rows.size, _table(dims), dims[NORMED]
    last = table.shape[0] - 1
    part, buffer = work[dims[PART] : dims[FIXED]], work[dims[FIXED] :]
    upper, lower, tile = buffer[dims[UPPER] * n :], buffer[dims[LOWER] * n :], buffer[dims[TILE] * n :]
    logits = _forward(theta, reals, dims, rows, work, True)
    loss = softmax_cross_entropy(logits, rows, integers, logits)
    row = table[last]
    w, _ = _top_weights(theta, row)
    gw, gb = _top_weights(grad, row)
    x, across, z = top_views(buffer, row[SOURCE], dims[LOGITS], n, row[CHANNELS])
    top_backward(x, w, z, across, part, gw, gb, lower[: x.size].reshape(x.shape))
    for layer in range(last - 1, -1, -1):
        row = table[layer]
        side, channels, filters, after, at = row[SIDE], row[CHANNELS], row[FILTERS], row[AFTER], row[BIAS]
        active = image_view(buffer, row[ACTIVE], n, side, filters)
        delta, given = image_view(upper, 0, n, side, filters), image_view(lower, 0, n, after, filters)
        if after < side:
            max_pool_backward(active, image_view(buffer, row[POOLED], n, after, filters), given, n, delta)
        else:
            delta[:] = given
        relu_backward(flat(active), flat(delta))
        if normed:
            gain, _ = _gain_and_shift(theta, row)
            ggain, gshift = _gain_and_shift(grad, row)
            _, variance = _mean_and_variance(work, dims, row)
            normal = image_view(buffer, row[CONVOLVED], n, side, filters)
            batch_norm_backward(normal, variance, gain, delta, ggain, gshift)
        else:
            bias_gradient(delta, grad[at : at + filters])
        images = image_view(buffer, row[SOURCE], n, side, channels)
        convolution_weights(images, delta, n, tile, part, _filters(grad, row))
        if layer > 0:
            convolution_inputs(delta, _filters(theta, row), n, tile, part, image_view(lower, 0, n, side, channels))
    return loss


def _precise_statistics(theta, reals, dims, work):
    """Leave in front of work the means and variances over dims[TURNS] mini-batches of training images."""
    count, batch, turns = dims[STATISTICS], dims[BATCH], dims[TURNS]
    sums = work[count : 2 * count]
    sums[:] = 0
    for turn in range(turns):
        _forward(theta, reals, dims, np.arange(turn * batch, (turn + 1) * batch), work, True)
        add_statistics(work[:count], work.dtype.type(1.0 / turns), sums)
    whole_statistics(sums, work[:count])


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Cross-entropy and accuracy on the validation (part 0) or test (part 1) images."""
    batch, begin, end = dims[BATCH], dims[END + part], dims[END + part + 1]
    if dims[NORMED]:
        _precise_statistics(theta, reals, dims, work)
    loss, right = 0.0, 0
    for first in range(begin, end, batch):
        rows = np.arange(first, min(first + batch, end))
        z = _forward(theta, reals, dims, rows, work, False)
        right += correct(z, rows, integers)
        loss += softmax_cross_entropy(z, rows, integers, z) * rows.size
    scores[0], scores[1] = loss / (end - begin), right / (end - begin)


def _shapes(values: Values) -> list[tuple[int, int, int, int]]:
    """Side, channels, filters and side behind the pooling of every convolution."""
    width, depth = values["width"], values["depth"]
    found = [(SIZE, 1, width, SIZE // 2)]
    for layer in range(1, depth):
        after = SIZE // 4 if layer == depth - 1 else SIZE // 2
        found.append((SIZE // 2, width if layer == 1 else 2 * width, 2 * width, after))
    return found


def _features(values: Values) -> int:
    *_, filters, after = _shapes(values)[-1]
    return filters * after * after


def _layout(normed: bool, values: Values) -> Layout:
    shapes = _shapes(values)
    weights = sum(9 * channels * filters for _, channels, filters, _ in shapes) + CLASSES * _features(values)
    return Layout(0, weights, (1 + normed) * sum(filters for _, _, filters, _ in shapes) + CLASSES)


def _initial(normed: bool, values: Values, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    weights, biases = [], []
    for _, channels, filters, _ in _shapes(values):
        weights.append(uniform_start(rng, 9 * channels * filters, 9 * channels))
        if normed:
            biases.append(np.repeat([1.0, 0.0], filters))  # gains, shifts
        else:
            biases.append(uniform_start(rng, filters, 9 * channels))
    features = _features(values)
    weights.append(uniform_start(rng, CLASSES * features, features))
    biases.append(uniform_start(rng, CLASSES, features))
    return np.concatenate(weights + biases)


def _dims(normed: bool, values: Values, ends: Sequence[int]) -> tuple[list[int], int]:
    """dims as the program reads them, and the elements of work that it needs."""
    shapes, layout = _shapes(values), _layout(normed, values)
    table, weight, bias, norm, source, free = [], 0, layout.dense, 0, 0, PIXELS
    for side, channels, filters, after in shapes:
        size = side * side * filters
        active = free + normed * size
        pooled = active + size if after < side else active
        table += [side, channels, filters, after, weight, bias, norm, source, free, active, pooled]
        weight, bias = weight + 9 * channels * filters, bias + (1 + normed) * filters
        norm, source = norm + filters, pooled
        free = pooled + after * after * filters
    table += [0, _features(values), CLASSES, 0, weight, bias, 0, source, 0, 0, 0]
    largest = max(side * side * filters for side, _, filters, _ in shapes)
    line = max(9 * side * max(channels, filters) for side, channels, filters, _ in shapes)
    scratch = max(CLASSES * _features(values), *(9 * channels * filters for _, channels, filters, _ in shapes))
    batch, statistics = values["batch"], 2 * norm if normed else 0
    logits = free
    upper = logits + 2 * CLASSES
    lower = upper + largest
    tile = lower + largest
    part = 2 * statistics
    fixed = part + scratch
    head = [batch, *ends, int(normed), statistics_turns(values), statistics, part, fixed, logits, upper, lower, tile]
    return head + table, fixed + batch * (tile + line)


def problem(
    normed: bool, values: Values, x: NDArray[np.float32], labels: NDArray[np.int64], ends: Sequence[int]
) -> Problem:
    """A net on images of 8 x 8 pixels, x (n * 64,), of 10 classes. ends: of the training, validation and test part.

    The first values["samples"] images are trained on; validation and test are the same for all.
    """
    dims, work = _dims(normed, values, ends)
    return Problem(
        _layout(normed, values),
        functools.partial(_initial, normed, values),
        reals=x,
        integers=labels,
        dims=np.array(dims),
        samples=values["samples"],
        batch=values["batch"],
        work=work,
    )


def _digits(normed: bool, values: Values) -> Problem:
    x, labels = labelled_digits(values["wrong"])
    return problem(normed, values, x, labels, PARTS)


def profile(normed: bool, values: Values) -> dict[str, Any]:
    return {
        "domain": "vision",
        "architecture": "cnn",
        "parameters": _layout(normed, values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


PROGRAM = Program("cnn", gradient, evaluate)


def _family(name: str, title: str, normed: bool) -> Family:
    return Family(
        name=name,
        title=title,
        program=PROGRAM,
        metric="validation cross-entropy",
        scores=("loss", "accuracy"),
        higher=("accuracy",),
        axes={
            "width": Axis(8, (4, 8, 12), "filters of the first convolution; the others have twice as many"),
            "depth": Axis(2, (1, 2, 3), "convolutions"),
            "batch": Axis(32, (8, 16, 32, 64), "images a step"),
            "samples": Axis(TRAINING, (150, 400, TRAINING), "training images"),
            "wrong": Axis(0.0, (0.0, 0.1, 0.3), "share of the training labels that are wrong"),
            "steps": Axis(250, (100, 250, 400), "updates"),
        },
        build=functools.partial(_digits, normed),
        profile=functools.partial(profile, normed),
    )


DIGITS_CNN = _family("digits-cnn", "Convolutional net on scikit-learn's handwritten digits", False)
DIGITS_CNN_BN = _family("digits-cnn-bn", "Convolutional net with batch norm on scikit-learn's handwritten digits", True)
FAMILIES = (DIGITS_CNN, DIGITS_CNN_BN)
