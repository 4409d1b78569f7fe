"""A whole probe: what it asks for, what it leaves behind, what it says."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from optadvisor.advisor.rates import Rate
from optadvisor.kernels.errors import InputError, NonFiniteGradient
from optadvisor.probing import Block, measure
from optadvisor.probing import curvature as curving
from optadvisor.probing import probe as probing
from tests.probing.analytic import Quadratic, rotated


def gaussian(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.standard_normal(size) / np.sqrt(size)


def noisy(**more: object) -> Quadratic:
    return Quadratic(rotated(np.geomspace(0.05, 1, 16)), noise=gaussian, batch_size=8, **more)


def test_the_measures_of_a_known_task():
    found = measure(noisy(), seed=3)
    assert found.parameters == 16
    assert found.start.curvature.spread == pytest.approx(20, rel=0.05)
    assert found.warm.curvature.spread == pytest.approx(20, rel=0.05)
    # Noise of variance 1 a mini-batch of 8: trace 8 an example.
    assert found.start.noise.trace == pytest.approx(8.0, rel=0.25)
    assert found.start.tail.alpha == pytest.approx(2.0, abs=0.4)
    assert found.warm_up.lr == found.ranges["adamw"].lr
    assert found.warm.loss < found.start.loss
    assert found.start.agreement > found.warm.agreement


def test_every_gradient_is_counted():
    subject = noisy()
    found = measure(subject, range_test=False, mini_batches=8, steps=5)
    assert found.gradients == len(subject.asked)
    # Two places: 8, and for the mean gradient of all 8 mini-batches 1 + 2 products each of a block, Lanczos, sharpness.
    products = curving.ITERATIONS + 1 + 16 + 2
    assert found.gradients == 2 * (8 + 8 * (1 + 2 * products)) + 5
    assert found.range_steps == 0
    assert found.ranges == {}


def test_the_mini_batches_of_the_places_and_the_warm_up_differ():
    subject = noisy()
    measure(subject, range_test=False, mini_batches=4, steps=3)
    assert set(subject.asked) == set(range(4 + 3 + 4))
    # The first place comes first, then the warm-up, each of its steps once.
    assert [number for number in subject.asked if 4 <= number < 7] == [4, 5, 6]


def test_the_same_seed_gives_the_same_probe():
    one, same, other = (measure(noisy(), seed=seed, mini_batches=12) for seed in (1, 1, 2))
    assert dataclasses.replace(one, seconds=0.0) == dataclasses.replace(same, seconds=0.0)
    assert one.start.curvature != other.start.curvature


def test_it_is_plain_json():
    found = measure(noisy(), mini_batches=9)
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["start"]["noise"]["trace"] == found.start.noise.trace
    assert again["warm"]["curvature"]["blocks"][0]["block"] == "b0"
    assert set(again["ranges"]) == {"adamw", "momentum"}
    assert again["profile"]["parameters"] == 16
    assert again["cost"]["gradients"] == found.gradients


def test_two_mini_batches_tell_no_noise():
    found = measure(noisy(), mini_batches=2, range_test=False)
    assert found.start.noise is None
    assert found.start.tail is None
    assert found.start.agreement is not None


def test_where_few_mini_batches_differ_no_more_are_compared():
    subject = noisy()
    subject.distinct = 5
    assert measure(subject, range_test=False).mini_batches == 5


def test_what_is_held_is_released_even_when_it_fails():
    subject = noisy()
    measure(subject, range_test=False, mini_batches=3)
    broken = noisy(breaks_at=0.5)
    with pytest.raises(NonFiniteGradient, match="quadratic: the loss is nan on mini-batch 0"):
        measure(broken)
    assert (subject.holding, subject.released) == (broken.holding, broken.released) == (1, 1)


def test_a_warm_up_that_diverges_ends_the_probe_there():
    """The loss breaks a little above the start, and the gradient leads there."""
    subject = Quadratic(-np.eye(4), breaks_at=1.05)
    found = measure(subject, range_test=False)
    assert found.warm is None
    assert found.warm_up.diverged_at > 1
    assert found.profile.unstable is True
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["warm"] is None


def test_a_place_after_the_warm_up_where_the_loss_breaks(monkeypatch: pytest.MonkeyPatch):
    """Three steps of 0.01 from 1 have a loss each; a difference's step beside 1.03 leads to where there is none."""
    monkeypatch.setattr(probing.ranging, "from_profile", lambda rule, profile: Rate(0.01, 0.005, 0.02))
    found = measure(Quadratic(-np.eye(4), breaks_at=1.035), range_test=False, steps=3)
    assert found.warm_up.last is not None
    assert found.warm is None
    assert found.warm_up.diverged_at == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [({"mini_batches": 1}, "mini_batches"), ({"steps": 0}, "steps"), ({"seed": -1}, "seed")],
)
def test_wrong_numbers_are_refused(given: dict[str, int], words: str):
    with pytest.raises(InputError, match=words):
        measure(noisy(), **given)


def test_nothing_to_train_is_refused():
    subject = noisy()
    subject.blocks = []
    with pytest.raises(InputError, match="no parameters to train"):
        measure(subject)


def test_of_a_large_model_a_sample_of_parameters_is_compared(monkeypatch: pytest.MonkeyPatch):
    """The norms are scaled up: a quarter of the parameters tells the whole noise."""
    size = 64
    subject = Quadratic(np.eye(size), noise=gaussian, batch_size=8, start=np.full(size, 0.01))
    whole = probing._point(probing.Meter(subject), subject.start(), 0, 32, np.random.default_rng(0))
    monkeypatch.setattr(curving, "MEMORY", 32 * size // 4)
    part = probing._point(probing.Meter(subject), subject.start(), 0, 32, np.random.default_rng(0))
    assert part.tail.entries == size // 4
    assert whole.tail.entries == size
    assert part.noise.trace == pytest.approx(whole.noise.trace, rel=0.25)
    assert part.sparsity == whole.sparsity


def test_progress_tells_what_is_done():
    said: list[str] = []
    measure(noisy(), progress=said.append, mini_batches=3, steps=2)
    assert said == [
        "at the start",
        "range test of adamw",
        "range test of momentum",
        "warm-up of 2 steps",
        "after the warm-up",
    ]


def test_blocks_have_their_roles():
    subject = noisy(blocks=(Block("table", "embedding", (4, 2)), Block("w", "matrix", (8,))))
    found = measure(subject, range_test=False, mini_batches=3)
    assert [line.role for line in found.start.sparsity] == ["embedding", "matrix"]
    assert found.start.sparsity[0].rows_untouched == 0.0
    assert found.start.curvature.of_blocks == 2
