"""digits-vae: a variational autoencoder on scikit-learn's handwritten digits.

Kingma & Welling 2014, Auto-encoding variational Bayes: encoder q(z|x) = N(mean, exp(log_variance)), prior N(0, I),
decoder with one Bernoulli a pixel (a grey level counts as a probability), one sample of z an image. The loss is the
negative ELBO in nats an image (its equation 10 with L = 1), the prior's part times `beta` (Higgins et al. 2017).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks import datasets
from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.layers.dense import gather
from optadvisor.studies.tasks.layers.losses import bernoulli_loss
from optadvisor.studies.tasks.layers.numbers import fill_normal, mix
from optadvisor.studies.tasks.layers.smooth import exponential
from optadvisor.studies.tasks.layers.stack import (
    stack_backward,
    stack_forward,
    stack_input,
    stack_output,
    stack_weights,
    stack_width,
)
from optadvisor.studies.tasks.layers.start import dense_counts, dense_start

INPUTS = 64
TRAINING, VALIDATION = 1200, 297  # the 300 that are left are the test part, which no study looks at
HEAD = 4  # dims: batch, ends of training, validation and test part; then the sizes of encoder and decoder
BETA, IMAGES = 0, 1  # reals


def reparametrise(code, noise, beta, z):
    """z = mean + exp(log_variance / 2) * noise, for code = (mean | log_variance), (n, 2k).

    Returns beta * the mean over the rows of KL(N(mean, variance) || N(0, I)), in float64.
    """
    n, k = z.shape
    total = 0.0
    half = z.dtype.type(0.5)
    for i in range(n):
        for j in range(k):
            mean, log_variance = code[i, j], code[i, k + j]
            deviation = exponential(half * log_variance)
            z[i, j] = mean + deviation * noise[i, j]
            total += half * (mean * mean + deviation * deviation - z.dtype.type(1) - log_variance)
    return beta * total / n


def reparametrise_backward(code, noise, beta, dz, delta):
    """The gradient of code, in delta, of what reparametrise returns and of a loss with gradient dz of z."""
    n, k = dz.shape
    half = dz.dtype.type(0.5)
    scale = dz.dtype.type(beta / n)
    for i in range(n):
        for j in range(k):
            deviation = exponential(half * code[i, k + j])
            delta[i, j] = dz[i, j] + scale * code[i, j]
            delta[i, k + j] = half * (dz[i, j] * noise[i, j] * deviation) + half * scale * (
                deviation * deviation - dz.dtype.type(1)
            )


def _networks(dims):
    """Sizes of the encoder's layers and of the decoder's."""
    layers = (dims.size - HEAD) // 2
    return dims[HEAD : HEAD + layers], dims[HEAD + layers :]


def _weights(theta, encoder, decoder):
    """Matrices of encoder and decoder, then their biases."""
    a = stack_weights(encoder)
    b = a + stack_weights(decoder)
    c = b + stack_width(encoder) - encoder[0]
    return theta[:a], theta[a:b], theta[b:c], theta[c:]


def _forward(theta, encoder, decoder, images, rows, beta, key, work):
    """The negative ELBO of some images; leaves activations, noise and the gradient of the logits in work."""
    n = rows.size
    we, wd, be, bd = _weights(theta, encoder, decoder)
    code, seen, noise, _, seen_deltas = _buffers(work, n, encoder, decoder)
    gather(images, rows, stack_input(encoder, n, code))
    stack_forward(encoder, we, be, n, code, False)
    fill_normal(key, noise)
    k = decoder[0]
    prior = reparametrise(stack_output(encoder, n, code), noise.reshape(n, k), beta, stack_input(decoder, n, seen))
    stack_forward(decoder, wd, bd, n, seen, False)
    logits, delta = stack_output(decoder, n, seen), stack_output(decoder, n, seen_deltas)
    reconstruction = bernoulli_loss(logits, stack_input(encoder, n, code), delta)
    return prior, reconstruction


def _buffers(work, n, encoder, decoder):
    """Activations of encoder and decoder, noise, and the gradients of the activations."""
    a = n * stack_width(encoder)
    b = a + n * stack_width(decoder)
    c = b + n * decoder[0]
    d = c + a
    return work[:a], work[a:b], work[b:c], work[c:d], work[d : d + b - a]


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Negative ELBO of a mini-batch, and its gradient."""
    n = rows.size
    encoder, decoder = _networks(dims)
    images = reals[IMAGES:].reshape((reals.size - IMAGES) // INPUTS, INPUTS)
    prior, reconstruction = _forward(theta, encoder, decoder, images, rows, reals[BETA], key, work)
    we, wd, _, _ = _weights(theta, encoder, decoder)
    gwe, gwd, gbe, gbd = _weights(grad, encoder, decoder)
    code, seen, noise, code_deltas, seen_deltas = _buffers(work, n, encoder, decoder)
    stack_backward(decoder, wd, n, seen, seen_deltas, gwd, gbd, False, True)
    reparametrise_backward(
        stack_output(encoder, n, code),
        noise.reshape(n, decoder[0]),
        reals[BETA],
        stack_input(decoder, n, seen_deltas),
        stack_output(encoder, n, code_deltas),
    )
    stack_backward(encoder, we, n, code, code_deltas, gwe, gbe, False, False)
    return prior + reconstruction


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Negative ELBO, and its part from the reconstruction, on the validation (part 0) or test (part 1) images."""
    batch, begin, end = dims[0], dims[1 + part], dims[2 + part]
    encoder, decoder = _networks(dims)
    images = reals[IMAGES:].reshape((reals.size - IMAGES) // INPUTS, INPUTS)
    total, pixels = 0.0, 0.0
    for first in range(begin, end, batch):
        rows = np.arange(first, min(first + batch, end))
        prior, found = _forward(theta, encoder, decoder, images, rows, reals[BETA], mix(key, first), work)
        total += (prior + found) * rows.size
        pixels += found * rows.size
    scores[0], scores[1] = total / (end - begin), pixels / (end - begin)


def _sizes(values: Values) -> tuple[list[int], list[int]]:
    hidden = [values["width"]] * values["depth"]
    return [INPUTS, *hidden, 2 * values["latent"]], [values["latent"], *hidden, INPUTS]


def _layout(values: Values) -> Layout:
    counts = [dense_counts(sizes) for sizes in _sizes(values)]
    return Layout(0, sum(weights for weights, _ in counts), sum(biases for _, biases in counts))


def _initial(sizes: tuple[list[int], list[int]], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    encoder, decoder = (dense_start(rng, part) for part in sizes)
    return np.concatenate([encoder[0], decoder[0], encoder[1], decoder[1]])


def build(values: Values) -> Problem:
    """The first values["samples"] training images; validation and test are the same for all."""
    x, _ = datasets.digits()
    encoder, decoder = _sizes(values)
    batch = values["batch"]
    return Problem(
        _layout(values),
        functools.partial(_initial, (encoder, decoder)),
        reals=np.concatenate([[values["beta"]], x.reshape(-1)]).astype(np.float32),
        dims=np.array([batch, TRAINING, TRAINING + VALIDATION, len(x), *encoder, *decoder]),
        samples=values["samples"],
        batch=batch,
        work=batch * (2 * sum(encoder) + 2 * sum(decoder) + values["latent"]),
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "generative",
        "architecture": "mlp",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


DIGITS_VAE = Family(
    name="digits-vae",
    title="Variational autoencoder on scikit-learn's handwritten digits",
    program=Program("digits_vae", gradient, evaluate),
    metric="validation negative ELBO, nats an image",
    scores=("negative_elbo", "reconstruction"),
    axes={
        "width": Axis(64, (16, 32, 64), "units of each hidden layer"),
        "depth": Axis(1, (1, 2), "hidden layers of encoder and of decoder"),
        "latent": Axis(8, (2, 8, 16), "dimensions of the code"),
        "beta": Axis(1.0, (0.25, 1.0, 4.0), "weight of the prior's part"),
        "batch": Axis(32, (16, 32, 64), "images a step"),
        "samples": Axis(1200, (150, 400, 1200), "training images"),
        "steps": Axis(500, (100, 250, 500, 1000), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (DIGITS_VAE,)
