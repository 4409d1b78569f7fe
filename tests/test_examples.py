"""The examples run as their first lines say."""

from __future__ import annotations

import difflib
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import optadvisor as oa
from optadvisor.config import OptimizerConfig
from optadvisor.kernels.schedules import Schedule
from optadvisor.studies.study import StudyError
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
    scheduled = OptimizerConfig.of("adamw", {"lr": 0.01}, Schedule("warmup_cosine", 5))
    assert task.facts.scheduled
    assert task.train(scheduled, 0, 20).value != task.train(OptimizerConfig.of("adamw", {"lr": 0.01}), 0, 20).value
    for rule in ("nadam", "ftrl"):  # torch.optim has the one; the other runs on our kernels
        assert math.isfinite(task.train(OptimizerConfig.of(rule), 0, 2).value), rule


@pytest.mark.parity
def test_torch_in_one_call_pruned_timed_out_and_resumed():
    pytest.importorskip("torch")
    target = f"{EXAMPLES}/own_torch.py:accuracy"
    asked: dict[str, Any] = {"trials": 20, "optimizers": ["adamw"], "steps": 60, "pruner": "median"}
    own = function.loaded(target)[2].accuracy
    judge, judged = own._metric, []

    def interrupted(*given: Any) -> Any:
        judged.append(1)
        if len(judged) == 35:  # ten times a trial
            raise KeyboardInterrupt
        return judge(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own, "_metric", interrupted)
        with pytest.raises(KeyboardInterrupt):
            oa.tune(own, **asked)  # in this process, under the name that it has in its file
    result = oa.tune(target, timeout=120, resume=True, **asked)
    assert result.to_dict()["direction"] == "maximize"
    assert 0.85 < result.value <= 1
    assert len(result.trials) == 20
    assert {trial.record.state for trial in result.trials} <= {"complete", "pruned", "diverged"}
    assert [step for step, _ in result.trials[0].record.curve] == list(range(6, 61, 6))
    assert any(trial.record.state == "pruned" for trial in result.trials)
    with pytest.raises(StudyError, match=r"stopped after 0\.5 seconds"):
        oa.tune(target, trials=2, timeout=0.5, optimizers=["adamw"], steps=10**6)


# Name -> the length of its trainings here, the tuned row's limit, and whether lower is better. Untrained: cross-entropy
# ln 10 = 2.3 of the digits, more than ln 90 = 4.5 of the characters, ln 2 = 0.69 of the clicks; some 9 moves of the pole.
SHORT = {
    "digits_convnet": (100, 1.0, True),
    "character_transformer": (60, 3.5, True),
    "recommender": (80, 0.62, True),
    "cartpole": (100, 15.0, False),
}


@pytest.mark.parity
@pytest.mark.parametrize("name", SHORT)
def test_a_table_of_what_is_gained(name: str):
    pytest.importorskip("torch")
    steps, limit, lower = SHORT[name]
    ran = subprocess.run(
        [sys.executable, f"{name}.py", "--seeds", "2", "--trials", "3", "--steps", str(steps)],
        cwd=EXAMPLES, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert ran.stdout.startswith("Advice: ")
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table_of(ran.stdout)]
    assert head[0] == "2 seeds"
    kinds = [row[0].partition(":")[0] for row in rows]
    assert kinds[-2:] == ["advised", "tuned"]
    assert len(kinds) == {"character_transformer": 3, "recommender": 5}.get(name, 4)
    assert all(math.isfinite(float(cell)) for row in rows for cell in row[1:-1])
    compared = [row[-1] for row in rows if row[-1]]
    assert len(compared) == len(rows) - 1, "all but the best default are compared with it"
    assert all(re.fullmatch(r"[+-]\S+ \(\S+ to \S+\): (better|level|worse)", cell) for cell in compared)
    tuned = float(rows[-1][1])
    assert tuned < limit if lower else tuned > limit
    stated = re.search(r"Tuning: (\d+) trainings, 3 trials.* and (\d+) to confirm", ran.stdout)
    assert stated is not None
    assert int(stated[1]) == 3 + int(stated[2])


def table_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parity
def test_difference_over_seeds():
    pytest.importorskip("torch")
    from scipy.stats import ttest_rel

    against = function.loaded(f"{EXAMPLES}/common.py:against")[2].against
    ours, theirs = [0.50, 0.61, 0.48, 0.55, 0.52], [0.62, 0.70, 0.63, 0.60, 0.66]
    low, high = ttest_rel(ours, theirs).confidence_interval(0.95)
    assert against(ours, theirs, "minimize") == f"-0.11 ({low:+.3g} to {high:+.3g}): better"
    assert against(ours, theirs, "maximize").endswith(": worse")
    assert against(ours, [*theirs[:4], 0.3], "minimize").endswith(": level")
    assert against([*ours[:4], math.inf], theirs, "minimize") == "diverged from 1 of 5 seeds"


@pytest.mark.parity
def test_tables_of_the_recommender_are_in_the_embedding_group():
    torch = pytest.importorskip("torch")
    module = function.loaded(f"{EXAMPLES}/recommender.py:main")[2]
    config = oa.recommend(module.PROFILE).best.config
    model = module.Recommender()
    optimizer, _ = config.build_torch(model, total_steps=module.STEPS)
    groups = {group["role"]: group for group in optimizer.param_groups}
    assert groups["embedding"]["rule"] in ("adagrad", "ftrl")
    assert {id(p) for p in groups["embedding"]["params"]} == {id(table.weight) for table in model.tables}
    assert {id(p) for role in ("dense", "no_decay") for p in groups[role]["params"]} == {
        id(p) for p in model.tower.parameters()
    }
    rows = torch.arange(32)
    before = model.tables[0].weight.detach().clone()
    model(module.IDS[rows], module.FEATURE[rows]).sum().backward()
    assert model.tables[0].weight.grad.is_sparse
    optimizer.step()
    moved = (model.tables[0].weight != before).any(1)
    assert set(moved.nonzero().flatten().tolist()) == set(module.IDS[rows, 0].tolist())


@pytest.mark.parity
def test_cartpole_moves_as_the_built_in_task():
    pytest.importorskip("torch")
    import numpy as np

    from optadvisor.studies.tasks.rl import cartpole

    carts = function.loaded(f"{EXAMPLES}/cartpole.py:CartPole")[2].CartPole(8, seed=3)
    states, rng = carts.states.copy(), np.random.default_rng(0)
    for _ in range(40):
        right = rng.random(8) < 0.5
        fallen = carts.step(right)
        assert [cartpole.push(state, push, 0.5, 0.0) for state, push in zip(states, right, strict=True)] == list(fallen)
        np.testing.assert_allclose(carts.states, states, rtol=1e-12)
    assert fallen.any(), "nobody balances by chance for 40 moves"


def test_the_page_is_filled_at_its_markers_and_has_every_example():
    module = function.loaded(f"{EXAMPLES}/all.py:filled")[2]
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    commands = [match["command"] for match in module.PLACE.finditer(page)]
    run = [command for command in commands if command not in ("machine", "summary")]
    assert {command.split()[1] for command in run} == {f"examples/{name}.py" for name in SHORT}
    assert len(commands) == page.count("<!-- end -->") == len(set(commands))
    for command in commands:
        assert command not in run or f"\n    {command}\n" in page, "it was run"
        once = module.filled(page, {command: "| new |"}.get)
        assert once.count("| new |") == 1
        assert module.filled(once, {command: "| new |"}.get) == once
    assert module.filled(page, lambda command: None) == page
    assert module.filled(page, {"summary": module.summary(page)}.get) == page, "the summary is that of the tables"
    assert module.summary(page).count("\n") == 1 + len(run)


@pytest.mark.parity
def test_the_quickstart_changes_few_lines_and_runs(tmp_path: Path):
    """The two scripts of docs/quickstart.md, the second with shorter trainings."""
    pytest.importorskip("torch")
    before, after = ((EXAMPLES / "quickstart" / name).read_text() for name in ("before.py", "after.py"))
    changed = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("+ ")]
    assert len(changed) <= 10
    page = (EXAMPLES.parent / "docs" / "quickstart.md").read_text()
    assert all(f"\n+{line[2:]}\n" in page for line in changed), "make quickstart fills the page anew"
    short = after.replace("EPOCHS, BATCH = 10, 32", "EPOCHS, BATCH = 2, 32").replace("trials=10", "trials=3")
    (tmp_path / "after.py").write_text(f"import torch\n\ntorch.set_num_threads(1)\n{short}")
    ran = subprocess.run(
        [sys.executable, "after.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True
    )
    assert [line.split(":")[0] for line in ran.stdout.splitlines()[1:]] == ["epoch 1", "epoch 2"]
    assert oa.load_config(f"{tmp_path}/after.py:objective").schedule["total_steps"] == 2 * 38
