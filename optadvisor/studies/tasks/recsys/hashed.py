"""clicks-hashed-logistic: logistic regression on hashed ids (McMahan et al. 2013, Ad click prediction), convex.

The fields' ids are hashed into one space of buckets (Weinberger et al. 2009, Feature hashing), without signs; where two
meet in a bucket they share its weight. The weights play the dense role: there is no tower beside them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.layers.losses import logistic_loss
from optadvisor.studies.tasks.layers.ranking import area_under_curve
from optadvisor.studies.tasks.recsys.data import HELD_OUT, clicks, ends, zipf

LEAST, MOST = 10, 5_000  # ids of a field, the fields between them in a geometric row


def _logit(theta, integers, fields, row):
    z = theta[theta.size - 1]
    for k in range(row * fields, (row + 1) * fields):
        z += theta[integers[k]]
    return z


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Mean logistic loss. dims: fields, and the ends of training, validation and test samples; integers: buckets."""
    fields, n = dims[0], rows.size
    z, wanted = work[:n], work[n : 2 * n]
    for i in range(n):
        z[i] = _logit(theta, integers, fields, rows[i])
        wanted[i] = reals[rows[i]]
    loss = logistic_loss(z, wanted, z)
    grad[:] = 0
    for i in range(n):
        row, share = rows[i], z[i]
        for k in range(row * fields, (row + 1) * fields):
            grad[integers[k]] += share
        grad[grad.size - 1] += share
    return loss


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Logistic loss and area under the curve."""
    first, last = dims[1 + part], dims[2 + part]
    n = last - first
    z, wanted = work[:n], reals[first:last]
    for i in range(n):
        z[i] = _logit(theta, integers, dims[0], first + i)
    scores[0] = logistic_loss(z, wanted, work[n : 2 * n])
    scores[1] = area_under_curve(z, wanted)


def _initial(size: int, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    return np.zeros(size)


def build(values: Values) -> Problem:
    fields, buckets, samples = values["fields"], values["buckets"], values["samples"]
    rng = np.random.default_rng(values["data"])
    counts = np.geomspace(LEAST, MOST, fields).astype(np.int64)
    weights = [rng.standard_normal(count) for count in counts]
    homes = [rng.integers(buckets, size=count) for count in counts]

    def draw(count: int) -> tuple[NDArray[Any], ...]:
        ids = [zipf(int(n), values["popularity"], count, rng) for n in counts]
        odds = np.sum([weight[i] for weight, i in zip(weights, ids, strict=True)], axis=0)
        return np.stack([home[i] for home, i in zip(homes, ids, strict=True)], axis=1), odds

    (found,), clicked = clicks(draw, samples, values["signal"], -1.5, rng)
    return Problem(
        Layout(0, buckets, 1),
        functools.partial(_initial, buckets + 1),
        reals=clicked.astype(np.float32),
        integers=found.reshape(-1),
        dims=np.array([fields, *ends(samples)]),
        samples=samples,
        batch=values["batch"],
        work=2 * max(values["batch"], HELD_OUT),
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "recsys",
        "architecture": "linear",
        "parameters": values["buckets"] + 1,
        "samples": values["samples"],
        "batch_size": values["batch"],
        "sparse_fraction": 1 - values["fields"] / values["buckets"],
        "convex": True,
    }


CLICKS_HASHED_LOGISTIC = Family(
    name="clicks-hashed-logistic",
    title="Sparse logistic regression on hashed ids, generated clicks",
    program=Program("clicks_hashed_logistic", gradient, evaluate),
    metric="validation log loss",
    scores=("loss", "auc"),
    higher=("auc",),
    axes={
        "fields": Axis(12, (6, 12, 20), "ids of a sample"),
        "buckets": Axis(4096, (2048, 4096, 16384), "weights that ids are hashed to", (2**17, 2**20)),
        "batch": Axis(64, (16, 64, 256), "samples a step"),
        "samples": Axis(10_000, (3_000, 10_000, 40_000), "training samples"),
        "signal": Axis(2.0, (1.0, 2.0, 4.0), "deviation of the log odds: how far the clicks can be known"),
        "popularity": Axis(1.0, (0.5, 1.0, 1.5), "exponent of Zipf's law for ids"),
        "data": Axis(0, (0, 1, 2, 3, 4), "seed of the data"),
        "steps": Axis(500, (100, 250, 500, 1000, 2500), "updates", (5000,)),
    },
    build=build,
    profile=profile,
)
FAMILIES = (CLICKS_HASHED_LOGISTIC,)
