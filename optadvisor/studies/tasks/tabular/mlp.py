"""MLPs on tables: diabetes-mlp and friedman-mlp (regression), tabular-mlp (two classes)."""

from __future__ import annotations

from typing import Any

import numpy as np

from optadvisor.studies.tasks.family import Axis, Family, Problem, Values
from optadvisor.studies.tasks.tabular import data
from optadvisor.studies.tasks.tabular.linear import DIABETES_ENDS, NO_CLASSES, SPLIT
from optadvisor.studies.tasks.tabular.programs import BINARY, REGRESSION, layout, problem

HELD_OUT = 500  # generated validation samples, and as many test samples


def _sizes(values: Values, inputs: int) -> tuple[int, ...]:
    return (inputs, *[values["width"]] * values["depth"], 1)


def _diabetes(values: Values) -> Problem:
    x, y = data.split("diabetes", values["split"])
    training = DIABETES_ENDS[0]
    x, y = data.standardised(x, training), data.standardised(y[:, None], training)[:, 0]
    return problem(x, y, NO_CLASSES, DIABETES_ENDS, _sizes(values, x.shape[1]), values["samples"], values["batch"])


def _generated(
    x: data.Floats, y: data.Floats, held_x: data.Floats, held_y: data.Floats, sizes: tuple[int, ...], batch: int
) -> Problem:
    samples = len(x)
    ends = (samples, samples + HELD_OUT, samples + 2 * HELD_OUT)
    return problem(np.concatenate([x, held_x]), np.concatenate([y, held_y]), NO_CLASSES, ends, sizes, samples, batch)


def _friedman(values: Values) -> Problem:
    inputs, noise, rng = values["inputs"], values["noise"], np.random.default_rng(values["data"])
    held = data.friedman(inputs, noise, 2 * HELD_OUT, rng)
    x, y = data.friedman(inputs, noise, values["samples"], rng)
    return _generated(x, y, *held, _sizes(values, inputs), values["batch"])


def _mixed(values: Values) -> Problem:
    rng = np.random.default_rng(values["data"])
    truth = data.Mixed(values["tail"], values["signal"], rng)
    held = truth.sample(2 * HELD_OUT, rng)
    x, y = truth.sample(values["samples"], rng)
    return _generated(x, y, *held, _sizes(values, truth.INPUTS), values["batch"])


def _profile(values: Values, inputs: int) -> dict[str, Any]:
    return {
        "domain": "tabular",
        "architecture": "mlp",
        "parameters": layout(_sizes(values, inputs)).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
    }


def _diabetes_profile(values: Values) -> dict[str, Any]:
    return _profile(values, 10)


def _friedman_profile(values: Values) -> dict[str, Any]:
    return _profile(values, values["inputs"])


def _mixed_profile(values: Values) -> dict[str, Any]:
    zeros = data.Mixed.CATEGORIES * (data.Mixed.LEVELS - 1)
    return {**_profile(values, data.Mixed.INPUTS), "sparse_fraction": zeros / data.Mixed.INPUTS}


DEPTH = Axis(1, (1, 2, 3), "hidden layers")
DATA = Axis(0, (0, 1, 2, 3, 4), "seed of the data")

DIABETES_MLP = Family(
    name="diabetes-mlp",
    title="MLP on scikit-learn's diabetes data (regression)",
    program=REGRESSION,
    metric="validation squared error",
    scores=("squared_error", "r2"),
    higher=("r2",),
    axes={
        "width": Axis(16, (8, 16, 64), "units of a hidden layer"),
        "depth": DEPTH,
        "batch": Axis(16, (4, 16, 64), "samples a step"),
        "samples": Axis(222, (64, 128, 222), "training samples"),
        "split": SPLIT,
        "steps": Axis(500, (100, 250, 500, 1500), "updates"),
    },
    build=_diabetes,
    profile=_diabetes_profile,
)
FRIEDMAN_MLP = Family(
    name="friedman-mlp",
    title="MLP on Friedman's function #1 (regression, generated)",
    program=REGRESSION,
    metric="validation squared error",
    scores=("squared_error", "r2"),
    higher=("r2",),
    axes={
        "width": Axis(32, (8, 32, 64), "units of a hidden layer", (256,)),
        "depth": Axis(2, (1, 2, 3), "hidden layers"),
        "batch": Axis(32, (8, 32, 64), "samples a step"),
        "samples": Axis(1000, (200, 1000, 5000), "training samples"),
        "inputs": Axis(10, (5, 10, 30), "inputs, of which the function uses five"),
        "noise": Axis(1.0, (0.0, 1.0, 3.0), "deviation of the noise; that of the function is 4.9"),
        "data": DATA,
        "steps": Axis(500, (100, 250, 500, 1000, 2500), "updates", (5000,)),
    },
    build=_friedman,
    profile=_friedman_profile,
)
TABULAR_MLP = Family(
    name="tabular-mlp",
    title="MLP on a generated table with heavy-tailed numbers and categories (two classes)",
    program=BINARY,
    metric="validation log loss",
    scores=("loss", "accuracy", "auc"),
    higher=("accuracy", "auc"),
    axes={
        "width": Axis(32, (8, 32, 64), "units of a hidden layer", (256,)),
        "depth": Axis(2, (1, 2, 3), "hidden layers"),
        "batch": Axis(32, (8, 32, 64), "samples a step"),
        "samples": Axis(2000, (500, 2000, 8000), "training samples"),
        "tail": Axis(3.0, (1.5, 3.0, 30.0), "degrees of freedom of the numbers' Student t distribution"),
        "signal": Axis(3.0, (1.5, 3.0, 6.0), "deviation of the log odds: how far the labels can be known"),
        "data": DATA,
        "steps": Axis(500, (100, 250, 500, 1000, 2500), "updates", (5000,)),
    },
    build=_mixed,
    profile=_mixed_profile,
)
FAMILIES = (DIABETES_MLP, FRIEDMAN_MLP, TABULAR_MLP)
