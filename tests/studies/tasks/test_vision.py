"""The data of the tasks on images."""

from __future__ import annotations

import numpy as np

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks import datasets, get
from optadvisor.studies.tasks.vision import images, photos
from optadvisor.studies.tasks.vision.autoencoder import destroy
from tests.studies.tasks.checks import Point


def test_wrong_labels_are_as_many_as_asked_for_and_only_in_the_training_part():
    _, right = datasets.digits()
    before = np.zeros(len(right), dtype=bool)
    for share in (0.0, 0.1, 0.3):
        _, labels = images.labelled_digits(share)
        wrong = labels != right
        assert wrong.sum() == round(share * images.TRAINING)
        assert not wrong[images.TRAINING :].any()
        assert (before <= wrong).all(), "more noise is the same noise and more"
        assert labels.min() >= 0
        assert labels.max() < images.CLASSES
        before = wrong


def test_photographs_are_grey_pictures():
    pictures = datasets.photographs()
    assert pictures.shape == (2, 427, 640)
    assert pictures.dtype == np.float32
    assert 0 <= pictures.min() < 0.1
    assert 0.9 < pictures.max() <= 1


def test_patches_come_from_the_columns_of_their_part():
    x, photo, row = photos.patches()
    pictures = datasets.photographs()
    assert len(x) == len(photo) == len(row) == photos.ENDS[-1]
    seen = set()
    for begin, end, left, right in ((0, 2400, 0, 384), (2400, 2656, 384, 512), (2656, 2912, 512, 640)):
        for i in range(begin, end):
            columns = range(left, right, 8)
            lines = pictures[photo[i], row[i] : row[i] + 8]
            place = next(c for c in columns if np.array_equal(lines[:, c : c + 8].reshape(-1), x[i]))
            seen.add((photo[i], row[i], place, left))
        assert photo[begin:end].mean() == 0.5
    assert len(seen) > 0.99 * len(x), "no patch twice, but for some of plain sky that are alike"


def test_the_textures_classes_are_about_as_large():
    counts = np.bincount(get("photo-textures").problem.integers)
    assert len(counts) == 10
    assert counts.min() > 200


def test_the_share_of_pixels_asked_for_is_destroyed():
    x, out = np.ones((200, 64)), np.full((200, 64), np.nan)
    for share in (0.0, 0.3, 0.6):
        specialise(destroy, "test")(x, share, 7, out)
        assert set(np.unique(out)) <= {0.0, 1.0}
        assert abs((out == 0).mean() - share) < 0.02


def test_the_denoiser_s_value_is_the_error_after_cleaning():
    """A net that predicts no noise leaves all of it: its mean square is the noise's variance."""
    point = Point(get("photo-denoiser:noise=0.2"))
    point.theta[:] = 0
    error, ratio = point.scores(0)
    assert abs(error / 0.04 - 1) < 0.03
    assert ratio == -10 * np.log10(error)


def test_a_fixed_evaluation_has_the_same_noise_each_time():
    for name in ("photo-denoiser", "digits-autoencoder"):
        point = Point(get(name))
        first = point.scores(0)
        point.step = 99
        np.testing.assert_array_equal(point.scores(0), first)
        point.key = 54321
        assert point.scores(0)[0] != first[0]
