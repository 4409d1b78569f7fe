"""A NaN or Inf gradient never gets in unasked: raise, skip or ignore."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import NonFiniteGradient, Optimizer

from .cases import CASES, Case, noise, start


def snapshot(optimizer: Optimizer, arrays: list[np.ndarray]) -> list[bytes]:
    """Every bit of the parameters, the state and the step count."""
    state = optimizer.state_dict()
    kept = [a.tobytes() for group in state["groups"] for found in group["state"].values() for a in found]
    return [array.tobytes() for array in arrays] + kept + [str(state["steps_done"]).encode()]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_raises_before_anything_changes(case: Case, dtype: type, bad: float):
    arrays = [start((3,), dtype), start((5, 7), dtype)]
    optimizer = Optimizer(case.rule, arrays, convention=case.convention, **case.hyperparameters)
    gradients = [noise((3,), 2, dtype), noise((5, 7), 2, dtype)]
    optimizer.step([g[0] for g in gradients])
    before = snapshot(optimizer, arrays)
    gradients[1][1][4, 6] = bad
    with pytest.raises(NonFiniteGradient, match=r"params\[1\] is (nan|-?inf) at flat index 34 \(step 2\)"):
        optimizer.step([g[1] for g in gradients])
    assert snapshot(optimizer, arrays) == before
    assert issubclass(NonFiniteGradient, FloatingPointError)


@pytest.mark.parametrize("place", range(3))
def test_no_group_changes_if_any_gradient_is_bad(place: int):
    """Groups of two rules and two dtypes: the last is looked at before the first is written."""
    arrays = [start((4,)), start((4,), np.float32), start((20,))]
    optimizer = Optimizer(
        "adam", [{"params": arrays[:1]}, {"params": arrays[1:2]}, {"params": arrays[2:], "rule": "ftrl"}]
    )
    grads = [{"params": [np.ones_like(array)]} for array in arrays]
    optimizer.step(grads)
    before = snapshot(optimizer, arrays)
    grads[place]["params"][0][-1] = np.nan
    with pytest.raises(NonFiniteGradient, match=rf"params\[{place}\]\[0\]"):
        optimizer.step(grads)
    assert snapshot(optimizer, arrays) == before


def test_bad_first_step_leaves_a_fresh_optimizer():
    p, reference = start((4,)), start((4,))
    optimizer, other = Optimizer("adam", [p]), Optimizer("adam", [reference])
    with pytest.raises(NonFiniteGradient):
        optimizer.step([np.full(4, np.nan)])
    for gradient in noise((4,), 3):
        optimizer.step([gradient])
        other.step([gradient])
    np.testing.assert_array_equal(p, reference)


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
def test_lr_of_a_refused_step_is_forgotten(on_nonfinite: str):
    p, gradient = np.zeros(1), np.ones(1)
    optimizer = Optimizer("sgd", [p], lr=0.25, on_nonfinite=on_nonfinite)
    optimizer.step([gradient])
    if on_nonfinite == "raise":
        with pytest.raises(NonFiniteGradient):
            optimizer.step([np.full(1, np.nan)], lr=8.0)
    else:
        assert optimizer.step([np.full(1, np.nan)], lr=8.0) is False
    optimizer.step([gradient])
    assert p[0] == -0.5


@pytest.mark.parametrize("several", [False, True])
def test_skip_leaves_the_step_out(several: bool):
    arrays = [start((4,)), start((3,))]
    groups: Any = [{"params": [a]} for a in arrays] if several else arrays

    def wrap(grads: list[np.ndarray]) -> Any:
        return [{"params": [g]} for g in grads] if several else grads

    optimizer = Optimizer("adam", groups, on_nonfinite="skip")
    good = [np.ones(4), np.ones(3)]
    assert optimizer.step(wrap(good)) is True
    before = snapshot(optimizer, arrays)
    assert optimizer.step(wrap([np.ones(4), np.array([0.0, np.inf, 0.0])])) is False
    assert snapshot(optimizer, arrays) == before
    assert optimizer.step(wrap(good)) is True
    assert optimizer.steps_done == 2


@pytest.mark.parametrize("several", [False, True])
def test_ignore_lets_it_in(several: bool):
    arrays = [start((4,)), start((3,))]
    groups: Any = [{"params": [a]} for a in arrays] if several else arrays
    grads: Any = [np.array([1.0, np.nan, 1.0, 1.0]), np.ones(3)]
    if several:
        grads = [{"params": [g]} for g in grads]
    optimizer = Optimizer("adam", groups, on_nonfinite="ignore")
    assert optimizer.step(grads) is True
    assert np.isnan(arrays[0]).tolist() == [False, True, False, False]
    assert np.isfinite(arrays[1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_finite_number_passes(dtype: type):
    """The largest, the smallest and the subnormal numbers have not all exponent bits set."""
    limits = np.finfo(dtype)
    gradient = np.array([limits.max, limits.min, limits.tiny, limits.smallest_subnormal, 0.0, -0.0], dtype)
    p = np.zeros(6, dtype)
    assert Optimizer("sgd", [p], lr=0.5).step([gradient]) is True
    np.testing.assert_array_equal(p, -dtype(0.5) * gradient)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bad_number_is_found_at_every_place(dtype: type):
    """Behind the vectorised part of the loop as well as inside it."""
    for place in range(67):
        gradient = np.zeros(67, dtype)
        gradient[place] = np.nan
        with pytest.raises(NonFiniteGradient, match=f"flat index {place} "):
            Optimizer("sgd", [np.zeros(67, dtype)]).step([gradient])


def test_index_counts_in_the_gradient_as_passed():
    gradient = np.zeros((3, 4)).T
    gradient[1, 2] = np.inf
    with pytest.raises(NonFiniteGradient, match=r"inf at flat index 5 "):
        Optimizer("sgd", [np.zeros((4, 3))]).step([gradient])
