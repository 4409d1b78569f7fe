"""Patches of scikit-learn's sample photographs: the parts come from different columns of the pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies.tasks import datasets
from optadvisor.studies.tasks.vision.images import SIZE

TRAINING, HELD_OUT = 2400, 256  # patches of the training part, of validation and test each
CUTS = (0.0, 0.6, 0.8, 1.0)  # shares of the width at which training, validation and test part begin and end
ENDS = (TRAINING, TRAINING + HELD_OUT, TRAINING + 2 * HELD_OUT)
PATCH_SEED = 2


def patches() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Patches of 8 x 8 pixels that do not overlap, (n, 64): training, validation and test; half from each photograph.

    Also, for each, the number of the photograph and the row of the patch's upper edge.
    """
    pictures, rng = datasets.photographs(), np.random.default_rng(PATCH_SEED)
    height, width = pictures.shape[1] // SIZE, pictures.shape[2] // SIZE
    grid = pictures[:, : height * SIZE, : width * SIZE].reshape(2, height, SIZE, width, SIZE).swapaxes(2, 3)
    found = []
    for begin, end, count in zip(CUTS[:-1], CUTS[1:], (TRAINING, HELD_OUT, HELD_OUT), strict=True):
        first, last = round(begin * width), round(end * width)
        places = [rng.permutation(height * (last - first))[: count // 2] for _ in range(2)]
        photo = np.repeat([0, 1], count // 2)
        row, column = np.divmod(np.concatenate(places), last - first)
        found.append(np.stack([photo, row, first + column])[:, rng.permutation(count)])
    photo, row, column = np.concatenate(found, axis=1)
    return grid[photo, row, column].reshape(-1, SIZE * SIZE), photo, row * SIZE
