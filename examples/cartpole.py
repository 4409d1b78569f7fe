"""Actor-critic on CartPole: advice, a little tuning, the gain over the usual Adam and RMSprop.

python examples/cartpole.py
optadvisor tune examples/cartpole.py:objective --trials 30 --pruner median
"""

from __future__ import annotations

from dataclasses import replace

import common
import numpy as np
import torch
from torch import nn
from torch.nn.functional import logsigmoid, softplus

import optadvisor as oa

STEPS, CARTS, MOVES, HORIZON = 400, 32, 5, 500
DISCOUNT, ENTROPY, CRITIC, CLIP = 0.99, 0.01, 0.5, 0.5


class CartPole:
    """Poles on carts, side by side: Barto, Sutton & Anderson 1983, with the numbers of Gymnasium's CartPole-v1.

    states: (carts, 4): place (m) and speed of the cart, angle (rad) and angular speed of the pole.
    """

    def __init__(self, carts, seed):
        self.rng = np.random.default_rng(seed)
        self.states, self.moves = self.rng.uniform(-0.05, 0.05, (carts, 4)), np.zeros(carts, int)

    def step(self, right):
        """Push each cart right (True) or left with 10 N for 0.02 s; returns which have fallen."""
        _, speed, angle, turning = self.states.T
        cart, pole, half, gravity = 1.0, 0.1, 0.5, 9.8  # kg, kg, m, m/s^2
        sine, cosine, total = np.sin(angle), np.cos(angle), cart + pole
        pressed = (np.where(right, 10.0, -10.0) + pole * half * turning**2 * sine) / total
        angular = (gravity * sine - cosine * pressed) / (half * (4 / 3 - pole * cosine**2 / total))
        linear = pressed - pole * half * angular * cosine / total
        self.states = self.states + 0.02 * np.stack([speed, linear, turning, angular], 1)
        self.moves = self.moves + 1
        return (abs(self.states[:, 0]) > 2.4) | (abs(self.states[:, 2]) > np.radians(12))

    def restart(self, over):
        self.states[over], self.moves[over] = self.rng.uniform(-0.05, 0.05, (over.sum(), 4)), 0

    @property
    def seen(self):
        return torch.tensor(self.states, dtype=torch.float32)


class ActorCritic(nn.Sequential):
    """State -> log odds of pushing right, and the value of the state."""

    def __init__(self):
        super().__init__(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))


def roll(model, carts, draws):
    """Play MOVES moves of each cart: states, actions and the discounted returns of up to MOVES moves ahead."""
    states, actions, rewards, fallen = [], [], [], []
    with torch.no_grad():
        for _ in range(MOVES):
            states.append(carts.seen)
            actions.append(torch.rand(CARTS, generator=draws) < torch.sigmoid(model(states[-1])[:, 0]))
            fell = carts.step(actions[-1].numpy())
            late, reward = ~fell & (carts.moves >= HORIZON), torch.ones(CARTS)
            if late.any():  # the clock ends it, not a fall: what was to come counts by its value
                reward[late] += DISCOUNT * model(carts.seen[late])[:, 1]
            carts.restart(fell | late)
            rewards.append(reward)
            fallen.append(torch.tensor(fell | late))
        ahead, returns = model(carts.seen)[:, 1], []
        for reward, over in zip(reversed(rewards), reversed(fallen), strict=True):
            ahead = reward + DISCOUNT * ahead * ~over
            returns.append(ahead)
    return torch.cat(states), torch.cat(actions).float(), torch.cat(returns[::-1])


def loss_of(model, batch):
    """Advantage actor-critic with an entropy bonus (Mnih et al. 2016, section 4)."""
    states, actions, returns = batch
    odds, values = model(states).unbind(1)
    likelihood = logsigmoid(odds) * actions + logsigmoid(-odds) * (1 - actions)
    entropy = softplus(odds) - odds * torch.sigmoid(odds)
    advantage = returns - values
    return (CRITIC * advantage.square() - likelihood * advantage.detach() - ENTROPY * entropy).mean()


# A policy cannot be told from its layers, so it is said; parameters and batch are read.
PROFILE = oa.torch.profile(
    ActorCritic(), torch.zeros(CARTS * MOVES, 4), domain="rl", architecture="policy", steps=STEPS
).profile


def train(build, seed, steps, report=None):
    """Train one policy from a seed. build(model, total_steps): the optimizer and its scheduler, or None."""
    torch.manual_seed(seed)
    model, carts, draws = ActorCritic(), CartPole(CARTS, seed), torch.Generator().manual_seed(seed)
    optimizer, scheduler = build(model, total_steps=steps)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss_of(model, roll(model, carts, draws)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        if scheduler:
            scheduler.step()
        if report and step % 150 == 0:
            report(step, evaluate(model, seed)["moves"])
    return evaluate(model, seed)


@torch.no_grad()
def evaluate(model, seed):
    """How many moves the pole stays up, HORIZON at most: mean of 32 fresh starts, each move the likelier one."""
    carts = CartPole(32, (seed, 1))
    up, lasted = np.ones(32, bool), np.zeros(32)
    while up.any() and lasted.max() < HORIZON:
        up &= ~carts.step((model(carts.seen)[:, 0] > 0).numpy())
        lasted += up
    return {"moves": lasted.mean()}


def objective(config, report, seed, steps):
    """How many moves the pole stays up."""
    return train(config.build_torch, seed, steps, report)["moves"]


objective.direction = "maximize"
objective.scheduled = True  # build_torch follows the schedule of a config


def main():
    asked = common.arguments(trials=8, steps=STEPS)
    advice = oa.recommend(replace(PROFILE, steps=asked.steps))
    rules = [advised.optimizer for advised in advice]
    result = oa.tune(objective, trials=asked.trials, steps=asked.steps, optimizers=rules, pruner="median")
    defaults = {
        "Adam(lr=1e-3)": common.plain(torch.optim.Adam, lr=1e-3),
        # Of A2C in Stable-Baselines3.
        "RMSprop(lr=7e-4, eps=1e-5)": common.plain(torch.optim.RMSprop, lr=7e-4, eps=1e-5),
    }
    common.compare(train, defaults, advice, result, asked)


if __name__ == "__main__":
    main()
