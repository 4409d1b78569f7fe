"""The host's side of a real device, on a stand-in for the driver: what is allocated, copied and passed to each kernel.

Kernels are compiled and linked for real, but not run. What a launch passes must be what the kernel's entry declares.
"""

from __future__ import annotations

import ctypes
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import RULES, Optimizer
from optadvisor.kernels.cuda.arrays import DeviceArray
from optadvisor.kernels.loops import COLUMNS, START

from ..cases import Case, start
from .places import GPU_DEFAULTS, INSTALLED, REASON, SIMULATED

pytestmark = [
    pytest.mark.skipif(not INSTALLED, reason="numba-cuda is not installed: make test-cuda"),
    pytest.mark.skipif(SIMULATED, reason="the simulator has no driver"),
    pytest.mark.skipif(INSTALLED and REASON is None, reason="the contract suite runs on this machine's device"),
]

CAPABILITY = (8, 0)
SIZES = {"u64": 8, "s64": 8, "f32": 4, "f64": 8}


class Driver:
    """Memory of the host behind the driver's functions; knows what may be touched."""

    CUresult = SimpleNamespace(CUDA_SUCCESS=0)
    CUpointer_attribute = SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL=9)

    def __init__(self) -> None:
        self.blocks: dict[int, np.ndarray] = {}
        self.copies: list[tuple[str, int]] = []

    def cuInit(self, flags: int) -> tuple[int]:  # noqa: N802
        return (0,)

    def cuDeviceGetCount(self) -> tuple[int, int]:  # noqa: N802
        return 0, 1

    def cuCtxGetCurrent(self) -> tuple[int, int]:  # noqa: N802
        return 0, 0

    def cuPointerGetAttribute(self, attribute: int, address: int) -> tuple[int, int]:  # noqa: N802
        assert self.holds(address, 1)
        return 0, 0

    def cuMemAlloc(self, size: int) -> tuple[int, int]:  # noqa: N802
        block = np.full(size, 0xAB, np.uint8)
        self.blocks[block.ctypes.data] = block
        return 0, block.ctypes.data

    def cuMemFree(self, address: int) -> tuple[int]:  # noqa: N802
        del self.blocks[address]
        return (0,)

    def cuMemsetD8Async(self, address: int, value: int, size: int, stream: int) -> tuple[int]:  # noqa: N802
        assert self.holds(address, size)
        ctypes.memset(address, value, size)
        return (0,)

    def cuMemcpyDtoHAsync(self, host: int, address: int, size: int, stream: int) -> tuple[int]:  # noqa: N802
        assert self.holds(address, size)
        self.copies.append(("to host", size))
        ctypes.memmove(host, address, size)
        return (0,)

    def cuMemcpyHtoDAsync(self, address: int, host: int, size: int, stream: int) -> tuple[int]:  # noqa: N802
        assert self.holds(address, size)
        self.copies.append(("to device", size))
        ctypes.memmove(address, host, size)
        return (0,)

    def cuStreamSynchronize(self, stream: int) -> tuple[int]:  # noqa: N802
        self.copies.append(("wait", 0))
        return (0,)

    def holds(self, address: int, size: int) -> bool:
        return any(at <= address and address + size <= at + block.nbytes for at, block in self.blocks.items())


class Machine:
    """The stand-in, with every launch: name of the entry, grid, stream, arguments."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.launches: list[tuple[Any, int, int, tuple[Any, ...]]] = []

    def launch(self, stream: Any, config: Any, kernel: Any, *arguments: Any) -> None:
        code, entry = kernel
        assert code[:4] == b"\x7fELF"
        assert entry.encode() in code
        assert config.block == (256, 1, 1)
        self.launches.append((entry, config.grid[0], int(stream.__cuda_stream__()[1]), arguments))

    def array(self, value: np.ndarray, stream: int = 1) -> DeviceArray:
        from optadvisor.kernels.cuda import target

        memory = target.zeros(value.nbytes, 1)
        target.write(memory.address, value, 1)
        return DeviceArray(memory, memory.address, value.shape, value.dtype, stream)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    from optadvisor.kernels.cuda import device

    machine = Machine()

    def of(ordinal: int = 0) -> Any:
        return SimpleNamespace(
            device_id=0,
            compute_capability=CAPABILITY,
            properties=SimpleNamespace(multiprocessor_count=2),
            set_current=lambda: None,
        )

    code = SimpleNamespace(from_cubin=lambda code: SimpleNamespace(get_kernel=lambda name: (code, name)))
    for name, value in {"driver": machine.driver, "launch": machine.launch, "Device": of, "ObjectCode": code}.items():
        monkeypatch.setattr(device, name, value)
    loaded = device.Kernel._load
    # Kernels outlive the stand-in: what they loaded here must not stay.
    monkeypatch.setattr(device.Kernel, "launch", _launch_afresh(device.Kernel.launch, loaded))
    device._blocks.cache_clear()
    return machine


def _launch_afresh(launch: Any, load: Any) -> Any:
    def launched(self: Any, *arguments: Any) -> None:
        self._loaded.cache_clear()
        launch(self, *arguments)
        self._loaded.cache_clear()

    return launched


def declared(kernel: Any) -> list[str]:
    return re.findall(r"\.param \.([a-z0-9]+) ", kernel.ptx(CAPABILITY).split("{")[0])


def packed(arguments: tuple[Any, ...], kinds: list[str]) -> list[float]:
    """The arguments as cuda.core lays them out in memory, read as the kernel reads them."""
    from cuda.core._kernel_arg_handler import ParamHolder

    holder = ParamHolder(arguments)
    places = (ctypes.c_void_p * len(arguments)).from_address(holder.ptr)
    cells = {"u64": ctypes.c_int64, "f32": ctypes.c_float, "f64": ctypes.c_double}
    return [cells[kind].from_address(place).value for place, kind in zip(places, kinds, strict=True)]


def kernels_of(optimizer: Optimizer) -> dict[str, Any]:
    from optadvisor.kernels.cuda import loops, rows

    group: Any = optimizer.groups[0]
    kind = (group.form, group.parameter_dtype, group._count, group.parameter_dtype)
    kernels = [loops.check(group._gradient), loops.squares(group._gradient), loops.clip()]
    kernels += [rows.keys(np.dtype(np.int64)), rows.merge(), rows.check(kind[-1]), rows.squares(kind[-1])]
    if group.form.row_number:
        kernels += rows.staged(*kind)
    else:
        kernels += [loops.flat(*kind), loops.table(*kind), rows.rows(*kind)]
    return {kernel.entry(CAPABILITY): kernel for kernel in kernels}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", [[(700,)], [(3,), (), (0,), (4096, 3)]], ids=["arena", "table"])
@pytest.mark.parametrize("case", GPU_DEFAULTS, ids=str)
def test_launches_pass_what_the_entries_declare(machine: Machine, case: Case, shapes: Any, dtype: type):
    params = [machine.array(start(s, dtype)) for s in shapes]
    grads = [machine.array(start(s, dtype)) for s in shapes]
    optimizer = Optimizer(case.rule, params, convention=case.convention, max_norm=1.0, ema_decay=0.9)
    optimizer.step(grads)
    by_row = optimizer.groups[0].form.row_number is not None
    assert len(machine.launches) == 3 + (3 * sum(bool(p.size) for p in params) if by_row else 1)
    check_launches(machine, optimizer)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if rule.sparse])
def test_launches_of_rows_pass_what_the_entries_declare(machine: Machine, rule: str, dtype: type):
    table = machine.array(start((5000, 3), dtype))
    ids, rows = machine.array(np.arange(33)), machine.array(start((33, 3), dtype))
    optimizer = Optimizer(rule, [table], max_norm=1.0)
    optimizer.step([(ids, rows)])
    assert len(machine.launches) == 3 + 3 + (3 if optimizer.groups[0].form.row_number else 1)
    check_launches(machine, optimizer)


def check_launches(machine: Machine, optimizer: Optimizer) -> None:
    known = kernels_of(optimizer)
    for entry, grid, stream, arguments in machine.launches:
        kinds = declared(known[entry])
        for given, arrived in zip(arguments, packed(arguments, kinds), strict=True):
            assert float(given) == arrived
        for address in (a for a in arguments if isinstance(a, int) and a > 2**32):
            assert machine.driver.holds(address, 1)
        assert 1 <= grid <= 16
        assert stream == 1


def test_the_table_says_where_everything_lies(machine: Machine):
    shapes = [(3,), (5000,)]
    params = [machine.array(start(s, np.float32)) for s in shapes]
    grads = [machine.array(start(s, np.float32)) for s in shapes]
    optimizer = Optimizer("adam", params, on_nonfinite="ignore")
    optimizer.step(grads)
    ((_, grid, _, arguments),) = machine.launches
    table = np.ctypeslib.as_array((ctypes.c_int64 * (2 * COLUMNS)).from_address(arguments[0])).reshape(2, COLUMNS)
    assert table[:, : START + 1].tolist() == [
        [params[0].address, grads[0].address, 3, 0],
        [params[1].address, grads[1].address, 5000, 16],
    ]
    chunks = np.ctypeslib.as_array((ctypes.c_int64 * 6).from_address(arguments[1])).reshape(3, 2)
    assert chunks.tolist() == [[0, 0], [1, 0], [1, 4096]]
    assert (grid, arguments[2]) == (3, 3)


def test_a_step_copies_and_waits_only_where_it_says_so(machine: Machine):
    params = [machine.array(start((3,), np.float32)) for _ in range(2)]
    grads = [machine.array(start((3,), np.float32)) for _ in range(2)]
    copies = machine.driver.copies
    for choice, expected in {"ignore": [], "raise": [("to host", 8), ("wait", 0)]}.items():
        optimizer = Optimizer("adam", params, on_nonfinite=choice, max_norm=1.0)
        optimizer.step(grads)
        copies.clear()
        for lr in (0.1, 0.2):
            copies.clear()
            optimizer.step(grads, lr=lr)
            assert copies == expected
        moved = [machine.array(start((3,), np.float32)), grads[1]]
        copies.clear()
        optimizer.step(moved)
        assert copies == [("to device", 2 * COLUMNS * 8), *expected]  # the table, once


def test_work_runs_on_the_stream_asked_for(machine: Machine):
    stream = SimpleNamespace(cuda_stream=0x77)
    p, g = machine.array(np.zeros(3)), machine.array(np.ones(3))
    Optimizer("sgd", [p], on_nonfinite="ignore", stream=stream).step([g])
    exported = machine.array(np.zeros(3), stream=0x55)
    Optimizer("sgd", [exported], on_nonfinite="ignore").step([machine.array(np.ones(3), stream=0x55)])
    assert [launch[2] for launch in machine.launches] == [0x77, 0x55]


def test_memory_is_given_back(machine: Machine):
    params = [machine.array(np.zeros(3))]
    before = set(machine.driver.blocks)
    optimizer = Optimizer("adam", params)
    assert len(machine.driver.blocks) > len(before)
    del optimizer
    import gc

    gc.collect()
    assert set(machine.driver.blocks) == before
