"""Search spaces, read from the rule records, and the way between a point of a space and a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution

from optadvisor.config import OptimizerConfig
from optadvisor.kernels import rules
from optadvisor.kernels.schedules import Schedule


def distributions(optimizer: str) -> dict[str, BaseDistribution]:
    """Every axis that a study searches for the rule: lr, 1-beta, eps, weight decay and the like, on log scales."""
    return {
        axis.name: FloatDistribution(axis.low, axis.high, log=axis.log) for _, axis in rules.get(optimizer).search()
    }


def decode(
    optimizer: str, point: Mapping[str, float], schedule: Schedule, provenance: Mapping[str, Any]
) -> OptimizerConfig:
    """The config at a point of the rule's space."""
    rule = rules.get(optimizer)
    values: dict[str, Any] = {name: _editable(value) for name, value in rule.defaults.items()}
    for hyperparameter, axis in rule.search():
        value = 1.0 - point[axis.name] if axis.complement else point[axis.name]
        if axis.index is None:
            values[hyperparameter.name] = value
        else:
            values[hyperparameter.name][axis.index] = value
    if not rule.scheduled:
        schedule = Schedule("constant", 0, schedule.total_steps)
    return OptimizerConfig.of(optimizer, values, schedule, provenance=provenance)


def encode(config: OptimizerConfig) -> dict[str, float]:
    """The point of the rule's space nearest to a config of one rule."""
    point = {}
    for hyperparameter, axis in rules.get(config.optimizer).search():
        value = config.hyperparameters[hyperparameter.name]
        number = value if axis.index is None else value[axis.index]
        point[axis.name] = min(max(1.0 - number if axis.complement else number, axis.low), axis.high)
    return point


def _editable(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
