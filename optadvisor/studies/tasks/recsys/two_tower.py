"""clicks-two-tower: a tower for the user and one for the item, the log odds of a click their vectors' dot product.

After Covington, Adams & Sargin 2016 (Deep neural networks for YouTube recommendations) and Yi et al. 2019
(Sampling-bias-corrected neural modeling, section 3), on generated clicks: each tower takes an id's embedding and what
else is known of the user or the item.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.layers.embeddings import lookup, lookup_backward, row_dots, row_dots_backward
from optadvisor.studies.tasks.layers.losses import logistic_loss
from optadvisor.studies.tasks.layers.ranking import area_under_curve
from optadvisor.studies.tasks.layers.tower import last_layer, stack, stack_backward, stack_inputs_backward
from optadvisor.studies.tasks.recsys.data import HELD_OUT, RANK, clicks, ends, zipf

ITEMS, FEATURES = 300, 4  # features of a user, and of an item
BLOCK = 50  # rows that evaluation computes at once

# dims: users, width of an embedding, ends of training, validation and test samples, then the sizes of a tower.
TOWER = 5


def _weights(theta, dims):
    """Table (users, then items), matrices of both towers, their biases, and the bias of all clicks in one element."""
    sizes = dims[TOWER:]
    biases = sizes[1:].sum()
    matrices = 0
    for i in range(1, sizes.size):
        matrices += sizes[i - 1] * sizes[i]
    c = theta.size - 2 * biases - 1
    a, b, d = c - 2 * matrices, c - matrices, c + biases
    table = theta[:a].reshape(a // dims[1], dims[1])
    return table, theta[a:b], theta[b:c], theta[c:d], theta[d : d + biases], theta[d + biases :]


def _data(reals, integers, dims):
    """Features (users and items, FEATURES), ids (samples, 2), rows of that and of the table, and clicks."""
    end = (dims[0] + ITEMS) * FEATURES
    return reals[:end].reshape(dims[0] + ITEMS, FEATURES), integers.reshape(dims[4], 2), reals[end:]


def _buffers(work, n, dims):
    """Inputs of the user's and the item's tower (n, sizes[0]), outputs of their layers, and what is left of work."""
    inputs, units = n * dims[TOWER], n * dims[TOWER + 1 :].sum()
    a, b = 2 * inputs, 2 * inputs + units
    return (
        work[:inputs].reshape(n, dims[TOWER]),
        work[inputs:a].reshape(n, dims[TOWER]),
        work[a:b],
        work[b : b + units],
        work[b + units :],
    )


def _forward(theta, reals, integers, dims, rows, work, z):
    """The log odds of a click for each of these samples, in z."""
    sizes, width = dims[TOWER:], dims[1]
    features, ids, _ = _data(reals, integers, dims)
    table, wu, wi, bu, bi, bias = _weights(theta, dims)
    xu, xi, hu, hi, _ = _buffers(work, rows.size, dims)
    lookup(table, ids, rows, 0, xu, 0)
    lookup(features, ids, rows, 0, xu, width)
    lookup(table, ids, rows, 1, xi, 0)
    lookup(features, ids, rows, 1, xi, width)
    row_dots(stack(xu, sizes, wu, bu, hu), stack(xi, sizes, wi, bi, hi), z)
    for i in range(z.size):
        z[i] += bias[0]


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean logistic loss."""
    n, sizes = rows.size, dims[TOWER:]
    z, wanted, work = work[:n], work[n : 2 * n], work[2 * n :]
    _forward(theta, reals, integers, dims, rows, work, z)
    _, ids, clicked = _data(reals, integers, dims)
    _, wu, wi, _, _, _ = _weights(theta, dims)
    gtable, gwu, gwi, gbu, gbi, gbias = _weights(grad, dims)
    xu, xi, hu, hi, rest = _buffers(work, n, dims)
    dxu, dxi, du, di, _ = _buffers(rest, n, dims)
    for i in range(n):
        wanted[i] = clicked[rows[i]]
    loss = logistic_loss(z, wanted, z)
    gbias[0] = z.sum()
    row_dots_backward(
        last_layer(n, sizes, hu), last_layer(n, sizes, hi), z, last_layer(n, sizes, du), last_layer(n, sizes, di)
    )
    stack_backward(xu, sizes, wu, hu, du, gwu, gbu)
    stack_backward(xi, sizes, wi, hi, di, gwi, gbi)
    stack_inputs_backward(sizes, wu, du, dxu)
    stack_inputs_backward(sizes, wi, di, dxi)
    gtable[:] = 0
    lookup_backward(dxu, 0, ids, rows, 0, gtable)
    lookup_backward(dxi, 0, ids, rows, 1, gtable)
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Logistic loss and area under the curve."""
    first, last = dims[2 + part], dims[3 + part]
    n = last - first
    _, _, clicked = _data(reals, integers, dims)
    z, wanted = work[:n], clicked[first:last]
    for begin in range(first, last, BLOCK):
        rows = np.arange(begin, min(begin + BLOCK, last))
        found = z[begin - first : begin - first + rows.size]
        _forward(theta, reals, integers, dims, rows, work[2 * n :], found)
    scores[0] = logistic_loss(z, wanted, work[n : 2 * n])
    scores[1] = area_under_curve(z, wanted)


def _sizes(values: Values) -> tuple[int, ...]:
    """Layers of a tower."""
    return (values["width"] + FEATURES, *[values["hidden"]] * values["depth"], values["width"])


def _layout(values: Values) -> Layout:
    sizes = _sizes(values)
    matrices = sum(a * b for a, b in itertools.pairwise(sizes))
    return Layout((values["users"] + ITEMS) * values["width"], 2 * matrices, 2 * sum(sizes[1:]) + 1)


def _initial(ids: int, sizes: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """Embeddings normal with deviation 0.1; towers uniform in +-1/sqrt(inputs), as PyTorch's Linear."""
    pairs = list(itertools.pairwise(sizes)) * 2
    table = rng.normal(0, 0.1, ids * sizes[-1])
    matrices = [rng.uniform(-1, 1, a * b) / math.sqrt(a) for a, b in pairs]
    biases = [rng.uniform(-1, 1, b) / math.sqrt(a) for a, b in pairs]
    return np.concatenate([table, *matrices, *biases, np.zeros(1)])


def build(values: Values) -> Problem:
    """The truth: tastes of users and items, whose product counts, and how active and attractive they are.

    Features are the tastes, seen through noise.
    """
    users, samples, batch, sizes = values["users"], values["samples"], values["batch"], _sizes(values)
    rng = np.random.default_rng(values["data"])
    tastes, biases = rng.standard_normal((users + ITEMS, RANK)), rng.standard_normal((users + ITEMS,))
    features = tastes @ rng.standard_normal((RANK, FEATURES)) / math.sqrt(RANK)
    features += values["noise"] * rng.standard_normal(features.shape)

    def draw(count: int) -> tuple[NDArray[Any], ...]:
        user, item = (zipf(n, values["popularity"], count, rng) for n in (users, ITEMS))
        item += users
        odds = (tastes[user] * tastes[item]).sum(axis=1) / math.sqrt(RANK) + 0.5 * (biases[user] + biases[item])
        return np.stack([user, item], axis=1), odds

    (ids,), clicked = clicks(draw, samples, values["signal"], -1.0, rng)
    row = sizes[0] + sum(sizes[1:])
    return Problem(
        _layout(values),
        functools.partial(_initial, users + ITEMS, sizes),
        reals=np.concatenate([features.reshape(-1), clicked]).astype(np.float32),
        integers=ids.reshape(-1),
        dims=np.array([users, values["width"], *ends(samples), *sizes]),
        samples=samples,
        batch=batch,
        work=max(batch * (2 + 4 * row), 2 * HELD_OUT + BLOCK * 2 * row),
    )


def profile(values: Values) -> dict[str, Any]:
    """Inputs: two one-hot ids and the features."""
    ids = values["users"] + ITEMS
    return {
        "domain": "recsys",
        "architecture": "embedding-tower",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
        "sparse_fraction": (ids - 2) / (ids + 2 * FEATURES),
    }


CLICKS_TWO_TOWER = Family(
    name="clicks-two-tower",
    title="Two towers of embeddings and dense layers, generated clicks",
    program=Program("clicks_two_tower", gradient, evaluate),
    metric="validation log loss",
    scores=("loss", "auc"),
    higher=("auc",),
    axes={
        "width": Axis(8, (4, 8, 16), "numbers in an embedding and in a tower's output"),
        "hidden": Axis(32, (16, 32, 64), "units of a hidden layer"),
        "depth": Axis(1, (1, 2), "hidden layers of a tower"),
        "users": Axis(400, (200, 400, 1000), "users; there are 300 items"),
        "batch": Axis(64, (16, 32, 64), "samples a step"),
        "samples": Axis(20_000, (5_000, 20_000, 60_000), "training samples"),
        "noise": Axis(1.0, (0.3, 1.0, 3.0), "deviation of the noise on the features of users and items"),
        "signal": Axis(3.0, (1.5, 3.0, 6.0), "deviation of the log odds: how far the clicks can be known"),
        "popularity": Axis(0.8, (0.0, 0.8, 1.2), "exponent of Zipf's law for users and items; 0: all alike"),
        "data": Axis(0, (0, 1, 2, 3, 4), "seed of the data"),
        "steps": Axis(500, (100, 250, 500, 1500), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (CLICKS_TWO_TOWER,)
