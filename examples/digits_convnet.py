"""A convolutional net on handwritten digits: advice, a little tuning, and what it gains over PyTorch's defaults.

python examples/digits_convnet.py
optadvisor tune examples/digits_convnet.py:objective --trials 40 --pruner median
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import common
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import optadvisor as oa

STEPS, BATCH = 320, 32  # 10 passes over the training images

images, labels = load_digits(return_X_y=True)
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
X, Y = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)[order], torch.tensor(labels)[order]
TRAIN, VALIDATION, TEST = slice(0, 1024), slice(1024, 1400), slice(1400, None)


def network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


# What the model and a mini-batch tell, and what they cannot: it orders the rules and gives each its first settings.
PROFILE = oa.torch.profile(network(), (X[:BATCH], Y[:BATCH]), cross_entropy, samples=TRAIN.stop, steps=STEPS).profile


def train(build, seed, steps, report=None, held=VALIDATION):
    """Train one network from a seed. build(model, total_steps): the optimizer and its scheduler, or None."""
    torch.manual_seed(seed)
    model = network()
    optimizer, scheduler = build(model, total_steps=steps)
    batches = common.shuffled(TRAIN.stop, BATCH, seed)
    for step in range(1, steps + 1):
        rows = next(batches)
        optimizer.zero_grad()
        cross_entropy(model(X[rows]), Y[rows]).backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        if report and step % 80 == 0:
            report(step, evaluate(model, held)["loss"])
    return evaluate(model, held)


@torch.no_grad()
def evaluate(model, held):
    model.eval()
    logits = model(X[held])
    model.train()
    return {
        "loss": cross_entropy(logits, Y[held]).item(),
        "accuracy": (logits.argmax(1) == Y[held]).float().mean().item(),
    }


def objective(config, report, seed, steps):
    """Cross-entropy on the validation images."""
    return train(config.build_torch, seed, steps, report)["loss"]


objective.scheduled = True  # build_torch follows the schedule of a config, so schedules are searched too


def main():
    asked = common.arguments(trials=10, steps=STEPS)
    advice = oa.recommend(replace(PROFILE, steps=asked.steps))
    rules = [advised.optimizer for advised in advice]
    result = oa.tune(objective, trials=asked.trials, steps=asked.steps, optimizers=rules, pruner="median")
    defaults = {
        "AdamW(lr=1e-3)": common.plain(torch.optim.AdamW, lr=1e-3),
        "SGD(lr=0.01, momentum=0.9)": common.plain(torch.optim.SGD, lr=0.01, momentum=0.9),
    }
    common.compare(partial(train, held=TEST), defaults, advice, result, asked)


if __name__ == "__main__":
    main()
