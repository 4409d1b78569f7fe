"""What `Optimizer` refuses on a GPU: the CPU's messages, and those that only a GPU gives rise to."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import InputError, Optimizer
from optadvisor.kernels.cuda.arrays import DeviceArray, device_array, stream_handle

from ..cases import start
from .places import INSTALLED, runs_kernels, to_device

HIDDEN = """
import sys
sys.modules["numba_cuda"] = None
import importlib.util, numpy as np
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numba_cuda" else find(name, *rest)
import optadvisor.kernels as kernels
p = np.zeros(3)
kernels.Optimizer("sgd", [p]).step([np.ones(3)])
assert p[0] < 0
try:
    kernels.Optimizer("sgd", [p], device="cuda")
except kernels.InputError as error:
    print(error)
"""


def test_without_numba_cuda_the_cpu_works_and_the_gpu_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True, check=True)
    assert "the GPU needs numba-cuda, which is not installed: pip install 'optadvisor[cuda]'" in done.stdout


NO_DRIVER = """
import numpy as np
from optadvisor.kernels import InputError, Optimizer
try:
    Optimizer("sgd", [np.zeros(3)], device="cuda")
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(not INSTALLED, reason="numba-cuda is not installed: make test-cuda")
def test_without_a_driver_the_gpu_is_refused():
    import os

    hidden = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", NO_DRIVER], capture_output=True, text=True, check=True, env=hidden)
    assert "a GPU was asked for, but there is no CUDA device or driver" in done.stdout


def test_importing_the_package_imports_no_cuda():
    code = (
        "import sys, optadvisor.kernels.optimizer; "
        "print([m for m in sys.modules if m.startswith(('numba_cuda', 'numba.cuda', 'cuda.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_device_and_stream_are_checked_on_the_cpu_too():
    with pytest.raises(InputError, match="unknown device 'gpu'"):
        Optimizer("sgd", [np.zeros(3)], device="gpu")
    with pytest.raises(InputError, match="stream is for arrays on a GPU"):
        Optimizer("sgd", [np.zeros(3)], stream=7)
    Optimizer("sgd", [np.zeros(3)], device="cpu").step([np.ones(3)])


def test_handles_of_streams():
    class Torch:
        cuda_stream = 42

    class CuPy:
        ptr = 43

    class Protocol:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, 44

    assert [stream_handle(s) for s in (None, 0, 1, 2, 41, Torch(), CuPy(), Protocol())] == [1, 1, 1, 2, 41, 42, 43, 44]


class Exported:
    """An array of another library: an interface, and torch's `detach`."""

    def __init__(self, **changes: Any) -> None:
        self.interface = {"shape": (2, 3), "typestr": "<f4", "data": (4096, False), "version": 3, **changes}

    def detach(self) -> Any:
        return type("Detached", (), {"__cuda_array_interface__": self.interface})()

    @property
    def __cuda_array_interface__(self) -> Any:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad")


@pytest.mark.parametrize(
    ("changes", "contiguous"),
    [
        ({}, True),
        ({"strides": None}, True),
        ({"strides": (12, 4)}, True),
        ({"strides": (4, 8)}, False),
        ({"shape": (1, 3), "strides": (999, 4)}, True),
        ({"shape": (0, 3), "strides": (1, 1)}, True),
        ({"shape": (), "strides": ()}, True),
    ],
)
def test_interfaces_are_read(changes: dict[str, Any], contiguous: bool):
    array = device_array(Exported(**changes))
    assert array is not None
    assert (array.address, array.dtype, array.contiguous, array.stream) == (4096, np.float32, contiguous, 1)


def test_interface_is_handed_on():
    array = device_array(Exported(stream=7))
    assert array is not None
    again = device_array(type("Other", (), {"__cuda_array_interface__": array.__cuda_array_interface__})())
    assert again is not None
    assert dataclasses.replace(again, owner=None) == dataclasses.replace(array, owner=None)


def frozen(array: DeviceArray) -> DeviceArray:
    return dataclasses.replace(array, writeable=False)


def strided(array: DeviceArray) -> DeviceArray:
    return dataclasses.replace(array, contiguous=False)


@runs_kernels
class TestOnDevice:
    REFUSED: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
        "mixed places": (
            lambda: {"a": to_device(np.zeros(2)), "b": np.zeros(2)},
            {},
            ["params['a'] is on a GPU and params['b'] is not"],
        ),
        "NumPy for cuda": (
            lambda: [np.zeros(2)],
            {"device": "cuda"},
            ["device is 'cuda'", "params[0] is a NumPy array"],
        ),
        "GPU for cpu": (
            lambda: [to_device(np.zeros(2))],
            {"device": "cpu"},
            ["device is 'cpu'", "params[0] is on a GPU"],
        ),
        "integers": (lambda: [to_device(np.zeros(2, int))], {}, ["params[0] is int64"]),
        "read-only": (lambda: [frozen(to_device(np.zeros(2)))], {}, ["params[0] is read-only"]),
        "strided": (lambda: [strided(to_device(np.zeros(2)))], {}, ["params[0] is not C-contiguous"]),
        "one array": (lambda: to_device(np.zeros(2)), {}, ["params is DeviceArray", "list or dict"]),
        "two streams": (
            lambda: [to_device(np.zeros(2)), dataclasses.replace(to_device(np.zeros(2)), stream=9)],
            {},
            ["params[0] and params[1] are on different CUDA streams"],
        ),
        "unknown keyword": (
            lambda: [to_device(np.zeros(2))],
            {"betas": (0.9, 0.99)},
            ["hyperparameter of sgd 'betas'"],
        ),
    }

    @pytest.mark.parametrize("name", REFUSED)
    def test_refused_at_once(self, name: str):
        make, keywords, expected = self.REFUSED[name]
        with pytest.raises(InputError) as caught:
            Optimizer("sgd", make(), **keywords)
        for part in expected:
            assert part in str(caught.value)

    def test_the_same_memory_twice(self):
        array = to_device(np.zeros(4))
        with pytest.raises(InputError, match=r"params\[0\] and params\[1\] share memory"):
            Optimizer("sgd", [array, array])

    GRADIENTS: dict[str, tuple[Any, list[str]]] = {
        "missing one": (lambda: {"a": to_device(np.ones(2))}, ["expected the gradient of params['b']", "found none"]),
        "wrong shape": (
            lambda: {"a": to_device(np.ones(2)), "b": to_device(np.ones((3, 1)))},
            ["grads['b'] is float64[3, 1]", "float64[3]"],
        ),
        "wrong dtype": (
            lambda: {"a": to_device(np.ones(2)), "b": to_device(np.ones(3, np.float32))},
            ["grads['b'] is float32[3]"],
        ),
        "NumPy": (lambda: {"a": to_device(np.ones(2)), "b": np.ones(3)}, ["grads['b'] is ndarray", "on the GPU"]),
        "None": (lambda: {"a": to_device(np.ones(2)), "b": None}, ["grads['b'] is NoneType"]),
        "strided": (
            lambda: {"a": to_device(np.ones(2)), "b": strided(to_device(np.ones(3)))},
            ["grads['b'] is not C-contiguous"],
        ),
        "rows of a vector": (lambda: {"a": (np.zeros(1, int), np.ones(2)), "b": None}, ["grads['a']", "only tables"]),
        "stream": (
            lambda: {"a": to_device(np.ones(2)), "b": dataclasses.replace(to_device(np.ones(3)), stream=9)},
            ["grads['b'] is on CUDA stream 0x9, the optimizer on 0x1"],
        ),
    }

    @pytest.mark.parametrize("name", GRADIENTS)
    def test_wrong_gradients_change_nothing(self, name: str):
        make, expected = self.GRADIENTS[name]
        params = {"a": to_device(start((2,))), "b": to_device(start((3,)))}
        optimizer = Optimizer("adagrad", params)
        with pytest.raises(InputError) as caught:
            optimizer.step(make())
        for part in expected:
            assert part in str(caught.value)
        np.testing.assert_array_equal(params["a"].copy_to_host(), start((2,)))
        assert optimizer.steps_done == 0
