"""Language models and the vision transformer against PyTorch: gradients from the same weights, and 50 steps' losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from optadvisor.config import OptimizerConfig
from optadvisor.studies import training
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.language import ngram, recurrent, transformer
from optadvisor.studies.tasks.layers.transformer import matrices, vectors
from optadvisor.studies.tasks.registry import get
from optadvisor.studies.tasks.vision import vit
from tests.studies.tasks.checks import Point, compiled

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional
pytestmark = pytest.mark.parity

# Which tensor of the model is which part of theta; the bool says that PyTorch has it transposed.
Pairs = list[tuple[Any, np.ndarray, bool]]


def linear(layer: Any, weight: np.ndarray, bias: np.ndarray) -> Pairs:
    return [(layer.weight, weight, True), (layer.bias, bias, False)]


def norm(layer: Any, gain: np.ndarray, bias: np.ndarray) -> Pairs:
    return [(layer.weight, gain, False), (layer.bias, bias, False)]


class Twin(nn.Module):
    """A task's model in PyTorch. parts(theta): its tensors beside the views of a parameter vector, in double."""

    def __init__(self, task: BuiltinTask) -> None:
        super().__init__()
        self.dims = [int(value) for value in task.problem.dims]
        self.tokens = torch.from_numpy(task.problem.integers)

    def parts(self, theta: np.ndarray) -> Pairs:
        raise NotImplementedError

    def loss(self, rows: np.ndarray) -> Any:
        raise NotImplementedError

    def load(self, theta: np.ndarray) -> None:
        with torch.no_grad():
            for tensor, part, turned in self.parts(theta):
                tensor.copy_(torch.from_numpy(np.array(part.T if turned else part)))


class NGram(Twin):
    def __init__(self, task: BuiltinTask) -> None:
        super().__init__(task)
        vocabulary, context, size, hidden = self.dims[:4]
        self.table = nn.Embedding(vocabulary, size)
        self.first, self.second = nn.Linear(context * size, hidden), nn.Linear(hidden, vocabulary)

    def parts(self, theta: np.ndarray) -> Pairs:
        table, w1, w2, b1, b2 = ngram._weights(theta, *self.dims[:4])
        return [(self.table.weight, table, False), *linear(self.first, w1, b1), *linear(self.second, w2, b2)]

    def loss(self, rows: np.ndarray) -> Any:
        context = self.dims[1]
        places = torch.from_numpy(rows)
        x = self.table(self.tokens[places[:, None] + torch.arange(context)]).flatten(1)
        return functional.cross_entropy(self.second(torch.tanh(self.first(x))), self.tokens[places + context])


class Windows(Twin):
    """A model of every next token of its windows: logits(tokens), (batch, length) to (batch, length, vocabulary)."""

    stride, length = 0, 0

    def loss(self, rows: np.ndarray) -> Any:
        places = torch.from_numpy(rows)[:, None] * self.stride + torch.arange(self.length)
        logits = self(self.tokens[places])
        return functional.cross_entropy(logits.flatten(0, 1), self.tokens[places + 1].flatten())


class Recurrent(Windows):
    def __init__(self, task: BuiltinTask) -> None:
        super().__init__(task)
        hidden, self.length = self.dims[:2]
        self.stride = recurrent.STRIDE
        self.count = recurrent.GATED if task.family.name == "text-gru" else recurrent.TANH
        kind = nn.GRU if self.count == recurrent.GATED else nn.RNN
        self.table = nn.Embedding(recurrent.VOCABULARY, recurrent.SIZE)
        self.cell = kind(recurrent.SIZE, hidden, batch_first=True)
        self.out = nn.Linear(hidden, recurrent.VOCABULARY)
        nn.init.zeros_(self.cell.bias_hh_l0)  # PyTorch has two biases where one does; only the GRU's b_n is needed

    def parts(self, theta: np.ndarray) -> Pairs:
        table, w, u, w_out, b, b_out, b_n = recurrent._weights(theta, self.dims[0], self.count)
        cell = self.cell
        found = [(self.table.weight, table, False), (cell.weight_ih_l0, w, True), (cell.weight_hh_l0, u, True)]
        return [*found, (cell.bias_ih_l0, b, False), *linear(self.out, w_out, b_out), *self._new(b_n)]

    def _new(self, b_n: np.ndarray) -> Pairs:
        return [(self.cell.bias_hh_l0.data[-b_n.size :], b_n, False)] if b_n.size else []

    def forward(self, tokens: Any) -> Any:
        return self.out(self.cell(self.table(tokens))[0])


class Block(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.back = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def parts(self, weights: np.ndarray, others: np.ndarray, width: int) -> Pairs:
        qkv, out, wide, back = matrices(weights, width)
        gain1, bias1, b_qkv, b_out, gain2, bias2, b_wide, b_back = vectors(others, width)
        attended = [*norm(self.norm1, gain1, bias1), *linear(self.qkv, qkv, b_qkv), *linear(self.out, out, b_out)]
        return [
            *attended,
            *norm(self.norm2, gain2, bias2),
            *linear(self.wide, wide, b_wide),
            *linear(self.back, back, b_back),
        ]

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).split(width, 2)
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.back(functional.gelu(self.wide(self.norm2(x)), approximate="tanh"))


class Transformer(Windows):
    def __init__(self, task: BuiltinTask) -> None:
        super().__init__(task)
        vocabulary, self.length, width, depth, heads = self.dims[:5]
        self.stride = transformer.STRIDE
        self.table = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(self.length, width))
        self.blocks = nn.ModuleList(Block(width, heads, causal=True) for _ in range(depth))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def parts(self, theta: np.ndarray) -> Pairs:
        table, positions, inner, out, others, gain, bias, b_out = transformer._weights(theta, *self.dims[:4])
        found = [(self.table.weight, table, False), (self.positions, positions, False)]
        for block, weights, rest in zip(self.blocks, inner, others, strict=True):
            found += block.parts(weights, rest, self.dims[2])
        return [*found, *norm(self.norm, gain, bias), *linear(self.out, out, b_out)]

    def forward(self, tokens: Any) -> Any:
        x = self.table(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))


class Vision(Twin):
    def __init__(self, task: BuiltinTask) -> None:
        super().__init__(task)
        side, width, depth, heads = self.dims[:4]
        self.images = torch.from_numpy(task.problem.reals).reshape(-1, 1, 8, 8)
        self.first = nn.Conv2d(1, width, side, stride=side)
        self.positions = nn.Parameter(torch.empty((8 // side) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads, causal=False) for _ in range(depth))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 10)

    def parts(self, theta: np.ndarray) -> Pairs:
        side, width, depth = self.dims[:3]
        w_in, positions, inner, out, b_in, others, gain, bias, b_out = vit._weights(theta, side, width, depth)
        kernel = self.first.weight.data.view(width, side * side)
        if self.first.weight.grad is not None:
            kernel.grad = self.first.weight.grad.view(width, side * side)
        found = [(kernel, w_in, True), (self.first.bias, b_in, False), (self.positions, positions, False)]
        for block, weights, rest in zip(self.blocks, inner, others, strict=True):
            found += block.parts(weights, rest, width)
        return [*found, *norm(self.norm, gain, bias), *linear(self.out, out, b_out)]

    def loss(self, rows: np.ndarray) -> Any:
        places = torch.from_numpy(rows)
        x = self.first(self.images[places].to(self.first.weight.dtype)).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return functional.cross_entropy(self.out(self.norm(x).mean(1)), self.tokens[places])


TWINS: dict[str, Callable[[BuiltinTask], Twin]] = {
    "text-ngram": NGram,
    "words-ngram": NGram,
    "text-rnn": Recurrent,
    "text-gru": Recurrent,
    "text-transformer": Transformer,
    "text-transformer:depth=2,heads=4,width=24": Transformer,
    "words-transformer": Transformer,
    "digits-vit": Vision,
    "digits-vit:depth=2,heads=4,patch=4": Vision,
}


def gradients(model: Twin, theta: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """PyTorch's gradients beside the views of a gradient vector."""
    for tensor, part, turned in model.parts(theta):
        grad = tensor.grad
        if grad is None:  # a part of a tensor: the GRU's b_n
            grad = model.cell.bias_hh_l0.grad[-part.size :]
        yield grad.numpy(), (part.T if turned else part)


@pytest.mark.parametrize("name", TWINS)
def test_the_whole_gradient_is_autograd_s(name: str):
    task = get(name)
    point, model = Point(task), TWINS[name](task).double()
    model.load(point.theta)
    loss, grad = point.loss_and_gradient()
    expected = model.loss(point.rows)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-10)
    seen = 0
    for wanted, found in gradients(model, grad):
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-10)
        seen += found.size
    assert seen == grad.size, "every parameter was compared"


@pytest.mark.parametrize("name", TWINS)
def test_the_same_losses_over_fifty_steps_of_adamw(name: str):
    """Losses, not weights: the true gradient of a key's bias is 0, and AdamW blows the rounding of it up."""
    steps, lr, decay = 50, 3e-3, 0.1
    task = get(name)
    problem, layout = task.problem, task.problem.layout
    start = task.start(1)
    model = TWINS[name](task)
    model.load(start)
    # PyTorch's decay by role: every bias, gain and shift without.
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    twin = torch.optim.AdamW(groups, lr=lr, fused=True)
    if isinstance(model, Recurrent):
        hidden = model.dims[0]
        free = 2 * hidden if model.count == recurrent.GATED else hidden
        model.cell.bias_hh_l0.register_hook(lambda g: torch.cat([torch.zeros(free), g[free:]]))
    config = OptimizerConfig.of("adamw", {"lr": lr, "weight_decay": decay})
    run = training.Run(task.family, problem, config, 1, steps, start)
    gradient, _ = compiled(task.family.program)
    grad, work = np.empty(layout.total, np.float32), np.zeros(problem.work, np.float32)
    data = (problem.reals, problem.integers, problem.dims)
    for step, rows in enumerate(training.batches(problem, 1, steps)):
        run.train_to(step)
        found = gradient(run.theta, *data, rows, step, 0, grad, work)
        twin.zero_grad()
        expected = model.loss(rows)
        expected.backward()
        twin.step()
        assert found == pytest.approx(expected.item(), abs=1e-4), step
