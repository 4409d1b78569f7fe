"""bandit-drift: a contextual bandit whose rewards drift; a linear softmax policy follows them.

Arm a pays r = x . w_a(t) + noise for a context x, with w_a(t) = cos(wt) u_a + sin(wt) v_a: after a quarter of a period
nothing of what was learnt holds. The policy is trained by its policy gradient with a running mean of the rewards as
baseline (gradient bandits: Sutton & Barto 2018, Reinforcement learning, section 2.8) and a bonus for its entropy.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.studies import seeds
from optadvisor.studies.tasks.family import Axis, Family, Layout, Problem, Program, Values
from optadvisor.studies.tasks.layers.dense import dense, dense_backward
from optadvisor.studies.tasks.layers.numbers import mix, normal, uniform
from optadvisor.studies.tasks.layers.policies import add_entropy_gradient, add_policy_gradient, choose, softmax

CONTEXTS = 200  # in an evaluation
ENTROPY = 0.1  # weight of the entropy: a policy that has become sure of itself could not turn any more
MEMORY = 0.95  # of the running mean of rewards
NOISE, SCALES = 0, 1  # reals: of rewards; standard deviations of the context's features; then u, v: (features, arms)


def _means(reals, dims, step, weights, x, out):
    """Every arm's expected reward in out for contexts x: x @ (cos(wt) u + sin(wt) v)."""
    features, arms, period = dims[0], dims[1], dims[2]
    u, angle = SCALES + features, 2.0 * math.pi * step / period
    across, along = reals.dtype.type(math.cos(angle)), reals.dtype.type(math.sin(angle))
    v = u + features * arms
    for i in range(features):
        for j in range(arms):
            weights[i, j] = across * reals[u + i * arms + j] + along * reals[v + i * arms + j]
    np.dot(x, weights, out)


def _play(theta, reals, dims, step, key, n, work):
    """Contexts, expected rewards and the policy's probabilities; returns also the mean expected regret."""
    features, arms = dims[0], dims[1]
    a, b, c = features * arms, n * features, n * arms
    x, means = work[a : a + b].reshape(n, features), work[a + b : a + b + c].reshape(n, arms)
    policy = work[a + b + c : a + b + 2 * c].reshape(n, arms)
    width = theta.dtype.type(2.0 * math.sqrt(3.0))  # of a uniform distribution of variance 1
    for i in range(n):
        for j in range(features):
            x[i, j] = reals[SCALES + j] * width * (uniform(key, i * features + j) - 0.5)
    _means(reals, dims, step, work[:a].reshape(features, arms), x, means)
    dense(x, theta[:a].reshape(features, arms), theta[a:], policy)
    softmax(policy)
    regret = 0.0
    for i in range(n):
        best = means[i, 0]
        for j in range(1, arms):
            best = max(best, means[i, j])
        for j in range(arms):
            regret += policy[i, j] * (best - means[i, j])
    return x, means, policy, regret / n


def gradient(theta, reals, integers, dims, rows, step, key, grad, work):
    """Returns the policy's expected regret; grad is of the mean over contexts of -(reward - baseline) *
    log probability of the arm drawn - ENTROPY * entropy.

    work[0]: the running mean of rewards.
    """
    features, arms, n = dims[0], dims[1], dims[3]
    x, means, policy, regret = _play(theta, reals, dims, step, mix(key, 0), n, work[1:])
    delta = work[work.size - n * arms :].reshape(n, arms)
    delta[:] = 0
    scale = theta.dtype.type(1.0 / n)
    luck, draws = mix(key, 1), mix(key, 2)
    total = 0.0
    for i in range(n):
        arm = choose(policy[i], uniform(draws, i))
        reward = theta.dtype.type(means[i, arm] + reals[NOISE] * normal(luck, i))
        total += reward
        add_policy_gradient(policy[i], arm, scale * (reward - work[0]), delta[i])
        add_entropy_gradient(policy[i], scale * theta.dtype.type(ENTROPY), delta[i])
    memory = MEMORY if step > 0 else 0.0
    work[0] = memory * work[0] + (1.0 - memory) * total / n
    dense_backward(x, delta, grad[: features * arms].reshape(features, arms), grad[features * arms :])
    return regret


def evaluate(theta, reals, integers, dims, part, step, key, work, scores):
    """Expected regret at this step, and how often the policy takes the best arm."""
    _, means, policy, regret = _play(theta, reals, dims, step, key, CONTEXTS, work[1:])
    right = 0.0
    for i in range(CONTEXTS):
        best = 0
        for j in range(1, dims[1]):
            if means[i, j] > means[i, best]:
                best = j
        right += policy[i, best]
    scores[0], scores[1] = regret, right / CONTEXTS


def _layout(values: Values) -> Layout:
    return Layout(0, values["features"] * values["arms"], values["arms"])


def _initial(size: int, rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """Near the policy that takes every arm alike."""
    return 0.01 * rng.standard_normal(size)


def build(values: Values) -> Problem:
    features, arms, batch = values["features"], values["arms"], values["batch"]
    rng = np.random.default_rng(seeds.derive(values["data"], seeds.TASKS))
    scales = np.geomspace(1, values["conditioning"] ** -0.5, features)
    scales *= np.sqrt(features / (scales**2).sum())
    # Whatever the features' scales, an arm's reward has variance 1 over contexts.
    sides = rng.standard_normal((2, features, arms)) / scales[:, None]
    sides /= np.linalg.norm(sides * scales[:, None], axis=1, keepdims=True)
    rows = max(batch, CONTEXTS)
    return Problem(
        _layout(values),
        functools.partial(_initial, _layout(values).total),
        reals=np.concatenate([[values["noise"]], scales, sides.reshape(-1)]).astype(np.float32),
        dims=np.array([features, arms, values["period"], batch]),
        work=1 + features * arms + rows * (features + 2 * arms) + batch * arms,
    )


def profile(values: Values) -> dict[str, Any]:
    return {
        "domain": "rl",
        "architecture": "policy",
        "parameters": _layout(values).total,
        "non_stationary": True,
        "ill_conditioned": values["conditioning"] >= 100,
    }


BANDIT_DRIFT = Family(
    name="bandit-drift",
    title="Contextual bandit whose rewards drift, linear softmax policy",
    program=Program("bandit_drift", gradient, evaluate),
    metric="mean regret over the last fifth of training",
    scores=("regret", "best_arm"),
    higher=("best_arm",),
    held_out=False,
    online=True,
    axes={
        "features": Axis(8, (4, 8, 16), "of a context"),
        "arms": Axis(5, (2, 5, 10), "to choose from"),
        "batch": Axis(16, (4, 16, 64), "contexts a step"),
        "period": Axis(4000, (2000, 4000, 8000, 16000), "steps in which the rewards turn once around"),
        "noise": Axis(0.5, (0.0, 0.5, 2.0), "standard deviation of a reward"),
        "conditioning": Axis(1, (1, 10, 100), "of the contexts' covariance"),
        "data": Axis(0, (0, 1, 2), "seed of the rewards"),
        "steps": Axis(1000, (500, 1000, 2000), "updates"),
    },
    build=build,
    profile=profile,
)
FAMILIES = (BANDIT_DRIFT,)
