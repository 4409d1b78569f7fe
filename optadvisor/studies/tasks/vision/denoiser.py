"""photo-denoiser: a convolutional net that takes Gaussian noise off patches of scikit-learn's photographs.

Zhang et al. 2017, Beyond a Gaussian denoiser: the net predicts the noise of the noisy image (section III-B), which is
then subtracted. 3 x 3 convolutions, `depth` of them, ReLU between; without the paper's batch norm, at 8 x 8 pixels.
The noise is drawn anew at every step.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.layers.convolution import (
    add_bias,
    bias_gradient,
    convolution,
    convolution_inputs,
    convolution_weights,
    gather_images,
)
from optadvisor.studies.tasks.layers.dense import relu, relu_backward
from optadvisor.studies.tasks.layers.losses import squared_error
from optadvisor.studies.tasks.layers.numbers import fill_normal, mix
from optadvisor.studies.tasks.vision.images import PIXELS, SIZE, flat, image_view, uniform_start
from optadvisor.studies.tasks.vision.photos import ENDS, TRAINING, patches

BATCH, END, WIDTH, DEPTH = 0, 1, 4, 5  # dims: batch, ends of the training, validation and test part, width, depth
DEVIATION, IMAGES = 0, 1  # reals: of the noise; then the patches


def _channels(width, depth, layer):
    """Channels and filters of a convolution."""
    return 1 if layer == 0 else width, 1 if layer == depth - 1 else width


def _weights(theta, width, depth, layer):
    """Weights (filters, 9 channels) and biases of a convolution."""
    channels, filters = _channels(width, depth, layer)
    first = 0 if layer == 0 else 9 * width + (layer - 1) * 9 * width * width
    biases = 2 * 9 * width + (depth - 2) * 9 * width * width + layer * width
    return (
        theta[first : first + 9 * channels * filters].reshape(filters, 9 * channels),
        theta[biases : biases + filters],
    )


def _output(buffer, n, width, depth, layer):
    """The images behind convolution `layer`; the noisy ones for -1."""
    at = 0 if layer < 0 else (1 + layer * width) * PIXELS
    return image_view(buffer, at, n, SIZE, 1 if layer < 0 or layer == depth - 1 else width)


def _places(width, depth):
    """Behind the images of all layers, for one image each: noise, two gradients, a line of shifted copies."""
    noise = (2 + (depth - 1) * width) * PIXELS
    upper = noise + PIXELS
    lower = upper + width * PIXELS
    tile = lower + width * PIXELS
    return noise, upper, lower, tile, tile + 9 * SIZE * width


def _forward(theta, reals, dims, rows, key, work):
    """Loss of some patches with noise from this key; leaves in the buffer every layer's output, and upper = the
    gradient of the last one."""
    n, width, depth = rows.size, dims[WIDTH], dims[DEPTH]
    noise_at, upper_at, _, tile_at, _ = _places(width, depth)
    buffer = work[9 * width * width :]
    noise, tile = buffer[noise_at * n : upper_at * n], buffer[tile_at * n :]
    images = _output(buffer, n, width, depth, -1)
    gather_images(reals[IMAGES:].reshape((reals.size - IMAGES) // PIXELS, PIXELS), rows, images)
    fill_normal(key, noise)
    noisy = images.reshape(noise.size)
    for i in range(noise.size):
        noise[i] *= reals[DEVIATION]
        noisy[i] += noise[i]
    for layer in range(depth):
        w, b = _weights(theta, width, depth, layer)
        out = _output(buffer, n, width, depth, layer)
        convolution(_output(buffer, n, width, depth, layer - 1), w, n, tile, out)
        add_bias(out, b)
        if layer < depth - 1:
            relu(flat(out))
    delta = image_view(buffer, upper_at, n, SIZE, 1)
    return squared_error(flat(_output(buffer, n, width, depth, depth - 1)), noise.reshape(SIZE, SIZE * n), flat(delta))


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean squared error of the noise predicted for a mini-batch, and its gradient."""
    n, width, depth = rows.size, dims[WIDTH], dims[DEPTH]
    loss = _forward(theta, reals, dims, rows, key, work)
    _, upper_at, lower_at, tile_at, _ = _places(width, depth)
    part, buffer = work[: 9 * width * width], work[9 * width * width :]
    tile = buffer[tile_at * n :]
    given, free = upper_at, lower_at
    for layer in range(depth - 1, -1, -1):
        channels, filters = _channels(width, depth, layer)
        w, _ = _weights(theta, width, depth, layer)
        gw, gb = _weights(grad, width, depth, layer)
        delta = image_view(buffer, given, n, SIZE, filters)
        if layer < depth - 1:
            relu_backward(flat(_output(buffer, n, width, depth, layer)), flat(delta))
        bias_gradient(delta, gb)
        convolution_weights(_output(buffer, n, width, depth, layer - 1), delta, n, tile, part, gw)
        if layer > 0:
            convolution_inputs(delta, w, n, tile, part, image_view(buffer, free, n, SIZE, channels))
        given, free = free, given
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Mean squared error of the cleaned validation (part 0) or test (part 1) patches, the same noise each time; and
    the peak signal-to-noise ratio, -10 log10 of it, in dB."""
    batch, begin, end = dims[BATCH], dims[END + part], dims[END + part + 1]
    total = 0.0
    for first in range(begin, end, batch):
        rows = np.arange(first, min(first + batch, end))
        total += _forward(theta, reals, dims, rows, mix(key, first), work) * rows.size
    scores[0] = total / (end - begin)
    scores[1] = -10.0 * math.log10(scores[0])


def _layout(values: Values) -> Layout:
    width, depth = values["width"], values["depth"]
    return Layout(0, 18 * width + (depth - 2) * 9 * width * width, (depth - 1) * width + 1)


def _initial(values: Values, layout: Layout, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    width, depth = values["width"], values["depth"]
    theta = np.empty(layout.total)
    for layer in range(depth):
        inputs = 9 * _channels(width, depth, layer)[0]
        for part in _weights(theta, width, depth, layer):
            part[...] = uniform_start(rng, part.size, inputs).reshape(part.shape)
    return theta


def build(values: Values) -> Problem:
    """The first values["samples"] training patches, pixels from -0.5 to 0.5; validation and test are the same for all."""
    x, _, _ = patches()
    width, depth, batch, layout = values["width"], values["depth"], values["batch"], _layout(values)
    return Problem(
        layout,
        functools.partial(_initial, values, layout),
        reals=np.concatenate([[values["noise"]], x.reshape(-1) - 0.5]).astype(np.float32),
        dims=np.array([batch, *ENDS, width, depth]),
        samples=values["samples"],
        batch=batch,
        work=9 * width * width + batch * _places(width, depth)[-1],
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "vision",
        "architecture": "cnn",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


PHOTO_DENOISER = Family(
    name="photo-denoiser",
    title="Convolutional denoiser of patches of scikit-learn's photographs",
    program=Program("photo_denoiser", gradient, evaluate),
    metric="validation squared error of a pixel",
    scores=("squared_error", "psnr"),
    higher=("psnr",),
    axes={
        "width": Axis(8, (4, 8, 12), "filters of each convolution but the last"),
        "depth": Axis(3, (2, 3, 4), "convolutions"),
        "noise": Axis(0.1, (0.05, 0.1, 0.2), "standard deviation of the noise, pixels being from 0 to 1"),
        "batch": Axis(16, (4, 8, 16, 32), "patches a step"),
        "samples": Axis(TRAINING, (100, 500, TRAINING), "training patches"),
        "steps": Axis(200, (100, 200, 400), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (PHOTO_DENOISER,)
