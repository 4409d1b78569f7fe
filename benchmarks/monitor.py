"""What `oa.torch.Monitor` costs: steps of a small convolutional net with it and without it, at most 1.02 times as long.

Two equal trainings, from the same weights through the same mini-batches, take turns step by step, now the one first and now
the other, so that whatever else the machine does meets both. Seconds are the processor's, of this process. A window is
50 steps of each, with one look; the median of the windows' ratios is judged. The monitor writes its JSON lines. Last, both
trainings must hold the same weights, to the bit.
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
WINDOW = 50  # Monitor's `every`


def net() -> nn.Module:
    """9,930 parameters in 6 tensors, for images of 8x8."""
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
    """A training that goes on step by step."""

    def __init__(self, make: Callable[..., torch.optim.Optimizer], images: Tensor, labels: Tensor) -> None:
        torch.manual_seed(0)
        self.model, self.images, self.labels = net(), images, labels
        self.optimizer = make(self.model.parameters())

    def step(self, rows: Tensor) -> float:
        """One step, and its microseconds."""
        began = time.process_time()
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self.images[rows]), self.labels[rows]).backward()
        self.optimizer.step()
        return 1e6 * (time.process_time() - began)


def windows(plain: Training, watched: Training, count: int) -> list[tuple[float, float]]:
    """Microseconds a step without and with the monitor, by window."""
    found = []
    for _ in range(count):
        without = with_it = 0.0
        for turn, rows in enumerate(torch.randint(len(plain.images), (WINDOW, 64))):
            if turn % 2:
                with_it += watched.step(rows)
                without += plain.step(rows)
            else:
                without += plain.step(rows)
                with_it += watched.step(rows)
        found.append((without / WINDOW, with_it / WINDOW))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=60, help="of 50 steps of each training (60)")
    count = parser.parse_args().windows
    torch.set_num_threads(1)
    made = torch.Generator().manual_seed(2)
    images, labels = torch.rand(1200, 1, 8, 8, generator=made), torch.randint(10, (1200,), generator=made)
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "AdamW": lambda params: torch.optim.AdamW(params, lr=1e-3),
        "AdamW, fused": lambda params: torch.optim.AdamW(params, lr=1e-3, fused=True),
        "SGD with momentum": lambda params: torch.optim.SGD(params, lr=1e-2, momentum=0.9),
        "Adagrad": lambda params: torch.optim.Adagrad(params, lr=1e-2),
    }
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        for name, make in makers.items():
            plain, watched = Training(make, images, labels), Training(make, images, labels)
            with Monitor(watched.optimizer, watched.model, path=Path(folder) / "run.jsonl"):
                windows(plain, watched, 1)  # the first looks are dense, and the caches are cold
                times = windows(plain, watched, count)
            pairs = zip(plain.model.parameters(), watched.model.parameters(), strict=True)
            equal = all(torch.equal(a, b) for a, b in pairs)
            ratios = [b / a for a, b in times]
            ratio, (low, _, high) = statistics.median(ratios), statistics.quantiles(ratios, n=4)
            good = ratio <= LIMIT and equal
            passed &= good
            print(
                f"{name:<18} {statistics.median(a for a, _ in times):6.0f} us a step, "
                f"{statistics.median(b for _, b in times):6.0f} us with the monitor; ratio {ratio:.4f} "
                f"(middle half {low:.3f} to {high:.3f}), at most {LIMIT}; same weights: {equal}: {'PASS' if good else 'FAIL'}"
            )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
