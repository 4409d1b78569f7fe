"""The examples run as their first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import optadvisor as oa
from optadvisor.config import OptimizerConfig
from optadvisor.studies.tasks import function

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_numpy_in_worker_processes():
    result = oa.tune(
        f"{EXAMPLES}/own_numpy.py:objective", trials=10, steps=60, optimizers=["adamw", "nag"], pruner="median"
    )
    assert result.value < 0.5, "an untrained model has 1.1"
    for trial in result.trials:
        assert 1e-4 <= trial.record.config.hyperparameters["lr"] <= 1.0
        assert trial.record.config.hyperparameters.get("eps", 1e-8) == 1e-8
        assert trial.record.curve
    assert oa.load_config(f"{EXAMPLES}/own_numpy.py:objective") == result.best


def test_numpy_accuracy_is_maximised():
    result = oa.tune(f"{EXAMPLES}/own_numpy.py:accuracy", trials=6, steps=60, optimizers=["adamw"])
    assert 0.9 < result.value <= 1
    assert result.to_dict()["direction"] == "maximize"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of the overflow that is meant
def test_numpy_diverges_where_it_should():
    task = function.load(f"{EXAMPLES}/own_numpy.py:objective")
    record = task.train(OptimizerConfig.of("sgd", {"lr": 1e308}), 0, 20)
    assert (record.state, record.value) == ("diverged", float("inf"))


def test_numpy_as_a_script():
    ran = subprocess.run(
        [sys.executable, "own_numpy.py"], cwd=EXAMPLES, capture_output=True, text=True, check=True, timeout=300
    )
    assert ran.stdout.startswith("objective 0.")
    assert oa.load_config(f"{EXAMPLES}/own_numpy.py:objective").provenance["trial"] < 20


@pytest.mark.parity
def test_torch():
    pytest.importorskip("torch")
    # Cold: each rule starts with a config of its own, where a warm start would give the first trials to the likely ones.
    result = oa.tune(f"{EXAMPLES}/own_torch.py:objective", trials=7, steps=40, timeout=120, warm=False)
    assert {trial.optimizer for trial in result.trials} == {
        "sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamw",
    }  # fmt: skip
    assert result.value < 2.0, "an untrained model has 2.3"
    assert [step for step, _ in result.trials[0].record.curve] == [20, 40]
    task = function.load(f"{EXAMPLES}/own_torch.py:objective")
    record = task.train(OptimizerConfig.of("sgd", {"lr": 1e30}), 0, 20)
    assert (record.state, record.message) == ("diverged", "objective returned nan")
