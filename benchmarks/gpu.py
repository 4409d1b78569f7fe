"""AdamW on a GPU: against the card's own memory limit and against PyTorch's fused AdamW, measured in one run.

Run it with `make bench-gpu`, or `python benchmarks/gpu.py` where numba-cuda and a CUDA build of PyTorch are installed;
under 5 minutes, 6 GB of GPU memory. The machines this was written on have no GPU: it was not run on a card yet,
and the limits in the table are the project's goals, not results.

The rows "bfloat16" (bfloat16 parameters and gradients, float32 master weights) and "adagrad, rows" (touched rows of an
embedding table, ids sorted anew each step) have no goal yet: the first run on a card is to set one.

Equal work: both sides update float32 parameters from gradients that stay where they are, and neither checks them
(PyTorch never does; ours with on_nonfinite="ignore"). The row "raise" is the price of the default check. The memory
limit is the better of two passes over as many bytes as AdamW moves (4 reads, 3 writes an element): the driver's copy,
and our own loop around a rule that only adds.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from optadvisor.kernels import InputError, Optimizer
from optadvisor.kernels.rules import Form
from optadvisor.kernels.rules.adam import M, S

LARGE = 10**8
MANY, SMALL = 150, 64
TABLES, WIDTH, ROWS = (10**5, 10**6, 10**7), 64, 10**4
TRAFFIC = 7 * 4  # bytes an element: reads p, g, m, s and writes p, m, s

Row = tuple[str, float, str, float, float | None]  # work, ours in us, against, ratio, goal


def adding(p, g, m, s, lr):
    return p + lr * g, m + g, s + g


def median_us(torch: Any, work: Callable[[], object], repeats: int, inner: int = 1) -> float:
    """Time on the device of one call, launches in a row; median of `repeats`."""
    for _ in range(3):
        work()
    found = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(inner):
            work()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end) * 1000.0 / inner)
    return statistics.median(found)


def host_us(torch: Any, work: Callable[[], object], repeats: int = 20, inner: int = 50) -> float:
    """What one call costs the host when nothing is waited for; the queue is emptied between the rounds."""
    work()
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(inner):
            work()
        found.append((time.perf_counter() - began) / inner * 1e6)
    torch.cuda.synchronize()
    return statistics.median(found)


def tensors(torch: Any, count: int, size: int) -> tuple[list[Any], list[Any]]:
    draw = torch.Generator(device="cuda").manual_seed(0)
    make = lambda: torch.randn(size, device="cuda", generator=draw)  # noqa: E731
    return [make() for _ in range(count)], [make() for _ in range(count)]


def ours(torch: Any, count: int, size: int, **keywords: Any) -> Callable[[], object]:
    params, grads = tensors(torch, count, size)
    optimizer = Optimizer("adamw", params, **{"on_nonfinite": "ignore", **keywords})
    return lambda: optimizer.step(grads)


def fused(torch: Any, count: int, size: int) -> Callable[[], object]:
    params, grads = tensors(torch, count, size)
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    step: Callable[[], object] = torch.optim.AdamW(params, fused=True).step
    return step


def touched(torch: Any, height: int) -> tuple[Any, Any, Any]:
    """A table, and the ids and gradients of ROWS rows of it, some of them twice."""
    draw = torch.Generator(device="cuda").manual_seed(0)
    table = torch.randn(height, WIDTH, device="cuda", generator=draw)
    ids = torch.randint(height, (ROWS,), device="cuda", generator=draw)
    return table, ids, torch.randn(ROWS, WIDTH, device="cuda", generator=draw)


def our_rows(torch: Any, height: int) -> Callable[[], object]:
    table, ids, rows = touched(torch, height)
    optimizer, grads = Optimizer("adagrad", [table], on_nonfinite="ignore"), [(ids, rows)]
    return lambda: optimizer.step(grads)


def torch_rows(torch: Any, height: int) -> Callable[[], object]:
    table, ids, rows = touched(torch, height)
    optimizer = torch.optim.Adagrad([table])

    def step() -> None:
        # A new tensor each time, as backward makes one: step would find a coalesced one sorted.
        table.grad = torch.sparse_coo_tensor(ids[None], rows, table.shape, check_invariants=False)
        optimizer.step()

    return step


def halved(torch: Any, size: int) -> Callable[[], object]:
    """bfloat16 parameters and gradients; reads master, g, m, s and writes p, master, m, s: 28 bytes an element too."""
    params, grads = ([a.bfloat16() for a in arrays] for arrays in tensors(torch, 1, size))
    optimizer = Optimizer("adamw", params, on_nonfinite="ignore")
    return lambda: optimizer.step(grads)


def _copy_us(torch: Any, size: int) -> float:
    source = torch.empty(size * TRAFFIC // 8, device="cuda")  # half of the bytes: each is read and written
    target = torch.empty_like(source)
    return median_us(torch, lambda: target.copy_(source), 20)


def limit_us(torch: Any, size: int) -> dict[str, float]:
    """A pass over AdamW's bytes: by the driver's copy, and by our loop with next to no arithmetic."""
    from optadvisor.kernels.cuda import loops, target
    from optadvisor.kernels.cuda.arrays import device_array

    copied = _copy_us(torch, size)
    arrays = [torch.zeros(size, device="cuda") for _ in range(2)]
    states = torch.zeros(2 * size, device="cuda")
    p, g, s = (a.address for a in map(device_array, (*arrays, states)) if a is not None)
    kernel = loops.flat(Form("adding", adding, lambda t, lr: (lr,), (M, S)), np.float32, 1)
    zero, grid = np.float32(0), target.blocks()
    arguments = (p, g, size, s, size, -1, 0, np.float32(1), zero, zero, (zero,))
    passing = median_us(torch, lambda: kernel.launch(grid, 1, *arguments), 20)
    return {"the driver's copy": copied, "our loop, adding only": passing}


def rows(torch: Any, size: int) -> list[Row]:
    limits = limit_us(torch, size)
    for name, found in limits.items():
        print(f"memory limit by {name}: {size * TRAFFIC / found / 1000:.0f} GB/s")
    best = min(limits.values())
    torch.cuda.empty_cache()

    large = median_us(torch, ours(torch, 1, size), 20)
    torch.cuda.empty_cache()
    large_fused = median_us(torch, fused(torch, 1, size), 20)
    torch.cuda.empty_cache()
    checked = median_us(torch, ours(torch, 1, size, on_nonfinite="raise"), 20)
    torch.cuda.empty_cache()
    print(f"adamw at {size:.0e}: {size * TRAFFIC / large / 1000:.0f} GB/s")
    bfloat = median_us(torch, halved(torch, size), 20)
    torch.cuda.empty_cache()

    low, middle, high = TABLES
    by_height = {}
    for height in TABLES:
        by_height[height] = median_us(torch, our_rows(torch, height), 20, inner=20)
        torch.cuda.empty_cache()
    sparse = median_us(torch, torch_rows(torch, middle), 20, inner=20)
    torch.cuda.empty_cache()

    many = median_us(torch, ours(torch, MANY, SMALL), 20, inner=50)
    many_fused = median_us(torch, fused(torch, MANY, SMALL), 20, inner=50)
    one = host_us(torch, ours(torch, 1, SMALL))
    one_fused = host_us(torch, fused(torch, 1, SMALL))
    hundreds = host_us(torch, ours(torch, MANY, SMALL))
    return [
        (f"adamw at {size:.0e}", large, "memory limit", best / large, 0.9),
        (f"adamw at {size:.0e}", large, "torch fused", large_fused / large, 1.0),
        (f'adamw at {size:.0e}, "raise"', checked, "torch fused, unchecked", large_fused / checked, None),
        (f"adamw at {size:.0e}, bfloat16", bfloat, "our float32", large / bfloat, None),
        (
            f"adagrad, {ROWS:.0e} rows of {middle:.0e}",
            by_height[middle],
            "torch sparse",
            sparse / by_height[middle],
            None,
        ),
        (f"the same of {high:.0e}", by_height[high], f"of {low:.0e}", by_height[low] / by_height[high], None),
        (f"{MANY} tensors of {SMALL}", many, "torch fused", many_fused / many, 5.0),
        ("host time of a step, 1 tensor", one, "torch fused", one_fused / one, None),
        (f"host time of a step, {MANY} tensors", hundreds, "our 1 tensor", one / hundreds, None),
    ]


def main() -> int:
    arguments = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    arguments.add_argument("--size", type=int, default=LARGE, help="elements of the large tensor (default: 1e8)")
    size = arguments.parse_args().size
    try:
        from optadvisor.kernels.cuda import target

        target.require(0)
        import torch
    except (InputError, ImportError) as error:
        print(f"benchmarks/gpu.py: {error}", file=sys.stderr)
        return 2
    if target.SIMULATED or not torch.cuda.is_available():
        print("benchmarks/gpu.py: needs a real device, and a CUDA build of PyTorch", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}; torch {torch.__version__}, CUDA {torch.version.cuda}")
    found = rows(torch, size)
    print(f"\n{'work':36} {'us':>10}  {'against':24} {'ratio':>7} {'goal':>6}")
    missed = False
    for work, took, against, ratio, goal in found:
        verdict = "" if goal is None or ratio >= goal else "  missed"
        missed = missed or bool(verdict)
        print(f"{work:36} {took:10.1f}  {against:24} {ratio:7.2f} {'' if goal is None else goal:>6}{verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
