"""The contract of `Optimizer` on a GPU: what the CPU does. On the simulator in every bit, on a device if there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import InputError, NonFiniteGradient, Optimizer
from optadvisor.kernels.cuda.arrays import DeviceArray

from ..cases import Case, noise, start
from .places import CPU_ONLY, GPU_CASES, GPU_DEFAULTS, SIMULATED, assert_same, runs_kernels, to_device, to_host

pytestmark = runs_kernels

SHAPES = [(), (0,), (3,), (2, 3, 4), (17,)]
STEPS = 20


class Pair:
    """One optimizer on the CPU and its like on the GPU, fed the same gradients."""

    def __init__(self, rule: str, arrays: Any, **keywords: Any) -> None:
        self.host = [{**group, "params": [a.copy() for a in group["params"]]} for group in arrays]
        self.device = [{**group, "params": [to_device(a) for a in group["params"]]} for group in arrays]
        self.cpu, self.gpu = Optimizer(rule, self.host, **keywords), Optimizer(rule, self.device, **keywords)

    def step(self, gradients: list[list[np.ndarray]], **keywords: Any) -> None:
        done = self.cpu.step([{"params": group} for group in gradients], **keywords)
        moved = [{"params": [to_device(g) for g in group]} for group in gradients]
        assert self.gpu.step(moved, **keywords) is done

    def check(self) -> None:
        # Sums over a row are taken in another order than on the CPU; rounded to float32 they come out the same here.
        rounded = any(group.form.row_number and group.dtype == np.float64 for group in self.cpu.groups)
        for ours, theirs in zip(self.device, self.host, strict=True):
            for i, (found, expected) in enumerate(zip(ours["params"], theirs["params"], strict=True)):
                assert_same(found, expected, f"parameter {i}", rounded=rounded)
        for ours, theirs in zip(self.gpu.state_dict()["groups"], self.cpu.state_dict()["groups"], strict=True):
            assert ours["hyperparameters"] == theirs["hyperparameters"]
            assert ours["params"] == theirs["params"]
            for name, arrays in theirs["state"].items():
                for i, expected in enumerate(arrays):
                    assert_same(to_device(ours["state"][name][i]), expected, f"{name} {i}", rounded=rounded)


def path(shapes: list[tuple[int, ...]], steps: int, dtype: Any) -> list[list[np.ndarray]]:
    """Gradients of all tensors, step by step."""
    return [list(g) for g in zip(*(noise(s, steps, dtype, seed) for seed, s in enumerate(shapes)), strict=True)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", GPU_CASES, ids=str)
def test_every_rule_over_many_tensors(case: Case, dtype: type):
    arrays = [start(shape, dtype, seed) for seed, shape in enumerate(SHAPES)]
    pair = Pair(case.rule, [{"params": arrays}], convention=case.convention, **case.hyperparameters)
    for gradients in path(SHAPES, STEPS, dtype):
        pair.step([gradients])
    pair.check()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", GPU_CASES, ids=str)
def test_every_rule_over_one_arena(case: Case, dtype: type):
    pair = Pair(case.rule, [{"params": [start((5, 7), dtype)]}], convention=case.convention, **case.hyperparameters)
    for gradients in path([(5, 7)], STEPS, dtype):
        pair.step([gradients])
    pair.check()


@pytest.mark.parametrize("shapes", [[(4096 + 5,)], [(3,), (2 * 4096 + 1,), (4096,)]], ids=["arena", "table"])
def test_more_elements_than_a_chunk(shapes: list[tuple[int, ...]]):
    pair = Pair("adamw", [{"params": [start(s, np.float32, i) for i, s in enumerate(shapes)]}], ema_decay=0.5)
    for gradients in path(shapes, 2, np.float32):
        pair.step([gradients])
    pair.check()


def groups(dtype: Any = np.float32) -> list[dict[str, Any]]:
    """Two rules, two dtypes, decay here and not there, one that goes up."""
    return [
        {"params": [start((3, 4), dtype, 1), start((5,), dtype, 2)], "weight_decay": 0.3},
        {"params": [start((6,), np.float64, 3)], "weight_decay": 0.0, "lr": 0.05},
        {"params": [start((4, 2), dtype, 4), start((), dtype, 5)], "rule": "ftrl", "l1": 0.01},
        {"params": [start((7,), dtype, 6)], "rule": "momentum", "maximize": True},
    ]


def gradients_of(arrays: list[dict[str, Any]], steps: int) -> list[list[list[np.ndarray]]]:
    found = []
    for t in range(steps):
        found.append([[noise(a.shape, steps, a.dtype, a.size)[t] for a in group["params"]] for group in arrays])
    return found


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("grad_scale", [1.0, 64.0])
def test_groups_averages_and_scaling(ema_decay: float | None, grad_scale: float):
    arrays = groups()
    pair = Pair("adamw", arrays, ema_decay=ema_decay)
    for t, gradients in enumerate(gradients_of(arrays, STEPS)):
        pair.step(gradients, grad_scale=grad_scale, lr=0.01 if t == 3 else None)
    pair.check()
    if ema_decay is not None:
        for ours, theirs in zip(pair.gpu.averages(), pair.cpu.averages(), strict=True):
            for found, expected in zip(ours["params"], theirs["params"], strict=True):
                assert_same(found, expected)


@pytest.mark.parametrize("max_norm", [0.5, 1e6], ids=["clips", "leaves alone"])
def test_clipping(max_norm: float):
    """The norm is summed in another order: float64 sums differ in their last bits, the rest follows."""
    arrays = groups()
    pair = Pair("adamw", arrays, max_norm=max_norm, ema_decay=0.9)
    for gradients in gradients_of(arrays, STEPS):
        pair.step(gradients, grad_scale=8.0)
        assert pair.gpu.grad_norm == pytest.approx(pair.cpu.grad_norm, rel=1e-14)
    for ours, theirs in zip(pair.device, pair.host, strict=True):
        for found, expected in zip(ours["params"], theirs["params"], strict=True):
            room = 4 * float(np.finfo(expected.dtype).eps) if SIMULATED else 1e-5
            np.testing.assert_allclose(to_host(found), expected, rtol=room, atol=room)


def test_grad_norm_is_none_before_the_first_step():
    assert Optimizer("sgd", [to_device(start((3,)))], max_norm=1.0).grad_norm is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_non_finite_raises_before_anything_changes(dtype: type, bad: float):
    arrays = groups(dtype)
    pair = Pair("adamw", arrays, max_norm=1.0, ema_decay=0.9)
    good, worse, _ = gradients_of(arrays, 3)
    pair.step(good)
    before = [to_host(a).tobytes() for group in pair.device for a in group["params"]]
    state = pair.gpu.state_dict()
    worse[2][0][1, 1] = bad
    for optimizer, put in ((pair.cpu, lambda g: g), (pair.gpu, to_device)):
        with pytest.raises(NonFiniteGradient, match=r"params\[2\]\[0\] is (nan|-?inf) at flat index 3 \(step 2\)"):
            optimizer.step([{"params": [put(g) for g in group]} for group in worse])
    assert before == [to_host(a).tobytes() for group in pair.device for a in group["params"]]
    after = pair.gpu.state_dict()
    assert after["steps_done"] == state["steps_done"] == 1
    for old, new in zip(state["groups"], after["groups"], strict=True):
        for name, arrays_before in old["state"].items():
            for one, two in zip(arrays_before, new["state"][name], strict=True):
                np.testing.assert_array_equal(one, two)
    worse[2][0][1, 1] = 1.0
    pair.gpu.step([{"params": [to_device(g) for g in group]} for group in worse])  # the finding is forgotten
    assert pair.gpu.steps_done == 2


def test_skip_leaves_the_step_out():
    pair = Pair("adam", [{"params": [start((4,)), start((3,))]}], on_nonfinite="skip")
    pair.step([[np.ones(4), np.ones(3)]])
    pair.step([[np.ones(4), np.array([0.0, np.inf, 0.0])]])
    assert pair.gpu.steps_done == 1
    pair.step([[np.ones(4), np.ones(3)]])
    pair.check()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("sizes", [[4], [4, 3]])
def test_ignore_lets_it_in(sizes: list[int]):
    pair = Pair("adam", [{"params": [start((n,)) for n in sizes]}], on_nonfinite="ignore")
    pair.step([[np.array([1.0, np.nan, 1.0, 1.0]), np.ones(3)][: len(sizes)]])
    pair.check()


@pytest.mark.parametrize("place", [0, 16, 66])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_largest_and_subnormal_numbers_pass_and_nan_is_found_anywhere(dtype: type, place: int):
    limits = np.finfo(dtype)
    gradient = np.resize(np.array([limits.max, limits.min, limits.tiny, limits.smallest_subnormal, -0.0], dtype), 67)
    optimizer = Optimizer("sgd", [to_device(np.zeros(67, dtype))], lr=0.5)
    assert optimizer.step([to_device(gradient)]) is True
    gradient[place] = np.nan
    with pytest.raises(NonFiniteGradient, match=f"flat index {place} "):
        optimizer.step([to_device(gradient)])


@pytest.mark.parametrize("case", GPU_DEFAULTS, ids=str)
def test_state_moves_between_cpu_and_gpu(case: Case):
    """A training begun on either goes on on the other."""
    shapes, dtype = [(4, 3), ()], np.float32
    gradients = path(shapes, 6, dtype)
    through = [start(s, dtype, i) for i, s in enumerate(shapes)]
    optimizer = Optimizer(case.rule, through, convention=case.convention)
    for g in gradients:
        optimizer.step(g)

    arrays = [start(s, dtype, i) for i, s in enumerate(shapes)]
    first = Optimizer(case.rule, arrays, convention=case.convention)
    for g in gradients[:2]:
        first.step(g)
    there = [to_device(a) for a in arrays]
    second = Optimizer(case.rule, there, convention=case.convention)
    second.load_state_dict(first.state_dict())
    for g in gradients[2:4]:
        second.step([to_device(x) for x in g])
    back = [to_host(a) for a in there]
    third = Optimizer(case.rule, back, convention=case.convention)
    third.load_state_dict(second.state_dict())
    assert third.steps_done == 4
    for g in gradients[4:]:
        third.step(g)
    for found, expected in zip(back, through, strict=True):
        assert_same(to_device(found), expected)


def test_lookahead_is_the_cpus():
    shapes = [(3, 2), ()]
    pair = Pair("nag", [{"params": [start(s, seed=i) for i, s in enumerate(shapes)]}], convention="paper")
    for gradients in path(shapes, 3, np.float64):
        pair.step([gradients])
    for found, expected in zip(pair.gpu.lookahead()[0]["params"], pair.cpu.lookahead()[0]["params"], strict=True):
        assert isinstance(found, DeviceArray)
        assert_same(found, np.asarray(expected))


def test_dict_goes_by_name_and_held_gradients_are_read_anew():
    p, buffer = to_device(np.zeros((2, 3))), to_device(np.zeros((2, 3)))
    optimizer = Optimizer("sgd", {"w": p}, lr=1.0)
    from optadvisor.kernels.cuda import target

    for value in (1.0, 10.0, 100.0):
        target.write(buffer.address, np.full((2, 3), value), 1)
        optimizer.step({"w": buffer})
    np.testing.assert_array_equal(to_host(p), -111.0)


@pytest.mark.parametrize("empty", [[], [{"params": []}]])
def test_groups_without_parameters_are_passed_over(empty: list[Any]):
    p = to_device(np.zeros(2))
    optimizer = Optimizer("sgd", [*empty, {"params": [p]}], lr=1.0)
    optimizer.step([*empty, {"params": [to_device(np.ones(2))]}])
    np.testing.assert_array_equal(to_host(p), -1.0)


# What a step costs the device


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from optadvisor.kernels.cuda import target

    names: list[str] = []
    launch = target.Kernel.launch

    def counted(self: Any, *arguments: Any) -> None:
        names.append(self.name)
        launch(self, *arguments)

    monkeypatch.setattr(target.Kernel, "launch", counted)
    return names


def ready(**keywords: Any) -> tuple[Optimizer, list[DeviceArray]]:
    """An optimizer over 30 tensors after its first step."""
    arrays = [to_device(start((4,), np.float32, i)) for i in range(30)]
    gradients = [to_device(np.ones(4, np.float32)) for _ in arrays]
    optimizer = Optimizer("adamw", arrays, **keywords)
    optimizer.step(gradients)
    return optimizer, gradients


def test_many_tensors_are_one_launch(launched: list[str]):
    optimizer, gradients = ready(on_nonfinite="ignore", ema_decay=0.9)
    launched.clear()
    optimizer.step(gradients)
    assert launched == ["_table_adamw_float32"]


def test_clipping_and_check_are_three_more(launched: list[str]):
    optimizer, gradients = ready(max_norm=1.0)
    launched.clear()
    optimizer.step(gradients)
    assert launched == ["_squares_float32", "_check_float32", "_clip_float64", "_table_adamw_float32"]


def test_ignore_never_waits_and_copies_nothing(monkeypatch: pytest.MonkeyPatch):
    """Also where lr changes and the gradients are clipped."""
    from optadvisor.kernels.cuda import target

    optimizer, gradients = ready(on_nonfinite="ignore", max_norm=1.0, ema_decay=0.9)

    def refused(*_: Any) -> None:
        raise AssertionError("a copy between host and device")

    monkeypatch.setattr(target, "read", refused)
    monkeypatch.setattr(target, "write", refused)
    for lr in (0.1, 0.2, None):
        optimizer.step(gradients, lr=lr, grad_scale=2.0)


def test_a_moved_gradient_is_found_again():
    """A torch tensor keeps its identity when its memory is replaced."""

    class Tensor:
        def __init__(self, array: DeviceArray) -> None:
            self.array = array
            self.__cuda_array_interface__ = array.__cuda_array_interface__

        def data_ptr(self) -> int:
            return self.array.address

    p = to_device(np.zeros(3))
    gradient = Tensor(to_device(np.ones(3)))
    optimizer = Optimizer("sgd", [p], lr=1.0)
    optimizer.step([gradient])
    Tensor.__init__(gradient, to_device(np.full(3, 10.0)))
    optimizer.step([gradient])
    np.testing.assert_array_equal(to_host(p), -11.0)


def test_another_optimizer_and_another_lr_compile_nothing():
    from optadvisor.kernels.cuda import loops

    ready(on_nonfinite="ignore")
    compiled = [loops.flat.cache_info().misses, loops.table.cache_info().misses]
    optimizer, gradients = ready(on_nonfinite="ignore", lr=0.5, betas=(0.5, 0.9))
    optimizer.step(gradients, lr=0.25)
    assert [loops.flat.cache_info().misses, loops.table.cache_info().misses] == compiled


@pytest.mark.parametrize("case", CPU_ONLY, ids=str)
def test_what_the_gpu_has_not_is_refused(case: Case):
    with pytest.raises(InputError, match=f"{case.rule} runs on the CPU only so far"):
        Optimizer(case.rule, [to_device(np.zeros((3, 4)))], convention=case.convention)


@pytest.mark.parametrize(
    ("rule", "convention"), [("adamw", "pytorch"), ("nag", "paper"), ("schedule_free_adamw", "pytorch")]
)
def test_weights_to_evaluate_are_copies_on_the_device(rule: str, convention: str):
    pair = Pair(rule, [{"params": [start((3, 4), np.float32)]}], convention=convention)
    for gradients in path([(3, 4)], 3, np.float32):
        pair.step([gradients])
    (found,) = pair.gpu.evaluation()[0]["params"]
    assert_same(found, pair.cpu.evaluation()[0]["params"][0], "evaluation")
    assert found.address != pair.device[0]["params"][0].address
