"""Data sets that scikit-learn or Python ship, kept as plain arrays in the cache folder.

Importing scikit-learn takes a second or more; a process that finds the arrays in the cache never does.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

SPLIT_SEED = 0


def kept(name: str, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """make(), or the arrays that it gave before to any process. Name a version of the data's source in `name`."""
    path = Path(platformdirs.user_cache_dir("optadvisor")) / f"{name}.npz"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there yet, or cut short
    made = make()
    # Under a name of this thread's own, so that nobody reads half a file.
    part = path.with_name(f"{path.stem}.{os.getpid()}.{threading.get_ident()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, **made)  # type: ignore[arg-type]
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # a read-only or full cache costs time, nothing else
            part.unlink()
    return made


def of_scikit_learn(name: str, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """`kept` under scikit-learn's version."""
    return kept(f"{name}-scikit-learn-{importlib.metadata.version('scikit-learn')}", make)


@functools.cache
def photographs() -> NDArray[np.float32]:
    """scikit-learn's two sample photographs in grey, scaled to 0..1: (2, 427, 640), china.jpg and flower.jpg.

    Grey is the luma of ITU-R BT.601, 0.299 red + 0.587 green + 0.114 blue.
    """

    def make() -> dict[str, NDArray[Any]]:
        from sklearn.datasets import load_sample_images

        images = np.stack(load_sample_images().images) / 255.0
        return {"grey": (images @ [0.299, 0.587, 0.114]).astype(np.float32)}

    return of_scikit_learn("photographs", make)["grey"]


@functools.cache
def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """scikit-learn's 1,797 handwritten digits in a fixed random order: images (n, 64) scaled to 0..1, labels (n,)."""

    def make() -> dict[str, NDArray[Any]]:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return {"x": np.asarray(bunch.data / 16.0, dtype=np.float32), "labels": bunch.target.astype(np.int64)}

    made = of_scikit_learn("digits", make)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(made["x"]))
    return np.ascontiguousarray(made["x"][order]), made["labels"][order]
