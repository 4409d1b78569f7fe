"""clicks-two-tower: a tower for the user and one for the item, the log odds of a click their vectors' dot product.

After Covington, Adams & Sargin 2016 (Deep neural networks for YouTube recommendations) and Yi et al. 2019
(Sampling-bias-corrected neural modeling, section 3), on generated clicks: each tower takes an id's embedding and what
else is known of the user or the item.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
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
from optadvisor.studies.tasks.layers.start import dense_counts, dense_start
from optadvisor.studies.tasks.layers.tables import lookup, lookup_backward, row_dots, row_dots_backward
from optadvisor.studies.tasks.recsys.data import HELD_OUT, RANK, clicks, ends, zipf

ITEMS, FEATURES = 300, 4  # features of a user, and of an item
BLOCK = 50  # rows that evaluation computes at once

# dims: users, width of an embedding, ends of training, validation and test samples, then the sizes of a tower.
TOWER = 5


def _weights(theta, dims):
    """Table (users, then items), matrices of both towers, their biases, and the bias of all clicks in one element."""
    sizes = dims[TOWER:]
    matrices, biases = stack_weights(sizes), stack_width(sizes[1:])
    c = theta.size - 2 * biases - 1
    a, b, d = c - 2 * matrices, c - matrices, c + biases
    table = theta[:a].reshape(a // dims[1], dims[1])
    return table, theta[a:b], theta[b:c], theta[c:d], theta[d : d + biases], theta[d + biases :]


def _data(reals, integers, dims):
    """Features (users and items, FEATURES), ids (samples, 2), rows of that and of the table, and clicks."""
    end = (dims[0] + ITEMS) * FEATURES
    return reals[:end].reshape(dims[0] + ITEMS, FEATURES), integers.reshape(dims[4], 2), reals[end:]


def _forward(theta, reals, integers, dims, rows, work, z):
    """The log odds of a click for each of these samples, in z; both towers' activations are left in work."""
    n, sizes, width = rows.size, dims[TOWER:], dims[1]
    features, ids, _ = _data(reals, integers, dims)
    table, wu, wi, bu, bi, bias = _weights(theta, dims)
    user, item = _towers(work, n, sizes)
    for side, activations in enumerate((user, item)):
        x = stack_input(sizes, n, activations)
        lookup(table, ids, rows, side, x, 0)
        lookup(features, ids, rows, side, x, width)
    stack_forward(sizes, wu, bu, n, user, False)
    stack_forward(sizes, wi, bi, n, item, False)
    row_dots(stack_output(sizes, n, user), stack_output(sizes, n, item), z)
    for i in range(n):
        z[i] += bias[0]


def _towers(work, n, sizes):
    """Activations of the user's and of the item's tower."""
    elements = n * stack_width(sizes)
    return work[:elements], work[elements : 2 * elements]


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean logistic loss."""
    n, sizes = rows.size, dims[TOWER:]
    z, wanted, work = work[:n], work[n : 2 * n], work[2 * n :]
    _forward(theta, reals, integers, dims, rows, work, z)
    _, ids, clicked = _data(reals, integers, dims)
    _, wu, wi, _, _, _ = _weights(theta, dims)
    gtable, gwu, gwi, gbu, gbi, gbias = _weights(grad, dims)
    user, item = _towers(work, n, sizes)
    duser, ditem = _towers(work[user.size + item.size :], n, sizes)
    for i in range(n):
        wanted[i] = clicked[rows[i]]
    loss = logistic_loss(z, wanted, z)
    gbias[0] = z.sum()
    u, v = stack_output(sizes, n, user), stack_output(sizes, n, item)
    row_dots_backward(u, v, z, stack_output(sizes, n, duser), stack_output(sizes, n, ditem))
    stack_backward(sizes, wu, n, user, duser, gwu, gbu, False, True)
    stack_backward(sizes, wi, n, item, ditem, gwi, gbi, False, True)
    gtable[:] = 0
    lookup_backward(stack_input(sizes, n, duser), 0, ids, rows, 0, gtable)
    lookup_backward(stack_input(sizes, n, ditem), 0, ids, rows, 1, gtable)
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
    matrices, biases = dense_counts(sizes)
    return Layout((values["users"] + ITEMS) * values["width"], 2 * matrices, 2 * biases + 1)


def _initial(ids: int, sizes: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """Embeddings normal with deviation 0.1; towers uniform in +-1/sqrt(inputs), as PyTorch's Linear."""
    table = rng.normal(0, 0.1, ids * sizes[-1])
    (user, user_biases), (item, item_biases) = dense_start(rng, sizes), dense_start(rng, sizes)
    return np.concatenate([table, user, item, user_biases, item_biases, [0.0]])


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
    return Problem(
        _layout(values),
        functools.partial(_initial, users + ITEMS, sizes),
        reals=np.concatenate([features.reshape(-1), clicked]).astype(np.float32),
        integers=ids.reshape(-1),
        dims=np.array([users, values["width"], *ends(samples), *sizes]),
        samples=samples,
        batch=batch,
        work=max(batch * (2 + 4 * sum(sizes)), 2 * HELD_OUT + BLOCK * 2 * sum(sizes)),
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
