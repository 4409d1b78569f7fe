"""A PyTorch model as what is probed: the same measures as a built-in twin, and nothing of the person's is changed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optadvisor as oa
from optadvisor.cli.main import main
from optadvisor.config import OptimizerConfig
from optadvisor.kernels.errors import InputError, NonFiniteGradient
from optadvisor.probing import BuiltinSubject, measure
from optadvisor.probing.probe import BATCHES, STEPS
from optadvisor.studies import training
from optadvisor.studies.tasks.registry import get

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity
nn, functional = torch.nn, torch.nn.functional

from optadvisor.frameworks.torch import probing  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def net() -> Any:
    """Batch norm has buffers, dropout asks the generator."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10)
    )


def images(count: int = 640, batch: int = 16, shuffle: bool = True) -> Any:
    rng = torch.Generator().manual_seed(1)
    labels = torch.randint(10, (count,), generator=rng)
    x = torch.randn(count, 1, 8, 8, generator=rng) + labels[:, None, None, None] / 5
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, labels), batch_size=batch, shuffle=shuffle)


def state(model: Any) -> dict[str, Any]:
    """Everything of a model and of the generators that a probe could change."""
    return {
        **{f"weight {name}": tensor.detach().clone() for name, tensor in model.named_parameters()},
        **{f"buffer {name}": tensor.clone() for name, tensor in model.named_buffers()},
        **{f"grad {name}": None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        **{f"needs {name}": p.requires_grad for name, p in model.named_parameters()},
        **{f"mode {name}": module.training for name, module in model.named_modules()},
        "identities": [id(tensor) for tensor in (*model.parameters(), *model.buffers())],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],
        "python": random.getstate(),
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[name].dtype
            assert value.numpy().tobytes() == other[name].numpy().tobytes(), name
        else:
            assert np.array_equal(value, other[name]) if isinstance(value, np.ndarray) else value == other[name], name


def prepared() -> Any:
    """A model in a state of its own: a frozen layer, a gradient, a module in evaluation mode, statistics."""
    model = net()
    model(torch.randn(8, 1, 8, 8)).sum().backward()
    model[0].bias.requires_grad_(False)
    model[1].eval()
    with torch.no_grad():
        model[5].weight[0, 0] = -0.0
    return model


def test_everything_is_as_it_was():
    model = prepared()
    before = state(model)
    found = oa.probe(model, images(), nn.CrossEntropyLoss(), mini_batches=6, steps=4)
    same(before, state(model))
    assert found.parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert found.warm.loss < found.start.loss


@pytest.mark.parametrize("call", [2, 5, 40, 90])
def test_everything_is_as_it_was_when_something_raises(call: int):
    model = prepared()
    before, calls = state(model), 0

    def fails(model: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        random.random()
        np.random.rand()
        loss = functional.cross_entropy(model(batch[0]), batch[1])
        if calls == call:
            raise RuntimeError("out of disk")
        return loss

    with pytest.raises(RuntimeError, match="out of disk"):
        oa.probe(model, images(), fails, mini_batches=6, steps=4, range_test=False)
    same(before, state(model))


def test_a_buffer_that_a_model_replaces_is_put_back():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(4, 1)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: Any) -> Any:
            self.seen = self.seen + len(x)
            return self.line(x).sum(dim=1)

    torch.manual_seed(0)
    model, batches = Counting(), [(torch.randn(8, 4), torch.randn(8)) for _ in range(6)]
    before = state(model)
    oa.probe(model, batches, nn.MSELoss(), mini_batches=3, steps=2, range_test=False)
    same(before, state(model))


def subject(model: Any, batches: Any, loss_fn: Any = None, **declared: Any) -> Any:
    return probing.subject(
        model, batches, loss_fn or nn.CrossEntropyLoss(), oa.TaskProfile(**declared), 2 * BATCHES + STEPS, 0
    )


def test_a_number_is_always_the_same_gradient():
    """Dropout and the order of questions do not matter; running statistics are kept by steps alone."""
    found = subject(net(), images())
    with found.held():
        weights = found.start()
        loss, grad = found.gradient(weights, 3)
        other, _ = found.gradient(weights, 4)
        again, twice = found.gradient(weights, 3)
        assert loss == again != other
        np.testing.assert_array_equal(grad, twice)
        norm = found._model[1]
        assert norm.num_batches_tracked == 0
        found.advance(weights, 0)
        found.advance(weights, 1)
        assert norm.num_batches_tracked == 2
        found.start()
        assert norm.num_batches_tracked == 0


def twin() -> tuple[Any, list[Any]]:
    """digits-mlp as a PyTorch model, with the very mini-batches that its probe sees."""
    task = get("digits-mlp")
    problem, width = task.problem, task.values["width"]
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    theta = torch.from_numpy(task.start(0).copy())
    shapes = ((64, width), (width, 10), (width,), (10,))
    w1, w2, b1, b2 = (
        part.view(s) for part, s in zip(theta.split([a * (b[0] if b else 1) for a, *b in shapes]), shapes, strict=True)
    )
    with torch.no_grad():
        for tensor, value in zip(model.parameters(), (w1.T, b1, w2.T, b2), strict=True):
            tensor.copy_(value)
    x, labels = torch.from_numpy(problem.reals.reshape(-1, 64).copy()), torch.from_numpy(problem.integers.copy())
    rows = training.batches(problem, 0, 2 * BATCHES + STEPS)
    return model, [(x[row], labels[row]) for row in rows]


def test_the_measures_are_those_of_the_built_in_twin():
    model, batches = twin()
    mine = measure(subject(model, batches, **get("digits-mlp").profile.to_dict()), range_test=False)
    theirs = measure(BuiltinSubject(get("digits-mlp")), range_test=False)
    assert mine.parameters == theirs.parameters
    for one, other, close in ((mine.start, theirs.start, 1e-4), (mine.warm, theirs.warm, 2e-2)):
        assert one.loss == pytest.approx(other.loss, rel=close)
        assert one.noise.norm2 == pytest.approx(other.noise.norm2, rel=close)
        assert one.noise.trace == pytest.approx(other.noise.trace, rel=close)
        assert one.noise.scale == pytest.approx(other.noise.scale, rel=3 * close)
        assert one.agreement == pytest.approx(other.agreement, rel=close, abs=1e-3)
        assert one.tail.alpha == pytest.approx(other.tail.alpha, abs=0.05)
        assert one.sharpness.gradient == pytest.approx(other.sharpness.gradient, rel=0.05)
        assert one.sharpness.sign == pytest.approx(other.sharpness.sign, rel=0.05)
        assert one.curvature.largest == pytest.approx(other.curvature.largest, rel=0.1)
    zeros = [line.zeros * line.parameters for line in mine.start.sparsity]
    assert sum(zeros) == pytest.approx(sum(line.zeros * line.parameters for line in theirs.start.sparsity))
    assert mine.warm_up.agreement == pytest.approx(theirs.warm_up.agreement, abs=0.02)


def test_a_short_training_is_pytorch_s():
    """AdamW by our kernels on flat weights, and torch.optim's: the same mean loss of the mini-batches behind."""
    model, batches = twin()
    found = subject(model, batches)
    with found.held():
        value = found.train(OptimizerConfig.of("adamw", {"lr": 0.01}), 10)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1]},
            {"params": [p for p in model.parameters() if p.ndim < 2]},
        ],
        lr=0.01,
        weight_decay=OptimizerConfig.of("adamw").hyperparameters["weight_decay"],
    )
    for x, y in batches[:10]:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        wanted = np.mean([float(functional.cross_entropy(model(x), y)) for x, y in batches[10:14]])
    assert value == pytest.approx(wanted, rel=1e-3)


class Clicks(nn.Module):
    """Three ids of 100 rows each, two numbers."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tables = nn.ModuleList(nn.Embedding(100, 4, sparse=sparse) for _ in range(3))
        self.top = nn.Linear(14, 1)

    def forward(self, ids: Any, numbers: Any) -> Any:
        parts = [table(ids[:, i]) for i, table in enumerate(self.tables)]
        return self.top(torch.cat([*parts, numbers], dim=1)).reshape(-1)


def clicks(batch: int = 8) -> list[Any]:
    rng = torch.Generator().manual_seed(3)
    return [
        (
            torch.randint(100, (batch, 3), generator=rng),
            torch.rand(batch, 2, generator=rng) + 0.1,
            torch.randint(2, (batch,), generator=rng).float(),
        )
        for _ in range(20)
    ]


@pytest.mark.parametrize("sparse", [False, True])
def test_embeddings(sparse: bool):
    batches = clicks()
    found = oa.probe(Clicks(sparse), batches, nn.BCEWithLogitsLoss(), mini_batches=6, steps=3, range_test=False)
    tables, top = found.start.sparsity[0], found.start.sparsity[1]
    assert tables.role == ("sparse embedding" if sparse else "embedding")
    touched = [len(batch[0][:, i].unique()) for batch in batches[:6] for i in range(3)]
    assert tables.rows_untouched == pytest.approx(1 - sum(touched) / (6 * 300))
    assert tables.zeros == pytest.approx(tables.rows_untouched)
    assert top.zeros == 0.0
    # Of 300 rows and 2 numbers an example has 3 and 2 that are not 0.
    assert found.profile.sparse_fraction == pytest.approx(297 / 302)
    assert found.profile.batch_size == 8


def test_zeros_of_a_linear_model():
    torch.manual_seed(0)
    x = torch.zeros(40, 50)
    x[torch.arange(40), torch.randint(50, (40,))] = 1.0
    batches = [(part, torch.randn(8, 1)) for part in x.split(8)]
    found = oa.probe(
        nn.Linear(50, 1), batches, nn.MSELoss(), profile={"architecture": "linear"}, steps=2, range_test=False
    )
    assert found.profile.sparse_fraction == pytest.approx(0.98)


def test_a_loader_that_shuffles_is_read_again_and_one_that_does_not_is_not():
    assert subject(net(), images(64, 16, shuffle=True)).distinct == 2 * BATCHES + STEPS
    assert subject(net(), images(64, 16, shuffle=False)).distinct == 4
    found = oa.probe(net(), images(64, 16, shuffle=False), nn.CrossEntropyLoss(), steps=2, range_test=False)
    assert found.mini_batches == 4
    assert (found.profile.samples, found.profile.batch_size) == (64, 16)


def test_a_loader_s_own_generator_is_where_it_was():
    loader = images()
    loader.generator = loader.sampler.generator = torch.Generator().manual_seed(7)
    before = loader.generator.get_state()
    one = oa.probe(net(), loader, nn.CrossEntropyLoss(), mini_batches=4, steps=2, range_test=False)
    assert torch.equal(before, loader.generator.get_state())
    other = oa.probe(net(), loader, nn.CrossEntropyLoss(), mini_batches=4, steps=2, range_test=False)
    assert one.start == other.start


def test_what_a_look_at_the_model_tells_is_in_the_profile():
    found = oa.probe(net(), images(), nn.CrossEntropyLoss(), mini_batches=4, steps=2, range_test=False)
    assert (found.profile.domain, found.profile.architecture) == ("vision", "cnn")
    assert found.zeros is None
    told = oa.probe(
        net(),
        images(),
        nn.CrossEntropyLoss(),
        profile={"architecture": "mlp"},
        mini_batches=4,
        steps=2,
        range_test=False,
    )
    assert told.profile.architecture == "mlp"


def test_an_attribute_that_a_model_counts_up_is_put_back():
    model = net()
    model.calls = 0

    def counts(model: Any, batch: Any) -> Any:
        model.calls += 1
        return functional.cross_entropy(model(batch[0]), batch[1])

    oa.probe(model, images(), counts, mini_batches=4, steps=2, range_test=False)
    assert model.calls == 0


def test_large_mini_batches_are_not_all_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "POOL", 1000)
    assert subject(net(), images()).distinct == probing.FEWEST


def test_one_batch_tells_curvature_and_no_noise():
    x, y = torch.randn(16, 4), torch.randint(3, (16,))
    torch.manual_seed(0)
    found = oa.probe(nn.Linear(4, 3), (x, y), nn.CrossEntropyLoss(), steps=3, range_test=False)
    assert found.start.noise is None
    assert found.start.curvature.largest > 0
    assert found.profile.parameters == 15


def test_a_softmax_s_curvature_is_the_hessian_s():
    torch.manual_seed(0)
    x, y = torch.randn(64, 3), torch.randint(3, (64,))
    model = nn.Linear(3, 3)
    found = oa.probe(model, (x, y), nn.CrossEntropyLoss(), steps=1, range_test=False)
    shapes = [tuple(p.shape) for p in model.parameters()]

    def loss(flat: Any) -> Any:
        weight, bias = flat[:9].view(shapes[0]), flat[9:]
        return functional.cross_entropy(x.double() @ weight.T + bias, y)

    flat = torch.cat([p.detach().double().reshape(-1) for p in model.parameters()])
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat)).numpy()
    assert found.start.curvature.largest == pytest.approx(values[-1], rel=1e-2)
    clear = values[values > 1e-6]
    assert found.start.curvature.spread == pytest.approx(clear[-1] / clear[0], rel=0.05)


def test_a_bias_in_front_of_batch_norm_has_no_curvature():
    """What it adds is taken off again: there is rounding alone. (A net with ReLU bends: curvature depends on the reach.)"""
    model = net()
    model[2] = nn.GELU()
    found = oa.probe(model, images(), nn.CrossEntropyLoss(), mini_batches=6, steps=10, range_test=False)
    for point in (found.start, found.warm):
        resolved = {block.block: block.resolved for block in point.curvature.blocks}
        assert resolved.pop("0.bias") is False
        assert all(resolved.values())


def test_frozen_layers_are_left_out_and_a_wrapped_model_is_unwrapped():
    model = net()
    model[0].requires_grad_(False)
    found = subject(torch.nn.DataParallel(model), images())
    assert [block.name for block in found.blocks] == ["1.weight", "1.bias", "5.weight", "5.bias"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: (net(), None, nn.CrossEntropyLoss()), "has no batches"),
        (lambda: (net(), images(), None), "has no loss_fn"),
        (lambda: (net().requires_grad_(False), images(), nn.CrossEntropyLoss()), "no parameters to train"),
        (lambda: (net(), [], nn.CrossEntropyLoss()), "batches is empty"),
        (lambda: (net(), iter(images()), nn.CrossEntropyLoss()), "read once only"),
        (lambda: (net(), images(), lambda m, b: m(b[0])), "a loss is a tensor with one number"),
        (lambda: (net(), images(), lambda m, b: m(b[0]).sum().detach()), "does not depend on the parameters"),
        (lambda: ([1, 2], None, None), "cannot probe list"),
        (lambda: ("digits-mlp", images(), None), "brings its own mini-batches"),
    ],
)
def test_what_cannot_be_probed_is_refused(given: Any, words: str):
    with pytest.raises(InputError, match=words):
        oa.probe(*given(), steps=1, mini_batches=2, range_test=False)


def test_a_loss_that_is_not_finite_is_named():
    model = net()
    with torch.no_grad():
        model[5].bias[0] = float("nan")
    before = state(model)
    with pytest.raises(NonFiniteGradient, match="Sequential: the loss is nan on mini-batch 0"):
        oa.probe(model, images(), nn.CrossEntropyLoss(), steps=1, mini_batches=2)
    same(before, state(model))


FILE = """
import torch
from torch import nn

PROFILE = {"domain": "vision", "steps": 500}

def make():
    torch.manual_seed(0)
    x, y = torch.randn(200, 1, 8, 8), torch.randint(10, (200,))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    data = torch.utils.data.TensorDataset(x, y)
    return model, torch.utils.data.DataLoader(data, batch_size=20, shuffle=True), nn.CrossEntropyLoss()

def no_loss():
    return nn.Linear(2, 2), (torch.randn(3, 2), torch.randn(3, 2))
"""


def test_the_command_probes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file, saved = tmp_path / "mine_to_probe.py", tmp_path / "profile.json"
    file.write_text(FILE)
    assert main(["probe", f"{file}:make", "--batches", "8", "--steps", "5", "--save", str(saved)]) == 0
    out = capsys.readouterr().out
    assert "entries of exactly 0, matrix" in out
    assert "adamw" in out
    profile = oa.TaskProfile.from_json(saved)
    assert (profile.domain, profile.steps, profile.samples, profile.batch_size) == ("vision", 500, 200, 20)
    assert profile.parameters == 64 * 8 + 8 + 8 * 10 + 10
    assert profile.convex is False


def test_the_command_s_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "mine_without.py"
    file.write_text(FILE)
    assert main(["probe", f"{file}:no_loss"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "has no loss_fn" in error
    assert main(["probe", f"{file}:mak"]) == 2
    assert "did you mean 'make'" in capsys.readouterr().err
