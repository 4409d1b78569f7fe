"""Outcomes to learn from: made up with a planted signal, and a small table that was trained for real."""

from __future__ import annotations

import numpy as np
import pytest

from optadvisor.advisor.learning.dataset import Dataset
from optadvisor.profile import TaskProfile
from optadvisor.studies.outcomes import Sheet, Table
from optadvisor.studies.tasks import get

DENSE = ("sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamw")
SHEET = Sheet(configs=40, seeds=2, rules=DENSE)
TASKS = ("rosenbrock:steps=250", "quadratic:dimensions=2", "quadratic:dimensions=8", "wine-softmax:steps=100")


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Three cheap families, trained with every dense rule."""
    made = Table.open(tmp_path_factory.mktemp("outcomes") / "table", SHEET)
    made.run([get(name) for name in TASKS])
    return made


@pytest.fixture(scope="session")
def planted() -> Dataset:
    """Six families in three domains: in each domain another rule is good, around a learning rate of its own."""
    rng, sheet = np.random.default_rng(0), Sheet(configs=40, rules=("sgd", "adam", "adamw"))
    good = {"vision": ("sgd", 0.0), "language": ("adam", -0.5), "tabular": ("adamw", 0.5)}
    families, profiles = [], []
    regrets = np.empty((18, 3, sheet.configs, sheet.seeds))
    for t in range(18):
        family = t // 3
        domain = list(good)[family % 3]
        rule, shift = good[domain]
        for r, name in enumerate(sheet.rules):
            rates = np.log10([config.hyperparameters["lr"] for config in sheet.configs_of(name)])
            away = np.abs(rates - np.median(rates[1:17]) - shift)
            regrets[t, r] = np.clip((0.0 if name == rule else 0.4) + away / 2, 0, 1)[:, None]
        families.append(f"family-{family}")
        profiles.append(TaskProfile(domain=domain, parameters=1000 * (1 + t), steps=500))
    regrets = np.clip(regrets + rng.normal(0, 0.01, regrets.shape), -1, 1)
    names = [f"task-{t}" for t in range(18)]
    return Dataset(sheet, names, families, profiles, regrets, regrets, np.zeros((18, 3, 16)))
