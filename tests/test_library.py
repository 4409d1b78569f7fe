"""The library's face, as contract.md states it: what a person types after `import optadvisor as oa`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import optadvisor as oa

HEAVY = ("numba", "numpy", "optuna", "sklearn", "scipy", "torch", "click", "rich", "sqlalchemy", "llvmlite")


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("OPTADVISOR_HOME", str(folder))
    return folder


def loaded(statement: str) -> list[str]:
    """The heavy packages that a fresh process has imported after a statement."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(ran.stdout)


def test_import_is_light():
    assert loaded("import optadvisor") == []
    assert loaded("import optadvisor as oa; dir(oa); oa.__version__; oa.InputError; oa.OptimizerConfig") == []


def test_recommend_needs_no_heavy_package():
    heavy = loaded("import optadvisor as oa; oa.recommend(oa.TaskProfile(domain='vision', architecture='resnet'))")
    assert set(heavy) <= {"numpy"}


def test_the_rule_records_need_no_numba():
    assert loaded("import optadvisor as oa; oa.kernels.RULES['adamw'].defaults; oa.kernels.Schedule()") == []


def test_every_public_name_is_there_and_listed():
    assert set(oa.__all__) <= set(dir(oa))
    for name in oa.__all__:
        assert getattr(oa, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'recomend'"):
        _ = oa.recomend  # type: ignore[attr-defined]


def test_recommend():
    found = oa.recommend(oa.TaskProfile(domain="vision", architecture="resnet"), top=3)
    assert len(found.recommendations) == 3
    assert all(isinstance(r.config, oa.OptimizerConfig) for r in found.recommendations)
    assert "R1" in [reason["rule"] for reason in found.to_dict()["recommendations"][0]["reasons"]]


def test_tune_and_load_config(data_folder: Path):
    seen: list[tuple[int, int]] = []

    def progress(done, planned):
        seen.append((len(done), planned))

    result = oa.tune("digits-mlp", trials=3, seed=0, steps=20, optimizers=["adamw"], progress=progress)
    assert seen == [(3, 3)]
    assert result.best == oa.load_config("digits-mlp")
    assert result.best.provenance["source"] == "study"
    assert [trial.number for trial in result.trials] == [0, 1, 2]
    assert data_folder.is_dir()


def test_tune_prints_nothing(capfd: pytest.CaptureFixture[str]):
    oa.tune("digits-mlp", trials=2, steps=5, optimizers=["sgd"])
    assert capfd.readouterr() == ("", "")


def test_a_config_round_trip(tmp_path: Path):
    config = oa.recommend(oa.TaskProfile(domain="language", parameters=124_000_000), top=1).recommendations[0].config
    assert oa.OptimizerConfig.from_dict(config.to_dict()) == config
    config.to_json(tmp_path / "config.json")
    assert oa.OptimizerConfig.from_json(tmp_path / "config.json") == config


def test_the_optimizer_of_the_kernels_updates_in_place():
    params = {"w": np.ones((2, 3), np.float32), "b": np.zeros((), np.float64)}
    arrays = dict(params)
    optimizer = oa.kernels.Optimizer("adamw", params, lr=0.1)
    assert optimizer.step({"w": np.ones((2, 3), np.float32), "b": np.array(1.0)})
    assert all(params[name] is array for name, array in arrays.items())
    assert (arrays["w"] < 1).all()
    assert arrays["b"] < 0
    assert arrays["w"].dtype == np.float32


def test_a_tuned_config_drives_the_kernels():
    config = oa.tune("digits-mlp", trials=2, steps=20, optimizers=["adamw"]).best
    params = {"w": np.ones((4, 3)), "b": np.ones(3)}
    optimizer = oa.kernels.Optimizer.from_config(config, params)
    before = params["b"].copy()
    for _ in range(2):  # the first step of a warm-up has the learning rate 0
        optimizer.step({"w": np.zeros((4, 3)), "b": np.zeros(3)})
    np.testing.assert_array_equal(params["b"], before)  # no decay
    assert (params["w"] < 1).all()


def test_errors_are_value_errors():
    with pytest.raises(ValueError, match="did you mean 'digits-mlp'"):
        oa.tune("digits-mpl")
    with pytest.raises(oa.InputError):
        oa.kernels.Optimizer("adamw", [np.ones(2)], lr=float("nan"))
