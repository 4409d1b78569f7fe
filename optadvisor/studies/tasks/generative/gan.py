"""gan-ring: a generator and a discriminator, both small networks, on a ring of Gaussians in the plane.

Goodfellow et al. 2014, Generative adversarial networks, with the non-saturating loss of the generator (section 3).
Both players take their gradients at the same point and in the same step; noise on what the discriminator sees, true
or generated, damps their circling (Mescheder, Geiger & Nowozin 2018, Which training methods for GANs do actually
converge?, section 3). Measured, 500 steps: Adam with beta1 = 0.5 reaches a third of the distance of beta1 = 0.9, and
with tanh units half of what it does with relu.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies import seeds
from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.generative.ring import REFERENCE, covered, inner_distance, mean_distance, points
from optadvisor.studies.tasks.layers.losses import softplus
from optadvisor.studies.tasks.layers.numbers import fill_normal, mix
from optadvisor.studies.tasks.layers.smooth import logistic
from optadvisor.studies.tasks.layers.stack import (
    stack_backward,
    stack_forward,
    stack_input,
    stack_output,
    stack_to_input,
    stack_weights,
    stack_width,
)
from optadvisor.studies.tasks.layers.start import dense_counts, dense_start

PIECE = 100  # points generated at a time in an evaluation: larger products would start the BLAS's threads
MODES, HEAD = 0, 1  # dims: modes, then the sizes of generator and discriminator
SPREAD, INNER, BLUR, REALS = (
    0,
    1,
    2,
    3,
)  # reals: of a mode, mean distance within the reference; reference, training points


def _networks(dims):
    """Sizes of the generator's layers and of the discriminator's."""
    layers = (dims.size - HEAD) // 2
    return dims[HEAD : HEAD + layers], dims[HEAD + layers :]


def _weights(theta, generator, discriminator):
    """Matrices of generator and discriminator, then their biases."""
    a = stack_weights(generator)
    b = a + stack_weights(discriminator)
    c = b + stack_width(generator) - generator[0]
    return theta[:a], theta[a:b], theta[b:c], theta[c:]


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Each player's gradient of its own loss; returns the sum of both losses.

    Discriminator D: mean of softplus(-D(x)) over real x plus mean of softplus(D(G(z))). Generator G: mean of
    softplus(-D(G(z))). As many z as real points; `blur` times normal noise is added to each x and G(z) that D sees.
    """
    n = rows.size
    generator, discriminator = _networks(dims)
    wg, wd, bg, bd = _weights(theta, generator, discriminator)
    gwg, gwd, gbg, gbd = _weights(grad, generator, discriminator)
    a, b = n * stack_width(generator), 2 * n * stack_width(discriminator)
    made, seen = work[:a], work[a : a + b]
    made_deltas, seen_deltas = work[a + b : a + b + a], work[a + b + a : a + b + a + b]

    fill_normal(key, made[: n * generator[0]])
    stack_forward(generator, wg, bg, n, made, True)
    x, fakes = stack_input(discriminator, 2 * n, seen), stack_output(generator, n, made)
    first = REALS + 2 * REFERENCE
    blur = reals[BLUR]
    fill_normal(mix(key, 1), seen[: 4 * n])
    for i in range(n):  # generated points in front, real ones behind
        at = first + 2 * rows[i]
        for j in range(2):
            x[i, j] = fakes[i, j] + blur * x[i, j]
            x[n + i, j] = reals[at + j] + blur * x[n + i, j]
    stack_forward(discriminator, wd, bd, 2 * n, seen, True)

    d, delta = stack_output(discriminator, 2 * n, seen), stack_output(discriminator, 2 * n, seen_deltas)
    scale, one = theta.dtype.type(1.0 / n), theta.dtype.type(1)
    loss = 0.0
    for i in range(n):
        loss += softplus(d[i, 0]) + softplus(-d[n + i, 0]) + softplus(-d[i, 0])
        delta[i, 0] = scale * logistic(d[i, 0])
        delta[n + i, 0] = scale * (logistic(d[n + i, 0]) - one)
    stack_backward(discriminator, wd, 2 * n, seen, seen_deltas, gwd, gbd, True, False)

    for i in range(n):
        delta[i, 0] = scale * (logistic(d[i, 0]) - one)
    stack_to_input(discriminator, wd, n, 2 * n, seen, seen_deltas, True)
    into, wanted = stack_output(generator, n, made_deltas), stack_input(discriminator, 2 * n, seen_deltas)
    for i in range(n):
        for j in range(2):
            into[i, j] = wanted[i, j]
    stack_backward(generator, wg, n, made, made_deltas, gwg, gbg, True, False)
    return loss / n


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Energy distance of generated points from the reference, coverage of modes, share of points near a mode.

    Energy distance: 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely & Rizzo 2013), of the two samples as they are: never
    negative, and above 0 for a perfect generator by what 400 points leave to chance.
    """
    generator, discriminator = _networks(dims)
    wg, _, bg, _ = _weights(theta, generator, discriminator)
    fakes = work[: 2 * REFERENCE].reshape(REFERENCE, 2)
    made = work[2 * REFERENCE : 2 * REFERENCE + PIECE * stack_width(generator)]
    for first in range(0, REFERENCE, PIECE):
        fill_normal(mix(key, first), made[: PIECE * generator[0]])
        stack_forward(generator, wg, bg, PIECE, made, True)
        fakes[first : first + PIECE] = stack_output(generator, PIECE, made)
    reference = reals[REALS : REALS + 2 * REFERENCE].reshape(REFERENCE, 2)
    scores[0] = 2.0 * mean_distance(fakes, reference) - mean_distance(fakes, fakes) - reals[INNER]
    scores[1], scores[2] = covered(fakes, dims[MODES], reals[SPREAD])


def _sizes(values: Values) -> tuple[list[int], list[int]]:
    hidden = [values["width"]] * values["depth"]
    return [values["latent"], *hidden, 2], [2, *hidden, 1]


def _layout(values: Values) -> Layout:
    counts = [dense_counts(sizes) for sizes in _sizes(values)]
    return Layout(0, sum(weights for weights, _ in counts), sum(biases for _, biases in counts))


def _initial(sizes: tuple[list[int], list[int]], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    generator, discriminator = (dense_start(rng, part) for part in sizes)
    return np.concatenate([generator[0], discriminator[0], generator[1], discriminator[1]])


def build(values: Values) -> Problem:
    modes, spread, samples, batch = (values[name] for name in ("modes", "spread", "samples", "batch"))
    generator, discriminator = _sizes(values)
    data = points(samples, modes, spread, np.random.default_rng(seeds.derive(values["data"], seeds.TASKS)))
    reference = points(REFERENCE, modes, spread, np.random.default_rng(seeds.derive(0, seeds.TASKS)))
    head = np.array([spread, inner_distance(reference), values["blur"]], dtype=np.float32)
    width, seen = sum(generator), sum(discriminator)
    return Problem(
        _layout(values),
        functools.partial(_initial, (generator, discriminator)),
        reals=np.concatenate([head, reference.reshape(-1), data.reshape(-1)]),
        dims=np.array([modes, *generator, *discriminator]),
        samples=samples,
        batch=batch,
        work=max(2 * batch * (width + 2 * seen), 2 * REFERENCE + PIECE * width),
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "generative",
        "architecture": "gan",
        "unstable": True,  # measured: the distance rises in every other fifth of a training, early above the start's
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


GAN_RING = Family(
    name="gan-ring",
    title="Generative adversarial networks on a ring of Gaussians in the plane",
    program=Program("gan_ring", gradient, evaluate),
    metric="energy distance of generated points from true ones",
    scores=("energy_distance", "mode_coverage", "near_a_mode"),
    higher=("mode_coverage", "near_a_mode"),
    held_out=False,
    axes={
        "modes": Axis(8, (2, 4, 8, 16), "Gaussians on the ring"),
        "spread": Axis(0.1, (0.02, 0.05, 0.1), "standard deviation of a mode, on a ring of radius 1"),
        "latent": Axis(4, (2, 4, 16), "dimensions of the generator's noise"),
        "blur": Axis(0.3, (0.0, 0.1, 0.3, 0.5), "standard deviation of the noise on what the discriminator sees"),
        "width": Axis(32, (16, 32, 48), "units of each hidden layer"),
        "depth": Axis(2, (1, 2), "hidden layers of each player"),
        "batch": Axis(64, (16, 32, 64), "real points, and generated ones, a step"),
        "samples": Axis(2000, (100, 500, 2000), "training points"),
        "data": Axis(0, (0, 1, 2), "seed of the training points"),
        "steps": Axis(500, (250, 500, 1000, 2000), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (GAN_RING,)
