"""ratings-factorisation: matrix factorisation with biases (Koren, Bell & Volinsky 2009, eq. 4) on generated ratings."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.recsys.data import HELD_OUT, RANK, ends, zipf

ITEMS = 300


def _predicted(theta, width, users, user, item):
    """The average and both biases, plus the product of both vectors; a row of a table is a vector and its bias."""
    u, v = user * width, (users + item) * width
    z = theta[theta.size - 1] + theta[u + width - 1] + theta[v + width - 1]
    for j in range(width - 1):
        z += theta[u + j] * theta[v + j]
    return z


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean squared error. dims: width of a row, users, and the ends of training, validation and test samples."""
    width, users = dims[0], dims[1]
    scale = theta.dtype.type(2.0 / rows.size)
    loss = 0.0
    grad[:] = 0
    for i in range(rows.size):
        user, item = integers[2 * rows[i]], integers[2 * rows[i] + 1]
        error = _predicted(theta, width, users, user, item) - reals[rows[i]]
        loss += error * error
        share = scale * error
        u, v = user * width, (users + item) * width
        for j in range(width - 1):
            grad[u + j] += share * theta[v + j]
            grad[v + j] += share * theta[u + j]
        grad[u + width - 1] += share
        grad[v + width - 1] += share
        grad[grad.size - 1] += share
    return loss / rows.size


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Mean squared error."""
    loss = 0.0
    for row in range(dims[2 + part], dims[3 + part]):
        error = _predicted(theta, dims[0], dims[1], integers[2 * row], integers[2 * row + 1]) - reals[row]
        loss += error * error
    scores[0] = loss / (dims[3 + part] - dims[2 + part])
    scores[1] = np.sqrt(scores[0])


def _layout(values: Values) -> Layout:
    return Layout((values["users"] + ITEMS) * (values["rank"] + 1), 0, 1)


def _initial(rows: int, width: int, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """Vectors normal with deviation 0.1, biases 0."""
    tables = rng.normal(0, 0.1, (rows, width))
    tables[:, -1] = 0
    return np.append(tables.reshape(-1), 0.0)


def build(values: Values) -> Problem:
    """Ratings in stars, 1 to 5, around 3.5; the training set's mean is taken off."""
    users, samples = values["users"], values["samples"]
    rng = np.random.default_rng(values["data"])
    user_bias, item_bias = (0.4 * rng.standard_normal((n,)) for n in (users, ITEMS))
    # Their products have a deviation of 0.64 stars.
    user_taste, item_taste = (0.8 / RANK**0.25 * rng.standard_normal((n, RANK)) for n in (users, ITEMS))

    def draw(count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        user, item = (zipf(n, values["popularity"], count, rng) for n in (users, ITEMS))
        liking = (user_taste[user] * item_taste[item]).sum(axis=1)
        stars = 3.5 + user_bias[user] + item_bias[item] + liking + values["noise"] * rng.standard_normal(count)
        return np.stack([user, item], axis=1), stars.round().clip(1, 5)

    held, held_stars = draw(2 * HELD_OUT)
    ids, stars = draw(samples)
    width = values["rank"] + 1
    return Problem(
        _layout(values),
        functools.partial(_initial, users + ITEMS, width),
        reals=(np.concatenate([stars, held_stars]) - stars.mean()).astype(np.float32),
        integers=np.concatenate([ids, held]).reshape(-1),
        dims=np.array([width, users, *ends(samples)]),
        samples=samples,
        batch=values["batch"],
    )


def profile(values: Values) -> dict[str, Any]:
    """Inputs are two one-hot ids, so all but two of a sample's numbers are zero."""
    return {
        "domain": "recsys",
        "architecture": "other",
        "parameters": _layout(values).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
        "sparse_fraction": 1 - 2 / (values["users"] + ITEMS),
    }


RATINGS_FACTORISATION = Family(
    name="ratings-factorisation",
    title="Matrix factorisation with biases on generated ratings, 1 to 5 stars",
    program=Program("ratings_factorisation", gradient, evaluate),
    metric="validation squared error",
    scores=("squared_error", "rmse"),
    axes={
        "rank": Axis(8, (4, 8, 16), "numbers in a vector"),
        "users": Axis(400, (200, 400, 1000), "users; there are 300 items"),
        "batch": Axis(64, (16, 64, 256), "ratings a step"),
        "samples": Axis(10_000, (3_000, 10_000, 40_000), "training ratings"),
        "noise": Axis(0.5, (0.25, 0.5, 1.0), "deviation of a rating's noise, in stars"),
        "popularity": Axis(0.8, (0.0, 0.8, 1.2), "exponent of Zipf's law for users and items; 0: all alike"),
        "data": Axis(0, (0, 1, 2, 3, 4), "seed of the data"),
        "steps": Axis(1000, (250, 500, 1000, 2500), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (RATINGS_FACTORISATION,)
