"""The scoring of advice on DeepOBS: the published reference figures, and which run a config is scored by."""

from __future__ import annotations

import pytest

from optadvisor.advisor.learning import deepobs
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.kernels.rules import RULES
from optadvisor.kernels.schedules import Schedule

GRID = [10 ** (k / 5) for k in range(-25, 11)]
ADAM = OptimizerConfig.of("adam", {"lr": 1e-3})
SGD = OptimizerConfig.of("sgd", {"lr": 0.01})
MOMENTUM = OptimizerConfig.of("momentum", {"lr": 0.01, "momentum": 0.99})  # as it was run


def constant(*configs):
    return lambda sweep: configs


@pytest.mark.parametrize(
    ("configs", "figure"),
    [
        ([ADAM], 0.257),
        ([SGD], 0.426),
        ([MOMENTUM], 0.573),
        ([ADAM, SGD, MOMENTUM], 0.125),
        ([OptimizerConfig.of("adam", {"lr": lr}) for lr in GRID], 0.059),
    ],
)
def test_the_reference_figures(configs, figure):
    assert deepobs.mean(constant(*configs), len(configs))[-1] == pytest.approx(figure, abs=0.0005)


def test_there_is_a_run_without_regret_on_every_task_and_none_beyond_the_median():
    for sweep in deepobs.tasks():
        found = [regret for runs in deepobs.regrets(sweep.task).values() for regret in runs.values()]
        assert len(found) == 108
        assert min(found) == 0.0
        assert max(found) == 1.0
        assert sum(regret < 1.0 for regret in found) <= sum(run.value is not None for run in sweep.runs) / 2 + 1


@pytest.mark.parametrize(
    ("config", "rule", "lr"),
    [
        (OptimizerConfig.of("adamw", {"lr": 1e-3, "weight_decay": 0.05}), "adam", 1e-3),
        (OptimizerConfig.of("adam", {"lr": 1.2e-3}), "adam", 1e-3),
        (OptimizerConfig.of("adam", {"lr": 1.3e-3}), "adam", 1.58489e-3),
        (OptimizerConfig.of("adam", {"lr": 0.7e-5}), "adam", 1e-5),
        (OptimizerConfig.of("sgd", {"lr": 150.0}), "sgd", 100.0),
        (OptimizerConfig.of("momentum", {"lr": 0.1}), "momentum", 0.01),
        (OptimizerConfig.of("nag", {"lr": 0.1}), "momentum", 0.01),
        (OptimizerConfig.of("momentum", {"lr": 0.1, "momentum": 0.0}), "momentum", 1e-3),
        (OptimizerConfig.of("adam", {"lr": 1e-3}, Schedule("cosine", 0, 100)), "adam", 1e-3),
    ],
)
def test_the_run_that_a_config_is_scored_by(config, rule, lr):
    assert deepobs.nearest(config) == (rule, lr)


def test_what_was_not_run_scores_1_unless_another_does_better():
    dense = [{"role": role, "optimizer": "adam", "hyperparameters": {"lr": 1e-3}} for role in ("embedding", "dense")]
    others = [OptimizerConfig.of(rule) for rule in RULES if rule not in ("sgd", "momentum", "nag", "adam", "adamw")]
    others += [
        OptimizerConfig(HYBRID, {}, groups=dense),
        OptimizerConfig.of("sgd", {"lr": 0.01}, batch="full"),
        OptimizerConfig.of("adam", {"lr": 5e-6}),
        OptimizerConfig.of("momentum", {"lr": 5e-5}),
    ]
    for config in others:
        assert deepobs.nearest(config) is None
        assert deepobs.score("fmnist_2c2d", [config]) == [1.0]
    alone = deepobs.score("fmnist_2c2d", [ADAM])
    assert deepobs.score("fmnist_2c2d", [others[0], ADAM, others[1]]) == [1.0, *alone, *alone]


def test_short_advice_keeps_its_score():
    assert deepobs.mean(constant(ADAM), 3) == deepobs.mean(constant(ADAM), 1) * 3
    assert deepobs.mean(constant(), 2) == [1.0, 1.0]
    found = deepobs.by_task(constant(SGD, ADAM), 2)
    assert all(second <= first for first, second in found.values())
    assert len(found) == 8
