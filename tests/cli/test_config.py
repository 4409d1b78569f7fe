"""optadvisor config: the tuned config as JSON, and as code that runs as it stands."""

from __future__ import annotations

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optadvisor import frameworks
from optadvisor.config import OptimizerConfig
from optadvisor.frameworks.torch.translation import AGREES
from optadvisor.kernels import RULES, InputError, Optimizer
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies import results
from optadvisor.studies.study import Result

TASK = "digits-mlp"
HYBRID = OptimizerConfig(
    "hybrid", groups=[{"role": "embedding", "optimizer": "adagrad"}, {"role": "dense", "optimizer": "adamw"}]
)
# Nothing at its default, so that what the code leaves out shows.
OTHER: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.3, "weight_decay": 0.01},
    "momentum": {"lr": 0.03, "momentum": 0.8, "dampening": 0.1, "weight_decay": 0.01},
    "nag": {"lr": 0.03, "momentum": 0.8, "weight_decay": 0.01},
    "adagrad": {"lr": 0.03, "lr_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-9, "weight_decay": 0.01},
    "rmsprop": {"lr": 0.003, "alpha": 0.9, "eps": 1e-7, "momentum": 0.3, "centered": True, "weight_decay": 0.01},
    "adam": {"lr": 0.003, "betas": [0.8, 0.99], "eps": 1e-7, "amsgrad": True, "weight_decay": 0.01},
    "adamw": {"lr": 0.003, "betas": [0.8, 0.99], "eps": 1e-7, "amsgrad": True, "weight_decay": 0.3},
    "nadam": {"lr": 0.003, "betas": [0.8, 0.99], "eps": 1e-7, "weight_decay": 0.01, "momentum_decay": 0.1},
    "radam": {"lr": 0.003, "betas": [0.8, 0.9], "eps": 1e-7, "weight_decay": 0.01},
}
SCHEDULES = [
    Schedule("constant", 0, 100),
    Schedule("warmup", 10, 100),
    Schedule("cosine", 0, 100, 0.1),
    Schedule("warmup_cosine", 10, 100, 0.05),
]
TORCH_NAMES = {"momentum": "SGD", "nag": "SGD", "sgd": "SGD", "rmsprop": "RMSprop", "adagrad": "Adagrad"}
TORCH_NAMES.update(nadam="NAdam", radam="RAdam")


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("OPTADVISOR_HOME", str(folder))
    return folder


def config_of(rule: str, schedule: Schedule = SCHEDULES[0], **hyperparameters: Any) -> OptimizerConfig:
    return OptimizerConfig.of(rule, {**OTHER.get(rule, {}), **hyperparameters}, schedule)


def keep(config: OptimizerConfig) -> OptimizerConfig:
    """Make a config the tuned one of digits-mlp."""
    origin = {"source": "study", "study": "digits-mlp#1", "task": TASK, "seed": 0, "steps": 100, "value": 0.5}
    data = {**config.to_dict(), "provenance": {**origin, "trial": 3, "seeds": [1, 2]}}
    tuned = OptimizerConfig.from_dict(data)
    results.save(Result("digits-mlp#1", TASK, tuned, 0.5, 0.1, [1, 2], {}, [], 5, 1.0, 0))
    return tuned


def torch_code(config: OptimizerConfig, tmp_path: Path) -> dict[str, Any]:
    """The names in the generated module."""
    path = tmp_path / "optimizer.py"
    path.write_text(frameworks.code(config, "torch"))
    return runpy.run_path(str(path), run_name="module")


# JSON and errors -----------------------------------------------------------------------------------------------------


def test_json_is_the_tuned_config(run):
    config = keep(config_of("adamw", SCHEDULES[3]))
    assert run("config", TASK).json == config.to_dict()


def test_after_a_study(run):
    best = run("tune", TASK, "--trials", "2", "--steps", "5", "--optimizer", "nag", "--format", "json").json["best"]
    assert run("config", TASK).json == best["config"]
    done = run("config", TASK, "--framework", "torch")
    assert done.code == 0
    assert "Tuned on digits-mlp (study digits-mlp#1, seed 0, 5 steps)" in done.out
    assert "nesterov=True" in done.out


def test_without_a_study(run, data_folder: Path):
    run("config", TASK).refused("no tuned config of 'digits-mlp'", "optadvisor tune")
    assert not data_folder.exists()


def test_a_misspelt_task(run):
    keep(config_of("adamw"))
    run("config", "digit-mlp").refused("did you mean 'digits-mlp'")


def test_a_misspelt_framework(run):
    keep(config_of("adamw"))
    run("config", TASK, "--framework", "torhc").refused("--framework", "'torhc'", "did you mean 'torch'")


def test_a_damaged_file(run, data_folder: Path):
    keep(config_of("adamw"))
    (data_folder / "tuned" / "digits-mlp.json").write_text("{")
    run("config", TASK).refused("digits-mlp.json", "is not JSON")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (OptimizerConfig.of("ftrl"), "torch.optim has no ftrl"),
        (OptimizerConfig.of("lion"), "torch.optim has no lion"),
        (OptimizerConfig.of("muon"), "torch.optim.Muon iterates in bfloat16 and takes matrices alone"),
        (OptimizerConfig.of("adam", {}, Schedule("wsd", 5, 100)), "schedule 'wsd' has no short form"),
        (OptimizerConfig("adam", {"weight_decay": 0.1}), "its groups differ in more than weight decay"),
        (OptimizerConfig("adam", convention="keras"), "torch.optim has no adam in convention 'keras', which is"),
        (
            OptimizerConfig("adam", {"amsgrad": True}, convention="optax"),
            "torch.optim has no adam in convention 'optax'",
        ),
        (HYBRID, "a hybrid has one rule a group, and torch.optim has no class for that"),
    ],
    ids=str,
)
def test_what_torch_alone_has_not_is_built_by_optadvisor(run, config: OptimizerConfig, reason: str):
    keep(config)
    done = run("config", TASK, "--framework", "torch")
    assert done.code == 0
    assert f"# Not PyTorch alone: {reason}" in done.out
    assert "CONFIG.build_torch(model, total_steps)" in done.out


@pytest.mark.parametrize("framework", ["torch", "optax", "keras"])
def test_what_no_gradient_before_the_step_can_do_is_refused(run, framework: str):
    keep(OptimizerConfig("nag", convention="paper"))
    run("config", TASK, "--framework", framework).refused(
        "nag in convention 'paper' takes its gradient at the look-ahead"
    )


@pytest.mark.parametrize(
    ("framework", "rule", "reason"),
    [
        ("optax", "muon", "no code for optax: optax.contrib.muon corrects the bias of its average"),
        ("optax", "schedule_free_adamw", "evaluates at other weights than it trains"),
        ("keras", "muon", "no code for keras: keras.optimizers.Muon scales matrices in another way"),
        ("keras", "lamb", "keras.optimizers.Lamb decays weights outside of its trust ratio"),
    ],
)
def test_what_a_framework_cannot_do_is_refused_with_the_reason(run, framework: str, rule: str, reason: str):
    keep(OptimizerConfig.of(rule))
    run("config", TASK, "--framework", framework).refused(reason, "use --framework numpy")


@pytest.mark.parametrize(("rule", "convention"), sorted(AGREES))
def test_a_convention_that_agrees_is_written_for_torch(rule, convention):
    """The list says so: here the two conventions arrive at the same place."""
    config = replace(OptimizerConfig.of(rule, {"weight_decay": 0.1}), convention=convention)
    assert frameworks.code(config, "torch") == frameworks.code(replace(config, convention="pytorch"), "torch")
    places = []
    for each in (config, replace(config, convention="pytorch")):
        p = np.linspace(-1.0, 1.0, 8).reshape(4, 2)
        optimizer = Optimizer.from_config(each, [p])
        for t in range(5):
            optimizer.step([np.cos(p + t)])
        places.append(p)
    np.testing.assert_allclose(*places, rtol=1e-13)


@pytest.mark.parametrize("convention", ["keras", "optax", "paper"])
def test_numpy_code_carries_the_convention(tmp_path, convention):
    path = tmp_path / "tuned.py"
    path.write_text(frameworks.code(OptimizerConfig("adamw", convention=convention), "numpy"), encoding="utf-8")
    optimizer = runpy.run_path(str(path))["build"]([np.zeros((2, 2))])
    assert {group.convention for group in optimizer.groups} == {convention}


def test_an_unknown_framework():
    with pytest.raises(InputError, match="unknown framework 'tourch': did you mean 'torch'"):
        frameworks.code(config_of("adamw"), "tourch")


# NumPy code ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [*RULES, "hybrid"])
def test_numpy_code_builds_the_config(rule: str, tmp_path: Path):
    config = HYBRID if rule == "hybrid" else config_of(rule)
    path = tmp_path / "optimizer.py"
    path.write_text(frameworks.code(config, "numpy"))
    module = runpy.run_path(str(path), run_name="module")
    assert module["CONFIG"] == config
    params = {"w": np.ones((3, 2)), "b": np.ones(2)}
    optimizer = module["build"](params)
    assert {group.role for group in optimizer.groups} <= {"dense", "no_decay", "embedding"}
    optimizer.step({"w": np.ones((3, 2)), "b": np.ones(2)})
    assert (params["w"] < 1).all()


@pytest.mark.parametrize("config", [config_of("adamw", SCHEDULES[3]), HYBRID], ids=["adamw", "hybrid"])
def test_numpy_code_runs_as_a_script(run, tmp_path: Path, config: OptimizerConfig):
    keep(config)
    losses = script(run, tmp_path, "numpy")
    assert losses[-1] < losses[0]


def script(run: Any, tmp_path: Path, framework: str) -> list[float]:
    """The losses that the code of the tuned config prints when a person runs it."""
    path = tmp_path / "optimizer.py"
    done = run("config", TASK, "--framework", framework)
    assert (done.code, done.err) == (0, "")
    path.write_text(done.out)
    ran = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    return [float(line.split()[-1]) for line in ran.stdout.splitlines()]


# Code that optadvisor builds with, run as a person runs it -----------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("config", [HYBRID, OptimizerConfig.of("lion", {"lr": 0.01})], ids=["hybrid", "lion"])
def test_torch_code_built_by_optadvisor_runs_as_a_script(run, tmp_path: Path, config: OptimizerConfig):
    pytest.importorskip("torch")
    keep(config)
    losses = script(run, tmp_path, "torch")
    assert losses[-1] < losses[0]


@pytest.mark.parity
@pytest.mark.parametrize("config", [config_of("adamw", SCHEDULES[3]), HYBRID], ids=["adamw", "hybrid"])
@pytest.mark.parametrize("framework", ["optax", "keras"])
def test_code_for_other_frameworks_runs_as_a_script(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framework: str, config: OptimizerConfig
):
    pytest.importorskip("optax")
    pytest.importorskip("keras")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keep(config)
    losses = script(run, tmp_path, framework)
    assert losses[-1] < losses[0]


# PyTorch code --------------------------------------------------------------------------------------------------------


@pytest.mark.parity
def test_torch_code_runs_as_a_script(run, tmp_path: Path):
    pytest.importorskip("torch")
    keep(config_of("adamw", SCHEDULES[3]))
    losses = script(run, tmp_path, "torch")
    assert losses[-1] < losses[0]


@pytest.mark.parity
@pytest.mark.parametrize("rule", OTHER)
def test_torch_code_has_the_hyperparameters_of_the_config(rule: str, tmp_path: Path):
    torch = pytest.importorskip("torch")
    config = config_of(rule)
    assert set(OTHER[rule]) == set(RULES[rule].names), "every keyword is tried"
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 2))
    model[0].bias.requires_grad_(False)
    optimizer, _ = torch_code(config, tmp_path)["build"](model)
    assert type(optimizer).__name__ == TORCH_NAMES.get(rule, {"adam": "Adam", "adamw": "AdamW"}.get(rule))
    weights, rest = optimizer.param_groups
    assert [p.shape for p in weights["params"]] == [(3, 4), (2, 3)]
    assert [p.shape for p in rest["params"]] == [(3,), (3,), (2,)], "what does not train is left out"
    for group, decay in ((weights, config.hyperparameters["weight_decay"]), (rest, 0.0)):
        assert group["weight_decay"] == decay
        for name, value in config.hyperparameters.items():
            if name != "weight_decay":
                found = group["initial_lr" if name == "lr" else name]
                assert (list(found) if isinstance(value, list) else found) == value, name
    assert weights.get("nesterov", False) == (rule == "nag")


@pytest.mark.parity
@pytest.mark.parametrize("rule", OTHER)
def test_torch_code_updates_as_the_kernels_do(rule: str, tmp_path: Path):
    """Schedule included: the first 30 steps of the generated optimizer and scheduler against ours."""
    torch = pytest.importorskip("torch")
    from optadvisor.kernels import Optimizer

    config = config_of(rule, Schedule("warmup_cosine", 5, 40, 0.1))
    model = torch.nn.Linear(6, 4).double()
    params = {"w": model.weight.detach().numpy().copy(), "b": model.bias.detach().numpy().copy()}
    optimizer, scheduler = torch_code(config, tmp_path)["build"](model)
    ours = Optimizer.from_config(config, params)
    draw = np.random.default_rng(0)
    for _ in range(30):
        grads = {name: draw.normal(size=array.shape) for name, array in params.items()}
        model.weight.grad, model.bias.grad = torch.from_numpy(grads["w"]), torch.from_numpy(grads["b"])
        optimizer.step()
        scheduler.step()
        ours.step(grads)
    rtol = 1e-6 if rule == "nadam" else 1e-9  # PyTorch keeps NAdam's product of momenta in float32
    np.testing.assert_allclose(params["w"], model.weight.detach().numpy(), rtol=rtol, atol=rtol / 1000)
    np.testing.assert_allclose(params["b"], model.bias.detach().numpy(), rtol=rtol, atol=rtol / 1000)


@pytest.mark.parity
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
def test_torch_code_has_the_factors_of_the_schedule(schedule: Schedule, tmp_path: Path):
    pytest.importorskip("torch")
    factor = torch_code(config_of("adamw", schedule), tmp_path)["lr_factor"]
    for t in (*range(100), 100, 130):
        assert factor(t) == pytest.approx(schedule.factor(t), abs=1e-12), t


@pytest.mark.parity
@pytest.mark.parametrize(
    "schedule",
    [
        Schedule("cosine", None, None, 0.1),
        Schedule("warmup_cosine", None, None, 0.0, 0.1),
        Schedule("warmup_cosine", 7),
        Schedule("warmup", 7),
        Schedule("constant"),
    ],
    ids=str,
)
def test_torch_code_of_a_training_of_open_length(schedule: Schedule, tmp_path: Path):
    pytest.importorskip("torch")
    factor = torch_code(config_of("adamw", schedule), tmp_path)["lr_factor"]
    for total in (50, 200):
        for t in range(total + 5):
            assert factor(t, total) == pytest.approx(schedule.resolve(total).factor(t), abs=1e-12), (total, t)
