"""A PyTorch training as an objective: the config of each trial builds the optimizer and its schedule.

optadvisor tune examples/own_torch.py:objective --optimizer adamw --optimizer momentum --trials 20 --timeout 60
optadvisor config examples/own_torch.py:objective --framework torch

`accuracy` is the same training in one call, without a loop of your own: optadvisor tune examples/own_torch.py:accuracy
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

import optadvisor as oa

PROFILE = {"domain": "vision", "architecture": "mlp", "parameters": 2410, "samples": 1200, "batch_size": 64}
STEPS = 60

torch.set_num_threads(1)  # a model this small has nothing to share out

IMAGES, LABELS = load_digits(return_X_y=True)
X, Y = torch.tensor(IMAGES / 16, dtype=torch.float32), torch.tensor(LABELS)
TRAIN, HELD = slice(0, 1200), slice(1200, None)


def make():
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def objective(config, report, seed, steps):
    """Cross-entropy on held-out digits after `steps` mini-batches of 64; a loss that is nan counts as diverged."""
    torch.manual_seed(seed)
    model = make()
    optimizer, scheduler = config.build_torch(model, steps)
    for step in range(1, steps + 1):
        rows = torch.randint(TRAIN.stop, (64,))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(X[rows]), Y[rows]).backward()
        optimizer.step()
        scheduler.step()
        if step % 20 == 0:
            report(step, held_out(model))
    return held_out(model)


objective.scheduled = True  # it follows config.schedule, so schedules may be searched


@torch.no_grad()
def held_out(model):
    return torch.nn.functional.cross_entropy(model(X[HELD]), Y[HELD]).item()


def right(model, batch):
    images, labels = batch
    return (model(images).argmax(1) == labels).float().mean()


accuracy = oa.torch.objective(
    make,
    torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X[TRAIN], Y[TRAIN]), batch_size=64, shuffle=True),
    [(X[HELD], Y[HELD])],
    torch.nn.CrossEntropyLoss(),
    metric=right,
    direction="maximize",
)
