"""Every refusal of `Optimizer`: what it says, and that it happens before anything is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import InputError, Optimizer

from .cases import start


def frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


BLOCK = np.zeros(10)

# Arguments of Optimizer -> what the message says.
REFUSED: dict[str, tuple[tuple[Any, Any], dict[str, Any], list[str]]] = {
    "unknown rule": (("adamv", [np.zeros(2)]), {}, ["optimizer 'adamv'", "did you mean 'adam", "ftrl"]),
    "rule in capitals": (("AdamW", [np.zeros(2)]), {}, ["did you mean 'adamw'"]),
    "rule of another type": ((["adam"], [np.zeros(2)]), {}, ["unknown optimizer", "adam"]),
    "unknown keyword": (
        ("adam", [np.zeros(2)]),
        {"weightdecay": 0.1},
        ["hyperparameter of adam 'weightdecay'", "did you mean 'weight_decay'", "betas"],
    ),
    "keyword of another rule": (("sgd", [np.zeros(2)]), {"betas": (0.9, 0.99)}, ["hyperparameter of sgd 'betas'"]),
    "NaN lr": (("sgd", [np.zeros(2)]), {"lr": np.nan}, ["lr is nan", "at least 0"]),
    "infinite lr": (("sgd", [np.zeros(2)]), {"lr": np.inf}, ["lr is inf", "at least 0"]),
    "negative lr": (("sgd", [np.zeros(2)]), {"lr": -0.1}, ["lr is -0.1", "at least 0"]),
    "huge integer": (("sgd", [np.zeros(2)]), {"lr": 10**400}, ["sgd: lr is 1000", "takes a number"]),
    "text for a number": (("sgd", [np.zeros(2)]), {"lr": "0.1"}, ["lr is '0.1'", "takes a number"]),
    "bool for a number": (("sgd", [np.zeros(2)]), {"lr": True}, ["lr is True", "takes a number"]),
    "None for a number": (("sgd", [np.zeros(2)]), {"lr": None}, ["lr is None", "takes a number"]),
    "number for a bool": (("adam", [np.zeros(2)]), {"amsgrad": 1}, ["amsgrad is 1", "true or false"]),
    "beta of 1": (("adam", [np.zeros(2)]), {"betas": (0.9, 1.0)}, ["betas is 1.0", "0 to 1 (1 excluded)"]),
    "one beta": (("adam", [np.zeros(2)]), {"betas": 0.9}, ["betas is 0.9", "pair of numbers"]),
    "three betas": (("adam", [np.zeros(2)]), {"betas": (0.9, 0.9, 0.9)}, ["pair of numbers"]),
    "momentum of 1": (("momentum", [np.zeros(2)]), {"momentum": 1.0}, ["momentum is 1.0", "1 excluded"]),
    "dampening above 1": (("momentum", [np.zeros(2)]), {"dampening": 1.5}, ["dampening is 1.5", "0 to 1"]),
    "eps of 0": (("adam", [np.zeros(2)]), {"eps": 0.0}, ["eps is 0.0", "at least 1e-20"]),
    "ftrl lr of 0": (("ftrl", [np.zeros(2)]), {"lr": 0.0}, ["lr is 0.0", "at least 1e-12"]),
    "convention": (("adam", [np.zeros(2)]), {"convention": "paper"}, ["convention of adam 'paper'", "pytorch"]),
    "on_nonfinite": (("adam", [np.zeros(2)]), {"on_nonfinite": "raises"}, ["did you mean 'raise'", "skip"]),
    "one array": (("adam", np.zeros(2)), {}, ["params is ndarray", "list or dict"]),
    "None": (("adam", None), {}, ["params is NoneType"]),
    "text": (("adam", "weights"), {}, ["params is str"]),
    "list in a list": (("adam", [[np.zeros(2)]]), {}, ["params[0] is list"]),
    "a Python number": (("adam", {"bias": 1.0}), {}, ["params['bias'] is float"]),
    "integers": (("adam", [np.zeros(2, int)]), {}, ["params[0] is int64", "astype"]),
    "float16": (("adam", [np.zeros(2, np.float16)]), {}, ["params[0] is float16", "float32 or float64"]),
    "other byte order": (("adam", [np.zeros(2, ">f4")]), {}, ["params[0] is >f4"]),
    "transposed": (("adam", {"w": np.zeros((2, 3)).T}), {}, ["params['w'] is not C-contiguous", "ascontiguousarray"]),
    "strided": (("adam", [np.zeros(6)[::2]]), {}, ["params[0] is not C-contiguous"]),
    "read-only": (("adam", [frozen(np.zeros(2))]), {}, ["params[0] is read-only", "copy"]),
    "twice the same": (("adam", [BLOCK, BLOCK]), {}, ["params[0] and params[1] share memory"]),
    "overlapping": (("adam", {"a": BLOCK[:6], "b": BLOCK[5:]}), {}, ["params['a'] and params['b'] share memory"]),
    "a part in another group": (
        ("adam", [{"params": [BLOCK]}, {"params": [BLOCK[3:4]]}]),
        {},
        ["params[0][0] and params[1][0] share memory"],
    ),
    "group without params": (("adam", [{"lr": 0.1}]), {}, ["params[0]", "without 'params'"]),
    "keyword in a group": (
        ("adam", [{"params": [np.zeros(2)], "lrr": 0.1}]),
        {},
        ["hyperparameter of adam 'lrr'", "did you mean 'lr'"],
    ),
    "rule of a group": (("adam", [{"params": [np.zeros(2)], "rule": "adagrat"}]), {}, ["did you mean 'adagrad'"]),
    "value in a group": (("adam", [{"params": [np.zeros(2)], "lr": -1}]), {}, ["lr is -1"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_at_once(name: str):
    positional, keywords, expected = REFUSED[name]
    with pytest.raises(InputError) as caught:
        Optimizer(*positional, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message


def test_neighbours_in_one_block_do_not_overlap():
    block = np.zeros(10)
    Optimizer("sgd", [block[:5], block[5:], block[2:2]], lr=1.0).step([np.ones(5), np.full(5, 2.0), np.ones(0)])
    np.testing.assert_array_equal(block, [-1.0] * 5 + [-2.0] * 5)


GRADIENTS: dict[str, tuple[Any, list[str]]] = {
    "missing one": ({"a": np.ones(2)}, ["expected the gradient of params['b']", "found none"]),
    "wrong name": ({"a": np.ones(2), "c": np.ones(3)}, ["params['b']", "grads['c']"]),
    "one too many": ({"a": np.ones(2), "b": np.ones(3), "c": np.ones(1)}, ["grads['c'] belongs to no parameter"]),
    "list for a dict": ([np.ones(2), np.ones(3)], ["expected the gradient of params['a']", "grads[0]"]),
    "wrong shape": ({"a": np.ones(2), "b": np.ones((3, 1))}, ["grads['b'] is float64[3, 1]", "float64[3]"]),
    "wrong dtype": ({"a": np.ones(2), "b": np.ones(3, np.float32)}, ["grads['b'] is float32[3]", "float64[3]"]),
    "None": ({"a": np.ones(2), "b": None}, ["grads['b'] is NoneType", "params['b']"]),
    "a list of numbers": ({"a": np.ones(2), "b": [1.0, 1.0, 1.0]}, ["grads['b'] is list"]),
    "one array": (np.ones(2), ["grads is ndarray", "list or dict"]),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_wrong_gradients_change_nothing(name: str):
    grads, expected = GRADIENTS[name]
    params = {"a": start((2,)), "b": start((3,))}
    before = {key: array.copy() for key, array in params.items()}
    optimizer = Optimizer("adam", params)
    with pytest.raises(InputError) as caught:
        optimizer.step(grads)
    for part in expected:
        assert part in str(caught.value)
    for key, array in params.items():
        np.testing.assert_array_equal(array, before[key])
    assert optimizer.steps_done == 0


def test_a_refused_step_leaves_no_trace_in_the_next():
    """The arrays of a good step are remembered; those of a refused one must not take their place."""
    p = [np.zeros(4), np.zeros((3, 2))]
    good = [np.ones(4), np.ones((3, 2))]
    optimizer = Optimizer("momentum", p, lr=1.0, momentum=0.0)
    optimizer.step(good)
    refused = [np.full(4, 100.0), (np.array([0]), np.ones((1, 2)))]  # kept, so that its memory is not used again
    with pytest.raises(InputError, match="momentum has no form for"):
        optimizer.step(refused)
    optimizer.step(good)
    np.testing.assert_array_equal(p[0], -2.0)
    np.testing.assert_array_equal(p[1], -2.0)


@pytest.mark.parametrize("wrong", [None, 3, "grads", np.ones(1), {"a": np.ones(4)}], ids=repr)
def test_what_is_no_gradient_is_refused_after_a_good_step_too(wrong: Any):
    optimizer = Optimizer("sgd", [np.zeros(4)])
    optimizer.step([np.ones(4)])
    with pytest.raises(InputError, match="grads"):
        optimizer.step(wrong)


@pytest.mark.parametrize(
    ("rule", "lr"), [("adam", -1.0), ("adam", np.nan), ("adam", "1"), ("adam", True), ("ftrl", 0.0)]
)
def test_wrong_lr_of_a_step_changes_nothing(rule: str, lr: Any):
    p = start((2,))
    before = p.copy()
    optimizer = Optimizer(rule, [p])
    with pytest.raises(InputError, match=f"{rule}: lr is"):
        optimizer.step([np.ones(2)], lr=lr)
    np.testing.assert_array_equal(p, before)
    assert optimizer.steps_done == 0
