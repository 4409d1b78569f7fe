"""A PyTorch training as an objective: torch.optim takes its settings from the config of each trial.

optadvisor tune examples/own_torch.py:objective --optimizer adamw --optimizer momentum --trials 20 --timeout 60
optadvisor config examples/own_torch.py:objective --framework torch
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

PROFILE = {"domain": "vision", "architecture": "mlp", "parameters": 2410, "samples": 1200, "batch_size": 64}
STEPS = 60

torch.set_num_threads(1)  # a model this small has nothing to share out

IMAGES, LABELS = load_digits(return_X_y=True)
X, Y = torch.tensor(IMAGES / 16, dtype=torch.float32), torch.tensor(LABELS)
TRAIN, HELD = slice(0, 1200), slice(1200, None)

# The rules that torch.optim has, under its names. The keywords of a config are PyTorch's.
CLASSES = {
    "sgd": torch.optim.SGD,
    "momentum": torch.optim.SGD,
    "nag": lambda groups, **keywords: torch.optim.SGD(groups, nesterov=True, **keywords),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def build(config, model):
    """The optimizer of a config; biases and normalisation are not decayed."""
    keywords = dict(config.hyperparameters)
    decay = keywords.pop("weight_decay")
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return CLASSES[config.optimizer](groups, **keywords)


def objective(config, report, seed, steps):
    """Cross-entropy on held-out digits after `steps` mini-batches of 64; a loss that is nan counts as diverged."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer = build(config, model)
    for step in range(1, steps + 1):
        rows = torch.randint(TRAIN.stop, (64,))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(X[rows]), Y[rows]).backward()
        optimizer.step()
        if step % 20 == 0:
            report(step, held_out(model))
    return held_out(model)


@torch.no_grad()
def held_out(model):
    return torch.nn.functional.cross_entropy(model(X[HELD]), Y[HELD]).item()
