"""What `oa.torch.Monitor` costs: steps of a small convolutional net with it and without it, at most 1.02 times as long.

Two equal trainings, from the same weights through the same mini-batches, take turns in blocks of 50 steps, so that a
change of the machine's speed meets both; every block has one look. Seconds are the processor's, of this process: other
work on the machine adds to the clock on the wall. The median of the ratios of neighbouring blocks is judged. The monitor
writes its JSON lines. Last, both trainings must hold the same weights, to the
bit.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from optadvisor.frameworks.torch.monitor import Monitor

LIMIT = 1.02
BLOCK = 50  # Monitor's `every`


def net() -> nn.Module:
    """9,642 parameters in 6 tensors, for images of 8x8."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


class Training:
    """A training that goes on block by block."""

    def __init__(self, make: Callable[..., torch.optim.Optimizer], images: Tensor, labels: Tensor) -> None:
        torch.manual_seed(0)
        self.model, self.images, self.labels = net(), images, labels
        self.optimizer = make(self.model.parameters())
        self.draw = torch.Generator().manual_seed(1)

    def block(self) -> float:
        """Microseconds a step, the mean over a block."""
        batches = torch.randint(len(self.images), (BLOCK, 64), generator=self.draw)
        began = time.process_time()
        for rows in batches:
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(self.images[rows]), self.labels[rows]).backward()
            self.optimizer.step()
        return 1e6 * (time.process_time() - began) / BLOCK


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=100, help="of 50 steps, of each training (100)")
    blocks = parser.parse_args().blocks
    torch.set_num_threads(1)
    made = torch.Generator().manual_seed(2)
    images, labels = torch.rand(1200, 1, 8, 8, generator=made), torch.randint(10, (1200,), generator=made)
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "AdamW": lambda params: torch.optim.AdamW(params, lr=1e-3),
        "AdamW, fused": lambda params: torch.optim.AdamW(params, lr=1e-3, fused=True),
        "SGD with momentum": lambda params: torch.optim.SGD(params, lr=1e-2, momentum=0.9),
    }
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        for name, make in makers.items():
            plain, watched = Training(make, images, labels), Training(make, images, labels)
            monitor = Monitor(watched.optimizer, watched.model, path=Path(folder) / "run.jsonl")
            plain.block(), watched.block()  # the first looks are dense, and the caches are cold
            times: list[tuple[float, float]] = []
            for turn in range(blocks):
                if turn % 2:
                    with_it = watched.block()
                    times.append((plain.block(), with_it))
                else:
                    without = plain.block()
                    times.append((without, watched.block()))
            monitor.close()
            equal = all(
                torch.equal(a, b) for a, b in zip(plain.model.parameters(), watched.model.parameters(), strict=True)
            )
            ratio = statistics.median(b / a for a, b in times)
            good = ratio <= LIMIT and equal
            passed &= good
            step, most = statistics.median(a for a, _ in times), statistics.median(b for _, b in times)
            print(
                f"{name:<18} {step:6.0f} us a step, {most:6.0f} us with the monitor; ratio of neighbours "
                f"{ratio:.4f}, at most {LIMIT}; same weights: {equal}: {'PASS' if good else 'FAIL'}"
            )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
