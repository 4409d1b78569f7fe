"""Reinforcement learning: policy gradients on a bandit, a grid world and CartPole."""

from optadvisor.studies.tasks.rl import bandit, gridworld_actor_critic, gridworld_reinforce

FAMILIES = (*bandit.FAMILIES, *gridworld_reinforce.FAMILIES, *gridworld_actor_critic.FAMILIES)
