"""Groups with a schedule each: the rate of every step, what is saved, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from optadvisor import OptimizerConfig
from optadvisor.kernels import InputError, Optimizer, Schedule

from .cases import noise, start

COSINE = Schedule("warmup_cosine", warmup_steps=3, total_steps=12, floor=0.1)
LINEAR = {"name": "linear", "total_steps": 8}


def groups(**options: Any) -> list[dict[str, Any]]:
    return [
        {"params": [start((3, 2))], "schedule": COSINE, "lr": 0.1},
        {"params": [start((4,), seed=1)], "schedule": LINEAR, "rule": "momentum", "lr": 0.2},
        {"params": [start((2,), seed=2)], "rule": "adagrad", "lr": 0.3, **options},
    ]


def test_every_group_follows_its_own():
    params = groups()
    together = Optimizer("adamw", params)
    alone = [("adamw", 0.1, COSINE), ("momentum", 0.2, Schedule("linear", 0, 8)), ("adagrad", 0.3, Schedule())]
    expected = [group["params"][0].copy() for group in params]
    single = [Optimizer(rule, [p], lr=lr) for (rule, lr, _), p in zip(alone, expected, strict=True)]
    gradients = list(zip(*(noise(p.shape, 12, seed=i) for i, p in enumerate(expected)), strict=True))
    for t, step in enumerate(gradients):
        together.step([{"params": [g]} for g in step])
        for one, (_, lr, schedule), gradient in zip(single, alone, step, strict=True):
            one.step([gradient], lr=lr * schedule.resolve().factor(t))
    for group, p in zip(params, expected, strict=True):
        np.testing.assert_array_equal(group["params"][0], p)


def test_lr_of_a_step_replaces_them_all():
    params = [{"params": [np.zeros(1)], "schedule": LINEAR}, {"params": [np.zeros(1)]}]
    optimizer = Optimizer("sgd", params)
    optimizer.step([{"params": [np.ones(1)]}, {"params": [np.ones(1)]}], lr=2.0)
    assert [group["params"][0][0] for group in params] == [-2.0, -2.0]


def test_a_group_of_one_follows_it_too():
    """A single plain group has a short way through a step."""
    p = np.zeros(1)
    optimizer = Optimizer("sgd", [{"params": [p], "schedule": LINEAR}], lr=1.0)
    for _ in range(3):
        optimizer.step([{"params": [np.ones(1)]}])
    np.testing.assert_allclose(p, -(1 + 7 / 8 + 6 / 8))


def test_state_dict_keeps_it_and_a_resumed_run_is_the_same():
    def gradients(t: int) -> list[dict[str, Any]]:
        return [{"params": [noise(shape, 10, seed=i)[t]]} for i, shape in enumerate([(3, 2), (4,), (2,)])]

    whole, first = groups(), groups()
    through, stopped = Optimizer("adamw", whole), Optimizer("adamw", first)
    for t in range(10):
        through.step(gradients(t))
    for t in range(5):
        stopped.step(gradients(t))
    state = stopped.state_dict()
    kept = [group["schedule"] for group in state["groups"]]
    assert kept == [COSINE.to_dict(), Schedule("linear", 0, 8).to_dict(), Schedule("constant", 0).to_dict()]
    again = [{**group, "schedule": json.loads(json.dumps(saved))} for group, saved in zip(first, kept, strict=True)]
    resumed = Optimizer("adamw", again)
    resumed.load_state_dict(state)
    for t in range(5, 10):
        resumed.step(gradients(t))
    for one, two in zip(first, whole, strict=True):
        np.testing.assert_array_equal(one["params"][0], two["params"][0])


def test_a_state_of_before_schedules_were_kept_loads():
    optimizer = Optimizer("sgd", [np.zeros(2)])
    state = optimizer.state_dict()
    del state["groups"][0]["schedule"]
    optimizer.load_state_dict(state)


def test_a_hybrid_config_schedules_what_can_be_scheduled():
    config = OptimizerConfig(
        "hybrid",
        schedule=COSINE.to_dict(),
        groups=[
            {"role": "embedding", "optimizer": "ftrl", "hyperparameters": {"lr": 0.05}},
            {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 0.01}},
            {"role": "no_decay", "optimizer": "adamw", "hyperparameters": {"weight_decay": 0.0}},
        ],
    )
    params = {"table": start((200, 4)), "w": start((3, 3)), "b": start((3,))}
    optimizer = Optimizer.from_config(config, params, roles={"table": "embedding"})
    kept = {group["rule"]: group["schedule"]["name"] for group in optimizer.state_dict()["groups"]}
    assert kept == {"ftrl": "constant", "adamw": "warmup_cosine"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"schedule": {"name": "cosin"}}, r"params\[2\]: unknown schedule 'cosin': did you mean 'cosine'"),
        ({"schedule": "cosine"}, r"params\[2\]: schedule is 'cosine'; it takes an object"),
        ({"schedule": None}, r"params\[2\]: schedule is None"),
        ({"schedule": {"name": "cosine"}}, r"params\[2\]: schedule cosine needs .* add total_steps to it"),
        ({"schedule": LINEAR, "rule": "ftrl"}, "ftrl keeps its state in units of 1/lr: its schedule is constant"),
    ],
)
def test_refused_by_group(options: dict[str, Any], expected: str):
    with pytest.raises(InputError, match=expected):
        Optimizer("adamw", groups(**options))
