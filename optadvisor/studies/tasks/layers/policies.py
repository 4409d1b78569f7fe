"""Policies over a few actions: softmax, sampling, the derivative of the surrogate loss; and advantages."""

from __future__ import annotations

import math

from optadvisor.studies.tasks.layers.smooth import exponential


def softmax(z):
    """Every row of z becomes probabilities, in place; nan where a logit is."""
    for i in range(z.shape[0]):
        top = z[i, 0]
        for j in range(1, z.shape[1]):
            top = max(top, z[i, j])
        total = z.dtype.type(0)
        for j in range(z.shape[1]):
            z[i, j] = exponential(z[i, j] - top)
            total += z[i, j]
        scale = z.dtype.type(1) / total
        for j in range(z.shape[1]):
            z[i, j] *= scale


def choose(probability, chance):
    """The action at `chance` (uniform in 0..1) of cumulative probability: never one of probability 0, 0 for nan."""
    total = 0.0
    found = 0
    for action in range(probability.size):
        if probability[action] > 0:
            found = action
            total += probability[action]
            if chance < total:
                break
    return found  # the last possible one where rounding leaves the total below `chance`


def add_policy_gradient(probability, action, weight, delta):
    """delta += weight times the gradient, with respect to the logits, of -log probability[action].

    weight: the advantage over the number of samples that the loss is a mean of.
    """
    for j in range(probability.size):
        delta[j] += weight * probability[j]
    delta[action] -= weight


def add_entropy_gradient(probability, weight, delta):
    """delta += weight times the gradient, with respect to the logits, of the negative entropy; returns the entropy.

    d(sum p log p)/dz_j = p_j (log p_j + entropy).
    """
    entropy = 0.0
    for j in range(probability.size):
        if probability[j] > 0:
            entropy -= probability[j] * math.log(probability[j])
    for j in range(probability.size):
        if probability[j] > 0:
            delta[j] += weight * probability[j] * (math.log(probability[j]) + entropy)
    return entropy


def rewards_to_go(rewards, discount, out):
    """out[t, i] = sum over s >= t of discount**(s - t) * rewards[s, i]; (steps, episodes), 0 after an episode's end."""
    steps, episodes = rewards.shape
    for i in range(episodes):
        out[steps - 1, i] = rewards[steps - 1, i]
    for t in range(steps - 2, -1, -1):
        for i in range(episodes):
            out[t, i] = rewards[t, i] + discount * out[t + 1, i]


def less_the_others(returns):
    """returns[t, i] -= the mean of the other episodes' returns[t], in place: a baseline that leaves no bias.

    Kool, van Hoof & Welling 2019, Buy 4 REINFORCE samples, get a baseline for free.
    """
    steps, episodes = returns.shape
    scale = returns.dtype.type(1.0 / (episodes - 1))
    whole = returns.dtype.type(episodes)
    for t in range(steps):
        total = returns.dtype.type(0)
        for i in range(episodes):
            total += returns[t, i]
        for i in range(episodes):
            returns[t, i] = (whole * returns[t, i] - total) * scale
