"""The settings under which every rule is tested, and the arrays it is fed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optadvisor.kernels import RULES


@dataclass(frozen=True)
class Case:
    """A rule with some keywords; `str` of it is the test's id."""

    rule: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    convention: str = "pytorch"

    def __str__(self) -> str:
        keywords = ",".join(f"{k}={v}".replace(" ", "") for k, v in self.hyperparameters.items())
        convention = "" if self.convention == RULES[self.rule].conventions[0] else f"-{self.convention}"
        return f"{self.rule}{convention}({keywords})"

    @property
    def complete(self) -> dict[str, Any]:
        return RULES[self.rule].complete(self.hyperparameters)


# Every keyword of every rule takes a value here that is not its default: test_reference.py checks it.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "sgd": [{"lr": 0.1}, {"lr": 0.1, "weight_decay": 0.05}],
    "momentum": [
        {},
        {"lr": 0.02, "momentum": 0.5},
        {"dampening": 0.5},
        {"dampening": 0.9, "weight_decay": 0.05},
        {"weight_decay": 0.05},
    ],
    "nag": [{}, {"lr": 0.02, "momentum": 0.5}, {"weight_decay": 0.05}],
    "adagrad": [
        {},
        {"lr": 0.1, "lr_decay": 0.1},
        {"initial_accumulator_value": 0.1},
        {"lr_decay": 0.01, "initial_accumulator_value": 1.0, "weight_decay": 0.05, "eps": 1e-6},
    ],
    "rmsprop": [
        {},
        {"lr": 1e-3, "alpha": 0.9, "eps": 1e-6},
        {"momentum": 0.9},
        {"centered": True},
        {"centered": True, "momentum": 0.9},
        {"weight_decay": 0.05},
        {"weight_decay": 0.05, "centered": True, "momentum": 0.5, "alpha": 0.9},
    ],
    "adam": [
        {},
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6},
        {"amsgrad": True},
        {"weight_decay": 0.05},
        {"amsgrad": True, "weight_decay": 0.05},
    ],
    "adamw": [
        {},
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6},
        {"weight_decay": 0.0},
        {"weight_decay": 0.5},
        {"amsgrad": True, "weight_decay": 0.1},
    ],
    "ftrl": [
        {},
        {"lr": 0.5, "beta": 0.1},
        {"l1": 0.5},
        {"l2": 0.1},
        {"lr": 0.3, "beta": 0.5, "l1": 0.2, "l2": 0.3},
    ],
    "rowwise_adagrad": [{}, {"lr": 0.1, "eps": 1e-6}, {"weight_decay": 0.05}],
    "nadam": [
        {},
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6},
        {"momentum_decay": 0.0},
        {"weight_decay": 0.05, "momentum_decay": 0.5},
    ],
    "radam": [{}, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6}, {"betas": (0.9, 0.5)}, {"weight_decay": 0.05}],
    "lamb": [{}, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-8}, {"weight_decay": 0.0}, {"weight_decay": 0.1}],
    "lion": [{}, {"lr": 1e-3, "betas": (0.95, 0.98)}, {"weight_decay": 0.0}, {"weight_decay": 1.0}],
    "muon": [
        {},
        {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1},
        {"nesterov": False},
        {"match_rms": True, "lr": 1e-3, "adam_lr_factor": 1.0, "betas": (0.8, 0.99), "eps": 1e-8},
    ],
    "schedule_free_adamw": [
        {},
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6},
        {"weight_decay": 0.1},
        {"warmup_steps": 50.0, "weight_decay": 0.01},
    ],
}

# Keywords that a convention has not: it refuses them (test_optimizer_errors.py).
LACKS = {("momentum", "keras"): {"dampening"}, ("momentum", "optax"): {"dampening"}}

CASES = [
    Case(rule, hyperparameters, convention)
    for rule in RULES
    for convention in RULES[rule].conventions
    for hyperparameters in SETTINGS.get(rule, [{}])
    if not LACKS.get((rule, convention), set()) & set(hyperparameters)
]
DEFAULTS = [Case(rule, {}, convention) for rule in RULES for convention in RULES[rule].conventions]


def start(shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    """Parameters that are exact in float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32).astype(dtype)


def noise(shape: tuple[int, ...], steps: int, dtype: Any = np.float64, seed: int = 1) -> list[np.ndarray]:
    """Gradients, exact in float32, of sizes from 1e-3 to 10; one in eight is zero."""
    draw = np.random.default_rng(seed)
    size = 10.0 ** draw.uniform(-3, 1, size=shape)
    found = []
    for _ in range(steps):
        gradient = draw.normal(size=shape) * size * (draw.uniform(size=shape) > 0.125)
        found.append(np.asarray(gradient.astype(np.float32).astype(dtype)))
    return found


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest expected value."""
    scale = np.max(np.abs(expected), initial=0.0)
    return float(np.max(np.abs(found - expected), initial=0.0) / (scale or 1.0))
