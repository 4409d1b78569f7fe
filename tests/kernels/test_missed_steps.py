"""Steps that a parameter misses, hyperparameters that change, and a group's step on several threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import InputError, Optimizer, sharing
from optadvisor.kernels.loops import SIZE
from optadvisor.kernels.sharing import Shared, shared

from .cases import DEFAULTS, Case, noise, start


def run(case: Case, steps: int, misses: dict[int, set[int]], shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """The parameters after steps in which parameter i has no gradient in those of misses[i], bound by hand."""
    params = [start(shape, np.float32, i) for i, shape in enumerate(shapes)]
    gradients = [noise(shape, steps, np.float32, i) for i, shape in enumerate(shapes)]
    optimizer = Optimizer(case.rule, params, convention=case.convention)
    for step in range(steps):
        absent = {i for i in misses if step in misses[i]}
        for group in optimizer.groups:
            for k, i in enumerate(group.positions):
                group.bind(k, None if i in absent else gradients[i][step])
        if len(absent) < len(params):
            optimizer.advance()
        for group in optimizer.groups:
            for k, i in enumerate(group.positions):
                group.delays[k] += i in absent
    return params


@pytest.mark.parametrize("case", DEFAULTS, ids=str)
def test_a_parameter_that_misses_steps_is_where_it_were_alone(case: Case):
    shapes = [(3, 4), (3, 4), (3, 4)]
    found = run(case, 8, {0: {1, 2}, 1: {0, 5, 7}}, shapes)
    for i, missed in enumerate([{1, 2}, {0, 5, 7}, set()]):
        alone = start(shapes[i], np.float32, i)
        optimizer = Optimizer(case.rule, [alone], convention=case.convention)
        for step, gradient in enumerate(noise(shapes[i], 8, np.float32, i)):
            if step not in missed:
                optimizer.step([gradient])
        np.testing.assert_array_equal(found[i], alone)


def test_rows_of_a_table_that_missed_steps():
    tables = [start((6, 3), np.float32) for _ in range(2)]
    rows = np.array([[1.0, -2.0, 3.0]], np.float32)
    late, alone = (Optimizer("adam", [table]) for table in tables)
    late.groups[0].bind(0, None)
    late.advance()
    late.groups[0].delays[0] += 1
    for i in (2, 2, 4):
        ids = np.array([i])
        late.groups[0].sparse.clear()
        late.groups[0].bind(0, (ids, rows))
        late.advance()
        alone.step([(ids, rows)])
    np.testing.assert_array_equal(*tables)


@pytest.mark.parametrize("changed", [{"lr": 0.5}, {"betas": (0.5, 0.6), "eps": 1e-3}, {"weight_decay": 0.3}])
def test_hyperparameters_change_between_steps(changed: dict[str, Any]):
    a, b = start((4,), np.float32), start((4,), np.float32)
    first, *rest = noise((4,), 4, np.float32)
    tuned, fresh = Optimizer("adamw", [a]), Optimizer("adamw", [b])
    tuned.step([first])
    fresh.step([first])
    state = fresh.state_dict()
    fresh = Optimizer("adamw", [b], **changed)
    fresh.load_state_dict(state)
    assert tuned.groups[0].retune(changed)
    for gradient in rest:
        tuned.step([gradient])
        fresh.step([gradient])
    np.testing.assert_array_equal(a, b)
    assert tuned.groups[0].hyperparameters == fresh.groups[0].hyperparameters


def test_a_change_that_needs_other_states_is_left_to_the_caller():
    group = Optimizer("rmsprop", [start((4,), np.float32)]).groups[0]
    before = dict(group.hyperparameters)
    assert not group.retune({"momentum": 0.9, "lr": 0.5})
    assert (group.hyperparameters, group.numbers[1]) == (before, before["lr"])


def test_the_peak_of_a_schedule_is_told_apart_from_lr():
    paths = []
    for peak in (0.01, 0.02):
        p = start((4,), np.float32)
        optimizer = Optimizer("adamw", [p], convention="paper", lr=0.01, weight_decay=0.1)
        optimizer.groups[0].retune({"lr": 0.005}, peak)
        optimizer.step([np.zeros(4, np.float32)])
        paths.append((start((4,), np.float32) - p) / start((4,), np.float32))
    np.testing.assert_allclose(paths[0], 0.1 * 0.5, rtol=1e-5)  # weight_decay times lr over its peak
    np.testing.assert_allclose(paths[1], 0.1 * 0.25, rtol=1e-5)


def test_refused_changes_change_nothing():
    group = Optimizer("ftrl", [start((4,), np.float32)], lr=0.1).groups[0]
    with pytest.raises(
        InputError, match="ftrl keeps its state in units of 1/lr: its schedule is constant, not one that changes lr"
    ):
        group.retune({"lr": 0.2})
    with pytest.raises(InputError, match="unknown hyperparameter of ftrl 'l3'"):
        group.retune({"l3": 0.2})
    assert group.lr == 0.1


SIZES = [5000, 0, 7, 20_000, 1]


@pytest.fixture
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "LEAST", 4096)


@pytest.mark.parametrize("case", [c for c in DEFAULTS if c.rule in ("sgd", "adamw", "adam", "rmsprop")], ids=str)
@pytest.mark.parametrize("on_nonfinite", ["raise", "ignore"])
def test_threads_take_the_same_steps(small_shares: None, case: Case, on_nonfinite: str):
    paths = []
    for threads in (1, 3):
        params = [start((size,), np.float32, i) for i, size in enumerate(SIZES)]
        keywords: dict[str, Any] = {"on_nonfinite": on_nonfinite, "ema_decay": 0.9, "max_norm": 1.0}
        optimizer = Optimizer(case.rule, params, convention=case.convention, threads=threads, **keywords)
        assert isinstance(optimizer.groups[0].kernel, Shared) == (threads > 1)
        for step in range(2):
            optimizer.step([start((size,), np.float32, 9 + i + step) for i, size in enumerate(SIZES)])
        paths.append((params, optimizer.averages(), optimizer.grad_norm))
    for one, several in zip(paths[0][0] + paths[0][1], paths[1][0] + paths[1][1], strict=True):
        np.testing.assert_allclose(one, several, rtol=1e-6, atol=1e-7)  # the norm is summed in another order
    assert paths[0][2] == pytest.approx(paths[1][2])


def test_threads_without_clipping_are_equal_to_the_bit(small_shares: None):
    found = []
    for threads in (1, 2):
        params = [start((size,), np.float32, i) for i, size in enumerate(SIZES)]
        optimizer = Optimizer("adamw", params, threads=threads)
        for step in range(3):
            optimizer.step([start((size,), np.float32, 9 + i + step) for i, size in enumerate(SIZES)])
        found.append(params)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_threads_look_at_all_gradients_before_one_writes(small_shares: None):
    params = [np.ones(size, np.float32) for size in SIZES]
    optimizer = Optimizer("adamw", params, threads=2)
    gradients = [np.ones(size, np.float32) for size in SIZES]
    gradients[3][-1] = np.nan
    with pytest.raises(FloatingPointError, match=rf"params\[3\] is nan at flat index {SIZES[3] - 1}"):
        optimizer.step(gradients)
    assert all((p == 1).all() for p in params)


def test_shares_cover_every_element_once(small_shares: None):
    optimizer = Optimizer("sgd", [np.zeros(size, np.float32) for size in SIZES])
    seen = [np.zeros(size, int) for size in SIZES]
    table = optimizer.groups[0].table
    starts = np.array([row[0] for row in table])

    def kernel(pieces: np.ndarray, *_: Any) -> int:
        for piece in pieces:
            row = max(k for k in range(len(SIZES)) if SIZES[k] and starts[k] <= piece[0] < starts[k] + 4 * SIZES[k])
            first = (piece[0] - starts[row]) // 4
            seen[row][first : first + piece[SIZE]] += 1
        return -1

    split = shared(kernel, table, 4, 2)
    assert isinstance(split, Shared)
    split(table, optimizer.groups[0].states, optimizer.groups[0].numbers, 4)
    assert all((counts == 1).all() for counts in seen)


def test_small_groups_stay_on_one_thread():
    optimizer = Optimizer("adamw", [np.ones(1_000_000, np.float32)], threads=8)
    assert not isinstance(optimizer.groups[0].kernel, Shared)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_a_wrong_number_of_threads_is_refused(threads: Any):
    with pytest.raises(InputError, match=r"threads is .*; it takes a whole number, 1 or more"):
        Optimizer("sgd", [np.ones(2, np.float32)], threads=threads)
