"""CartPole: keep a pole upright on a cart by pushing the cart left or right.

Barto, Sutton & Anderson 1983, Neuronlike adaptive elements that can solve difficult learning control problems
(appendix), as in Gym's CartPole-v1: Euler steps of 0.02 s, pushes of 10 N, the end at 12 degrees or 2.4 m.
"""

from __future__ import annotations

import math

from optadvisor.studies.tasks.layers.numbers import mix, normal, uniform
from optadvisor.studies.tasks.layers.smooth import logistic
from optadvisor.studies.tasks.layers.stack import stack_forward, stack_input, stack_output

GRAVITY, CART, POLE, PUSH, SECONDS = 9.8, 1.0, 0.1, 10.0, 0.02
FAR, TILTED = 2.4, 12.0 * 2.0 * math.pi / 360.0
STATE = 4  # place and speed of the cart, angle and angular speed of the pole
EPISODES = 32  # in an evaluation


def begin(state, key, episode):
    """A start near upright rest: every number of the state within +-0.05."""
    for j in range(STATE):
        state[j] = 0.1 * uniform(key, episode * STATE + j) - 0.05


def push(state, right, length, wind):
    """0.02 s on, in place; returns whether the pole fell or the cart left. length: half of the pole, m; wind: N."""
    x, speed, angle, turning = state[0], state[1], state[2], state[3]
    force = (PUSH if right else -PUSH) + wind
    sine, cosine = math.sin(angle), math.cos(angle)
    pressed = (force + POLE * length * turning * turning * sine) / (CART + POLE)
    angular = (GRAVITY * sine - cosine * pressed) / (length * (4.0 / 3.0 - POLE * cosine * cosine / (CART + POLE)))
    linear = pressed - POLE * length * angular * cosine / (CART + POLE)
    state[0] = x + SECONDS * speed
    state[1] = speed + SECONDS * linear
    state[2] = angle + SECONDS * turning
    state[3] = turning + SECONDS * angular
    return abs(state[0]) > FAR or abs(state[2]) > TILTED


def act(z, key, counter):
    """1 (right) or 0 from a row of the network's output, whose first two numbers are the logits of left and right."""
    return 1 if uniform(key, counter) < logistic(z[1] - z[0]) else 0


def play(sizes, weights, biases, length, wind, horizon, key, states, activations, log):
    """Whole episodes side by side, at most `horizon` steps each; returns how many steps all of them lasted.

    wind: standard deviation of a force besides the pushes, N. states: buffer (episodes, 5). activations: of the policy
    (stack.py) for as many rows. log: for each step taken its state, action, time and episode (steps, 7), or no rows.
    """
    episodes = states.shape[0]
    starts, draws, winds = mix(key, 0), mix(key, 1), mix(key, 2)
    for i in range(episodes):
        begin(states[i], starts, i)
        states[i, STATE] = i
    going, steps = episodes, 0
    for t in range(horizon):
        x = stack_input(sizes, going, activations)
        for i in range(going):
            for j in range(STATE):
                x[i, j] = states[i, j]
        stack_forward(sizes, weights, biases, going, activations, True)
        z = stack_output(sizes, going, activations)
        left = 0
        for i in range(going):
            counter = int(states[i, STATE]) * horizon + t
            action = act(z[i], draws, counter)
            if log.shape[0] > 0:
                for j in range(STATE):
                    log[steps, j] = states[i, j]
                log[steps, STATE], log[steps, STATE + 1], log[steps, STATE + 2] = action, t, states[i, STATE]
            steps += 1
            fallen = push(states[i], action, length, wind * normal(winds, counter) if wind > 0 else 0.0)
            if not fallen:  # those still going stay in front
                for j in range(STATE + 1):
                    states[left, j] = states[i, j]
                left += 1
        going = left
        if going == 0:
            break
    return steps
