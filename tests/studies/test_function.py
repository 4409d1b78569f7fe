"""A person's own function as a task: how it is found, what is refused, what its outcomes mean, `oa.tune(function)`."""

from __future__ import annotations

import math
import re
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import optadvisor as oa
from optadvisor.config import OptimizerConfig
from optadvisor.kernels import InputError, NonFiniteGradient
from optadvisor.studies import storage, study
from optadvisor.studies.executors import TrialError
from optadvisor.studies.tasks import function
from optadvisor.studies.tasks.function import FunctionError, FunctionTask
from optadvisor.studies.tasks.task import TrialRecord

CONFIG = OptimizerConfig.of("adamw", {"lr": 0.01})
PLAIN = "def objective(config, report, seed):\n    return 1.0\n"


@pytest.fixture(autouse=True)
def imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a test loads from its folder is forgotten after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: Path, text: str = PLAIN) -> str:
    """A file with a function `objective`; what tune would be given for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return f"{path}:objective"


def train(call: Callable[..., Any], steps: int | None = None, report: Any = None) -> TrialRecord:
    return function.of(call).train(CONFIG, 3, steps, report)


def bowl(config: OptimizerConfig, report: Any, seed: int) -> float:
    """Best at lr 0.01."""
    rate = next(values["lr"] for _, values in config.roles().values())
    return abs(math.log10(rate) + 2) + (seed % 1000) / 1e5


# finding it -----------------------------------------------------------------------------------------------------------


def test_a_task_has_one_name_wherever_it_is_seen_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = write(tmp_path / "here" / "train.py")
    (tmp_path / "link").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    for other in ("here/train.py:objective", "./here/../here/train.py:objective", "link/train.py:objective"):
        assert function.task_name(other) == target
        assert function.load(other).name == target
    assert function.task_name("digits-mlp:batch=64") == "digits-mlp:batch=64"


def test_its_folder_is_importable_when_it_is_loaded_and_when_it_runs(tmp_path: Path):
    write(tmp_path / "helper_one.py", "X = 2.0")
    write(tmp_path / "helper_two.py", "Y = 3.0")
    text = "import helper_one\ndef objective(config, report, seed):\n    import helper_two\n"
    task = function.load(write(tmp_path / "train.py", text + "    return helper_one.X * helper_two.Y\n"))
    assert task.train(CONFIG, 0).value == 6.0


def test_files_of_one_stem_or_of_a_name_that_is_taken_are_kept_apart(tmp_path: Path):
    found = []
    for i, name in enumerate(("a/train.py", "b/train.py", "random.py", "numpy.py")):
        text = f"def objective(config, report, seed):\n    return {i}\n"
        found.append(function.load(write(tmp_path / name, text)).train(CONFIG, 0).value)
    assert found == [0, 1, 2, 3]
    assert sys.modules["numpy"] is np
    assert function.load(f"{tmp_path}/a/train.py:objective").train(CONFIG, 0).value == 0


def test_a_loaded_module_can_be_imported_by_name(tmp_path: Path):
    text = "import pickle\nclass Net: pass\ndef objective(config, report, seed):\n"
    text += "    return float(isinstance(pickle.loads(pickle.dumps(Net())), Net))\n"
    assert function.load(write(tmp_path / "my_net.py", text)).train(CONFIG, 0).value == 1.0


def test_what_its_file_says(tmp_path: Path):
    head = "import numpy as np\nSTEPS = '2k'\nPROFILE = {'domain': 'vision', 'parameters': np.int64(10)}\n"
    space = "SPACE = {'lr': (1e-4, np.float64(0.1)), 'weight_decay': 0, 'amsgrad': True, 'betas': [0.9, 0.95]}\n"
    text = "def objective(config, report, seed, steps=None):\n    '''Loss.\n\n    More.'''\nobjective.direction = 'maximize'\n"
    task = function.load(write(tmp_path / "train.py", head + space + text + "objective.scheduled = True\n"))
    facts = task.facts
    assert (task.title, task.metric, task.steps, task.direction) == ("Loss.", "objective", 2000, "maximize")
    assert task.profile == oa.TaskProfile(domain="vision", parameters=10, steps=2000)
    assert facts.ranges == {"lr": [1e-4, 0.1]}
    assert facts.fixed == {"weight_decay": 0.0, "amsgrad": True, "betas": [0.9, 0.95]}
    assert (facts.takes_steps, facts.needs_steps, facts.scheduled) == (True, False, True)
    assert function.Facts(**facts.to_dict()) == facts


DIRECTION = PLAIN + "objective.direction = 'up'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("objective = 3", ["objective is 3; it must be a function", "def objective(config, report, seed)"]),
        ("def objectiv(config, report, seed): pass", ["unknown function of", "'objective'", "did you mean 'objectiv'"]),
        ("X = 1", ["has no function 'objective'"]),
        ("def objective(config, seed): pass", ["takes (config, seed)", "it must take (config, report, seed)"]),
        ("def objective(config, report, seed, net): pass", ["takes (config, report, seed, net)", "'net'"]),
        (DIRECTION, ["objective.direction is 'up'", "'minimize' or 'maximize'"]),
        (PLAIN + "objective.scheduled = 'cosine'", ["objective.scheduled is 'cosine'; it takes True"]),
        ("x = (", ["cannot be loaded: SyntaxError", ":1"]),
        ("x = 1\nraise RuntimeError('no\\nGPU')", ["cannot be loaded: RuntimeError: no GPU, at", ":2"]),
        (
            "import no_such_package",
            ["ModuleNotFoundError", "no_such_package", ":1", f"install it for {sys.executable}"],
        ),
        ("import sys\nsys.exit(3)", ["cannot be loaded: SystemExit: 3", ":2"]),
        (f"STEPS = 0\n{PLAIN}", ["STEPS is 0; it takes a whole number"]),
        (f"PROFILE = ['vision']\n{PLAIN}", ["PROFILE is ['vision']; it takes a dict"]),
        (f"PROFILE = {{'domian': 'vision'}}\n{PLAIN}", ["PROFILE: unknown profile field 'domian'", "'domain'"]),
        (f"PROFILE = {{'samples': -1}}\n{PLAIN}", ["PROFILE: samples is -1"]),
        (f"SPACE = 3\n{PLAIN}", ["SPACE is 3; it takes a dict"]),
        (f"SPACE = {{'lr': '1e-3'}}\n{PLAIN}", ["SPACE['lr'] is '1e-3'; it takes [low, high]"]),
        (f"SPACE = {{'lr': [1, 2, 3]}}\n{PLAIN}", ["SPACE['lr'] is [1, 2, 3]"]),
        (f"SPACE = {{'lr': [1e-3, None]}}\n{PLAIN}", ["SPACE['lr'] is [0.001, None]"]),
        (f"SPACE = {{'lr': []}}\n{PLAIN}", ["SPACE['lr'] is []"]),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, text: str, words: list[str]):
    with pytest.raises(InputError) as caught:
        function.load(write(tmp_path / "train.py", text))
    for word in [str(tmp_path / "train.py"), *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("{}/trian.py:objective", "there is no file .*trian.py.*did you mean 'train.py'"),
        ("{}/train.py", "'.*train.py' names no function: write .*train.py:NAME"),
        ("{}/train.py:", "names no function"),
    ],
)
def test_what_is_not_there(tmp_path: Path, target: str, words: str):
    write(tmp_path / "train.py")
    with pytest.raises(InputError, match=words):
        function.load(target.format(tmp_path))


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"learning_rate": [1e-4, 1e-1]}, "SPACE: unknown hyperparameter or axis 'learning_rate'"),
        ({"lr": [0.1, 0.01]}, "SPACE: the range of lr is 0.1..0.01"),
        ({"weight_decay": -1}, "SPACE: .*weight_decay is -1.0; it must be at least 0"),
        ({"amsgrad": 1}, "SPACE: .*amsgrad is 1.0; it takes true or false"),
    ],
)
def test_a_space_that_no_rule_has(tmp_path: Path, data_folder: Path, space: dict[str, Any], words: str):
    target = write(tmp_path / "train.py", f"SPACE = {space!r}\n{PLAIN}")
    with pytest.raises(InputError, match=f"{re.escape(str(tmp_path))}/train.py: {words}"):
        oa.tune(target)
    assert not data_folder.exists()


# what comes of a call ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), Fraction(1, 2)])
def test_a_number_of_any_kind(value: Any):
    record = train(lambda config, report, seed: value)
    assert (record.value, record.state, record.message) == (0.5, "complete", "")
    assert type(record.value) is float
    assert record.seconds >= 0


@pytest.mark.parametrize("value", [None, "0.5", True, [0.5], np.array([0.5]), np.bool_(True), 1j, {}])
def test_what_is_no_number(value: Any):
    with pytest.raises(FunctionError, match=r"returned .*; it must be one number, at .*test_function.py:\d+"):
        train(lambda config, report, seed: value)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400])
def test_what_is_not_finite_has_diverged(value: Any, direction: str):
    def objective(config, report, seed):
        return value

    objective.direction = direction  # type: ignore[attr-defined]
    record = train(objective)
    assert (record.value, record.state) == (math.inf, "diverged")
    assert record.message.startswith("test_what_is_not_finite_has_diverged.objective returned ")


@pytest.mark.parametrize(
    "error", [FloatingPointError("overflow in exp"), OverflowError(), NonFiniteGradient("g has nan")]
)
def test_an_arithmetic_error_has_diverged(error: Exception):
    def objective(config, report, seed):
        report(1, 2.0)
        raise error

    record = train(objective)
    assert (record.value, record.state, record.curve) == (math.inf, "diverged", [(1, 2.0)])
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    assert re.fullmatch(re.escape(text) + r", at .*test_function\.py:\d+", record.message)


def test_any_other_error_says_where_in_the_persons_code_it_came_from(tmp_path: Path):
    write(tmp_path / "helper_three.py", "def shape(x):\n    return [][x]\n")
    text = "import helper_three\ndef objective(config, report, seed):\n    return helper_three.shape(0)\n"
    task = function.load(write(tmp_path / "train.py", text))
    with pytest.raises(FunctionError, match=r"IndexError: list index out of range, at .*helper_three.py:2") as caught:
        task.train(CONFIG, 0)
    assert isinstance(caught.value.__cause__, IndexError)

    def deep(config, report, seed):
        return np.ones(3) @ np.ones(4)  # raised inside NumPy

    with pytest.raises(FunctionError, match=r"ValueError: .*, at .*test_function.py:\d+"):
        train(deep)


def test_a_division_by_zero_is_an_error_and_no_divergence():
    with pytest.raises(FunctionError, match="ZeroDivisionError"):
        train(lambda config, report, seed: 1 / 0)


def test_pruning_is_let_through():
    def objective(config, report, seed):
        report(5, 0.25)
        raise optuna.TrialPruned

    record = train(objective)
    assert (record.state, record.value, record.curve) == ("pruned", 0.25, [(5, 0.25)])

    def at_once(config, report, seed):
        raise optuna.TrialPruned

    assert train(at_once).state == "pruned"


def test_the_direction_turns_value_and_curve():
    told = []

    def objective(config, report, seed):
        report(1, 0.25)
        return 0.75

    objective.direction = "maximize"  # type: ignore[attr-defined]
    record = train(objective, report=lambda step, value: told.append((step, value)))
    assert (record.value, record.curve, told) == (-0.75, [(1, -0.25)], [(1, -0.25)])


def test_steps_are_passed_where_the_function_names_them():
    def asked(config, report, seed, steps=7):
        return steps

    def needed(config, report, seed, *, steps):
        return steps

    assert [train(asked).value, train(asked, 5).value, train(needed, 6).value] == [7, 5, 6]
    assert train(lambda config, report, seed: 1.0, 5).value == 1.0
    assert function.of(needed).facts.needs_steps
    with pytest.raises(InputError, match=r"has a parameter steps: give --steps, or write STEPS = 1000"):
        oa.tune(needed)


def test_arguments_go_by_their_names_where_it_has_them():
    def mixed(seed, *, report, config):
        return seed if isinstance(config, OptimizerConfig) and callable(report) else -1

    def other_names(c, r, s):
        return s if isinstance(c, OptimizerConfig) and callable(r) else -1

    class Called:
        def __call__(self, config, report, seed):
            return seed

        def method(self, config, report, seed):
            return seed

    import functools

    for call in (mixed, other_names, Called(), Called().method, functools.partial(mixed)):
        assert train(call).value == 3


def test_reports():
    told: list[Any] = []

    def objective(config, report, seed):
        report(np.int64(1), np.float32(0.5))
        report(2.0, math.nan)
        report(2, 0.1)  # a step is judged once
        report(step=3, value=0.25)
        return 0.125

    record = train(objective, report=lambda *told_of: told.append(told_of))
    assert record.curve == [(1, 0.5), (2, math.inf), (3, 0.25)]
    assert told == [(1, 0.5), (3, 0.25)], "a pruner is told what is finite"


@pytest.mark.parametrize(
    ("step", "value", "words"),
    [
        (1, "x", "value is 'x'"),
        (1, None, "value is None"),
        ("x", 1.0, "step is 'x'"),
        (1.5, 1.0, "is 1.5"),
        (-1, 1, "is -1"),
    ],
)
def test_a_report_that_is_none(step: Any, value: Any, words: str):
    def objective(config, report, seed):
        report(step, value)

    with pytest.raises(FunctionError, match=rf"report\(step, value\): the .*{words}; .*test_function.py"):
        train(objective)


# oa.tune(function) ---------------------------------------------------------------------------------------------------


def tune(call: Any, **arguments: Any) -> study.Result:
    return oa.tune(call, **{"trials": 8, "optimizers": ["adamw", "sgd"], **arguments})


def test_it_is_called_here_one_after_another(data_folder: Path):
    threads, running = set(), []

    def objective(config, report, seed):
        threads.add(threading.current_thread())
        running.append(1)
        assert len(running) == 1
        running.pop()
        return bowl(config, report, seed)

    result = tune(objective)
    assert threads == {threading.current_thread()}
    assert (len(result.trials), result.runs) == (8, 8 + 15)
    assert result.task == f"{Path(__file__).resolve()}:test_it_is_called_here_one_after_another.objective"
    assert result.metric == "test_it_is_called_here_one_after_another.objective"
    assert oa.load_config(result.task) == result.best
    assert "hybrid" not in {trial.optimizer for trial in oa.tune(bowl, trials=9).trials}


def test_with_jobs_it_is_called_in_threads():
    both, calls = threading.Barrier(2, timeout=60), []

    def objective(config, report, seed):
        calls.append(seed)
        if len(calls) <= 2:
            both.wait()
        return bowl(config, report, seed)

    result, alone = tune(objective, jobs=2), tune(bowl)
    assert [trial.value for trial in result.trials] == [trial.value for trial in alone.trials]
    assert result.best.hyperparameters == alone.best.hyperparameters


def test_what_it_is_given():
    seen = []

    def objective(config, report, seed):
        seen.append((config, seed))
        return bowl(config, report, seed)

    result = tune(objective, optimizers=["muon", "hybrid"])
    assert all(isinstance(config, OptimizerConfig) for config, _ in seen)
    assert {config.optimizer for config, _ in seen} == {"muon", "hybrid"}
    assert len({seed for _, seed in seen}) == 8 + 5
    trials = [(trial.record.config, trial.record.seed) for trial in result.trials]
    assert trials == seen[:8]


def test_values_are_shown_in_the_persons_direction():
    def accuracy(config, report, seed):
        for step in (1, 2):
            report(step, step * (1 - bowl(config, report, seed)) / 2)
        return 1 - bowl(config, report, seed)

    accuracy.direction = "maximize"  # type: ignore[attr-defined]
    seen: list[Any] = []
    result = tune(
        accuracy,
        trials=20,
        objectives=["steps"],
        target=0.4,
        progress=lambda done, _: seen.extend(t.value for t in done),
    )
    same = tune(bowl, trials=20)
    assert [t.record.config.hyperparameters for t in result.trials] == [
        t.record.config.hyperparameters for t in same.trials
    ] or len(result.objectives) > 1
    expected = [accuracy(t.record.config, lambda *_: None, t.record.seed) for t in result.trials]
    data = result.to_dict()
    assert data["direction"] == "maximize"
    assert [trial["value"] for trial in data["trials_log"]] == pytest.approx(expected)
    assert seen[-20:] == pytest.approx(expected)
    best = [accuracy(result.best, lambda *_: None, seed) for seed in result.seeds]
    assert data["best"]["value"] == result.value == pytest.approx(np.mean(best))
    assert result.best.provenance["value"] == result.value
    assert result.value > 0.9, "the largest, not the smallest"
    front = data["pareto"]
    assert front[0]["values"][0] == max(expected)
    assert all(entry["values"][1] == (1 if entry["values"][0] / 2 >= 0.4 else 2) for entry in front)
    kept = storage.open_storage(None, result.task)
    inside = optuna.load_study(storage=kept, study_name=f"{result.study}/adamw").trials[0]
    assert inside.values[0] == -result.trials[inside.user_attrs["number"]].value, "lower is better in the storage"
    again = tune(accuracy, trials=20, objectives=["steps"], target=0.4, resume=True)
    assert [trial.value for trial in again.trials] == pytest.approx(expected)


def test_the_search_is_the_same_in_both_directions():
    def height(config, report, seed):
        return -bowl(config, report, seed)

    height.direction = "maximize"  # type: ignore[attr-defined]
    up, down = tune(height, trials=20), tune(bowl, trials=20)
    assert [t.record.config.hyperparameters for t in up.trials] == [
        t.record.config.hyperparameters for t in down.trials
    ]
    assert up.value == -down.value
    assert up.best.hyperparameters == down.best.hyperparameters


def test_a_direction_that_has_changed_is_not_mixed():
    def objective(config, report, seed):
        return 1.0

    tune(objective)
    objective.direction = "maximize"  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="started with direction 'minimize', not 'maximize'"):
        tune(objective, resume=True)


def test_an_error_stops_the_study_and_says_which_trial(data_folder: Path):
    calls = []

    def objective(config, report, seed):
        calls.append(config)
        if len(calls) == 6:
            raise KeyError("weights")
        return bowl(config, report, seed)

    with pytest.raises(
        TrialError, match=r"trial 5 \((adamw|sgd), lr [\d.e-]+\): KeyError: 'weights', at .*:\d+"
    ) as caught:
        tune(objective)
    assert isinstance(caught.value.__cause__, KeyError)
    assert len(calls) == 6
    resumed = tune(objective, resume=True)
    assert len(resumed.trials) == 8
    assert calls[5] == resumed.trials[5].record.config
    assert len(calls) == 6 + 3 + 15, "the five that had finished were kept"


def test_ctrl_c_reaches_the_function():
    calls = []

    def objective(config, report, seed):
        calls.append(seed)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return bowl(config, report, seed)

    with pytest.raises(KeyboardInterrupt):
        tune(objective)
    tune(objective, resume=True)
    assert len(calls) == 4 + 5 + 15


def test_messages_are_kept_in_the_storage():
    def objective(config, report, seed):
        if config.optimizer == "sgd":
            raise OverflowError("too large")
        return bowl(config, report, seed)

    result = tune(objective)
    kept = storage.open_storage(None, result.task)
    messages = {
        t.user_attrs.get("message") for t in optuna.load_study(storage=kept, study_name=f"{result.study}/sgd").trials
    }
    assert [message[:24] for message in messages] == ["OverflowError: too large"]
    for trial in tune(objective, resume=True).to_dict()["trials_log"]:
        assert trial["state"] == ("diverged" if trial["optimizer"] == "sgd" else "complete")
        assert trial.get("message", "").startswith("OverflowError" if trial["optimizer"] == "sgd" else "")


def test_a_study_in_which_all_diverges_says_why():
    def objective(config, report, seed):
        raise FloatingPointError("invalid value in log")

    with pytest.raises(
        study.StudyError, match=r"each of its 8 configs diverged .*FloatingPointError: invalid value in log"
    ):
        tune(objective)


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_reports_prune(pruner: str):
    def objective(config, report, seed):
        for step in range(1, 10):
            report(step, bowl(config, report, seed) + 1 / step)
        return bowl(config, report, seed)

    result = tune(objective, trials=40, pruner=pruner, steps=9)
    states = [trial.record.state for trial in result.trials]
    assert 3 < states.count("pruned") < 37
    assert any(len(t.record.curve) < 9 for t in result.trials if t.record.pruned)
    threaded = tune(objective, trials=40, pruner=pruner, steps=9, jobs=3)
    assert [trial.record.state for trial in threaded.trials] == states


def test_the_space_of_the_file_is_searched(tmp_path: Path):
    text = "SPACE = {'lr': [1e-3, 2e-3], 'weight_decay': 0.25, 'momentum': 0.5, 'dense.lr': [1e-5, 1e-4]}\n" + PLAIN
    task = function.load(write(tmp_path / "train.py", text))
    result = tune(task, optimizers=["adamw", "momentum"])
    for trial in result.trials:
        values = trial.record.config.hyperparameters
        assert 1e-3 <= values["lr"] <= 2e-3
        assert values["weight_decay"] == 0.25
        assert values.get("momentum", 0.5) == 0.5
    again = tune(
        task, optimizers=["adamw"], ranges={"weight_decay": (0.1, 0.2)}, fixed={"lr": 0.5, "betas": (0.8, 0.9)}
    )
    for trial in again.trials:
        values = trial.record.config.hyperparameters
        assert values["lr"] == 0.5
        assert 0.1 <= values["weight_decay"] <= 0.2
        assert values["betas"] == [0.8, 0.9]
    more = tune(task, optimizers=["adamw"], fixed={"lr": 0.5, "betas": (0.8, 0.9)}, resume=True)
    assert [t.record.config.hyperparameters for t in more.trials] == [
        t.record.config.hyperparameters for t in again.trials
    ]
    with pytest.raises(InputError, match=r"started with fixed {'lr': 0.5}, not {'lr': 0.25}"):
        tune(task, optimizers=["adamw"], fixed={"lr": 0.25}, resume=True)


def test_tuned_configs_of_files_with_one_stem_are_kept_apart(tmp_path: Path, data_folder: Path):
    for name, optimizer in (("a/train.py", "sgd"), ("b/train.py", "nag"), ("a_train.py", "adamw")):
        tune(function.load(write(tmp_path / name)), optimizers=[optimizer], trials=1)
    tuned = [
        oa.load_config(f"{tmp_path}/{name}:objective").optimizer for name in ("a/train.py", "b/train.py", "a_train.py")
    ]
    assert tuned == ["sgd", "nag", "adamw"]
    assert len(list((data_folder / "studies").glob("*.journal"))) == 3
    with pytest.raises(InputError, match=r"did you mean '.*/a/train.py:objective'"):
        oa.load_config(f"{tmp_path}/a/train.py:objectiv")


def test_a_function_without_a_file_is_named_by_its_module():
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(PLAIN, scope)  # noqa: S102  # as a notebook does
    assert function.of(scope["objective"]).name == "__main__:objective"


def test_a_decorated_function_keeps_its_name():
    import functools

    for call in (functools.lru_cache(bowl), functools.partial(bowl), functools.lru_cache(functools.partial(bowl))):
        assert function.of(call).name == f"{Path(__file__).resolve()}:bowl"


class Made:
    """An object that trains, made in some module by a helper of another."""

    scheduled = True

    def __init__(self, **own: Any) -> None:
        vars(self).update(own)

    def __call__(self, config: OptimizerConfig, report: Any, seed: int, steps: int = 3) -> float:
        return 1.0


def test_an_object_says_itself_what_it_is_and_where_it_was_made(tmp_path: Path):
    path = tmp_path / "made_here.py"
    path.write_text("PROFILE = {'domain': 'tabular'}\nSTEPS = 9\nSPACE = {'lr': 0.1}\n")
    module = function._module(path)
    own = {"domain": "vision", "parameters": 12}
    space = {"lr": [0.1, 1.0], "eps": 1e-6, "weight_decay": [1e-3, 1e-2]}
    refused = {"lamb": "it is woolly"}
    module.first = Made(  # type: ignore[attr-defined]
        __module__=module.__name__, PROFILE=own, STEPS=5, SPACE=space, refused=refused
    )
    module.second = Made(__module__=module.__name__)  # type: ignore[attr-defined]
    for task in (function.of(module.first), function.load(f"{path}:first")):
        assert task.name == f"{path}:first"
        assert task.facts.steps == 5
        assert task.facts.profile == {"domain": "tabular", "parameters": 12}, "what the module declares wins"
        assert task.facts.scheduled
        assert task.facts.fixed == {"lr": 0.1, "eps": 1e-6}, "what the module says of lr wins"
        assert task.facts.ranges == {"weight_decay": [1e-3, 1e-2]}
        assert (task.refuses("lamb"), task.refuses("lion")) == ("it is woolly", None)
    other = function.of(module.second)
    assert (other.name, other.facts.steps, other.facts.profile) == (f"{path}:second", 9, {"domain": "tabular"})
    module.first.PROFILE = {"domain": "moon"}  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=rf"^{path}: first: PROFILE: unknown domain 'moon'"):
        function.of(module.first)


def test_the_range_test_shortens_a_function_that_takes_steps():
    lengths = []

    def objective(config, report, seed, steps):
        lengths.append(steps)
        return bowl(config, report, seed)

    result = tune(objective, range_test=True, steps=200, optimizers=["adamw"])
    assert lengths[: study.LADDER] == [study.LADDER_STEPS] * study.LADDER
    assert set(lengths[study.LADDER :]) == {200}
    assert result.runs == study.LADDER + 8 + 15
    with pytest.raises(InputError, match=r"range test .* give .*bowl a parameter steps"):
        tune(bowl, range_test=True)


@pytest.mark.parametrize("task", [3, None, ["digits-mlp"]])
def test_what_is_no_task(task: Any):
    with pytest.raises(InputError, match=r"it takes the name of a built-in task, FILE.py:FUNCTION, or a function"):
        oa.tune(task)


def test_a_timeout_needs_a_process_to_stop():
    for task in (bowl, "digits-mlp"):
        with pytest.raises(
            InputError, match=r"timeout stops worker processes .* give a function of your own as FILE.py"
        ):
            oa.tune(task, timeout=5)
    with pytest.raises(InputError, match="timeout is -1; it takes seconds"):
        oa.tune(bowl, timeout=-1)


def test_a_task_that_is_one_is_taken_as_it_is():
    task = function.of(bowl)
    assert isinstance(task, FunctionTask)
    assert tune(task).task == task.name
