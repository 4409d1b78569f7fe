"""Trainings a second, one thread, against the same models in PyTorch eager with fused AdamW; and 64 of them on 2 cores.

Both sides start from the same weights and go through the same mini-batches, and their losses over the first 50 steps
have to agree within 1e-4. PyTorch gets its mini-batches drawn beforehand and evaluates nothing; ours draws them and
evaluates six times a training. The sides take turns of half a second, so that a change of the machine's speed meets
both; what is compared is the median of the turns' ratios.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from optadvisor.config import OptimizerConfig
from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks import datasets
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.family import views
from optadvisor.studies.tasks.registry import FAMILIES, get
from optadvisor.studies.training import Run, batches

STEPS_COMPARED = 50
TOLERANCE = 1e-4
TURN = 0.5  # seconds
CONFIG = OptimizerConfig.of("adamw", {"lr": 3e-3})
MANY, CORES, WANTED_OF_CORES = 64, 2, 1.6


class Twin(NamedTuple):
    """A model in PyTorch: its parameters with and without decay, and its loss on rows of the training set."""

    decayed: list[Any]
    plain: list[Any]
    loss: Callable[[Any], Any]


def parameters(arrays: list[np.ndarray]) -> list[Any]:
    """Copies of weights that can be trained."""
    import torch

    return [torch.tensor(np.ascontiguousarray(array), requires_grad=True) for array in arrays]


def digits_mlp(task: BuiltinTask, theta: np.ndarray) -> Twin:
    import torch
    from torch.nn import functional as f

    width = task.values["width"]
    x, labels = map(torch.from_numpy, datasets.digits())
    w1, w2, b1, b2 = views(((64, width), (width, 10), (width,), (10,)), theta)
    w1, w2, b1, b2 = parameters([w1.T, w2.T, b1, b2])

    def loss(rows: Any) -> Any:
        return f.cross_entropy(f.linear(f.relu(f.linear(x[rows], w1, b1)), w2, b2), labels[rows])

    return Twin([w1, w2], [b1, b2], loss)


def digits_cnn(task: BuiltinTask, theta: np.ndarray) -> Twin:
    """Of depth 2. The task's images are (height, channels, width), PyTorch's (channels, height, width)."""
    import torch
    from torch.nn import functional as f

    width = task.values["width"]
    x = torch.from_numpy(task.problem.reals).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(task.problem.integers)
    shapes = ((width, 1, 3, 3), (2 * width, width, 3, 3), (10, 2, 2 * width, 2), (width,), (2 * width,), (10,))
    w1, w2, w3, *biases = views(shapes, theta)
    w1, w2, w3, b1, b2, b3 = parameters([w1, w2, w3.transpose(0, 2, 1, 3).reshape(10, -1), *biases])

    def loss(rows: Any) -> Any:
        h = f.max_pool2d(f.relu(f.conv2d(x[rows], w1, b1, padding=1)), 2)
        h = f.max_pool2d(f.relu(f.conv2d(h, w2, b2, padding=1)), 2)
        return f.cross_entropy(f.linear(h.flatten(1), w3, b3), labels[rows])

    return Twin([w1, w2, w3], [b1, b2, b3], loss)


def text_transformer(task: BuiltinTask, theta: np.ndarray) -> Twin:
    import torch
    from optadvisor.studies.tasks.language.transformer import CHARACTERS, STRIDE
    from torch.nn import functional as f

    length, width, depth, heads = (task.values[name] for name in ("length", "width", "depth", "heads"))
    inner = [(width, 3 * width), (width, width), (width, 2 * width), (2 * width, width)] * depth
    sizes = [width, width, 3 * width, width, width, width, 2 * width, width] * depth
    shapes = [(CHARACTERS, width), (length, width), *inner, (width, CHARACTERS)]
    found = views((*shapes, *((size,) for size in [*sizes, width, width, CHARACTERS])), theta)
    cut = len(shapes)
    table, positions, *matrices = parameters([*found[:2], *(matrix.T for matrix in found[2:cut])])
    vectors = parameters(found[cut:])
    *blocks, out = matrices
    *norms, gain, bias, b_out = vectors
    # A view of overlapping windows, each with the token behind it.
    windows = torch.from_numpy(task.problem.integers).unfold(0, length + 1, STRIDE)

    def norm(x: Any, gain: Any, bias: Any) -> Any:
        return f.layer_norm(x, (width,), gain, bias)

    def loss(rows: Any) -> Any:
        tokens = windows[rows]
        x = f.embedding(tokens[:, :-1], table) + positions
        for i in range(depth):
            w_qkv, w_mixed, w_wide, w_back = blocks[4 * i : 4 * i + 4]
            g1, c1, b_qkv, b_mixed, g2, c2, b_wide, b_back = norms[8 * i : 8 * i + 8]
            qkv = f.linear(norm(x, g1, c1), w_qkv, b_qkv).view(len(rows), length, 3, heads, width // heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            mixed = f.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + f.linear(mixed, w_mixed, b_mixed)
            wide = f.gelu(f.linear(norm(x, g2, c2), w_wide, b_wide), approximate="tanh")
            x = x + f.linear(wide, w_back, b_back)
        logits = f.linear(norm(x, gain, bias), out, b_out)
        return f.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    return Twin([table, positions, *matrices], vectors, loss)


def clicks_dlrm(task: BuiltinTask, theta: np.ndarray) -> Twin:
    """One table for all fields, which is faster than one each."""
    import torch
    from optadvisor.studies.tasks.recsys.dlrm import FEATURES
    from torch.nn import functional as f

    fields, width, hidden = (task.values[name] for name in ("fields", "width", "hidden"))
    integers, reals = task.problem.integers, task.problem.reals
    ids = torch.from_numpy(integers.reshape(-1, fields))
    samples = len(ids)
    features = torch.from_numpy(reals[: samples * FEATURES].reshape(samples, FEATURES))
    clicked = torch.from_numpy(reals[samples * FEATURES :])
    pairs = fields * (fields + 1) // 2
    matrices = ((FEATURES, hidden), (hidden, width), (width + pairs, hidden), (hidden, 1))
    biases = tuple((outputs,) for _, outputs in matrices)
    rows = task.problem.layout.embedding // width
    table, *found = views(((rows, width), *matrices, *biases), theta)
    table, w1, w2, w3, w4, b1, b2, b3, b4 = parameters([table, *(m.T for m in found[:4]), *found[4:]])
    above, beside = torch.tril_indices(fields + 1, fields + 1, -1)

    def loss(rows: Any) -> Any:
        dense = f.linear(f.relu(f.linear(features[rows], w1, b1)), w2, b2)
        vectors = torch.cat([dense.unsqueeze(1), f.embedding(ids[rows], table)], 1)
        dots = torch.bmm(vectors, vectors.transpose(1, 2))[:, above, beside]
        odds = f.linear(f.relu(f.linear(torch.cat([dense, dots], 1), w3, b3)), w4, b4)
        return f.binary_cross_entropy_with_logits(odds.squeeze(1), clicked[rows])

    return Twin([table, w1, w2, w3, w4], [b1, b2, b3, b4], loss)


# The tasks, their twins, and how many times as many trainings a second there have to be.
TASKS: dict[str, tuple[Callable[[BuiltinTask, np.ndarray], Twin], float]] = {
    "digits-mlp": (digits_mlp, 20.0),
    "digits-cnn": (digits_cnn, 5.0),
    "text-transformer": (text_transformer, 5.0),
    "clicks-dlrm": (clicks_dlrm, 10.0),
}


def fused_adamw(twin: Twin) -> Any:
    import torch

    (_, dense), (_, rest) = CONFIG.roles()["dense"], CONFIG.roles()["no_decay"]
    groups = [
        {"params": twin.decayed, "weight_decay": dense["weight_decay"]},
        {"params": twin.plain, "weight_decay": rest["weight_decay"]},
    ]
    return torch.optim.AdamW(groups, lr=dense["lr"], betas=dense["betas"], eps=dense["eps"], fused=True)


def our_losses(task: BuiltinTask, seed: int, rows: np.ndarray) -> list[float]:
    """The mini-batch losses of the compiled training, which keeps none: asked for between steps, at its weights."""
    run = Run(task.family, task.problem, CONFIG, seed, len(rows), task.start(seed))
    problem, gradient = task.problem, specialise(task.family.program.gradient, task.family.program.name)
    work, grad = np.zeros(max(problem.work, 1), np.float32), np.empty_like(run.theta)
    found = []
    for step, chosen in enumerate(rows):
        data = (problem.reals, problem.integers, problem.dims)
        found.append(float(gradient(run.theta, *data, chosen, step, 0, grad, work)))
        run.train_to(step + 1)
    return found


def peer_training(
    make: Callable[[BuiltinTask, np.ndarray], Twin], task: BuiltinTask, seed: int, rows: Any
) -> list[Any]:
    """The loss tensors of a training in PyTorch."""
    twin = make(task, task.start(seed))
    optimizer = fused_adamw(twin)
    losses = []
    for chosen in rows:
        optimizer.zero_grad()
        loss = twin.loss(chosen)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def rate(training: Callable[[int], Any]) -> float:
    """Trainings a second over a turn; training(seed)."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < TURN:
        training(done)
        done += 1
    return done / (time.perf_counter() - began)


def compare(name: str, rounds: int) -> bool:
    import torch

    make, wanted = TASKS[name]
    task = get(name)
    chosen = batches(task.problem, 0, STEPS_COMPARED)
    ours = our_losses(task, 0, chosen)
    theirs = [loss.item() for loss in peer_training(make, task, 0, torch.from_numpy(chosen))]
    apart = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    same = apart <= TOLERANCE
    print(
        f"{name}: losses from {ours[0]:.4f} to {ours[-1]:.4f} in {STEPS_COMPARED} steps, at most {apart:.1e} apart, "
        f"at most {TOLERANCE:.0e}: {verdict(same)}"
    )
    rows = [torch.from_numpy(batches(task.problem, seed, task.steps)) for seed in range(3)]
    rates = []
    for _ in range(rounds):
        our_rate = rate(lambda seed: task.train(CONFIG, seed))
        their_rate = rate(lambda seed: peer_training(make, task, seed % 3, rows[seed % 3]))
        rates.append((our_rate, their_rate))
    ratio = statistics.median(our_rate / their_rate for our_rate, their_rate in rates)
    one, other = (statistics.median(side) for side in zip(*rates, strict=True))
    print(
        f"{name}, {task.steps} steps: {one:.1f} trainings/s, PyTorch {other:.2f}; {ratio:.1f}x, at least {wanted:.0f}x: "
        f"{verdict(ratio >= wanted)}",
        flush=True,
    )
    return same and ratio >= wanted


def many(name: str, rounds: int) -> bool:
    """64 trainings side by side on two cores against one after the other."""
    task = get(name)
    pairs = [(OptimizerConfig.of("adamw", {"lr": 1e-3 * 2 ** (seed % 8)}), seed) for seed in range(MANY)]
    ratios, equal = [], True
    for _ in range(rounds):
        began = time.perf_counter()
        alone = [task.train(*pair) for pair in pairs]
        between = time.perf_counter()
        together = task.train_many(pairs, jobs=CORES)
        ratios.append((between - began) / (time.perf_counter() - between))
        timeless = [[dataclasses.replace(record, seconds=0.0) for record in side] for side in (alone, together)]
        equal = equal and timeless[0] == timeless[1]
    ratio = statistics.median(ratios)
    print(
        f"{MANY} trainings of {name} on {CORES} cores against one at a time: records equal to the bit: {verdict(equal)}; "
        f"{ratio:.2f}x, at least {WANTED_OF_CORES}x: {verdict(ratio >= WANTED_OF_CORES)}",
        flush=True,
    )
    return equal and ratio >= WANTED_OF_CORES


def verdict(passed: bool) -> str:
    return "PASS" if passed else "FAIL"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)} (all)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side (9)")
    arguments = parser.parse_args()
    unknown = set(arguments.tasks) - set(TASKS)
    if unknown:
        parser.error(f"no twin of {', '.join(sorted(unknown))}")
    import torch

    torch.set_num_threads(1)
    names = arguments.tasks or [name for name in TASKS if name in FAMILIES]
    for name in names:
        get(name).train(CONFIG, 0, 5)  # compiles
    passed = [compare(name, arguments.rounds) for name in names]
    passed.append(many("digits-mlp", arguments.rounds))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
