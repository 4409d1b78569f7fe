"""Gradients of a table as (ids, rows) on a GPU: the CPU's step on the touched rows, and no look at the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optadvisor import OptimizerConfig
from optadvisor.kernels import RULES, InputError, NonFiniteGradient, Optimizer
from optadvisor.kernels.cuda.arrays import DeviceArray

from ..cases import noise, start
from .places import SIMULATED, assert_same, runs_kernels, to_device, to_host

pytestmark = runs_kernels

SPARSE = [name for name, rule in RULES.items() if rule.sparse]
HEIGHT, WIDTH, STEPS = 40, 7, 6
DTYPES = (np.float32, np.float64)


def draw(steps: int, dtype: Any, seed: int = 0, width: int = WIDTH) -> list[Any]:
    """(ids, rows) of some steps; ids repeat, and the last rows of the table never come."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        ids = random.integers(0, HEIGHT - 5, size=int(random.integers(1, 45)))
        found.append((ids, random.normal(size=(ids.size, width)).astype(np.float32).astype(dtype)))
    return found


def there(gradient: Any) -> Any:
    """A copy on the device of a gradient of either kind."""
    return tuple(map(to_device, gradient)) if isinstance(gradient, tuple) else to_device(gradient)


class Pair:
    """One optimizer on the CPU and its like on the GPU, over arrays by name."""

    def __init__(self, rule: str, arrays: dict[str, np.ndarray], **keywords: Any) -> None:
        self.host = {name: array.copy() for name, array in arrays.items()}
        self.device = {name: to_device(array) for name, array in arrays.items()}
        self.cpu, self.gpu = Optimizer(rule, self.host, **keywords), Optimizer(rule, self.device, **keywords)

    def step(self, gradients: dict[str, Any], **keywords: Any) -> None:
        done = self.cpu.step(gradients, **keywords)
        assert self.gpu.step({name: there(g) for name, g in gradients.items()}, **keywords) is done

    def check(self, *, rounded: bool = False) -> None:
        # The sum of squares of a row is taken in another order than on the CPU, which float32 does not show here.
        rounded = rounded or any(g.form.row_number and g.dtype == np.float64 for g in self.cpu.groups)
        for name, expected in self.host.items():
            assert_same(self.device[name], expected, name, rounded=rounded)
        for ours, theirs in zip(self.gpu.state_dict()["groups"], self.cpu.state_dict()["groups"], strict=True):
            for name, arrays in theirs["state"].items():
                for found, expected in zip(ours["state"][name], arrays, strict=True):
                    assert_same(to_device(found), expected, name, rounded=rounded)


CONVENTIONS = [(rule, convention) for rule in SPARSE for convention in RULES[rule].conventions]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rule", "convention"), CONVENTIONS)
def test_equal_to_the_cpu(rule: str, convention: str, dtype: type):
    """Repeated ids included; adam is lazy as there."""
    pair = Pair(rule, {"table": start((HEIGHT, WIDTH), dtype)}, convention=convention, lr=0.1)
    before = to_host(pair.device["table"])
    for gradient in draw(STEPS, dtype):
        pair.step({"table": gradient})
    pair.check()
    np.testing.assert_array_equal(to_host(pair.device["table"])[-5:], before[-5:])


@pytest.mark.parametrize("width", [1, 2, 3, 1000])
def test_rows_of_any_width(width: int):
    pair = Pair("rowwise_adagrad", {"t": start((HEIGHT, width), np.float32)})
    pair.step({"t": draw(1, np.float32, width=width)[0]})
    pair.check(rounded=width == 1000)


@pytest.mark.parametrize("rule", SPARSE)
def test_tables_and_dense_parameters_and_kinds_that_change(rule: str):
    arrays = {"a": start((HEIGHT, WIDTH)), "b": start((30, 3), seed=1), "w": start((4, 4), seed=2), "v": start((5,))}
    pair = Pair(rule, arrays)
    for t, rows in enumerate(draw(5, np.float64)):
        narrow = (np.array([t, 2, t]), noise((3, 3), 5)[t])
        pair.step(
            {
                "a": rows if t != 2 else noise((HEIGHT, WIDTH), 5)[t],
                "b": narrow if t % 2 else noise((30, 3), 5)[t],
                "w": noise((4, 4), 5)[t],
                "v": noise((5,), 5)[t],
            }
        )
    pair.check()


@pytest.mark.parametrize("size", [1, 2, 32, 33, 1024, 1100])
def test_keys_are_sorted(size: int):
    from optadvisor.kernels.cuda import rows, target

    ids = np.random.default_rng(size).integers(0, max(1, size // 3), size)
    keys, other = target.zeros(8 * size, 1), target.zeros(8 * size, 1)
    shift, run, grid, given = (size - 1).bit_length(), 1, target.blocks(), to_device(ids)
    rows.keys(np.dtype(np.int64)).launch(grid, 1, given.address, size, shift, size, keys.address)
    for _ in range(rows.passes(size)):
        rows.merge().launch(grid, 1, keys.address, size, run, other.address)
        keys, other, run = other, keys, run * rows.WAYS
    found = target.read(keys.address, (size,), np.int64, 1)
    np.testing.assert_array_equal(found & ((1 << shift) - 1), np.argsort(ids, kind="stable"))
    np.testing.assert_array_equal(found >> shift, np.sort(ids))


def test_passes_of_the_sort():
    from optadvisor.kernels.cuda import rows

    counts = [0, 1, 2, 32, 33, 1024, 1025, 32**3, 32**3 + 1, 32**4]
    assert [rows.passes(n) for n in counts] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.int64, np.uint8, np.uint64])
def test_ids_of_any_integer_type(kind: type):
    p = to_device(np.zeros((10, 2)))
    Optimizer("sgd", [p], lr=1.0).step([(to_device(np.array([9, 1], kind)), to_device(np.ones((2, 2))))])
    np.testing.assert_array_equal(np.flatnonzero(to_host(p)[:, 0]), [1, 9])


@pytest.mark.parametrize("rule", SPARSE)
def test_no_ids_change_nothing_but_the_step_count(rule: str):
    pair = Pair(rule, {"t": start((HEIGHT, WIDTH), np.float32)}, max_norm=1.0)
    pair.step({"t": draw(1, np.float32)[0]})
    pair.step({"t": (np.array([], int), np.zeros((0, WIDTH), np.float32))})
    assert pair.gpu.grad_norm == 0.0
    assert pair.gpu.steps_done == 2
    pair.check(rounded=True)


@pytest.mark.parametrize("rule", SPARSE)
def test_clipping_maximize_and_scale(rule: str):
    pair = Pair(rule, {"t": start((HEIGHT, WIDTH)), "w": start((3, 4))}, maximize=True, max_norm=0.5)
    for rows, dense in zip(draw(3, np.float64), noise((3, 4), 3), strict=True):
        pair.step({"t": rows, "w": dense}, grad_scale=4.0, lr=0.3)
        assert pair.gpu.grad_norm == pytest.approx(pair.cpu.grad_norm, rel=1e-14)
    pair.check(rounded=True)


@pytest.mark.parametrize("rule", SPARSE)
def test_state_moves_between_cpu_and_gpu(rule: str):
    through, first = start((HEIGHT, WIDTH), np.float32), start((HEIGHT, WIDTH), np.float32)
    gradients = draw(4, np.float32)
    whole, begun = Optimizer(rule, [through]), Optimizer(rule, [first])
    for gradient in gradients:
        whole.step([gradient])
    for gradient in gradients[:2]:
        begun.step([gradient])
    table = to_device(first)
    resumed = Optimizer(rule, [table])
    resumed.load_state_dict(begun.state_dict())
    for gradient in gradients[2:]:
        resumed.step([there(gradient)])
    assert_same(table, through)


@pytest.mark.parametrize("rule", SPARSE)
def test_hybrid_config(rule: str):
    config = OptimizerConfig(
        "hybrid",
        groups=[
            {"role": "embedding", "optimizer": rule, "hyperparameters": {"lr": 0.05}},
            {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 0.01, "weight_decay": 0.1}},
            {"role": "no_decay", "optimizer": "adamw", "hyperparameters": {"weight_decay": 0.0}},
        ],
    )
    host = {"table": start((1000, WIDTH)), "w": start((4, 4)), "b": start((4,))}
    device = {name: to_device(array) for name, array in host.items()}
    cpu, gpu = Optimizer.from_config(config, host), Optimizer.from_config(config, device)
    for t, rows in enumerate(draw(3, np.float64)):
        grads = {"table": rows, "w": noise((4, 4), 3)[t], "b": noise((4,), 3)[t]}
        cpu.step(grads)
        gpu.step({name: there(g) for name, g in grads.items()})
    for name, expected in host.items():
        assert_same(device[name], expected, name, rounded=rule == "rowwise_adagrad")


# Ids and rows that are wrong


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("rule", SPARSE)
def test_non_finite_rows_change_nothing(rule: str, bad: float):
    pair = Pair(rule, {"a": start((9, WIDTH)), "t": start((HEIGHT, WIDTH)), "w": start((3,))})
    rows = np.ones((3, WIDTH))
    grads = {"a": (np.array([1]), np.ones((1, WIDTH))), "t": (np.array([4, 9, 4]), rows), "w": np.ones(3)}
    pair.step(grads)
    before = pair.gpu.state_dict()["groups"], {n: to_host(a) for n, a in pair.device.items()}
    rows[2, 1] = bad
    for optimizer, move in ((pair.cpu, lambda g: g), (pair.gpu, there)):
        with pytest.raises(NonFiniteGradient, match=r"params\['t'\] is (nan|inf) at flat index 15 \(step 2\)"):
            optimizer.step({name: move(g) for name, g in grads.items()})
        optimizer.on_nonfinite = "skip"
        assert optimizer.step({name: move(g) for name, g in grads.items()}) is False
    after = pair.gpu.state_dict()["groups"], {n: to_host(a) for n, a in pair.device.items()}
    np.testing.assert_equal(after, before)
    pair.check()


@pytest.mark.parametrize("choice", ["raise", "skip"])
@pytest.mark.parametrize("wrong", [40, -1, 2**40])
def test_ids_outside_the_table_are_refused_where_they_are_checked(wrong: int, choice: str):
    pair = Pair("adagrad", {"t": start((HEIGHT, WIDTH))}, on_nonfinite=choice)
    grads = {"t": (np.array([0, wrong, 3]), np.ones((3, WIDTH)))}
    for optimizer, move in ((pair.cpu, lambda g: g), (pair.gpu, there)):
        with pytest.raises(InputError, match=rf"ids of grads\['t'\] hold {wrong}; params\['t'\] has rows 0 to 39"):
            optimizer.step({name: move(g) for name, g in grads.items()})
    pair.check()


@pytest.mark.parametrize("rule", SPARSE)
def test_ids_outside_the_table_are_left_out_where_nothing_is_checked(rule: str):
    """Without a wait nothing can be raised; what must not happen is a write beside the table."""
    pair = Pair(rule, {"t": start((HEIGHT, WIDTH)), "after": start((4, WIDTH))}, on_nonfinite="ignore", max_norm=9.0)
    inside = np.array([3, 39, 3]), noise((3, WIDTH), 1)[0]
    ids = np.array([-1, 3, 40, 39, 3, 2**40, -(2**40)])
    rows = np.full((7, WIDTH), 7.0)
    rows[[1, 3, 4]] = inside[1]
    after = np.zeros((4, WIDTH))
    pair.cpu.step({"t": inside, "after": after})
    pair.gpu.step({"t": there((ids, rows)), "after": to_device(after)})
    assert pair.gpu.grad_norm == pytest.approx(pair.cpu.grad_norm, rel=1e-14)
    pair.check(rounded=True)


def rows_on_device(ids: Any, rows: Any) -> Any:
    return to_device(ids), to_device(rows)


WRONG: dict[str, tuple[Any, list[str]]] = {
    "too few rows": (lambda: rows_on_device(np.array([0, 1]), np.ones((1, WIDTH))), ["2 rows of params[0]", "[2, 7]"]),
    "too narrow": (lambda: rows_on_device(np.array([0]), np.ones((1, 5))), ["float64[1, 5]", "[1, 7]"]),
    "another dtype": (lambda: rows_on_device(np.array([0]), np.ones((1, WIDTH), np.float32)), ["float32[1, 7]"]),
    "ids that are no integers": (lambda: rows_on_device(np.array([0.0]), np.ones((1, WIDTH))), ["float64[1]"]),
    "on the host": (lambda: (np.array([0]), np.ones((1, WIDTH))), ["grads[0] is a tuple", "arrays on the GPU"]),
    "ids on the host": (lambda: (np.array([0]), to_device(np.ones((1, WIDTH)))), ["two arrays on the GPU"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rows_change_nothing(name: str):
    make, expected = WRONG[name]
    table = to_device(start((HEIGHT, WIDTH)))
    with pytest.raises(InputError) as caught:
        Optimizer("adagrad", [table]).step([make()])
    for part in expected:
        assert part in str(caught.value)
    np.testing.assert_array_equal(to_host(table), start((HEIGHT, WIDTH)))


def test_a_rule_without_a_sparse_form_says_so():
    with pytest.raises(InputError, match=r"momentum has no form for \(ids, rows\)"):
        Optimizer("momentum", [to_device(start((HEIGHT, WIDTH)))]).step([there(draw(1, np.float64)[0])])


# What a step costs


def test_launches_and_copies_of_a_step(monkeypatch: pytest.MonkeyPatch):
    """Two launches of sorting for 45 ids and one of the update; nothing is copied, and nothing waits."""
    from optadvisor.kernels.cuda import target

    table = to_device(start((HEIGHT, WIDTH), np.float32))
    gradient = there((np.arange(40) % 13, np.ones((40, WIDTH), np.float32)))
    optimizer = Optimizer("adagrad", [table], on_nonfinite="ignore")
    optimizer.step([gradient])
    names: list[str] = []
    launch = target.Kernel.launch

    def counted(self: Any, *arguments: Any) -> None:
        names.append(self.name)
        launch(self, *arguments)

    def refused(*_: Any) -> None:
        raise AssertionError("memory was taken, or copied between host and device")

    monkeypatch.setattr(target.Kernel, "launch", counted)
    for name in ("read", "write", "zeros"):
        monkeypatch.setattr(target, name, refused)
    optimizer.step([gradient])
    assert names == ["_keys_int64", "_merge_int64", "_merge_int64", "_rows_adagrad_float32"]


@pytest.mark.skipif(not SIMULATED, reason="counts what the simulator reads")
@pytest.mark.parametrize("rule", SPARSE)
def test_cost_is_that_of_the_rows_and_not_of_the_table(rule: str, monkeypatch: pytest.MonkeyPatch):
    from optadvisor.kernels.cuda import loops, rows, simulator

    touched = [0]

    def counted(load: Any) -> Any:
        def counting(*arguments: Any) -> Any:
            touched[0] += 1
            return load(*arguments)

        return counting

    monkeypatch.setattr(simulator, "_load", counted(simulator._load))
    costs = []
    for height in (10, 1000):
        for made in (loops.flat, loops.table, rows.rows, rows.staged, rows.keys, rows.merge, simulator.accessors):
            made.cache_clear()
        optimizer = Optimizer(rule, [to_device(np.zeros((height, 4), np.float32))], on_nonfinite="ignore")
        gradient = there((np.array([5, 9, 5]), np.ones((3, 4), np.float32)))
        optimizer.step([gradient])
        touched[0] = 0
        optimizer.step([gradient])
        costs.append(touched[0])
    for made in (loops.flat, loops.table, rows.rows, rows.staged, rows.keys, rows.merge, simulator.accessors):
        made.cache_clear()
    assert costs[0] == costs[1] > 0


def test_moved_ids_and_rows_are_found_again():
    """The same objects with other memory, as torch tensors have; and other values in the same memory."""
    from optadvisor.kernels.cuda import target

    class Tensor:
        def __init__(self, array: DeviceArray) -> None:
            self.array, self.__cuda_array_interface__ = array, array.__cuda_array_interface__

        def data_ptr(self) -> int:
            return self.array.address

    table = to_device(np.zeros((4, 1)))
    ids, rows = Tensor(to_device(np.array([1]))), Tensor(to_device(np.ones((1, 1))))
    gradients = [(ids, rows)]
    optimizer = Optimizer("sgd", [table], lr=1.0)
    optimizer.step(gradients)
    Tensor.__init__(ids, to_device(np.array([2])))
    optimizer.step(gradients)
    target.write(ids.array.address, np.array([3]), 1)
    optimizer.step(gradients)
    np.testing.assert_array_equal(to_host(table)[:, 0], [0, -1, -1, -1])
