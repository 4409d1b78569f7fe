"""digits-mlp: a 64-32-10 network on scikit-learn's handwritten digits (1,797 images of 8 x 8)."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from optadvisor.config import OptimizerConfig
from optadvisor.profile import TaskProfile
from optadvisor.studies.tasks import layers
from optadvisor.studies.tasks.task import Task, TrialRecord
from optadvisor.studies.training import Program, Start, train

INPUTS, HIDDEN, CLASSES = 64, 32, 10
BATCH = 32
TRAINING, VALIDATION = 1200, 297  # the 300 that are left are the test part, which no study looks at
WEIGHTS = INPUTS * HIDDEN + HIDDEN * CLASSES
PARAMETERS = WEIGHTS + HIDDEN + CLASSES
SPLIT_SEED = 0

# Imported by name: the compiler looks up globals, not attributes.
_gather, _dense, _relu = layers.gather, layers.dense, layers.relu
_dense_backward, _relu_backward = layers.dense_backward, layers.relu_backward
_loss, _correct = layers.softmax_cross_entropy, layers.correct


def _views(theta):
    """The parts of a parameter vector: w1, w2 and, after `WEIGHTS`, b1, b2."""
    w1 = theta[: INPUTS * HIDDEN].reshape(INPUTS, HIDDEN)
    w2 = theta[INPUTS * HIDDEN : WEIGHTS].reshape(HIDDEN, CLASSES)
    b1 = theta[WEIGHTS : WEIGHTS + HIDDEN]
    b2 = theta[WEIGHTS + HIDDEN :]
    return w1, w2, b1, b2


def gradient(theta, data, rows, grad, work):
    """Mean cross-entropy on a mini-batch, and its gradient."""
    x, labels = data[0], data[1]
    batch, hidden, logits, delta = work
    w1, w2, b1, b2 = _views(theta)
    gw1, gw2, gb1, gb2 = _views(grad)
    _gather(x, rows, batch)
    _dense(batch, w1, b1, hidden)
    _relu(hidden)
    _dense(hidden, w2, b2, logits)
    loss = _loss(logits, rows, labels, logits)
    _dense_backward(hidden, logits, gw2, gb2)
    np.dot(logits, w2.T, delta)
    _relu_backward(hidden, delta)
    _dense_backward(batch, delta, gw1, gb1)
    return loss


def evaluate(theta, data, part, work):
    """Cross-entropy and accuracy on the validation (part 0) or test (part 1) images."""
    x, labels, begin, end = data
    batch, hidden, logits, _ = work
    w1, w2, b1, b2 = _views(theta)
    loss, right = 0.0, 0
    for first in range(begin[part], end[part], batch.shape[0]):
        rows = np.arange(first, min(first + batch.shape[0], end[part]))
        n = rows.size
        _gather(x, rows, batch[:n])
        _dense(batch[:n], w1, b1, hidden[:n])
        _relu(hidden[:n])
        _dense(hidden[:n], w2, b2, logits[:n])
        right += _correct(logits[:n], rows, labels)
        loss += _loss(logits[:n], rows, labels, logits[:n]) * n
    count = end[part] - begin[part]
    return loss / count, right / count


PROGRAM = Program("digits_mlp", gradient, evaluate)


@functools.cache
def data() -> tuple[Any, ...]:
    """Images and labels in the order training, validation, test, and where the last two begin and end."""
    x, labels = _digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    first = TRAINING + VALIDATION
    begin, end = np.array([TRAINING, first]), np.array([first, len(x)])
    return np.ascontiguousarray(x[order]), labels[order], begin, end


def _digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images scaled to 0..1 and labels. Importing scikit-learn takes a second, so they are kept in the cache folder."""
    version = importlib.metadata.version("scikit-learn")
    kept = Path(platformdirs.user_cache_dir("optadvisor")) / f"digits-scikit-learn-{version}.npz"
    try:
        with kept.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return stored["x"], stored["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there yet, or cut short
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.ascontiguousarray(bunch.data / 16.0, dtype=np.float32)
    labels = bunch.target.astype(np.int64)
    # Under a name of this thread's own, so that nobody reads half a file.
    part = kept.with_name(f"{kept.stem}.{os.getpid()}.{threading.get_ident()}.npz")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, x=x, labels=labels)
        part.replace(kept)
    except OSError:
        with contextlib.suppress(OSError):  # a read-only or full cache costs time, nothing else
            part.unlink()
    return x, labels


def start(seed: int, steps: int, full_batch: bool = False) -> Start:
    """Initial weights (uniform in +-1/sqrt(inputs), as PyTorch's Linear) and mini-batches of shuffled epochs."""
    rng = np.random.default_rng(seed)
    theta = np.empty(PARAMETERS, dtype=np.float32)
    w1, w2, b1, b2 = _views(theta)
    for array, inputs in ((w1, INPUTS), (b1, INPUTS), (w2, HIDDEN), (b2, HIDDEN)):
        bound = 1.0 / np.sqrt(inputs)
        array[...] = rng.uniform(-bound, bound, array.shape)
    if full_batch:
        rows = np.tile(np.arange(TRAINING), (steps, 1))
    else:
        epoch = TRAINING // BATCH
        epochs = [rng.permutation(TRAINING)[: epoch * BATCH] for _ in range(-(-steps // epoch))]
        rows = np.concatenate(epochs).reshape(-1, BATCH)[:steps]
    size = rows.shape[1]
    work = tuple(np.empty((size, width), dtype=np.float32) for width in (INPUTS, HIDDEN, CLASSES, HIDDEN))
    return Start(theta, WEIGHTS, data(), rows, work)


def run(config: OptimizerConfig, seed: int, steps: int) -> TrialRecord:
    """One training of digits-mlp."""
    return train(PROGRAM, config, seed, start(seed, steps, config.batch == "full"))


DIGITS_MLP = Task(
    name="digits-mlp",
    title="MLP 64-32-10 on scikit-learn's handwritten digits, batch 32",
    metric="validation cross-entropy",
    steps=500,
    profile=TaskProfile(
        domain="vision", architecture="mlp", parameters=PARAMETERS, samples=TRAINING, batch_size=BATCH, steps=500
    ),
    train=run,
)
