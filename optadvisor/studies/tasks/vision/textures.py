"""photo-textures: from which band of which of scikit-learn's two photographs a patch comes, by a convolutional net.

Each photograph is cut into 5 bands from top to bottom, of sky, roofs, trees, petals ...: 10 classes, which no net can
tell apart wholly, so the best loss is far from 0. The net is that of digits-cnn (cnn.py).
"""

from __future__ import annotations

import functools

import numpy as np

from optadvisor.studies.tasks.family import Axis, Family, Problem, Values
from optadvisor.studies.tasks.vision import cnn
from optadvisor.studies.tasks.vision.images import CLASSES
from optadvisor.studies.tasks.vision.photos import ENDS, TRAINING, patches

BANDS = CLASSES // 2


def build(values: Values) -> Problem:
    x, photo, row = patches()
    labels = photo * BANDS + row * BANDS // (row.max() + 1)
    pixels = (values["contrast"] * (2 * x - 1)).astype(np.float32)
    return cnn.problem(False, values, pixels.reshape(-1), labels, ENDS)


PHOTO_TEXTURES = Family(
    name="photo-textures",
    title="Convolutional net that tells bands of scikit-learn's photographs apart by 8 x 8 patches",
    program=cnn.PROGRAM,
    metric="validation cross-entropy",
    scores=("loss", "accuracy"),
    higher=("accuracy",),
    axes={
        "width": Axis(8, (4, 8, 12), "filters of the first convolution; the others have twice as many"),
        "depth": Axis(2, (1, 2, 3), "convolutions"),
        "batch": Axis(32, (8, 16, 32, 64), "patches a step"),
        "samples": Axis(TRAINING, (150, 600, TRAINING), "training patches"),
        "contrast": Axis(1.0, (0.1, 0.3, 1.0), "pixels are from minus this to this"),
        "steps": Axis(250, (100, 250, 400), "updates"),
    },
    build=build,
    profile=functools.partial(cnn.profile, False),
)
FAMILIES = (PHOTO_TEXTURES,)
