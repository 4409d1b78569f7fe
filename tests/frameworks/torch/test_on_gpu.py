"""optadvisor.torch.Optimizer on a GPU, or on numba's simulator of one (NUMBA_ENABLE_CUDASIM=1), where the memory of the
"device" is the host's: there tensors of the CPU stand for those of the GPU."""

from __future__ import annotations

import copy
import ctypes
import os
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba_cuda")
from optadvisor.frameworks.torch import memory  # noqa: E402
from optadvisor.frameworks.torch.optimizer import Optimizer  # noqa: E402
from optadvisor.kernels import NonFiniteGradient  # noqa: E402
from optadvisor.kernels.cuda.arrays import BFLOAT16  # noqa: E402

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not SIMULATED and not torch.cuda.is_available(), reason="no GPU, and not the simulator of one"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),
    pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning"),
]
DEVICE = "cpu" if SIMULATED else "cuda"


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    def over(array: Any, like: Any) -> Any:
        kind = np.dtype(np.uint16) if array.dtype == BFLOAT16 else array.dtype
        cells = np.ctypeslib.as_ctypes_type(kind) * array.size
        found = torch.from_numpy(np.ctypeslib.as_array(cells.from_address(array.address)).reshape(array.shape))
        found.kept = array.owner
        return found

    if SIMULATED:
        assert ctypes.sizeof(ctypes.c_uint16) == 2
        monkeypatch.setattr(memory, "on_gpu", lambda tensor: True)
        monkeypatch.setattr(memory, "tensor_over", over)


def params(dtype: Any = torch.float32) -> list[Any]:
    make = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (5,), ()]
    return [torch.randn(shape, generator=make).to(DEVICE, dtype).requires_grad_() for shape in shapes]


def fill(own: list[Any], step: int, absent: tuple[int, ...] = ()) -> None:
    make = torch.Generator().manual_seed(step)
    for i, p in enumerate(own):
        gradient = torch.randn(p.shape, generator=make).to(p)
        p.grad = None if i in absent else gradient


RULES = [
    ("sgd", "SGD", {"lr": 0.1}),
    ("momentum", "SGD", {"lr": 0.1, "momentum": 0.9}),
    ("adagrad", "Adagrad", {"lr": 0.1}),
    ("adam", "Adam", {"amsgrad": True}),
    ("adamw", "AdamW", {"lr": 0.01}),
    ("nadam", "NAdam", {}),
]


@pytest.mark.parametrize(("rule", "name", "keywords"), RULES, ids=[rule for rule, _, _ in RULES])
def test_same_path_as_torch_with_missed_steps_and_both_ways(rule: str, name: str, keywords: dict[str, Any]):
    a, b = params(), params()
    ours, theirs = Optimizer(rule, a, **keywords), getattr(torch.optim, name)(b, **keywords)
    for step in range(7):
        for own, optimizer in ((a, ours), (b, theirs)):
            fill(own, step, ((), (1,), (0, 2), (), (0, 1, 2), (2,), ())[step])
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
            optimizer.step()
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    of_ours, of_theirs = copy.deepcopy(ours.state_dict()), copy.deepcopy(theirs.state_dict())
    ours.load_state_dict(of_theirs)
    theirs.load_state_dict(of_ours)
    for own, optimizer in ((a, ours), (b, theirs)):
        fill(own, 9)
        optimizer.step()
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_state_is_the_memory_of_the_kernels():
    a = params()
    optimizer = Optimizer("momentum", a)
    fill(a, 0)
    optimizer.step()
    for p in a:
        torch.testing.assert_close(optimizer.state[p]["momentum_buffer"], p.grad)
        optimizer.state[p]["momentum_buffer"].zero_()
    before = [p.detach().clone() for p in a]
    for p in a:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close([p.detach() for p in a], before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_keeps_its_master_weights_through_a_state_dict(dtype: Any):
    a, b = params(dtype), params(dtype)
    straight, paused = Optimizer("adamw", a, lr=1e-3), Optimizer("adamw", b, lr=1e-3)
    for step in range(6):
        if step == 3:
            saved = copy.deepcopy(paused.state_dict())
            assert saved["state"][0]["master"].dtype == torch.float32
            paused = Optimizer("adamw", b, lr=1e-3)
            paused.load_state_dict(saved)
        for own, optimizer in ((a, straight), (b, paused)):
            fill(own, step)
            optimizer.step()
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_sparse_rows():
    a, b = params()[:1], params()[:1]
    ours, theirs = Optimizer("adagrad", a), torch.optim.Adagrad(b)
    rows = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]).to(DEVICE)
    for _ in range(3):
        for own, optimizer in ((a, ours), (b, theirs)):
            ids = torch.tensor([[2, 0, 2]]).to(DEVICE)
            own[0].grad = torch.sparse_coo_tensor(ids, rows, (4, 3), check_invariants=True)
            optimizer.step()
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_gradients_that_are_not_finite_are_named():
    a = params()
    optimizer = Optimizer("adam", a, on_nonfinite="raise")
    fill(a, 0)
    a[1].grad[3] = float("inf")
    before = [p.detach().clone() for p in a]
    with pytest.raises(NonFiniteGradient, match=r"gradient of params\[0\]\[1\] is inf at flat index 3 \(step 1\)"):
        optimizer.step()
    torch.testing.assert_close([p.detach() for p in a], before, rtol=0, atol=0)
