"""A small transformer that predicts the next character: advice, a little tuning, the gain over PyTorch's default.

python examples/character_transformer.py
optadvisor tune examples/character_transformer.py:objective --trials 30 --pruner median
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pydoc_data.topics import topics

import common
import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

import optadvisor as oa

STEPS, BATCH, CONTEXT, WIDTH, HEADS = 200, 8, 32, 48, 4

# Python's own documentation, what help() shows; every tenth topic is held out for validation, every tenth for the test.
texts = [topics[name] for name in sorted(topics)]
alphabet = {character: i for i, character in enumerate(sorted(set("".join(texts))))}
TRAIN, VALIDATION, TEST = (
    torch.tensor([alphabet[c] for i, text in enumerate(texts) if i % 10 in part for c in text])
    for part in (range(8), (8,), (9,))
)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.out(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.characters = nn.Embedding(len(alphabet), WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = Block()
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(alphabet))

    def forward(self, text):
        return self.head(self.norm(self.blocks(self.characters(text) + self.positions.weight)))


def loss_of(model, text):
    """Cross-entropy of the next character, in nats; text: (batch, CONTEXT + 1)."""
    return cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


# What the model and a mini-batch tell, and what they cannot: it orders the rules and gives each its first settings.
PROFILE = oa.torch.profile(
    Transformer(), TRAIN[: BATCH * (CONTEXT + 1)].view(BATCH, -1), loss_of, samples=len(TRAIN) // CONTEXT, steps=STEPS
).profile


def train(build, seed, steps, report=None, held=VALIDATION):
    """Train one transformer from a seed. build(model, total_steps): the optimizer and its scheduler, or None."""
    torch.manual_seed(seed)
    model, draws = Transformer(), torch.Generator().manual_seed(seed)
    optimizer, scheduler = build(model, total_steps=steps)
    for step in range(1, steps + 1):
        starts = torch.randint(len(TRAIN) - CONTEXT, (BATCH, 1), generator=draws)
        optimizer.zero_grad()
        loss_of(model, TRAIN[starts + torch.arange(CONTEXT + 1)]).backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        if report and step % 50 == 0:
            report(step, evaluate(model, held)["loss"])
    return evaluate(model, held)


@torch.no_grad()
def evaluate(model, held):
    """On 256 pieces spread evenly over the held-out text."""
    starts = torch.linspace(0, len(held) - CONTEXT - 1, 256).long()[:, None]
    return {"loss": loss_of(model, held[starts + torch.arange(CONTEXT + 1)]).item()}


def objective(config, report, seed, steps):
    """Cross-entropy on the validation text."""
    return train(config.build_torch, seed, steps, report)["loss"]


objective.scheduled = True  # build_torch follows the schedule of a config, so schedules are searched too


def main():
    asked = common.arguments(trials=8, steps=STEPS)
    advice = oa.recommend(replace(PROFILE, steps=asked.steps))
    rules = [advised.optimizer for advised in advice]
    result = oa.tune(objective, trials=asked.trials, steps=asked.steps, optimizers=rules, pruner="median")
    defaults = {"AdamW(lr=1e-3)": common.plain(torch.optim.AdamW, lr=1e-3)}
    common.compare(partial(train, held=TEST), defaults, advice, result, asked)


if __name__ == "__main__":
    main()
