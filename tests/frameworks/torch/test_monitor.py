"""`Monitor` on real trainings: each sign where it belongs, none in healthy ones, and the training as without it."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_digits

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import optadvisor as oa  # noqa: E402
from optadvisor.frameworks.torch.monitor import Monitor  # noqa: E402
from optadvisor.frameworks.torch.optimizer import Optimizer  # noqa: E402

pytestmark = pytest.mark.parity

IMAGES, LABELS = load_digits(return_X_y=True)
X, Y = torch.tensor(IMAGES / 16, dtype=torch.float32), torch.tensor(LABELS)
ADVISED = (
    oa.recommend(
        oa.TaskProfile(domain="vision", architecture="mlp", samples=1200, batch_size=64, steps=400, goal="speed"), top=1
    )
    .recommendations[0]
    .config
)
Make = Callable[[nn.Module], "torch.optim.Optimizer"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip


def deep_sigmoid() -> nn.Module:
    hidden = [layer for _ in range(8) for layer in (nn.Linear(32, 32), nn.Sigmoid())]
    return nn.Sequential(nn.Linear(64, 32), nn.Sigmoid(), *hidden, nn.Linear(32, 10))


def digits(model: nn.Module) -> Any:
    rows = torch.randint(1200, (64,))
    return nn.functional.cross_entropy(model(X[rows]), Y[rows])


def all_digits(model: nn.Module) -> Any:
    return nn.functional.cross_entropy(model(X[:1200]), Y[:1200])


def train(
    build: Callable[[], nn.Module],
    make: Make,
    steps: int,
    loss: Callable[[nn.Module], Any] = digits,
    seed: int = 0,
    **options: Any,
) -> Monitor:
    torch.manual_seed(seed)
    model = build()
    optimizer = make(model)
    with Monitor(optimizer, model, **options) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model).backward()
            optimizer.step()
    return monitor


def kinds(monitor: Monitor) -> set[str]:
    return {sign.name for sign in monitor.signs}


# Signs, each from a training that has the trouble, and the remedy where it is one line.


class Ravine(nn.Module):
    """x^2/2 + 100 y^2/2: curvature L = 100 across."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.tensor([[10.0, 1.0]]))

    def loss(self) -> Any:
        return 0.5 * (self.point**2 * torch.tensor([1.0, 100.0])).sum()


def test_oscillation_near_two_over_the_curvature():
    monitor = train(Ravine, lambda m: torch.optim.SGD(m.parameters(), lr=1.95 / 100), 40, Ravine.loss)
    assert [(s.name, s.rule) for s in monitor.signs] == [("oscillation", "R8")]
    assert monitor.signs[0].step <= 16
    assert monitor.signs[0].value < -0.9
    healthy = train(Ravine, lambda m: torch.optim.SGD(m.parameters(), lr=0.9 / 100), 40, Ravine.loss)
    assert healthy.signs == []


def test_oscillation_of_full_batches_and_momentum_as_its_remedy():
    plain = train(mlp, lambda m: torch.optim.SGD(m.parameters(), lr=1.0), 150, all_digits)
    assert kinds(plain) == {"oscillation"}
    remedied = train(mlp, lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9), 150, all_digits)
    assert remedied.signs == []


def test_exhausted_rate_of_adagrad_and_rmsprop_as_its_remedy():
    adagrad = train(mlp, lambda m: torch.optim.Adagrad(m.parameters(), lr=0.01), 1200)
    assert [(s.name, s.rule) for s in adagrad.signs] == [("exhausted rate", "R7")]
    assert train(mlp, lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3), 1200).signs == []


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_an_lr_of_ten_is_told_in_the_first_steps(optimizer: Any):
    monitor = train(cnn, lambda m: optimizer(m.parameters(), lr=10.0), 20)
    first = monitor.signs[0]
    assert (first.name, first.rule) == ("large step", "R4")
    assert first.step <= 4


def test_small_step():
    monitor = train(mlp, lambda m: torch.optim.SGD(m.parameters(), lr=1e-5), 40)
    assert kinds(monitor) == {"small step"}
    assert "AdamW" in monitor.signs[0].remedy


def test_exploding_above_two_over_the_curvature():
    monitor = train(Ravine, lambda m: torch.optim.SGD(m.parameters(), lr=0.05), 40, Ravine.loss)
    assert "exploding gradient" in kinds(monitor)


def test_a_nan_is_told_at_the_next_look():
    seen = []

    def loss(model: nn.Module) -> Any:
        seen.append(1)
        return digits(model) * (float("nan") if len(seen) >= 20 else 1.0)

    monitor = train(mlp, lambda m: torch.optim.AdamW(m.parameters(), lr=1e-3), 32, loss)
    assert [(s.name, s.step) for s in monitor.signs] == [("exploding gradient", 32)]


def test_vanishing_in_a_deep_sigmoid_net_names_the_first_layers():
    monitor = train(deep_sigmoid, lambda m: torch.optim.AdamW(m.parameters(), lr=3e-3), 50)
    assert kinds(monitor) == {"vanishing gradient"}
    assert monitor.signs[0].parameters[0] == "0.weight"
    assert "18.weight" not in monitor.signs[0].parameters, "the last layer has its gradient"
    assert "normalisation" in monitor.signs[0].remedy


def noisy_line(scale: Callable[[int], float]) -> Callable[[nn.Module], Any]:
    """Least squares on noise that never fits, times a scale that depends on the step."""
    done = []

    def loss(model: nn.Module) -> Any:
        done.append(1)
        x, y = torch.randn(32, 8), torch.randn(32, 4)
        return scale(len(done)) * ((model(x) - y) ** 2).mean()

    return loss


@pytest.mark.parametrize(
    ("factor", "beta2", "change", "steps"),
    [(0.01, 0.99, 320, 600), (100.0, 0.999, 1520, 1575)],
    ids=["far above", "far below"],
)
def test_stale_second_moment_where_the_objective_changes(factor: float, beta2: float, change: int, steps: int):
    def watched(scale: Callable[[int], float]) -> Monitor:
        return train(
            lambda: nn.Linear(8, 4),
            lambda m: torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.9, beta2)),
            steps,
            noisy_line(scale),
            every=25,
        )

    monitor = watched(lambda step: factor if step > change else 1.0)
    assert [(s.name, s.rule) for s in monitor.signs] == [("stale second moment", "R4")]
    assert change < monitor.signs[0].step
    assert watched(lambda _: 1.0).signs == []


def test_coupled_decay_is_in_the_second_moment_and_no_sign():
    # Decay of 10 times the weights is all of Adam's gradient here; the loss's own is a thousandth of it.
    monitor = train(
        lambda: nn.Linear(8, 4),
        lambda m: torch.optim.Adam(m.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=10.0),
        400,
        noisy_line(lambda _: 1e-3),
    )
    assert "stale second moment" not in kinds(monitor)


# No false alarm.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("build", [mlp, cnn])
def test_healthy_trainings_at_the_advised_lr_have_no_sign(build: Callable[[], nn.Module], seed: int):
    torch.manual_seed(seed)
    model = build()
    optimizer, scheduler = ADVISED.build_torch(model, 400)
    monitor = Monitor(optimizer, model)
    for _ in range(400):
        optimizer.zero_grad()
        loss = digits(model)
        loss.backward()
        optimizer.step()
        scheduler.step()
    assert loss.item() < 0.1
    assert monitor.looks == 14
    assert monitor.report() == f"400 steps of {type(optimizer).__name__}, looked at 14 times: no sign of trouble"
    assert monitor.signs == []


def test_healthy_with_weights_that_start_at_zero():
    class Low(nn.Module):
        """A frozen layer and a correction to it of low rank, one factor 0 at first."""

        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(64, 10).requires_grad_(False)
            self.down, self.up = nn.Linear(64, 8, bias=False), nn.Linear(8, 10, bias=False)
            nn.init.zeros_(self.up.weight)

        def forward(self, x: Any) -> Any:
            return self.base(x) + self.up(self.down(x))

    monitor = train(Low, lambda m: torch.optim.AdamW((p for p in m.parameters() if p.requires_grad), lr=3e-3), 200)
    assert monitor.signs == []


def test_healthy_with_embeddings_of_rare_rows():
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(3000, 8), nn.Linear(16, 1)

        def forward(self, ids: Any) -> Any:
            return self.head(self.table(ids).flatten(1))[:, 0]

    def loss(model: nn.Module) -> Any:
        ids = (torch.rand(64, 2) ** 3 * 3000).long()
        return nn.functional.binary_cross_entropy_with_logits(model(ids), (ids.sum(1) % 2).float())

    assert train(Pairs, lambda m: torch.optim.Adam(m.parameters(), lr=3e-3), 400, loss).signs == []


# The training is as without it.


def run(optimizer: Any, model: nn.Module, steps: int, monitor: bool) -> list[Any]:
    """The weights after some steps; the mini-batches are drawn from torch's own numbers."""
    torch.manual_seed(5)
    watch = Monitor(optimizer, model, every=4) if monitor else None
    for _ in range(steps):
        optimizer.zero_grad()
        digits(model).backward()
        optimizer.step()
    if watch:
        assert watch.looks == steps // 4 + 2
        watch.close()
    return [p.detach().clone() for p in model.parameters()]


OPTIMIZERS: dict[str, Make] = {
    "sgd, nesterov": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "adamw, fused": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, fused=True),
    "adam, one by one": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, foreach=False, weight_decay=0.1),
    "adagrad": lambda m: torch.optim.Adagrad(m.parameters(), lr=0.01),
    "rmsprop, centered": lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3, centered=True, momentum=0.5),
    "ours": lambda m: Optimizer("adamw", m, lr=0.01),
    "ours, adagrad": lambda m: Optimizer("adagrad", m, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_state_are_those_of_a_training_without_it(name: str):
    torch.manual_seed(0)
    model = cnn()
    other = copy.deepcopy(model)
    plain, watched = OPTIMIZERS[name](model), OPTIMIZERS[name](other)
    for a, b in zip(run(plain, model, 24, False), run(watched, other, 24, True), strict=True):
        assert torch.equal(a, b)
    before, after = plain.state_dict(), watched.state_dict()
    assert before["param_groups"] == after["param_groups"]
    for i, state in before["state"].items():
        assert state.keys() == after["state"][i].keys()
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(after["state"][i][key])), key
    assert not watched._optimizer_step_pre_hooks
    assert not watched._optimizer_step_post_hooks


@pytest.mark.parametrize("name", ["adamw, fused", "rmsprop, centered", "ours", "adagrad", "ours, adagrad"])
def test_the_second_moment_or_sum_is_read_from_the_optimizer(name: str, tmp_path: Path):
    train(cnn, OPTIMIZERS[name], 8, path=tmp_path / "run.jsonl")
    last = json.loads((tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    key = "adagrad_rate" if "adagrad" in name else "second_moment"
    assert last[key] is not None
    if key == "second_moment":
        assert 0.1 < last[key] < 10, "after 8 steps the corrected average is about the square"


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # PyTorch's own, of its sparse Adagrad
def test_hybrid_with_sparse_embeddings():
    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(3000, 8, sparse=True), nn.Linear(8, 1)

    config = (
        oa.recommend(oa.TaskProfile(domain="recsys", architecture="embedding-tower"), top=1).recommendations[0].config
    )
    assert config.optimizer == "hybrid"
    model = Tower()
    optimizer, _ = config.build_torch(model, 100)
    with Monitor(optimizer, model) as monitor:
        for _ in range(16):
            optimizer.zero_grad()
            model.head(model.table(torch.randint(3000, (64,)))).square().mean().backward()
            optimizer.step()
    assert model.table.weight.grad.is_sparse
    assert monitor.looks == 5
    assert monitor.signs == []


def test_closures():
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    rows = torch.arange(64)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X[rows]), Y[rows])
        loss.backward()
        return loss

    with Monitor(optimizer, model) as monitor:
        first = optimizer.step(closure).item()
        for _ in range(7):
            last = optimizer.step(closure=closure).item()
    assert last < first
    assert (monitor.steps, monitor.looks) == (8, 4)


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_grad_scaler_skips(fused: bool, tmp_path: Path):
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    monitor = Monitor(optimizer, model, every=4, path=tmp_path / "run.jsonl")
    for step in range(12):
        optimizer.zero_grad()
        scaler.scale(digits(model) * (float("inf") if step % 3 == 0 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
    assert monitor.signs == [], "a skipped step is no explosion, and a scale no gradient"
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == monitor.looks >= 3
    assert all(0.05 < line["gradient_norm"] < 5 for line in lines)


def test_parameters_without_gradients_and_groups_added_later():
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD([{"params": model[0].parameters()}, {"params": model[2].weight}], lr=0.1)
    with Monitor(optimizer, model, every=2) as monitor:
        for step in range(8):
            if step == 4:
                optimizer.add_param_group({"params": [model[2].bias]})
            optimizer.zero_grad()
            digits(model).backward()
            optimizer.step()
    assert monitor.looks == 5
    assert monitor.signs == []


def test_samples_of_large_tensors_measure_what_the_whole_does(tmp_path: Path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 400), nn.ReLU(), nn.Linear(400, 10)).to(torch.bfloat16)
    rows = []
    for sample in (10**6, 512):
        twin = copy.deepcopy(model)
        path = tmp_path / f"{sample}.jsonl"
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
        with Monitor(optimizer, path=path, sample=sample):
            for _ in range(8):
                optimizer.zero_grad()
                chosen = torch.randint(1200, (64,))
                nn.functional.cross_entropy(twin(X[chosen].bfloat16()), Y[chosen]).backward()
                optimizer.step()
        rows.append(json.loads(path.read_text(encoding="utf-8").splitlines()[-1]))
    whole, part = rows
    assert whole["gradient_norm"] == part["gradient_norm"], "norms are of whole tensors"
    assert part["update_ratio"] == pytest.approx(whole["update_ratio"], rel=0.3)


# What comes out.


def test_json_lines_are_whole_and_flushed_while_it_runs(tmp_path: Path):
    path = tmp_path / "run.jsonl"
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    monitor = Monitor(optimizer, model, path=path)
    found = []
    for _ in range(9):
        optimizer.zero_grad()
        digits(model).backward()
        optimizer.step()
        found.append(path.read_text(encoding="utf-8"))
    assert [text.count("\n") for text in found] == [1, 2, 2, 3, 3, 3, 3, 4, 4]
    assert all(text.endswith("\n") for text in found)
    lines = [json.loads(line) for line in found[-1].splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 4, 8]
    assert [s for line in lines for s in line["signs"]] == [s.to_dict() for s in monitor.signs]
    assert "large step" in lines[-1]["active"]
    assert lines[0]["agreement"] is None, "there is no step before the first"
    assert -1 <= lines[1]["agreement"] <= 1
    assert lines[0]["lr"] == 10.0
    monitor.close()
    optimizer.step()
    assert monitor.steps == 9, "a closed monitor sees no more steps"


def test_report_names_what_when_and_the_remedy():
    monitor = train(mlp, lambda m: torch.optim.SGD(m.parameters(), lr=10.0), 4)
    first, *lines = monitor.report().splitlines()
    assert first.startswith("4 steps of SGD, looked at 3 times: large step")
    assert lines == [str(sign) for sign in monitor.signs]
    assert "0.weight" in lines[0]


def test_names_without_a_model():
    torch.manual_seed(0)
    model = mlp()
    for given, name in ((model.named_parameters(), "0.weight"), (model.parameters(), "group 0, parameter 0 [32, 64]")):
        optimizer = torch.optim.SGD(given, lr=10.0)
        with Monitor(optimizer) as monitor:
            for _ in range(4):
                optimizer.zero_grad()
                digits(model).backward()
                optimizer.step()
        assert monitor.signs[0].parameters[0] == name


class Writer:
    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []
        self.texts: list[tuple[str, str, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def add_text(self, name: str, text: str, step: int) -> None:
        self.texts.append((name, text, step))


def test_a_summary_writer_gets_scalars_and_signs():
    writer = Writer()
    monitor = train(mlp, lambda m: torch.optim.SGD(m.parameters(), lr=10.0), 8, writer=writer)
    assert [step for name, _, step in writer.scalars if name == "optadvisor/gradient_norm"] == [1, 2, 4, 8]
    assert writer.texts == [("optadvisor/signs", str(sign), sign.step) for sign in monitor.signs]


def test_tensorboard_writes_event_files(tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(mlp, lambda m: torch.optim.SGD(m.parameters(), lr=10.0), 8, tensorboard=tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("optadvisor/update_ratio")] == [1, 2, 4, 8]


def test_tensorboard_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(oa.InputError, match=r"^TensorBoard is not installed: pip install tensorboard, or take path="):
        train(mlp, lambda m: torch.optim.SGD(m.parameters(), lr=0.1), 1, tensorboard=tmp_path)


def test_wrong_inputs():
    optimizer = torch.optim.SGD(mlp().parameters(), lr=0.1)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"optimizer": mlp()}, "optimizer is Sequential; it takes a torch.optim.Optimizer"),
        ({"model": optimizer}, "model is SGD; it takes a torch.nn.Module"),
        ({"every": 1}, "every is 1; it takes a whole number, at least 2"),
        ({"sample": 2.5}, "sample is 2.5; it takes a whole number, at least 1"),
        ({"path": "/no/such/folder/run.jsonl"}, "path is '/no/such/folder/run.jsonl', and there is no folder"),
        ({"writer": Writer(), "tensorboard": "x"}, "writer and tensorboard are both given"),
    ]
    for arguments, message in wrong:
        with pytest.raises(oa.InputError) as caught:
            Monitor(**{"optimizer": optimizer, **arguments})
        assert str(caught.value).startswith(message)
    assert not optimizer._optimizer_step_pre_hooks, "a refused monitor leaves no hook"
