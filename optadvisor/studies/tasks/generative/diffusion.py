"""diffusion-ring: a small network that takes noise away from points of a ring of Gaussians in the plane.

Ho, Jain & Abbeel 2020, Denoising diffusion probabilistic models, algorithm 1: x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e for
a random level t, and the network predicts e from x_t and t; the loss is the mean squared error an element (their simple
loss). a_t: the cosine schedule of Nichol & Dhariwal 2021, Improved DDPM, equation 17.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies import seeds
from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.generative.ring import REFERENCE, covered, inner_distance, mean_distance, points
from optadvisor.studies.tasks.layers.losses import squared_error
from optadvisor.studies.tasks.layers.numbers import below, fill_normal, mix
from optadvisor.studies.tasks.layers.stack import (
    stack_backward,
    stack_forward,
    stack_input,
    stack_output,
    stack_weights,
    stack_width,
)
from optadvisor.studies.tasks.layers.start import dense_counts, dense_start

FEATURES = 8  # of a level: sine and cosine of 1, 2, 4 and 8 half turns over all levels
PIECE = 50  # points at a time in an evaluation: larger products would start the BLAS's threads
DRAWS = 4  # of noise for each held-out point, at as many levels
GENERATED, TURNS = 200, 16  # points drawn for the scores, and in how many steps

MODES, LEVELS, HEAD = 0, 1, 2  # dims: modes, levels of noise, then the sizes of the layers
# reals: spread of a mode, mean distance within the validation and within the test points; a row of (sqrt(a_t),
# sqrt(1 - a_t), features) for t = 0 to `levels`; validation, test, training points.
SPREAD, INNER, TABLE = 0, 1, 3
ROW = 2 + FEATURES


def _weights(theta, sizes):
    """Matrices, biases."""
    cut = stack_weights(sizes)
    return theta[:cut], theta[cut:]


def _level_features(x, i, table, t):
    for j in range(FEATURES):
        x[i, 2 + j] = table[t, 2 + j]


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean squared error of the noise predicted for a mini-batch, each point at a level of its own; its gradient."""
    n, levels, sizes = rows.size, dims[LEVELS], dims[HEAD:]
    w, b = _weights(theta, sizes)
    gw, gb = _weights(grad, sizes)
    table = reals[TABLE : TABLE + (levels + 1) * ROW].reshape(levels + 1, ROW)
    size = n * stack_width(sizes)
    seen, deltas, noise = work[:size], work[size : 2 * size], work[2 * size : 2 * size + 2 * n]
    fill_normal(mix(key, 0), noise)
    first, draw = TABLE + (levels + 1) * ROW + 4 * REFERENCE, mix(key, 1)
    x = stack_input(sizes, n, seen)
    for i in range(n):
        t = 1 + below(draw, i, levels)
        at = first + 2 * rows[i]
        for j in range(2):
            x[i, j] = table[t, 0] * reals[at + j] + table[t, 1] * noise[2 * i + j]
        _level_features(x, i, table, t)
    stack_forward(sizes, w, b, n, seen, False)
    loss = squared_error(stack_output(sizes, n, seen), noise.reshape(n, 2), stack_output(sizes, n, deltas))
    stack_backward(sizes, w, n, seen, deltas, gw, gb, False, False)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Error of the noise predicted on the validation (part 0) or test (part 1) points, the levels equally often; how
    near generated points are to them: energy distance (gan-ring has its formula), coverage of modes, near a mode."""
    levels, sizes = dims[LEVELS], dims[HEAD:]
    w, b = _weights(theta, sizes)
    table = reals[TABLE : TABLE + (levels + 1) * ROW].reshape(levels + 1, ROW)
    first = TABLE + (levels + 1) * ROW + 2 * REFERENCE * part
    held = reals[first : first + 2 * REFERENCE].reshape(REFERENCE, 2)
    size = PIECE * stack_width(sizes)
    seen, noise = work[:size], work[size : size + 2 * PIECE]
    made = work[size + 2 * PIECE : size + 2 * PIECE + 2 * GENERATED].reshape(GENERATED, 2)
    x, found = stack_input(sizes, PIECE, seen), stack_output(sizes, PIECE, seen)
    loss = 0.0
    for start in range(0, DRAWS * REFERENCE, PIECE):
        fill_normal(mix(key, start), noise)
        for i in range(PIECE):
            t, at = 1 + (start + i) * levels // (DRAWS * REFERENCE), (start + i) % REFERENCE
            for j in range(2):
                x[i, j] = table[t, 0] * held[at, j] + table[t, 1] * noise[2 * i + j]
            _level_features(x, i, table, t)
        stack_forward(sizes, w, b, PIECE, seen, False)
        loss += squared_error(found, noise.reshape(PIECE, 2), found) * PIECE / (DRAWS * REFERENCE)
    scores[0] = loss

    for start in range(0, GENERATED, PIECE):
        fill_normal(mix(key, -1 - start), noise)
        for i in range(PIECE):
            for j in range(2):
                x[i, j] = noise[2 * i + j]
        _generate(sizes, w, b, table, levels, x, found, seen)
        for i in range(PIECE):
            for j in range(2):
                made[start + i, j] = x[i, j]
    scores[1] = 2.0 * mean_distance(made, held) - mean_distance(made, made) - reals[INNER + part]
    scores[2], scores[3] = covered(made, dims[MODES], reals[SPREAD])


def _generate(sizes, w, b, table, levels, x, found, seen):
    """From noise in x to points in x: Song, Meng & Ermon 2021, Denoising diffusion implicit models, equation 12 with
    sigma = 0. The point that the network sees behind the noise is kept within what points of the ring can be."""
    limit = x.dtype.type(2)
    for turn in range(TURNS):
        t, after = levels * (TURNS - turn) // TURNS, levels * (TURNS - turn - 1) // TURNS
        for i in range(x.shape[0]):
            _level_features(x, i, table, t)
        stack_forward(sizes, w, b, x.shape[0], seen, False)
        for i in range(x.shape[0]):
            for j in range(2):
                clean = (x[i, j] - table[t, 1] * found[i, j]) / table[t, 0]
                clean = min(max(clean, -limit), limit)
                noise = (x[i, j] - table[t, 0] * clean) / table[t, 1]
                x[i, j] = table[after, 0] * clean + table[after, 1] * noise


def _table(levels: int) -> NDArray[np.float64]:
    """For t = 0 to levels: sqrt(a_t), sqrt(1 - a_t), features of the level."""
    t = np.arange(levels + 1) / levels
    shift = 0.008
    a = (np.cos((t + shift) / (1 + shift) * math.pi / 2) / np.cos(shift / (1 + shift) * math.pi / 2)) ** 2
    a = a.clip(1e-3, 1 - 1e-6)  # at a = 0 the point behind the noise could not be told
    turns = math.pi * t[:, None] * 2.0 ** np.arange(FEATURES // 2)
    return np.concatenate([np.sqrt(a)[:, None], np.sqrt(1 - a)[:, None], np.sin(turns), np.cos(turns)], axis=1)


def _sizes(values: Values) -> list[int]:
    return [2 + FEATURES, *[values["width"]] * values["depth"], 2]


def _initial(sizes: list[int], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    return np.concatenate(dense_start(rng, sizes))


def build(values: Values) -> Problem:
    modes, spread, samples, batch = (values[name] for name in ("modes", "spread", "samples", "batch"))
    sizes, levels = _sizes(values), values["levels"]
    data = points(samples, modes, spread, np.random.default_rng(seeds.derive(values["data"], seeds.TASKS)))
    held = [points(REFERENCE, modes, spread, np.random.default_rng([seeds.TASKS, part])) for part in (0, 1)]
    head = [spread, *map(inner_distance, held)]
    reals = np.concatenate([head, _table(levels).reshape(-1), *(x.reshape(-1) for x in (*held, data))])
    return Problem(
        Layout(0, *dense_counts(sizes)),
        functools.partial(_initial, sizes),
        reals=reals.astype(np.float32),
        dims=np.array([modes, levels, *sizes]),
        samples=samples,
        batch=batch,
        work=max(batch * (2 * sum(sizes) + 2), PIECE * (sum(sizes) + 2) + 2 * GENERATED),
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "generative",
        "architecture": "diffusion",
        "parameters": sum(dense_counts(_sizes(values))),
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


DIFFUSION_RING = Family(
    name="diffusion-ring",
    title="Denoising diffusion of a ring of Gaussians in the plane",
    program=Program("diffusion_ring", gradient, evaluate),
    metric="validation error of the predicted noise",
    scores=("denoising_error", "energy_distance", "mode_coverage", "near_a_mode"),
    higher=("mode_coverage", "near_a_mode"),
    axes={
        "modes": Axis(8, (2, 4, 8, 16), "Gaussians on the ring"),
        "spread": Axis(0.1, (0.02, 0.05, 0.1), "standard deviation of a mode, on a ring of radius 1"),
        "levels": Axis(100, (32, 100, 1000), "levels of noise"),
        "width": Axis(48, (16, 32, 48, 64), "units of each hidden layer"),
        "depth": Axis(2, (1, 2, 3), "hidden layers"),
        "batch": Axis(64, (16, 32, 64), "points a step"),
        "samples": Axis(2000, (100, 500, 2000), "training points"),
        "data": Axis(0, (0, 1, 2), "seed of the training points"),
        "steps": Axis(500, (100, 250, 500, 1000, 2000), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (DIFFUSION_RING,)
