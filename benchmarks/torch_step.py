"""A whole PyTorch training step with optadvisor.torch.Optimizer and with torch.optim's own classes, on the CPU.

    python benchmarks/torch_step.py [--markdown FILE] [--rounds N] [--threads N]

Real small models on random data of their shapes. Every optimizer of a row trains its own copy of the model; the copies
take turns in short bursts, so that what else the machine does hits all alike. Printed: the median time of a whole step
(zero_grad, forward, backward, step) and of optimizer.step() in it, and torch's divided by ours.
Exit code 1 where a whole step with adamw is slower than with AdamW(fused=True), or, on the small models, its own share
not 1.5x faster: large ones run at the memory's speed in both.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from optadvisor.frameworks.torch.optimizer import Optimizer

BURST = 10
ROOM = 1.01  # a whole step counts as slower beyond what two runs of the same code differ by
WANTED = 1.5  # of optimizer.step(), up to SMALL parameters
SMALL = 500_000


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class CharTransformer(nn.Module):
    """Next-character prediction over 65 characters."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(65, width), nn.Embedding(64, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 65)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.token(x) + self.place(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x))).flatten(0, 1)


def digits_mlp() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return model, torch.randn(32, 64), torch.randint(10, (32,))


def digits_cnn() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))
    return model, torch.randn(32, 1, 8, 8), torch.randint(10, (32,))


def char_transformer(width: int = 64, depth: int = 4) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    return CharTransformer(width, depth), torch.randint(65, (8, 64)), torch.randint(65, (8 * 64,))


def wide_mlp(width: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    return model, torch.randn(8, width), torch.randint(10, (8,))


MODELS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor, torch.Tensor]]] = {
    "digits MLP": digits_mlp,
    "digits CNN": digits_cnn,
    "char transformer": char_transformer,
    "MLP of 1e6": lambda: wide_mlp(700),
    "MLP of 1e7": lambda: wide_mlp(2200),
}
TORCH: dict[str, Callable[..., Any]] = {
    "AdamW(fused=True)": lambda p: torch.optim.AdamW(p, fused=True),
    "AdamW()": lambda p: torch.optim.AdamW(p),
    "SGD(fused=True)": lambda p: torch.optim.SGD(p, lr=1e-3, fused=True),
    "SGD(momentum=0.9, fused=True)": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, fused=True),
    "Adagrad(fused=True)": lambda p: torch.optim.Adagrad(p, fused=True),
}
ROWS = {
    "adamw": ("AdamW(fused=True)", "AdamW()"),
    "sgd": ("SGD(fused=True)",),
    "momentum": ("SGD(momentum=0.9, fused=True)",),
    "adagrad": ("Adagrad(fused=True)",),
}


@dataclass
class Side:
    """A model in training with one optimizer, and its times in microseconds."""

    model: nn.Module
    optimizer: Any
    whole: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)

    def burst(self, x: torch.Tensor, target: torch.Tensor, steps: int) -> None:
        own, wholes = [], []
        for _ in range(steps):
            start = time.perf_counter()
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(x), target).backward()
            before = time.perf_counter()
            self.optimizer.step()
            end = time.perf_counter()
            own.append(end - before)
            wholes.append(end - start)
        self.whole.append(1e6 * statistics.median(wholes))
        self.share.append(1e6 * statistics.median(own))


@dataclass(frozen=True)
class Row:
    """One model, one rule against one class of torch.optim; ratios are medians over the bursts that took turns."""

    model: str
    tensors: int
    parameters: int
    rule: str
    peer: str
    ours: tuple[float, float]
    theirs: tuple[float, float]
    ratios: tuple[float, float]


def measure(name: str, rule: str, peers: tuple[str, ...], rounds: int) -> list[Row]:
    torch.manual_seed(0)
    model, x, target = MODELS[name]()
    sides = {}
    for kind in ("ours", *peers):
        own = copy.deepcopy(model)
        lr = {"lr": 1e-3} if rule == "sgd" else {}
        sides[kind] = Side(own, Optimizer(rule, own, **lr) if kind == "ours" else TORCH[kind](own.parameters()))
    size = sum(p.numel() for p in model.parameters())
    steps = BURST if size < 5e6 else 3
    for side in sides.values():
        side.burst(x, target, 2 * steps)
        side.whole.clear(), side.share.clear()
    for number in range(rounds):
        order = list(sides) if number % 2 else list(sides)[::-1]
        for kind in order:
            sides[kind].burst(x, target, steps)
    ours = sides["ours"]
    rows = []
    for peer in peers:
        theirs = sides[peer]
        ratios = [
            statistics.median(t / o for t, o in zip(getattr(theirs, what), getattr(ours, what), strict=True))
            for what in ("whole", "share")
        ]
        times = [(statistics.median(s.whole), statistics.median(s.share)) for s in (ours, theirs)]
        count = len(list(model.parameters()))
        rows.append(Row(name, count, size, rule, peer, times[0], times[1], (ratios[0], ratios[1])))
    return rows


def markdown(rows: list[Row], setting: str) -> str:
    lines = [
        setting,
        "",
        "| model | tensors, parameters | rule | against | whole step, us | ratio | optimizer.step(), us | ratio |",
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {r.model} | {r.tensors}, {r.parameters:,} | {r.rule} | {r.peer} | {r.ours[0]:.0f} against {r.theirs[0]:.0f} "
        f"| {r.ratios[0]:.2f}x | {r.ours[1]:.1f} against {r.theirs[1]:.1f} | {r.ratios[1]:.1f}x |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--rounds", type=int, default=60, help="bursts of each side (default: 60)")
    parser.add_argument("--threads", type=int, help="torch.set_num_threads (default: torch's own choice)")
    parser.add_argument("--model", action="append", choices=list(MODELS), help="only this one; may be repeated")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    rows = []
    for name in arguments.model or MODELS:
        for rule, peers in ROWS.items():
            for row in measure(name, rule, peers, arguments.rounds):
                rows.append(row)
                print(
                    f"{row.model:<17} {row.rule:<9} {row.peer:<30} whole {row.ours[0]:>9.1f} {row.theirs[0]:>9.1f} us "
                    f"{row.ratios[0]:>5.2f}x   step {row.ours[1]:>9.2f} {row.theirs[1]:>9.2f} us {row.ratios[1]:>5.2f}x"
                )
    setting = f"torch {torch.__version__}, {torch.get_num_threads()} threads, load at the start {load}; float32, CPU."
    print(setting)
    if arguments.markdown:
        arguments.markdown.write_text(markdown(rows, setting), encoding="utf-8")
    judged = [row for row in rows if row.peer == "AdamW(fused=True)"]
    failed = [r for r in judged if r.ratios[0] * ROOM < 1.0 or r.ratios[1] < (WANTED if r.parameters < SMALL else 1.0)]
    for row in failed:
        print(f"FAIL {row.model}: whole {row.ratios[0]:.2f}x, step {row.ratios[1]:.2f}x")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
