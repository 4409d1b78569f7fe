"""`objective`: a model factory, batches and a loss as a task, in this process and in worker processes."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import optadvisor as oa  # noqa: E402
from optadvisor.config import OptimizerConfig  # noqa: E402
from optadvisor.kernels.schedules import Schedule  # noqa: E402
from optadvisor.studies.executors import TrialError  # noqa: E402
from optadvisor.studies.tasks import function  # noqa: E402

pytestmark = pytest.mark.parity

torch.manual_seed(0)
X = torch.randn(96, 6)
Y = (X[:, :3].sum(1) > 0).long() + (X[:, 3:].sum(1) > 1).long()
TRAIN, HELD = TensorDataset(X[:64], Y[:64]), [(X[64:80], Y[64:80]), (X[80:], Y[80:])]
ADAMW = OptimizerConfig.of("adamw", {"lr": 0.02}, Schedule("cosine", 0))


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "home"))
    yield
    torch.set_num_threads(before)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def loader(**options: Any) -> DataLoader:
    return DataLoader(TRAIN, batch_size=16, shuffle=True, **options)


def made(train: Any = None, held: Any = None, loss: Any = None, model: Any = net, **options: Any) -> Any:
    return oa.torch.objective(
        model, loader() if train is None else train, HELD if held is None else held, loss or nn.CrossEntropyLoss(),
        **{"steps": 20, **options},
    )  # fmt: skip


def nothing(step: int, value: float) -> None:
    pass


def test_it_trains_as_a_loop_by_hand_does():
    reports = []
    value = made(every=5)(ADAMW, lambda step, v: reports.append((step, v)), 3, 20)

    torch.manual_seed(3)
    model = net()
    optimizer, scheduler = ADAMW.build_torch(model, 20)
    curve, step = [], 0
    criterion = nn.CrossEntropyLoss()
    while step < 20:
        for x, y in loader():
            step += 1
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
            scheduler.step()
            if step % 5 == 0:
                model.eval()
                with torch.no_grad():
                    curve.append((step, float(criterion(model(X[64:]), Y[64:]))))
                model.train()
            if step == 20:
                break
    assert [s for s, _ in reports] == [5, 10, 15, 20]
    assert [v for _, v in reports] == pytest.approx([v for _, v in curve], rel=1e-5)
    assert value == reports[-1][1] < reports[0][1]


def test_the_same_seed_is_the_same_training_even_with_a_generator_of_the_loader():
    for train in (loader(), loader(generator=torch.Generator().manual_seed(9))):
        task = made(train)
        first, second, other = (task(ADAMW, nothing, seed, 20) for seed in (1, 1, 2))
        assert first == second != other


def test_reports_a_tenth_of_the_steps_apart_and_a_metric_that_is_maximised():
    def accuracy(model: nn.Module, batch: Any) -> Any:
        assert not model.training
        assert not torch.is_grad_enabled()
        return (model(batch[0]).argmax(1) == batch[1]).float().mean()

    task = function.of(made(metric=accuracy, direction="maximize", steps=50))
    record = task.train(ADAMW, 0)
    assert [step for step, _ in record.curve] == list(range(5, 51, 5))
    assert task.direction == "maximize"
    assert -1.0 <= record.value < -0.5, "inside, lower is better"


def test_averages_are_by_examples_not_by_batches():
    uneven = [(X[64:65], Y[64:65]), (X[65:], Y[65:])]
    even = [(X[64:], Y[64:])]
    assert made(held=uneven)(ADAMW, nothing, 0, 5) == pytest.approx(made(held=even)(ADAMW, nothing, 0, 5), rel=1e-5)


def test_pruning_goes_through():
    def report(step: int, value: float) -> None:
        raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        made()(ADAMW, report, 0, 20)
    assert function.of(made()).train(ADAMW, 0, 20, report).state == "pruned"


def test_a_loss_that_is_not_finite_ends_the_trial_as_diverged():
    calls = []

    def loss(model: nn.Module, batch: Any) -> Any:
        calls.extend([1] * model.training)
        return nn.functional.cross_entropy(model(batch[0]), batch[1]) * (math.nan if len(calls) == 4 else 1.0)

    record = function.of(made(loss=loss)).train(ADAMW, 0, 20)
    assert (record.state, record.message.partition(",")[0]) == (
        "diverged", "FloatingPointError: the loss is nan at step 4",
    )  # fmt: skip
    assert len(calls) == 4, "it ended there"


def test_the_schedule_has_the_length_of_the_training(monkeypatch: pytest.MonkeyPatch):
    seen = []
    built = OptimizerConfig.build_torch

    def build(self: OptimizerConfig, model: nn.Module, total_steps: int | None = None, *rest: Any) -> Any:
        seen.append((total_steps, *rest))
        return built(self, model, total_steps, *rest)

    monkeypatch.setattr(OptimizerConfig, "build_torch", build)
    made(roles={"*": "dense"})(ADAMW, nothing, 0, 7)
    assert seen == [(7, {"*": "dense"})]
    assert function.of(made()).facts.scheduled


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(50, 4, sparse=True), nn.Linear(4, 3)

    def forward(self, ids: Any) -> Any:
        return self.head(self.table(ids))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # PyTorch's own, of its sparse Adagrad
def test_a_hybrid_trains_sparse_embeddings():
    hybrid = OptimizerConfig.from_dict(
        {
            "schema": 1,
            "optimizer": "hybrid",
            "groups": [
                {"role": "embedding", "optimizer": "adagrad", "hyperparameters": {"lr": 0.5}},
                {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 0.05}},
            ],
        }
    )
    ids = torch.arange(48)
    batches = [(ids, ids % 3)]
    value = made(batches, batches, model=Tower)(hybrid, nothing, 0, 60)
    assert value < 0.3 < math.log(3)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_a_model_with_sparse_embeddings_is_tuned_with_what_takes_them():
    ids = torch.arange(48)
    task = made([(ids, ids % 3)], [(ids, ids % 3)], model=Tower)
    facts = function.of(task).facts
    assert "rmsprop" in facts.refused
    assert not {"adagrad", "sgd", "adam"} & facts.refused.keys()
    result = oa.tune(task, trials=6, optimizers=["hybrid", "adagrad", "adam"])
    assert all(trial.record.state == "complete" for trial in result.trials)
    assert {trial.optimizer for trial in result.trials} == {"hybrid", "adagrad", "adam"}
    for trial in result.trials:
        config = trial.record.config
        decays = {role: values.get("weight_decay") for role, (_, values) in config.roles().items()}
        assert decays["embedding" if config.optimizer == "hybrid" else "dense"] == 0.0
    assert any(t.record.config.roles()["dense"][1]["weight_decay"] for t in result.trials if t.optimizer == "hybrid")
    with pytest.raises(oa.InputError, match=r"cannot be trained with 'rmsprop': table\.weight has sparse gradients"):
        oa.tune(task, trials=2, optimizers=["rmsprop"])


def test_a_model_without_refuses_nothing():
    facts = function.of(made()).facts
    assert (facts.refused, facts.fixed) == ({}, {})


def test_full_batches_take_all_samples_each_step():
    full = OptimizerConfig.of("sgd", {"lr": 0.5}, batch="full")
    plain = lambda: nn.Linear(6, 3)  # noqa: E731
    whole = made([(X[:64], Y[:64])], model=plain)
    parts = made([(X[:40], Y[:40]), (X[40:64], Y[40:64])], model=plain)
    assert parts(full, nothing, 0, 10) == pytest.approx(whole(full, nothing, 0, 10), rel=1e-5)
    with pytest.raises(oa.InputError, match="the config takes full batches, and train is a function"):
        made(lambda: iter(HELD), model=plain)(full, nothing, 0, 10)


def test_the_averaged_weights_of_a_schedule_free_rule_are_judged():
    config = OptimizerConfig.of("schedule_free_adamw", {"lr": 0.05})
    held = []

    def metric(model: nn.Module, batch: Any) -> Any:
        held.append([p.detach().clone() for p in model.parameters()])
        return 0.0

    trained = []
    made(metric=metric, model=lambda: trained.append(nn.Linear(6, 3)) or trained[-1])(config, nothing, 0, 10)
    assert not torch.equal(held[-1][0], trained[-1].weight), "the parameters are the point of the gradient"


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_mixed_precision(amp: str):
    dtypes = set()

    def loss(model: nn.Module, batch: Any) -> Any:
        out = model(batch[0])
        dtypes.add(out.dtype)
        return nn.functional.cross_entropy(out.float(), batch[1])

    value = made(loss=loss, amp=amp)(ADAMW, nothing, 0, 20)
    assert dtypes == {getattr(torch, amp)}
    assert value < 1.1


def test_gradients_are_clipped():
    config = OptimizerConfig.of("sgd", {"lr": 1.0})
    models: list[nn.Module] = []

    def factory() -> nn.Module:
        models.append(nn.Linear(6, 3))
        return models[-1]

    task = made(model=factory, max_norm=1e-3)
    torch.manual_seed(5)
    start = nn.Linear(6, 3)
    task(config, nothing, 5, 1)
    moved = math.sqrt(sum(float((a - b).detach().pow(2).sum()) for a, b in zip(
        models[-1].parameters(), start.parameters(), strict=True
    )))  # fmt: skip
    assert moved == pytest.approx(1e-3, rel=1e-3)


def test_train_may_be_a_function_that_draws_batches_for_ever():
    def batches() -> Iterator[Any]:
        while True:
            rows = torch.randint(64, (16,))
            yield X[rows], Y[rows]

    task = made(batches)
    assert task(ADAMW, nothing, 0, 20) == task(ADAMW, nothing, 0, 20) < 1.1


def test_its_profile_is_read_from_model_and_loader():
    facts = function.of(made(steps=77)).facts
    assert facts.profile["parameters"] == 6 * 8 + 8 + 16 + 8 * 3 + 3
    assert facts.profile["samples"] == 64
    assert facts.profile["batch_size"] == 16
    assert facts.steps == 77
    assert (facts.takes_steps, facts.needs_steps) == (True, False)


def test_steps_that_nobody_gave_are_asked_for():
    facts = function.of(made(steps=None)).facts
    assert (facts.steps, facts.needs_steps) == (None, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": nn.Linear(2, 2)}, "model is Linear; it takes a function that makes a new model for each trial"),
        ({"loss": "mse"}, "loss_fn is 'mse'; it takes a function"),
        ({"metric": 3}, "metric is 3; it takes a function"),
        ({"train": iter(HELD)}, "train: batches are list_iterator, which can be read once only"),
        ({"direction": "up"}, "unknown direction 'up'"),
        ({"direction": "maximize"}, "direction is 'maximize', and the loss is what is judged: give a metric"),
        ({"amp": "float32"}, "unknown amp 'float32'"),
        ({"max_norm": 0}, "max_norm is 0; it takes a number above 0"),
        ({"steps": 0}, "steps"),
    ],
)
def test_wrong_inputs_are_one_line_before_any_work(options: dict[str, Any], message: str):
    with pytest.raises(oa.InputError) as caught:
        made(**options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_what_turns_out_wrong_in_a_training():
    for options, message in (
        ({"train": []}, "train has no batches"),
        ({"held": []}, "held has no batches"),
        ({"model": dict}, "dict() returned dict; it must make a torch.nn.Module"),
    ):
        with pytest.raises(oa.InputError) as caught:
            made(**options)(ADAMW, nothing, 0, 2)
        assert str(caught.value) == message


# As a task.

FILE = """
import torch
import optadvisor as oa

PROFILE = {"domain": "tabular"}
STEPS = 12
X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()


def net():
    return torch.nn.Linear(4, 2)


def broken():
    return Picky()


class Picky(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 2)

    def forward(self, x):
        if self.training:
            raise RuntimeError("not today")
        return super().forward(x)


task = oa.torch.objective(net, [(X[:32], Y[:32])], [(X[32:], Y[32:])], torch.nn.CrossEntropyLoss())
wrong = oa.torch.objective(broken, [(X[:32], Y[:32])], [(X[32:], Y[32:])], torch.nn.CrossEntropyLoss())
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "train_me.py"
    path.write_text(FILE, encoding="utf-8")
    yield path
    sys.modules.pop("train_me", None)


def test_in_worker_processes_by_its_name_in_a_file(file: Path):
    task = function.load(f"{file}:task")
    assert task.steps == 12
    assert task.facts.profile["domain"] == "tabular", "what the file declares wins"
    assert task.facts.profile["parameters"] == 10
    result = oa.tune(f"{file}:task", trials=4, optimizers=["adamw"], pruner="median", timeout=120)
    assert result.value < 0.7
    assert oa.load_config(f"{file}:task") == result.best


def test_an_error_names_the_line_of_the_persons_code(file: Path):
    with pytest.raises(TrialError, match=r"RuntimeError: not today, at .*train_me.py:25"):
        oa.tune(f"{file}:wrong", trials=2, optimizers=["adamw"], timeout=120)


def test_in_this_process_it_has_the_name_it_has_in_its_file(file: Path):
    function.load(f"{file}:task")
    module = sys.modules["train_me"]
    assert function.of(module.task).name == f"{file}:task"
    assert function.of(module.wrong).name == f"{file}:wrong"
    result = oa.tune(module.task, trials=3, optimizers=["nag"])
    assert oa.load_config(f"{file}:task") == result.best


def test_in_a_notebook_two_objectives_are_two_tasks():
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(FILE, scope)  # noqa: S102  # as a notebook does
    main = sys.modules["__main__"]
    names = []
    for name in ("task", "wrong"):
        try:
            setattr(main, name, scope[name])
            names.append(function.of(scope[name]).name.rpartition(":")[2])
        finally:
            delattr(main, name)
    assert names == ["task", "wrong"]
