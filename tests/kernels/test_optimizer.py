"""`Optimizer` over the caller's arrays: structures, shapes, groups, rates, threads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import Optimizer

from .cases import CASES, DEFAULTS, Case, noise, start

SHAPES = [(), (0,), (3,), (2, 3, 4), (17,)]


def alone(rule: str, p: np.ndarray, gradients: list[np.ndarray], **keywords: Any) -> np.ndarray:
    """Where `p` arrives as the only parameter."""
    p = p.copy()
    optimizer = Optimizer(rule, [p], **keywords)
    for gradient in gradients:
        optimizer.step([gradient])
    return p


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", DEFAULTS, ids=str)
def test_list_of_shapes_is_updated_in_place(case: Case, dtype: type):
    arrays = [start(shape, dtype, seed) for seed, shape in enumerate(SHAPES)]
    gradients = [noise(shape, 5, dtype, seed) for seed, shape in enumerate(SHAPES)]
    expected = [alone(case.rule, p, g, convention=case.convention) for p, g in zip(arrays, gradients, strict=True)]
    passed = list(arrays)
    optimizer = Optimizer(case.rule, passed, convention=case.convention)
    for t in range(5):
        assert optimizer.step([g[t] for g in gradients]) is True
    assert optimizer.steps_done == 5
    for before, after, shape, value in zip(arrays, passed, SHAPES, expected, strict=True):
        assert after is before
        assert (after.shape, after.dtype) == (shape, dtype)
        np.testing.assert_array_equal(after, value)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_never_written(case: Case):
    p, gradients = start((4, 3)), noise((4, 3), 3)
    kept = [gradient.copy() for gradient in gradients]
    optimizer = Optimizer(case.rule, [p], convention=case.convention, **case.hyperparameters)
    for gradient in gradients:
        gradient.flags.writeable = False
        optimizer.step([gradient])
    np.testing.assert_array_equal(gradients, kept)


def test_tuple_dict_and_list_are_the_same():
    gradients = noise((3,), 4)
    paths = []
    for wrap in (lambda a: [a], lambda a: (a,), lambda a: {"w": a}, lambda a: [{"params": [a]}]):
        p = start((3,))
        optimizer = Optimizer("adam", wrap(p))
        for gradient in gradients:
            optimizer.step(wrap(gradient))
        paths.append(p)
    for path in paths[1:]:
        np.testing.assert_array_equal(path, paths[0])


def test_dict_goes_by_name_not_by_order():
    one, two = start((3,), seed=1), start((2,), seed=2)
    first, second = np.ones(3), np.full(2, 2.0)
    expected = one - 0.1 * first, two - 0.1 * second
    optimizer = Optimizer("sgd", {"b": one, "a": two}, lr=0.1)
    optimizer.step({"a": second, "b": first})
    np.testing.assert_array_equal(one, expected[0])
    np.testing.assert_array_equal(two, expected[1])


def test_lookahead_has_the_structure_of_params():
    arrays = {10: start((3,), seed=1), 2: start((2,), seed=2)}
    points = Optimizer("nag", arrays, convention="paper").lookahead()
    assert set(points) == {10, 2}
    assert [points[key].shape for key in (10, 2)] == [(3,), (2,)]
    groups = [{"params": []}, {"params": {"w": arrays[10]}}, {"params": arrays[2]}]
    points = Optimizer("nag", groups, convention="paper").lookahead()
    assert points[0] == {"params": []}
    assert points[1]["params"]["w"].shape == (3,)
    assert points[2]["params"].shape == (2,)


def test_zero_dimensional_gradients_may_be_numpy_scalars():
    """NumPy's arithmetic on arrays of shape () returns scalars, not arrays."""
    p = np.array(2.0, np.float32)
    optimizer = Optimizer("sgd", [p], lr=0.25)
    gradient = p * 2
    assert isinstance(gradient, np.float32)
    optimizer.step([gradient])
    assert p == 1.0


@pytest.mark.parametrize(
    "make", [np.asfortranarray, lambda g: np.repeat(g, 2, axis=1)[:, ::2], lambda g: g[::-1][::-1]]
)
def test_gradients_need_not_be_contiguous(make: Any):
    (gradient,) = noise((4, 6), 1)
    p = start((4, 6))
    expected = p - 0.1 * gradient
    Optimizer("sgd", [p], lr=0.1).step([make(gradient)])
    np.testing.assert_allclose(p, expected, rtol=1e-15)


def test_a_gradient_of_broadcast_zeros_is_read_as_it_stands():
    p = start((4, 6))
    expected = p - 0.1 * np.arange(6.0)
    Optimizer("sgd", [p], lr=0.1).step([np.broadcast_to(np.arange(6.0), (4, 6))])
    np.testing.assert_allclose(p, expected, rtol=1e-15)


@pytest.mark.parametrize("case", DEFAULTS, ids=str)
def test_mixed_dtypes_keep_theirs(case: Case):
    dtypes = [np.float32, np.float64, np.float32]
    arrays = [start((5,), dtype, seed) for seed, dtype in enumerate(dtypes)]
    gradients = [noise((5,), 4, dtype, seed) for seed, dtype in enumerate(dtypes)]
    expected = [alone(case.rule, p, g, convention=case.convention) for p, g in zip(arrays, gradients, strict=True)]
    optimizer = Optimizer(case.rule, arrays, convention=case.convention)
    for t in range(4):
        optimizer.step([g[t] for g in gradients])
    for array, dtype, value in zip(arrays, dtypes, expected, strict=True):
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, value)


def test_tensors_never_spill_into_their_neighbours():
    """State lies side by side: sizes on both sides of the padding."""
    sizes = [1, 15, 16, 17, 0, 33]
    arrays = [start((n,), np.float32, n) for n in sizes]
    gradients = [noise((n,), 3, np.float32, n) for n in sizes]
    expected = [alone("adam", p, g) for p, g in zip(arrays, gradients, strict=True)]
    optimizer = Optimizer("adam", arrays)
    for t in range(3):
        optimizer.step([g[t] for g in gradients])
    for array, value in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, value)


def test_groups_of_other_rules_share_the_convention_where_they_have_it():
    params = [
        {"params": [start((2,))]},
        {"params": [start((2,))], "rule": "adagrad"},
        {"params": [start((2,))], "rule": "ftrl"},
        {"params": [start((2,))], "rule": "nag", "convention": "paper"},
    ]
    found = [group.convention for group in Optimizer("adam", params, convention="optax").groups]
    assert found == ["optax", "optax", "pytorch", "paper"]


def test_groups_have_their_own_rule_hyperparameters_and_convention():
    arrays = {name: start((4,), seed=seed) for seed, name in enumerate("abcd")}
    gradients = {name: noise((4,), 6, seed=seed) for seed, name in enumerate("abcd")}
    expected = {
        "a": alone("adamw", arrays["a"], gradients["a"], lr=0.01, weight_decay=0.3),
        "b": alone("adamw", arrays["b"], gradients["b"], lr=0.05, weight_decay=0.3),
        "c": alone("adagrad", arrays["c"], gradients["c"]),
        "d": alone("nag", arrays["d"], gradients["d"], lr=0.2, convention="paper"),
    }
    groups = [
        {"params": [arrays["a"]]},
        {"params": {"b": arrays["b"]}, "lr": 0.05},
        {"params": arrays["c"], "rule": "adagrad"},
        {"params": [arrays["d"]], "rule": "nag", "lr": 0.2, "convention": "paper"},
    ]
    optimizer = Optimizer("adamw", groups, lr=0.01, weight_decay=0.3)
    for t in range(6):
        now = {name: gradients[name][t] for name in gradients}
        optimizer.step(
            [{"params": [now["a"]]}, {"params": {"b": now["b"]}}, {"params": now["c"]}, {"params": [now["d"]]}]
        )
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_lr_of_one_step_counts_for_that_step_and_all_groups():
    one, two = np.zeros(1), np.zeros(1)
    optimizer = Optimizer("sgd", [{"params": [one]}, {"params": [two], "lr": 0.5}], lr=0.25)
    ones = [{"params": [np.ones(1)]}, {"params": [np.ones(1)]}]
    optimizer.step(ones, lr=2.0)
    assert (one[0], two[0]) == (-2.0, -2.0)
    optimizer.step(ones)
    assert (one[0], two[0]) == (-2.25, -2.5)


def test_lr_of_one_step_is_gone_in_the_next_of_a_single_group():
    p, gradient = np.zeros(1), np.ones(1)
    optimizer = Optimizer("sgd", [p], lr=0.25)
    for lr, expected in ((None, -0.25), (2.0, -2.25), (None, -2.5), (None, -2.75)):
        optimizer.step([gradient], lr=lr)
        assert p[0] == expected


@pytest.mark.parametrize("lr", [np.float32(0.5), np.float64(0.5), np.array(0.5)])
def test_lr_may_be_a_numpy_number(lr: Any):
    p = np.zeros(1, np.float32)
    optimizer = Optimizer("sgd", [p], lr=lr)
    optimizer.step([np.ones(1, np.float32)])
    optimizer.step([np.ones(1, np.float32)], lr=lr)
    assert p[0] == -1.0


@pytest.mark.parametrize("contiguous", [True, False])
def test_gradients_written_in_place_between_steps_are_read_anew(contiguous: bool):
    """Also where a step works on a copy, which the next step must not take for the gradient."""
    p, buffer = np.zeros((2, 3)), np.zeros((2, 3)) if contiguous else np.zeros((3, 2)).T
    optimizer = Optimizer("sgd", {"w": p}, lr=1.0)
    for value in (1.0, 10.0, 100.0):
        buffer[...] = value
        optimizer.step({"w": buffer})
    np.testing.assert_array_equal(p, -111.0)


@pytest.mark.parametrize("empty", [[], {}, ()])
def test_no_parameters_are_no_error(empty: Any):
    optimizer = Optimizer("adam", empty)
    assert optimizer.step(empty) is True
    assert optimizer.steps_done == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_second_step_compiles_nothing(case: Case, dtype: type):
    optimizer = Optimizer(case.rule, [start((3, 1), dtype)], convention=case.convention, **case.hyperparameters)
    kernel: Any = optimizer.groups[0].kernel
    for t, gradient in enumerate(noise((3, 1), 3, dtype)):
        optimizer.step([gradient], lr=None if t else np.float32(0.1))
        assert len(kernel.signatures) == 1
    other = Optimizer(case.rule, {"a": start((2, 2), dtype)}, convention=case.convention, **case.hyperparameters)
    other.step({"a": start((2, 2), dtype)})
    assert other.groups[0].kernel is kernel
    assert len(kernel.signatures) == 1


def test_optimizers_step_side_by_side_in_threads():
    rules = ["adam", "adam", "momentum", "ftrl"]
    gradients = [noise((2000,), 60, np.float32, seed) for seed in range(4)]
    expected = [alone(rule, start((2000,), np.float32), g) for rule, g in zip(rules, gradients, strict=True)]
    arrays = [start((2000,), np.float32) for _ in rules]
    ready = threading.Barrier(len(rules))

    def train(rule: str, p: np.ndarray, path: list[np.ndarray]) -> None:
        optimizer = Optimizer(rule, [p])
        ready.wait()
        for gradient in path:
            optimizer.step([gradient])

    threads = [threading.Thread(target=train, args=job) for job in zip(rules, arrays, gradients, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for array, value in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_norm_of_large_gradients_does_not_overflow(dtype: type):
    """1e25 squared is no float32: the squares are summed in float64."""
    p = np.zeros(4, dtype)
    optimizer = Optimizer("sgd", [p], lr=1.0, max_norm=1.0)
    optimizer.step([np.full(4, 1e25, dtype)])
    assert optimizer.grad_norm == pytest.approx(2e25)
    np.testing.assert_allclose(p, -0.5, rtol=1e-6)
