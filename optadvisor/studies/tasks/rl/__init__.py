"""Reinforcement learning: policy gradients on a bandit, a grid world and CartPole."""

from optadvisor.studies.tasks.rl import (
    bandit,
    cartpole_actor_critic,
    cartpole_reinforce,
    gridworld_actor_critic,
    gridworld_reinforce,
)

FAMILIES = (
    *bandit.FAMILIES,
    *cartpole_reinforce.FAMILIES,
    *cartpole_actor_critic.FAMILIES,
    *gridworld_reinforce.FAMILIES,
    *gridworld_actor_critic.FAMILIES,
)
