"""clicks-dlrm: a small DLRM (Naumov et al. 2019, Deep learning recommendation model, section 2) on generated clicks.

Dense features go through the bottom MLP to a vector as wide as the embeddings; the dot products of all pairs of
vectors and the bottom's vector go through the top MLP to the log odds of a click. The bottom's last layer is linear.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.layers.dense import gather
from optadvisor.studies.tasks.layers.losses import logistic_loss
from optadvisor.studies.tasks.layers.ranking import area_under_curve
from optadvisor.studies.tasks.layers.stack import (
    stack_backward,
    stack_forward,
    stack_input,
    stack_output,
    stack_weights,
    stack_width,
)
from optadvisor.studies.tasks.layers.start import dense_counts
from optadvisor.studies.tasks.layers.tables import lookup, lookup_backward, pairwise_dots, pairwise_dots_backward
from optadvisor.studies.tasks.recsys.data import HELD_OUT, RANK, clicks, ends, zipf

FEATURES, LEAST = 8, 10  # dense features; ids of the smallest field, from which the fields grow geometrically
BLOCK = 50  # rows that evaluation computes at once

# dims: fields, width of a vector, ends of training, validation and test samples, then the sizes of bottom and top.
BOTTOM, TOP, DIMS = 5, 8, 11


def _weights(theta, dims):
    """Table, matrices of bottom and top, biases of bottom and top."""
    bottom, top = dims[BOTTOM:TOP], dims[TOP:DIMS]
    d = theta.size - stack_width(top[1:])
    c = d - stack_width(bottom[1:])
    b = c - stack_weights(top)
    a = b - stack_weights(bottom)
    width = dims[1]
    return theta[:a].reshape(a // width, width), theta[a:b], theta[b:c], theta[c:d], theta[d:]


def _data(reals, integers, dims):
    """Dense features, ids (rows of the table) and clicks of all samples."""
    n = dims[4]
    return (
        reals[: n * FEATURES].reshape(n, FEATURES),
        integers.reshape(n, dims[0]),
        reals[n * FEATURES :],
    )


def _buffers(work, n, dims):
    """Activations of the bottom, vectors ((fields + 1) * width, n) and their dot products (pairs, n), activations of
    the top, and what is left of work."""
    bottom, top = dims[BOTTOM:TOP], dims[TOP:DIMS]
    vectors, pairs = (dims[0] + 1) * dims[1], top[0] - dims[1]
    a = n * stack_width(bottom)
    b = a + n * vectors
    c = b + n * pairs
    d = c + n * stack_width(top)
    return work[:a], work[a:b].reshape(vectors, n), work[b:c].reshape(pairs, n), work[c:d], work[d:]


def _forward(theta, reals, integers, dims, rows, work):
    """The log odds of a click for each of these samples."""
    n, width, bottom_sizes, top_sizes = rows.size, dims[1], dims[BOTTOM:TOP], dims[TOP:DIMS]
    features, ids, _ = _data(reals, integers, dims)
    table, wb, wt, bb, bt = _weights(theta, dims)
    bottom, vectors, dots, top, _ = _buffers(work, n, dims)
    gather(features, rows, stack_input(bottom_sizes, n, bottom))
    stack_forward(bottom_sizes, wb, bb, n, bottom, False)
    dense, inputs = stack_output(bottom_sizes, n, bottom), stack_input(top_sizes, n, top)
    vectors[:width] = dense.T
    for field in range(dims[0]):
        lookup(table, ids, rows, field, vectors.T, (field + 1) * width)
    pairwise_dots(vectors, width, dots)
    inputs[:, :width] = dense
    inputs[:, width:] = dots.T
    stack_forward(top_sizes, wt, bt, n, top, False)
    return stack_output(top_sizes, n, top).reshape(n)


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean logistic loss."""
    n, width, bottom_sizes, top_sizes = rows.size, dims[1], dims[BOTTOM:TOP], dims[TOP:DIMS]
    z = _forward(theta, reals, integers, dims, rows, work)
    _, ids, clicked = _data(reals, integers, dims)
    _, wb, wt, _, _ = _weights(theta, dims)
    gtable, gwb, gwt, gbb, gbt = _weights(grad, dims)
    bottom, vectors, _, top, rest = _buffers(work, n, dims)
    dbottom, dvectors, ddots, dtop, rest = _buffers(rest, n, dims)
    wanted = rest[:n]
    for i in range(n):
        wanted[i] = clicked[rows[i]]
    loss = logistic_loss(z, wanted, stack_output(top_sizes, n, dtop).reshape(n))
    stack_backward(top_sizes, wt, n, top, dtop, gwt, gbt, False, True)
    dinputs, ddense = stack_input(top_sizes, n, dtop), stack_output(bottom_sizes, n, dbottom)
    ddots[:] = dinputs[:, width:].T
    dvectors[:] = 0
    dvectors[:width] = dinputs[:, :width].T
    pairwise_dots_backward(vectors, width, ddots, dvectors)
    ddense[:] = dvectors[:width].T
    stack_backward(bottom_sizes, wb, n, bottom, dbottom, gwb, gbb, False, False)
    gtable[:] = 0
    for field in range(dims[0]):
        lookup_backward(dvectors.T, (field + 1) * width, ids, rows, field, gtable)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Logistic loss and area under the curve."""
    first, last = dims[2 + part], dims[3 + part]
    n = last - first
    _, _, clicked = _data(reals, integers, dims)
    z, wanted = work[:n], clicked[first:last]
    for begin in range(first, last, BLOCK):
        rows = np.arange(begin, min(begin + BLOCK, last))
        z[begin - first : begin - first + rows.size] = _forward(theta, reals, integers, dims, rows, work[2 * n :])
    scores[0] = logistic_loss(z, wanted, work[n : 2 * n])
    scores[1] = area_under_curve(z, wanted)


def _counts(values: Values) -> NDArray[np.int64]:
    """How many ids each field has."""
    return np.geomspace(LEAST, values["ids"], values["fields"]).astype(np.int64)


def _sizes(values: Values) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Layers of bottom and top."""
    vectors, width, hidden = values["fields"] + 1, values["width"], values["hidden"]
    return (FEATURES, hidden, width), (width + vectors * (vectors - 1) // 2, hidden, 1)


def _layout(values: Values) -> Layout:
    bottom, top = _sizes(values)
    (first, first_biases), (second, second_biases) = dense_counts(bottom), dense_counts(top)
    return Layout(int(_counts(values).sum()) * values["width"], first + second, first_biases + second_biases)


def _initial(
    counts: NDArray[np.int64], bottom: tuple[int, ...], top: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.floating[Any]]:
    """As the authors' code: tables uniform in +-1/sqrt(ids), matrices and biases normal with variances
    2/(inputs + outputs) and 1/outputs."""
    width = bottom[-1]
    pairs = [*itertools.pairwise(bottom), *itertools.pairwise(top)]
    tables = [rng.uniform(-1, 1, n * width) / math.sqrt(n) for n in counts]
    matrices = [rng.normal(0, math.sqrt(2 / (a + b)), a * b) for a, b in pairs]
    return np.concatenate(tables + matrices + [rng.normal(0, math.sqrt(1 / b), b) for _, b in pairs])


def build(values: Values) -> Problem:
    """The truth: each id has a bias and a hidden vector whose products count, each dense feature a weight.

    The dense features are skewed counts on a logarithmic scale, as the paper's data are brought to.
    """
    counts, samples, batch, fields = _counts(values), values["samples"], values["batch"], values["fields"]
    bottom, top = _sizes(values)
    rng = np.random.default_rng(values["data"])
    tastes, biases = rng.standard_normal((counts.sum(), RANK)), rng.standard_normal(counts.sum())
    weights, offsets = rng.standard_normal(FEATURES), np.cumsum(counts) - counts

    def draw(count: int) -> tuple[NDArray[Any], ...]:
        found = np.stack([zipf(int(n), values["popularity"], count, rng) for n in counts], axis=1) + offsets
        features = np.log1p(np.exp(1.5 * rng.standard_normal((count, FEATURES)))) - 1
        vectors = tastes[found]
        pairs = ((vectors.sum(axis=1) ** 2).sum(axis=1) - (vectors**2).sum(axis=(1, 2))) / 2
        odds = pairs / math.sqrt(RANK * fields * (fields - 1) / 2)
        odds += biases[found].sum(axis=1) / math.sqrt(fields) + features @ weights / math.sqrt(FEATURES)
        return features, found, odds

    (features, ids), clicked = clicks(draw, samples, values["signal"], -1.0, rng)
    row = sum(bottom) + fields * values["width"] + top[0] + sum(top)
    return Problem(
        _layout(values),
        functools.partial(_initial, counts, bottom, top),
        reals=np.concatenate([features.reshape(-1), clicked]).astype(np.float32),
        integers=ids.reshape(-1),
        dims=np.array([fields, values["width"], *ends(samples), *bottom, *top]),
        samples=samples,
        batch=batch,
        work=max(batch * (2 * row + 1), 2 * HELD_OUT + BLOCK * row),
    )


def profile(values: Values) -> dict[str, Any]:
    """Inputs: one-hot ids and the dense features."""
    fields, ids = values["fields"], int(_counts(values).sum())
    return {
        "domain": "recsys",
        "architecture": "embedding-tower",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
        "sparse_fraction": (ids - fields) / (ids + FEATURES),
    }


CLICKS_DLRM = Family(
    name="clicks-dlrm",
    title="Small DLRM (embeddings, dot products, two MLPs) on generated clicks",
    program=Program("clicks_dlrm", gradient, evaluate),
    metric="validation log loss",
    scores=("loss", "auc"),
    higher=("auc",),
    axes={
        "width": Axis(8, (4, 8, 16), "numbers in an embedding"),
        "hidden": Axis(32, (8, 16, 32), "hidden units of the bottom and of the top MLP"),
        "fields": Axis(6, (4, 6, 8), "ids of a sample"),
        "ids": Axis(800, (200, 800, 2000), "ids of the largest field"),
        "batch": Axis(64, (16, 64, 128), "samples a step"),
        "samples": Axis(20_000, (5_000, 20_000, 60_000), "training samples"),
        "signal": Axis(3.0, (1.5, 3.0, 6.0), "deviation of the log odds: how far the clicks can be known"),
        "popularity": Axis(1.0, (0.5, 1.0, 1.5), "exponent of Zipf's law for ids"),
        "data": Axis(0, (0, 1, 2, 3, 4), "seed of the data"),
        "steps": Axis(500, (100, 250, 500, 1500), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (CLICKS_DLRM,)
