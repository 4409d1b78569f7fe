"""float16 and bfloat16 on a GPU: float32 master weights and arithmetic, the caller's arrays hold them rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import InputError, NonFiniteGradient, Optimizer
from optadvisor.kernels.cuda.arrays import BFLOAT16, DeviceArray, bfloat16, device_array, widened

from ..cases import Case, noise, start
from .places import GPU_DEFAULTS, assert_same, runs_kernels, to_device, to_host

HALVES = [np.dtype(np.float16), BFLOAT16]
NAMES = ["float16", "bfloat16"]
halves = pytest.mark.parametrize("dtype", HALVES, ids=NAMES)
STEPS = 8


@np.errstate(over="ignore", invalid="ignore")
def narrowed(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Rounded to the nearest, ties to even: for bfloat16 by comparing the two neighbours, not by their bits' sum."""
    if dtype != BFLOAT16:
        return array.astype(dtype)
    shape, array = array.shape, np.atleast_1d(np.asarray(array, np.float32))
    low = array.view(np.uint32) & np.uint32(0xFFFF0000)
    down, up = low.view(np.float32).astype(np.float64), (low + np.uint32(0x10000)).view(np.float32).astype(np.float64)
    # Beyond the largest number the next one is where inf stands: as far away as one step more.
    up = np.where(np.isinf(up), 2.0**128 * np.sign(up), up)
    over, under = np.abs(up - array), np.abs(array - down)
    odd = (low >> 16) & 1
    take_up = np.isfinite(array) & ((over < under) | ((over == under) & (odd == 1)))
    rounded = low + np.where(take_up, 0x10000, 0).astype(np.uint32)
    bits = np.where(np.isnan(array), np.uint32(0x7FC00000), rounded) >> 16
    return bits.astype(np.uint16).view(BFLOAT16).reshape(shape)


def half(array: np.ndarray, dtype: Any) -> DeviceArray:
    return to_device(narrowed(array, dtype))


@runs_kernels
@halves
def test_conversions(dtype: Any):
    """Every number of the format, what lies between two of them, ties, overflow, subnormals, infinities."""
    from optadvisor.kernels.cuda import target

    load, store = target.accessors(dtype)
    if not target.SIMULATED:
        pytest.skip("the accessors of a device run in a kernel only")
    every = np.arange(2**16, dtype=np.uint16)
    numbers = widened(every.view(dtype))
    memory = every.copy()
    cell = np.zeros(1, np.uint16)
    for i in range(0, 2**16, 7):
        assert np.array_equal(load(memory.ctypes.data, i), numbers[i], equal_nan=True)
        store(cell.ctypes.data, 0, np.float32(numbers[i]))
        back = widened(cell.view(dtype))[0]
        assert np.array_equal(back, numbers[i], equal_nan=True)
    bits = np.random.default_rng(0).integers(0, 2**32, 3000, dtype=np.uint32)
    ties = (np.arange(0, 2**16, 37, dtype=np.uint32) << 16) | 0x8000
    for value in np.concatenate([bits, ties, ties + 1, ties - 1]).view(np.float32):
        store(cell.ctypes.data, 0, value)
        expected = widened(narrowed(np.array([value]), dtype))
        assert np.array_equal(widened(cell.view(dtype)), expected, equal_nan=True), value


@runs_kernels
@pytest.mark.parametrize("gradient_kind", [*HALVES, np.dtype(np.float32)], ids=[*NAMES, "float32"])
@halves
@pytest.mark.parametrize("shapes", [[(5, 3)], [(3,), (), (0,), (2, 4)]], ids=["arena", "table"])
def test_the_float32_path_rounded(shapes: Any, dtype: Any, gradient_kind: Any):
    """Master weights go the CPU's float32 way from the same start; the caller's arrays hold them rounded."""
    begin = [widened(narrowed(start(s, np.float32, i), dtype)).reshape(s) for i, s in enumerate(shapes)]
    host = [p.copy() for p in begin]
    device = [half(p, dtype) for p in begin]
    options: dict[str, Any] = {"lr": 1e-3, "ema_decay": 0.9}
    cpu, gpu = Optimizer("adamw", host, **options), Optimizer("adamw", device, **options)
    for t in range(STEPS):
        scaled = [narrowed(4 * noise(s, STEPS, np.float32, i)[t], gradient_kind) for i, s in enumerate(shapes)]
        gpu.step([to_device(g.reshape(s)) for g, s in zip(scaled, shapes, strict=True)], grad_scale=4.0)
        cpu.step([widened(g).reshape(s) for g, s in zip(scaled, shapes, strict=True)], grad_scale=4.0)
    (state,) = gpu.state_dict()["groups"]
    for i, expected in enumerate(host):
        assert_same(to_device(state["state"]["master"][i]), expected, "master")
        assert to_host(device[i]).tobytes() == to_host(half(expected, dtype)).tobytes()
        assert_same(gpu.averages()[i], cpu.averages()[i], "average")
    assert state["params"][0]["dtype"] == ("bfloat16" if dtype == BFLOAT16 else "float16")


@runs_kernels
@halves
@pytest.mark.parametrize("case", GPU_DEFAULTS, ids=str)
def test_every_rule(case: Case, dtype: Any):
    begin = widened(narrowed(start((4, 3), np.float32), dtype))
    host, device = begin.copy(), half(begin, dtype)
    cpu = Optimizer(case.rule, [host], convention=case.convention)
    gpu = Optimizer(case.rule, [device], convention=case.convention)
    for gradient in noise((4, 3), 3, np.float32):
        given = narrowed(gradient, dtype)
        gpu.step([to_device(given)])
        cpu.step([widened(given)])
    assert_same(to_device(gpu.state_dict()["groups"][0]["state"]["master"][0]), host)
    assert to_host(device).tobytes() == to_host(half(host, dtype)).tobytes()


@runs_kernels
@halves
def test_steps_too_small_for_the_format_add_up(dtype: Any):
    """Without master weights a thousandth of the last bit would be lost each time."""
    p = half(np.ones(3, np.float32), dtype)
    optimizer = Optimizer("sgd", [p], lr=1e-4)
    for _ in range(100):
        optimizer.step([half(np.ones(3, np.float32), dtype)])
    np.testing.assert_allclose(to_host(p), 0.99, rtol=4e-3)
    assert (to_host(p) < 1).all()


@runs_kernels
@halves
def test_gradients_in_half_precision_for_float32_parameters(dtype: Any):
    host, device = start((3, 4), np.float32), to_device(start((3, 4), np.float32))
    cpu, gpu = Optimizer("adam", [host], max_norm=1.0), Optimizer("adam", [device], max_norm=1.0)
    for gradient in noise((3, 4), 3, np.float32):
        given = narrowed(gradient, dtype)
        gpu.step([to_device(given)])
        cpu.step([widened(given)])
        assert gpu.grad_norm == pytest.approx(cpu.grad_norm, rel=1e-14)
    np.testing.assert_allclose(to_host(device), host, rtol=1e-6)
    assert "master" not in gpu.state_dict()["groups"][0]["state"]


@runs_kernels
@halves
@pytest.mark.parametrize("rule", ["sgd", "adagrad", "ftrl", "rowwise_adagrad"])
def test_rows_in_half_precision(rule: str, dtype: Any):
    begin = widened(narrowed(start((9, 5), np.float32), dtype))
    host, device = begin.copy(), half(begin, dtype)
    cpu, gpu = Optimizer(rule, [host]), Optimizer(rule, [device])
    ids = np.array([7, 2, 7, 0])
    for gradient in noise((4, 5), 3, np.float32):
        given = narrowed(gradient, dtype)
        gpu.step([(to_device(ids), to_device(given))])
        cpu.step([(ids, widened(given))])
    assert_same(to_device(gpu.state_dict()["groups"][0]["state"]["master"][0]), host)
    assert to_host(device).tobytes() == to_host(half(host, dtype)).tobytes()


@runs_kernels
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@halves
def test_overflow_of_a_scaled_loss_is_found_before_anything_changes(dtype: Any, bad: float):
    p = half(np.ones(4, np.float32), dtype)
    optimizer = Optimizer("adam", [p])
    largest = 65504.0  # of float16
    gradient = np.array([largest, -largest, 0.0, 1.0], np.float32)
    assert optimizer.step([half(gradient, dtype)], grad_scale=65536.0)
    before, state = to_host(p), optimizer.state_dict()
    gradient[2] = bad
    with pytest.raises(NonFiniteGradient, match=r"params\[0\] is (nan|-?inf) at flat index 2 \(step 2\)"):
        optimizer.step([half(gradient, dtype)], grad_scale=65536.0)
    optimizer.on_nonfinite = "skip"
    assert optimizer.step([half(gradient, dtype)], grad_scale=65536.0) is False
    np.testing.assert_array_equal(to_host(p), before)
    np.testing.assert_equal(optimizer.state_dict(), state)


@runs_kernels
@halves
def test_a_saved_state_carries_the_master_weights(dtype: Any):
    gradients = [half(g, dtype) for g in noise((6,), 6, np.float32)]
    through, first = half(start((6,), np.float32), dtype), half(start((6,), np.float32), dtype)
    whole, begun = Optimizer("adamw", [through]), Optimizer("adamw", [first])
    for gradient in gradients:
        whole.step([gradient])
    for gradient in gradients[:3]:
        begun.step([gradient])
    resumed = Optimizer("adamw", [first])
    resumed.load_state_dict(begun.state_dict())
    for gradient in gradients[3:]:
        resumed.step([gradient])
    assert to_host(first).tobytes() == to_host(through).tobytes()
    other = HALVES[1 - HALVES.index(dtype)]
    with pytest.raises(InputError, match=r"params\[0\] was b?float16\[6\], this optimizer has b?float16\[6\]"):
        Optimizer("adamw", [half(start((6,), np.float32), other)]).load_state_dict(begun.state_dict())


@runs_kernels
def test_dtypes_that_do_not_go_together_are_refused():
    wide, one = to_device(np.ones(2)), to_device(np.ones(2, np.float16))
    with pytest.raises(InputError, match=r"grads\[0\] is float16\[2\], but params\[0\] is float64\[2\]"):
        Optimizer("sgd", [wide]).step([one])
    with pytest.raises(InputError, match=r"grads\[0\] is float64\[2\], but params\[0\] is float16\[2\]"):
        Optimizer("sgd", [one]).step([wide])
    single = to_device(np.ones(2, np.float32))
    with pytest.raises(InputError, match=r"gradient of params\[0\] is float16, that of params\[1\] float32"):
        Optimizer("sgd", [to_device(np.ones(2, np.float32)), single]).step([one, single])


def test_on_the_cpu_half_precision_is_refused():
    with pytest.raises(InputError, match=r"params\[0\] is float16; .*float16 and bfloat16 only on a GPU"):
        Optimizer("sgd", [np.zeros(2, np.float16)])


class Torch:
    """What torch's tensors show: bfloat16 is exported as bytes, and by older releases under float16's name."""

    def __init__(self, dtype: str, typestr: str) -> None:
        self.dtype = dtype
        self.__cuda_array_interface__ = {"shape": (2,), "typestr": typestr, "data": (4096, False), "version": 2}


def test_bfloat16_is_never_taken_for_float16():
    exported = [("torch.float16", "<f2"), ("torch.bfloat16", "<f2"), ("torch.bfloat16", "<V2"), ("bfloat16", "<V2")]
    found = [device_array(Torch(*names)) for names in exported]
    assert [array.dtype for array in found if array] == [np.dtype(np.float16), *[BFLOAT16] * 3]
    bits = DeviceArray(None, 4096, (3,), np.dtype(np.int16))
    assert bfloat16(bits) == DeviceArray(None, 4096, (3,), BFLOAT16)
    with pytest.raises(InputError, match="an array of float32; it takes an array of uint16 or int16 on a GPU"):
        bfloat16(DeviceArray(None, 4096, (3,), np.dtype(np.float32)))
    with pytest.raises(InputError, match="got ndarray"):
        bfloat16(np.zeros(3, np.uint16))


def test_every_bfloat16_is_widened():
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0001, 0x8000], np.uint16).view(BFLOAT16)
    np.testing.assert_array_equal(widened(bits), np.array([1.0, -2.0, np.inf, 2.0**-133, -0.0], np.float32))
