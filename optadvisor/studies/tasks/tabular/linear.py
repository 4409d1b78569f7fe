"""Linear models on small tables, convex: cancer-logistic, wine-softmax and diabetes-linear.

The tables are scikit-learn's; each split of them is a task of its own, with the same sizes of parts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optadvisor.studies.tasks.family import Axis, Family, Problem, Values
from optadvisor.studies.tasks.tabular import data
from optadvisor.studies.tasks.tabular.programs import BINARY, CLASSES, REGRESSION, layout, problem

CANCER_ENDS, WINE_ENDS, DIABETES_ENDS = (285, 427, 569), (80, 140, 178), (222, 342, 442)
CANCER, WINE, DIABETES = (30, 1), (13, 3), (10, 1)  # inputs and outputs
NO_CLASSES = np.empty(0, dtype=np.int64)
SPLIT = Axis(0, (0, 1, 2, 3, 4), "which random split into training, validation and test samples")
STEPS = Axis(500, (100, 250, 500, 1000, 2500), "updates", (5000,))


def _cancer(values: Values) -> Problem:
    x, y = data.split("breast_cancer", values["split"])
    training = CANCER_ENDS[0]
    x = data.whitened(data.standardised(x, training), training, values["whiten"])
    flipped = np.random.default_rng(values["split"]).random(training) < values["noise"]
    y = np.concatenate([np.where(flipped, 1 - y[:training], y[:training]), y[training:]])
    return problem(x, y, NO_CLASSES, CANCER_ENDS, CANCER, values["samples"], values["batch"])


def _wine(values: Values) -> Problem:
    x, y = data.split("wine", values["split"])
    training = WINE_ENDS[0]
    rng = np.random.default_rng(values["split"])
    other, flipped = rng.integers(WINE[1], size=training), rng.random(training) < values["noise"]
    labels = np.concatenate([np.where(flipped, other, y[:training]), y[training:]]).astype(np.int64)
    x = data.standardised(x, training, values["units"])
    return problem(x, np.empty(0), labels, WINE_ENDS, WINE, values["samples"], values["batch"])


def _diabetes(values: Values) -> Problem:
    x, y = data.split("diabetes", values["split"])
    training = DIABETES_ENDS[0]
    x, y = data.standardised(x, training, values["units"]), data.standardised(y[:, None], training)[:, 0]
    sizes = (values["samples"], values["batch"], values["penalty"])
    return problem(x, y, NO_CLASSES, DIABETES_ENDS, DIABETES, *sizes)


def _profile(values: Values, sizes: tuple[int, ...]) -> dict[str, Any]:
    return {
        "domain": "tabular",
        "architecture": "linear",
        "parameters": layout(sizes).total,
        "samples": values["samples"],
        "batch_size": values["batch"],
        "convex": True,
    }


# The condition number of the features' covariance is over 1,000 where a profile says ill_conditioned, else
# under it: 1e5 for the standardised measurements of cell nuclei, 50 of wine, 500 of diabetes (tests compute them).


def _cancer_profile(values: Values) -> dict[str, Any]:
    return {**_profile(values, CANCER), "ill_conditioned": values["whiten"] == 0}


def _wine_profile(values: Values) -> dict[str, Any]:
    return {**_profile(values, WINE), "ill_conditioned": values["units"] > 0}


def _diabetes_profile(values: Values) -> dict[str, Any]:
    return {**_profile(values, DIABETES), "ill_conditioned": values["units"] > 0}


UNITS = "0: standardised features; 1: deviations in the proportions of the units of measurement"

CANCER_LOGISTIC = Family(
    name="cancer-logistic",
    title="Logistic regression on scikit-learn's breast cancer data",
    program=BINARY,
    metric="validation log loss",
    scores=("loss", "accuracy", "auc"),
    higher=("accuracy", "auc"),
    axes={
        "batch": Axis(16, (4, 16, 64), "samples a step"),
        "samples": Axis(285, (64, 128, 285), "training samples"),
        "noise": Axis(0.0, (0.0, 0.1, 0.25), "share of wrong training labels"),
        "whiten": Axis(0.0, (0.0, 0.5, 1.0), "how much of the features' correlation is removed"),
        "split": SPLIT,
        "steps": STEPS,
    },
    build=_cancer,
    profile=_cancer_profile,
)
WINE_SOFTMAX = Family(
    name="wine-softmax",
    title="Softmax regression on scikit-learn's wine data",
    program=CLASSES,
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes={
        "batch": Axis(16, (4, 16, 32), "samples a step"),
        "samples": Axis(80, (32, 80), "training samples"),
        "noise": Axis(0.0, (0.0, 0.1, 0.3), "share of random training labels"),
        "units": Axis(0.0, (0.0, 0.5, 1.0), UNITS),
        "split": SPLIT,
        "steps": STEPS,
    },
    build=_wine,
    profile=_wine_profile,
)
DIABETES_LINEAR = Family(
    name="diabetes-linear",
    title="Ridge regression on scikit-learn's diabetes data, features in proportions of their units",
    program=REGRESSION,
    metric="validation squared error",
    scores=("squared_error", "r2"),
    higher=("r2",),
    axes={
        "batch": Axis(16, (4, 16, 64), "samples a step"),
        "samples": Axis(222, (64, 128, 222), "training samples"),
        "penalty": Axis(0.001, (0.0, 0.001, 0.1), "of the weights' squared norm, halved, added to the training loss"),
        "units": Axis(0.5, (0.0, 0.5, 1.0), UNITS),
        "split": SPLIT,
        "steps": STEPS,
    },
    build=_diabetes,
    profile=_diabetes_profile,
)
FAMILIES = (CANCER_LOGISTIC, WINE_SOFTMAX, DIABETES_LINEAR)
