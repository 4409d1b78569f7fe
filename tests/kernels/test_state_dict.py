"""A training that goes on from a saved state is the training that was never stopped."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import InputError, Optimizer

from .cases import CASES, Case, noise, start

SHAPES = {"w": (4, 3), "b": (), "none": (0,)}
STEPS, STOP = 10, 4


def fresh(dtype: type) -> dict[str, np.ndarray]:
    return {name: start(shape, dtype, seed) for seed, (name, shape) in enumerate(SHAPES.items())}


def train(optimizer: Optimizer, dtype: type, first: int, last: int) -> None:
    gradients = {name: noise(shape, STEPS, dtype, seed) for seed, (name, shape) in enumerate(SHAPES.items())}
    for t in range(first, last):
        optimizer.step({name: path[t] for name, path in gradients.items()})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_round_trip_goes_on_with_the_same_path(case: Case, dtype: type):
    through, params = fresh(dtype), fresh(dtype)
    make = lambda p: Optimizer(case.rule, p, convention=case.convention, **case.hyperparameters)  # noqa: E731
    train(make(through), dtype, 0, STEPS)
    stopped = make(params)
    train(stopped, dtype, 0, STOP)
    state = stopped.state_dict()
    kept = copy.deepcopy(state)

    resumed = make(params)
    resumed.load_state_dict(state)
    assert resumed.steps_done == STOP
    train(resumed, dtype, STOP, STEPS)
    for name in SHAPES:
        np.testing.assert_array_equal(params[name], through[name])
    for group, before in zip(state["groups"], kept["groups"], strict=True):  # a copy: later steps leave it alone
        for arrays, old in zip(group["state"].values(), before["state"].values(), strict=True):
            for array, value in zip(arrays, old, strict=True):
                np.testing.assert_array_equal(array, value)


def test_state_from_before_the_first_step():
    """It already holds the initial state: FTRL's z stands for the parameters."""
    params = fresh(np.float64)
    state = Optimizer("ftrl", params).state_dict()
    assert state["steps_done"] == 0
    names = [param["name"] for param in state["groups"][0]["params"]]
    z = dict(zip(names, state["groups"][0]["state"]["z"], strict=True))
    np.testing.assert_allclose(z["params['w']"], -params["w"] / 0.1)


def test_loaded_state_keeps_the_hyperparameters_of_the_optimizer():
    p, other = start((3,)), start((3,))
    first = Optimizer("momentum", [p], lr=0.1)
    first.step([np.ones(3)])
    second = Optimizer("momentum", [other], lr=0.5, momentum=0.5)
    second.load_state_dict(first.state_dict())
    second.step([np.zeros(3)])
    np.testing.assert_allclose(other, start((3,)) - 0.5 * 0.5, rtol=1e-15)


RESUME = """
import json, sys
import numpy as np
from optadvisor.kernels import Optimizer

folder = sys.argv[1]
saved = json.load(open(folder + "/state.json", encoding="utf-8"))
with np.load(folder + "/arrays.npz", allow_pickle=False) as arrays:
    params = {name: arrays["params/" + name] for name in ("w", "b", "none")}
    gradients = {name: arrays["grads/" + name] for name in params}
    for number, group in enumerate(saved["groups"]):
        group["state"] = {
            name: [arrays[f"state/{number}/{name}/{i}"] for i in range(count)] for name, count in group["state"].items()
        }
optimizer = Optimizer("adam", params)
optimizer.load_state_dict(saved)
for t in range(optimizer.steps_done, len(gradients["w"])):
    optimizer.step({name: path[t] for name, path in gradients.items()})
np.savez(folder + "/done.npz", **params)
"""


def test_another_process_goes_on_from_plain_files(tmp_path: Path):
    """Arrays in .npz, the rest as JSON, nothing pickled."""
    dtype = np.float32
    through, params = fresh(dtype), fresh(dtype)
    train(Optimizer("adam", through), dtype, 0, STEPS)
    optimizer = Optimizer("adam", params)
    train(optimizer, dtype, 0, STOP)

    arrays: dict[str, Any] = {f"params/{name}": array for name, array in params.items()}
    for seed, (name, shape) in enumerate(SHAPES.items()):
        arrays[f"grads/{name}"] = np.stack(noise(shape, STEPS, dtype, seed))
    state = optimizer.state_dict()
    for number, group in enumerate(state["groups"]):
        for name, values in group["state"].items():
            arrays.update({f"state/{number}/{name}/{i}": value for i, value in enumerate(values)})
        group["state"] = {name: len(values) for name, values in group["state"].items()}
    np.savez(tmp_path / "arrays.npz", allow_pickle=False, **arrays)
    (tmp_path / "state.json").write_text(json.dumps(state), encoding="utf-8")

    subprocess.run([sys.executable, "-c", RESUME, str(tmp_path)], check=True)
    with np.load(tmp_path / "done.npz") as done:
        for name in SHAPES:
            assert done[name].dtype == dtype
            np.testing.assert_array_equal(done[name], through[name])


def damage(change: str) -> tuple[dict[str, Any], list[str]]:
    """A state of adam on w (3,) and b (2,) with one thing wrong, and what the message says."""
    optimizer = Optimizer("adam", {"w": start((3,)), "b": start((2,))})
    optimizer.step({"w": np.ones(3), "b": np.ones(2)})
    state = optimizer.state_dict()
    group: dict[str, Any] = state["groups"][0]
    if change == "format":
        return {**state, "format": 99}, ["format 99", "reads format 1"]
    if change == "no format":
        return {"steps_done": 1, "groups": []}, ["format None"]
    if change == "steps_done":
        return {**state, "steps_done": -1}, ["steps_done is -1"]
    if change == "steps_done not whole":
        return {**state, "steps_done": 1.5}, ["steps_done is 1.5"]
    if change == "number of groups":
        return {**state, "groups": [group, group]}, ["2 groups", "has 1"]
    if change == "group is no mapping":
        return {**state, "groups": [3]}, ["group 0 has no 'rule'"]
    if change == "group lacks state":
        del group["state"]
        return state, ["group 0 has no 'state'"]
    if change == "rule":
        group["rule"] = "adamw"
        return state, ["rule is 'adamw'", "has 'adam'"]
    if change == "convention":
        group["convention"] = "keras"
        return state, ["convention is 'keras'", "has 'pytorch'"]
    if change == "name":
        group["params"][1]["name"] = "params['v']"
        return state, ["params['v']", "params['w']"]
    if change == "shape of a parameter":
        group["params"][1]["shape"] = (4,)
        return state, ["params['w'] was float64[4]", "float64[3]"]
    if change == "dtype of a parameter":
        group["params"][1]["dtype"] = "float32"
        return state, ["params['w'] was float32[3]", "float64[3]"]
    if change == "missing state":
        del group["state"]["exp_avg_sq"]
        return state, ["'exp_avg_sq' is missing", "exp_avg"]
    if change == "unexpected state":
        group["state"]["max_exp_avg_sq"] = group["state"]["exp_avg"]
        return state, ["'max_exp_avg_sq' is not one of adam"]
    if change == "missing array":
        group["state"]["exp_avg"].pop()
        return state, ["'exp_avg' has 1 arrays for 2 parameters"]
    if change == "shape":
        group["state"]["exp_avg_sq"][1] = np.zeros(4)
        return state, ["'exp_avg_sq' of params['w'] is float64[4]", "float64[3]"]
    assert change == "dtype"
    group["state"]["exp_avg_sq"][1] = np.zeros(3, np.float32)
    return state, ["'exp_avg_sq' of params['w'] is float32[3]", "float64[3]"]


@pytest.mark.parametrize(
    "change",
    [
        "format",
        "no format",
        "steps_done",
        "steps_done not whole",
        "number of groups",
        "group is no mapping",
        "group lacks state",
        "rule",
        "convention",
        "name",
        "shape of a parameter",
        "dtype of a parameter",
        "missing state",
        "unexpected state",
        "missing array",
        "shape",
        "dtype",
    ],
)
def test_wrong_state_is_refused_and_changes_nothing(change: str):
    state, expected = damage(change)
    optimizer = Optimizer("adam", {"w": start((3,)), "b": start((2,))})
    optimizer.step({"w": np.full(3, 2.0), "b": np.full(2, 3.0)})
    before = optimizer.state_dict()
    with pytest.raises(InputError) as caught:
        optimizer.load_state_dict(state)
    for part in expected:
        assert part in str(caught.value)
    after = optimizer.state_dict()
    assert after["steps_done"] == before["steps_done"]
    for name, arrays in before["groups"][0]["state"].items():
        for old, new in zip(arrays, after["groups"][0]["state"][name], strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("state", [None, [], "state"])
def test_something_else_is_refused(state: Any):
    with pytest.raises(InputError, match="state_dict has format"):
        Optimizer("sgd", [start((3,))]).load_state_dict(state)


def test_a_rule_without_state_checks_shapes_too():
    state = Optimizer("sgd", [start((3,))]).state_dict()
    with pytest.raises(InputError, match=r"params\[0\] was float64\[3\], this optimizer has float64\[4\]"):
        Optimizer("sgd", [start((4,))]).load_state_dict(state)
