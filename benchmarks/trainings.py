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
from optadvisor.studies.tasks.registry import get
from optadvisor.studies.training import Run, batches

STEPS_COMPARED = 50
TOLERANCE = 1e-4
TURN = 0.5  # seconds
CONFIG = OptimizerConfig.of("adamw", {"lr": 3e-3})
MANY, CORES, WANTED_OF_CORES = 64, 2, 1.6


class Twin(NamedTuple):
    """A model in PyTorch: its parameters in the groups of the task's layout, and its loss on rows of the training set."""

    decayed: list[Any]
    plain: list[Any]
    loss: Callable[[Any], Any]


def digits_mlp(task: BuiltinTask, theta: np.ndarray) -> Twin:
    import torch

    width = task.values["width"]
    x, labels = map(torch.from_numpy, datasets.digits())
    model = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
    weights, biases = [model[0].weight, model[2].weight], [model[0].bias, model[2].bias]
    fill([*weights, *biases], views(((64, width), (width, 10), (width,), (10,)), theta))
    loss_of = torch.nn.functional.cross_entropy
    return Twin(weights, biases, lambda rows: loss_of(model(x[rows]), labels[rows]))


def digits_cnn(task: BuiltinTask, theta: np.ndarray) -> Twin:
    import torch

    width = task.values["width"]
    images, labels = map(torch.from_numpy, datasets.digits())
    x = images.reshape(-1, 1, 8, 8)
    first, second = torch.nn.Conv2d(1, width, 3, padding=1), torch.nn.Conv2d(width, 2 * width, 3, padding=1)
    last = torch.nn.Linear(8 * width, 10)
    pool, relu = torch.nn.MaxPool2d(2), torch.nn.ReLU()
    model = torch.nn.Sequential(first, relu, pool, second, relu, pool, torch.nn.Flatten(), last)
    weights, biases = [first.weight, second.weight, last.weight], [first.bias, second.bias, last.bias]
    shapes = ((width, 1, 3, 3), (2 * width, width, 3, 3), (10, 2, 2 * width, 2), (width,), (2 * width,), (10,))
    one, two, top, *rest = views(shapes, theta)
    # Our images lie in memory line by line, PyTorch's channel by channel.
    fill([*weights, *biases], [one, two, top.swapaxes(1, 2).reshape(10, -1).T, *rest])
    loss_of = torch.nn.functional.cross_entropy
    return Twin(weights, biases, lambda rows: loss_of(model(x[rows]), labels[rows]))


def parameters(arrays: list[np.ndarray]) -> list[Any]:
    """Copies of weights that can be trained."""
    import torch

    return [torch.tensor(np.ascontiguousarray(array), requires_grad=True) for array in arrays]


def text_transformer(task: BuiltinTask, theta: np.ndarray) -> Twin:
    import torch
    from torch.nn import functional as f

    from optadvisor.studies.tasks.language.transformer import CHARACTERS, STRIDE

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
    """One table for all fields, as ours, looked up at once; its gradient dense, which fused AdamW asks for."""
    import torch

    problem, layout = task.problem, task.problem.layout
    fields, width, _, _, count, *sizes = (int(size) for size in problem.dims)
    dense = sizes[0]
    x = torch.from_numpy(problem.reals[: count * dense].reshape(count, dense))
    clicked = torch.from_numpy(problem.reals[count * dense :])
    ids = torch.from_numpy(problem.integers.reshape(count, fields))
    table = torch.nn.Embedding(layout.embedding // width, width)
    with torch.no_grad():
        table.weight.copy_(torch.from_numpy(theta[: layout.embedding].reshape(-1, width)))
    shapes = [sizes[0:2], sizes[1:3], sizes[3:5], sizes[4:6]]
    layers = [torch.nn.Linear(inputs, outputs) for inputs, outputs in shapes]
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    fill(
        [*weights, *biases],
        views((*map(tuple, shapes), *((outputs,) for _, outputs in shapes)), theta[layout.embedding :]),
    )
    bottom, top = (torch.nn.Sequential(first, torch.nn.ReLU(), last) for first, last in (layers[:2], layers[2:]))
    one, other = np.tril_indices(fields + 1, -1)
    pairs = torch.from_numpy(one * (fields + 1) + other)

    def loss(rows: Any) -> Any:
        first = bottom(x[rows])
        vectors = torch.cat([first[:, None], table(ids[rows])], dim=1)
        dots = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, pairs)
        logits = top(torch.cat([first, dots], dim=1))[:, 0]
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, clicked[rows])

    return Twin([table.weight, *weights], biases, loss)


def fill(parameters: list[Any], values: list[np.ndarray]) -> None:
    """Copy the weights of a task; its matrices are (inputs, outputs), PyTorch's the other way round."""
    import torch

    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(torch.from_numpy(value.T if value.ndim == 2 else value))


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
    names = arguments.tasks or list(TASKS)
    for name in names:
        get(name).train(CONFIG, 0, 5)  # compiles
    passed = [compare(name, arguments.rounds) for name in names]
    passed.append(many("digits-mlp", arguments.rounds))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
