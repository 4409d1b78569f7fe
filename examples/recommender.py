"""Clicks from sparse embeddings and a dense tower: advice (a hybrid optimizer), a little tuning, the gain over the usual.

python examples/recommender.py
optadvisor tune examples/recommender.py:objective --optimizer hybrid --trials 30 --pruner median
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import common
import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

import optadvisor as oa

torch.sparse.check_sparse_tensor_invariants.disable()  # as it is anyway; said aloud, Adagrad does not warn of it

STEPS, BATCH, WIDTH = 300, 256, 16
USERS, ITEMS, SHOPS, FEATURES = 2000, 4000, 50, 8


def clicks(samples, rng):
    """Generated clicks: ids as popular as Zipf's law says, a hidden truth of rank 4, features, and noise."""
    ids = [rng.choice(n, samples, p=(p := 1 / np.arange(1, n + 1)) / p.sum()) for n in (USERS, ITEMS, SHOPS)]
    features = rng.normal(size=(samples, FEATURES))
    taste, kind, shop = (rng.normal(size=(n, 4)) for n in (USERS, ITEMS, SHOPS))
    odds = (taste[ids[0]] * (kind[ids[1]] + shop[ids[2]])).sum(1) / 2 + shop[ids[2], 0]
    odds += features @ rng.normal(size=FEATURES) / 3 - 1
    clicked = rng.random(samples) < 1 / (1 + np.exp(-odds))
    return torch.tensor(np.stack(ids, 1)), torch.tensor(features).float(), torch.tensor(clicked).float()


IDS, FEATURE, CLICKED = clicks(60_000, np.random.default_rng(0))
TRAIN, VALIDATION, TEST = slice(0, 50_000), slice(50_000, 55_000), slice(55_000, None)


class Recommender(nn.Module):
    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, WIDTH, sparse=True) for n in (USERS, ITEMS, SHOPS))
        self.tower = nn.Sequential(
            nn.Linear(3 * WIDTH + FEATURES, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, ids, features):
        looked_up = [table(column) for table, column in zip(self.tables, ids.T, strict=True)]
        return self.tower(torch.cat([*looked_up, features], 1)).squeeze(1)


# What the model and a mini-batch tell, and what they cannot: it orders the rules and gives each its first settings.
PROFILE = oa.torch.profile(
    Recommender(),
    (IDS[:BATCH], FEATURE[:BATCH], CLICKED[:BATCH]),
    binary_cross_entropy_with_logits,
    samples=TRAIN.stop,
    steps=STEPS,
).profile

# What is searched; the rest has the rules' own ranges. Decay would reach into rows that a mini-batch does not touch.
SPACE = {"embedding.weight_decay": 0.0}


def train(build, seed, steps, report=None, held=VALIDATION):
    """Train one recommender from a seed. build(model, total_steps): the optimizer and its scheduler, or None."""
    torch.manual_seed(seed)
    model = Recommender()
    optimizer, scheduler = build(model, total_steps=steps)
    batches = common.shuffled(TRAIN.stop, BATCH, seed)
    for step in range(1, steps + 1):
        rows = next(batches)
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(IDS[rows], FEATURE[rows]), CLICKED[rows]).backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        if report and step % 60 == 0:
            report(step, evaluate(model, held)["log loss"])
    return evaluate(model, held)


@torch.no_grad()
def evaluate(model, held):
    odds = model(IDS[held], FEATURE[held])
    return {
        "log loss": binary_cross_entropy_with_logits(odds, CLICKED[held]).item(),
        "AUC": float(roc_auc_score(CLICKED[held], odds)),
    }


def objective(config, report, seed, steps):
    """Log loss on the validation clicks."""
    return train(config.build_torch, seed, steps, report)["log loss"]


objective.scheduled = True  # build_torch follows the schedule of a config, so schedules are searched too


class Pair:
    """SparseAdam for the tables and Adam for the tower: the usual pair, stepped together."""

    def __init__(self, model):
        self.both = (
            torch.optim.SparseAdam(list(model.tables.parameters()), lr=1e-3),
            torch.optim.Adam(model.tower.parameters(), lr=1e-3),
        )

    def zero_grad(self):
        for optimizer in self.both:
            optimizer.zero_grad()

    def step(self):
        for optimizer in self.both:
            optimizer.step()


def dense_adamw(model, total_steps):
    """AdamW wants the gradient of the whole table, zeros and all."""
    for table in model.tables:
        table.sparse = False
    return torch.optim.AdamW(model.parameters(), lr=1e-3), None


def main():
    asked = common.arguments(trials=10, steps=STEPS)
    advice = oa.recommend(replace(PROFILE, steps=asked.steps))
    result = oa.tune(objective, trials=asked.trials, steps=asked.steps, optimizers=["hybrid"], pruner="median")
    defaults = {
        "SparseAdam + Adam (lr=1e-3)": lambda model, total_steps: (Pair(model), None),
        "Adagrad(lr=0.01)": common.plain(torch.optim.Adagrad, lr=0.01),
        "AdamW(lr=1e-3), dense gradients": dense_adamw,
    }
    common.compare(partial(train, held=TEST), defaults, advice, result, asked)


if __name__ == "__main__":
    main()
