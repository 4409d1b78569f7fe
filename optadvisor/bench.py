"""Measure the kernels on this machine, side by side with PyTorch and optax where they are installed.

Both sides of a row are timed in turn in one run, on one thread, through the public `Optimizer.step`; a row quotes the
medians and their ratio. PyTorch does not look for NaN in gradients, so the rows against it run with
on_nonfinite="ignore"; the price of the default check is a row of its own.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.kernels.compiling import specialise
from optadvisor.kernels.optimizer import Optimizer

Array = NDArray[Any]
Step = Callable[[], object]

SECONDS = 0.6  # spent on each side of a row
ROUNDS = 15

# Arrays that a step reads and writes: bytes an element in float32.
TRAFFIC = {"sgd": 12, "momentum": 20, "nag": 20, "adagrad": 20, "rmsprop": 20, "adam": 28, "adamw": 28}
TORCH = {
    "adamw": ("AdamW", {}),
    "adam": ("Adam", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "adagrad": ("Adagrad", {}),
}
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)


@dataclass(frozen=True)
class Row:
    """One comparison: microseconds a step on both sides, and what the ratio peer/ours is asked to reach at least."""

    work: str
    peer: str
    ours_us: float
    peer_us: float
    wanted: float | None = None
    gigabytes: float | None = None  # moved by one step of ours

    @property
    def ratio(self) -> float:
        return self.peer_us / self.ours_us

    @property
    def gb_per_s(self) -> float | None:
        return None if self.gigabytes is None else self.gigabytes / (self.ours_us * 1e-6)

    @property
    def passed(self) -> bool | None:
        return None if self.wanted is None else self.ratio >= self.wanted


def pair(ours: Step, peer: Step) -> tuple[float, float]:
    """Median microseconds of both, timed in turn."""
    sides = (ours, peer)
    repeats = []
    for side in sides:
        side()
        began = time.perf_counter()
        side()
        once = max(time.perf_counter() - began, 1e-7)
        repeats.append(max(1, int(SECONDS / ROUNDS / once)))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for side, count, kept in zip(sides, repeats, times, strict=True):
            began = time.perf_counter()
            for _ in range(count):
                side()
            kept.append((time.perf_counter() - began) / count * 1e6)
    return statistics.median(times[0]), statistics.median(times[1])


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def ours(rule: str, shapes: Sequence[tuple[int, ...]], **options: Any) -> Step:
    """A step of our optimizer over float32 arrays of these shapes."""
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    grads = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    optimizer = Optimizer(rule, params, lr=1e-3, **{"on_nonfinite": "ignore", **options})
    return lambda: optimizer.step(grads)


def torch_step(rule: str, shapes: Sequence[tuple[int, ...]], **options: Any) -> Step:
    """The same work in PyTorch, one thread."""
    import torch

    torch.set_num_threads(1)
    name, keywords = TORCH[rule]
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.randn(p.shape)
    optimizer = getattr(torch.optim, name)(params, lr=1e-3, **keywords, **{"fused": True, **options})
    step: Step = optimizer.step
    return step


def optax_step(rule: str, shapes: Sequence[tuple[int, ...]]) -> Step:
    """The same work in optax under jit, buffers donated."""
    import jax
    import optax

    transform = {"adamw": optax.adamw(1e-3), "adam": optax.adam(1e-3)}[rule]
    keys = jax.random.split(jax.random.PRNGKey(0), len(shapes))
    params = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    grads = [p + 1.0 for p in params]
    held = [params, transform.init(params)]

    def update(params: Any, state: Any, grads: Any) -> Any:
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(update, donate_argnums=(0, 1))

    def step() -> None:
        held[0], held[1] = compiled(held[0], held[1], grads)
        jax.block_until_ready(held)

    return step


def _in_place(a, b, c, d):  # type: ignore[no-untyped-def]
    for i in range(a.size):
        a[i] += d[i]
        b[i] += d[i]
        c[i] += d[i]


def in_place_step(n: int) -> Step:
    """AdamW's traffic and nothing else: 4 reads and 3 writes of n float32, in place, one thread."""
    kernel = specialise(_in_place, "float32")
    arrays = [np.full(n, 1e-3, dtype=np.float32) for _ in range(4)]
    return lambda: kernel(*arrays)


def gpt_like() -> list[tuple[int, ...]]:
    """148 tensors, 8.7 M parameters: a decoder of 12 layers, width 224, 6,464 tokens."""
    d, layers, tokens, context = 224, 12, 6464, 256
    layer: list[tuple[int, ...]] = [(d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,), (d,), (d,)]
    layer += [(d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [(tokens, d), (context, d), *(layer * layers), (d,), (d,)]


def _size(n: int) -> str:
    return f"{n:.0e}".replace("e+0", "e")


def small_to_large(sizes: Sequence[int] = SIZES) -> Iterator[Row]:
    """One tensor, the four rules that PyTorch has fused."""
    wanted = {10**3: 10.0, 10**4: 10.0, 10**5: 3.0, 10**6: 1.4, 10**7: 1.0}
    for rule in TORCH:
        for n in sizes:
            work, traffic = f"{rule}, {_size(n)} float32", TRAFFIC[rule] * n / 1e9
            yield Row(work, "torch fused", *pair(ours(rule, [(n,)]), torch_step(rule, [(n,)])), wanted.get(n), traffic)
            if rule == "adamw":
                foreach = torch_step(rule, [(n,)], fused=False, foreach=True)
                yield Row(work, "torch foreach", *pair(ours(rule, [(n,)]), foreach), None, traffic)
                if installed("optax"):
                    yield Row(work, "optax jit", *pair(ours(rule, [(n,)]), optax_step(rule, [(n,)])), None, traffic)


def memory_limit(sizes: Sequence[int] = (10**7, 3 * 10**7)) -> Iterator[Row]:
    """AdamW against the machine's own limit for its traffic."""
    for n in sizes:
        times = pair(ours("adamw", [(n,)]), in_place_step(n))
        yield Row(f"adamw, {_size(n)} float32", "in-place limit", *times, 0.9, TRAFFIC["adamw"] * n / 1e9)


def many_tensors() -> Iterator[Row]:
    """Many small tensors, and the tensors of a real model."""
    small: list[tuple[int, ...]] = [(64,)] * 150
    model = gpt_like()
    yield Row("adamw, 150 tensors of 64", "torch fused", *pair(ours("adamw", small), torch_step("adamw", small)), 50.0)
    yield Row(
        "adamw, GPT-like: 148 tensors, 8.7 M",
        "torch fused",
        *pair(ours("adamw", model), torch_step("adamw", model)),
        1.15,
    )


def clip_and_average() -> Iterator[Row]:
    """Clip by global norm, AdamW, average of the weights. PyTorch rewrites .grad to clip it, ours scales on the way."""
    import torch

    torch.set_num_threads(1)
    shapes = gpt_like()
    module = torch.nn.ParameterList([torch.nn.Parameter(torch.randn(shape)) for shape in shapes])
    params = list(module.parameters())
    for p in params:
        p.grad = torch.randn(p.shape)
    optimizer = torch.optim.AdamW(params, lr=1e-3, fused=True)
    average = torch.optim.swa_utils.AveragedModel(
        module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
    )

    def peer() -> None:
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        average.update_parameters(module)

    mine = ours("adamw", shapes, max_norm=1.0, ema_decay=0.999)
    yield Row("clip + adamw + EMA, GPT-like", "torch clip + fused + AveragedModel", *pair(mine, peer), 1.8)


def sparse_rows() -> Iterator[Row]:
    """Adagrad on 10,000 rows of an embedding table."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    touched, width = 10**4, 64
    rows = rng.standard_normal((touched, width), dtype=np.float32)

    def mine(height: int, ids: Array) -> Step:
        table = np.full((height, width), 0.1, dtype=np.float32)
        optimizer = Optimizer("adagrad", [table], on_nonfinite="ignore")
        gradient = [(ids, rows)]
        return lambda: optimizer.step(gradient)

    height = 10**6
    ids = rng.integers(0, height, touched)
    weight = torch.nn.Parameter(torch.full((height, width), 0.1))
    weight.grad = torch.sparse_coo_tensor(
        torch.from_numpy(ids[None]), torch.from_numpy(rows), (height, width), check_invariants=False
    )
    optimizer = torch.optim.Adagrad([weight], lr=1e-2)
    yield Row("adagrad, 1e4 rows of 1e6 x 64", "torch sparse", *pair(mine(height, ids), optimizer.step), 5.0)
    few = rng.integers(0, 10**5, touched)
    times = pair(mine(10**7, few), mine(10**5, few))
    # At most 1.5 times the time is a ratio of at least 1/1.5.
    yield Row("adagrad, 1e4 rows of 1e7 x 64", "the same rows of 1e5 x 64", *times, 1 / 1.5)


def default_check() -> Iterator[Row]:
    """What the search for NaN and Inf costs: the same step with it and without."""
    for n, most in ((10**3, 1.3), (10**7, 1.2)):
        times = pair(ours("adamw", [(n,)], on_nonfinite="raise"), ours("adamw", [(n,)]))
        yield Row(f"adamw, {_size(n)}, gradients checked", "unchecked", *times, 1 / most)


def rows(quick: bool = False) -> Iterator[Row]:
    """Every comparison this machine can make; quick leaves out what needs gigabytes."""
    yield from memory_limit((10**6,) if quick else (10**7, 3 * 10**7))
    yield from default_check()
    if installed("torch"):
        yield from small_to_large(SIZES[:4] if quick else SIZES)
        yield from many_tensors()
        yield from clip_and_average()
        if not quick:
            yield from sparse_rows()
