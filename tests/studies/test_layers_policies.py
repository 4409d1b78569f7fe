"""Softmax policies, their derivatives, returns and baselines: against finite differences, plain Python and PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from optadvisor.kernels.compiling import specialise
from optadvisor.studies.tasks.layers import policies


def made(function: Callable[..., object]) -> Callable[..., object]:
    return specialise(function, "policies")


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def slopes(function: Callable[[np.ndarray], float], z: np.ndarray) -> np.ndarray:
    unit = 1e-6 * np.eye(z.size)
    return np.array([(function(z + d) - function(z - d)) / 2e-6 for d in unit])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax(dtype: type):
    z = (5 * np.random.default_rng(0).standard_normal((6, 4))).astype(dtype)
    z[0, 0] = 300
    expected = softmax(z.astype(np.float64))
    made(policies.softmax)(z)
    np.testing.assert_allclose(z, expected, rtol=1e-6, atol=1e-30)
    z[1, 2] = np.nan
    made(policies.softmax)(z)
    assert np.isnan(z[1]).any()


def test_choose_takes_each_action_as_often_as_it_is_likely():
    choose = made(policies.choose)
    p = np.array([0.0, 0.5, 0.25, 0.25, 0.0])
    taken = [choose(p, chance) for chance in (np.arange(1000) + 0.5) / 1000]
    np.testing.assert_array_equal(np.bincount(taken, minlength=5), [0, 500, 250, 250, 0])
    assert choose(np.array([0.3, 0.6999, 0.0]), 0.99999) == 1, "never an action of probability 0"
    assert choose(np.array([np.nan, np.nan]), 0.5) == 0


def test_the_policy_gradient_is_the_derivative_of_the_log_probability():
    z, weight = np.random.default_rng(0).standard_normal(4), 0.7
    for action in range(4):
        delta = np.ones(4)
        made(policies.add_policy_gradient)(softmax(z), action, weight, delta)
        expected = slopes(lambda z, action=action: -weight * np.log(softmax(z)[action]), z)
        np.testing.assert_allclose(delta - 1, expected, rtol=1e-6, atol=1e-9)


def test_the_entropy_s_gradient_is_its_derivative():
    z, weight = np.random.default_rng(0).standard_normal(4), 0.7
    entropy = lambda z: -(softmax(z) * np.log(softmax(z))).sum()  # noqa: E731
    delta = np.ones(4)
    assert made(policies.add_entropy_gradient)(softmax(z), weight, delta) == pytest.approx(entropy(z), rel=1e-12)
    np.testing.assert_allclose(delta - 1, slopes(lambda z: -weight * entropy(z), z), rtol=1e-6, atol=1e-9)
    sure, delta = np.array([1.0, 0.0]), np.zeros(2)
    assert made(policies.add_entropy_gradient)(sure, weight, delta) == 0
    np.testing.assert_array_equal(delta, 0)


def test_rewards_to_go_and_the_others_mean():
    rewards = np.random.default_rng(0).standard_normal((5, 3))
    out = np.empty_like(rewards)
    made(policies.rewards_to_go)(rewards, 0.9, out)
    for t in range(5):
        wanted = sum(0.9 ** (s - t) * rewards[s] for s in range(t, 5))
        np.testing.assert_allclose(out[t], wanted, rtol=1e-12)
    before = out.copy()
    made(policies.less_the_others)(out)
    for i in range(3):
        np.testing.assert_allclose(out[:, i], before[:, i] - np.delete(before, i, axis=1).mean(axis=1), rtol=1e-12)


def test_n_step_returns():
    """Worked out by hand: an episode that ends in the middle, and one that goes on."""
    rewards = np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    ended = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    made(policies.n_step_returns)(rewards, ended, np.array([10.0, 20.0]), 0.5)
    np.testing.assert_array_equal(rewards, [[2, 5.5], [2, 9], [9, 14]])


@pytest.mark.parity
def test_policy_and_entropy_gradients_are_pytorch_s():
    torch = pytest.importorskip("torch")
    start = np.random.default_rng(0).standard_normal(5)
    z = torch.tensor(start, requires_grad=True)
    policy = torch.distributions.Categorical(logits=z)
    (-0.3 * policy.log_prob(torch.tensor(2)) - 0.2 * policy.entropy()).backward()
    delta = np.zeros(5)
    made(policies.add_policy_gradient)(softmax(start), 2, 0.3, delta)
    made(policies.add_entropy_gradient)(softmax(start), 0.2, delta)
    np.testing.assert_allclose(delta, z.grad.numpy(), rtol=1e-10, atol=1e-14)
