"""optadvisor.torch.Optimizer with torch.sparse_coo gradients, as nn.Embedding(sparse=True) makes them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from optadvisor.kernels import RULES, InputError

torch = pytest.importorskip("torch")
from optadvisor.frameworks.torch.optimizer import Optimizer  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:Sparse invariant checks")]
torch.set_num_threads(1)
nn = torch.nn


def embedding(sparse: bool = True) -> Any:
    torch.manual_seed(0)
    return nn.Embedding(20, 6, sparse=sparse)


def ids(step: int) -> Any:
    return torch.tensor([[step % 20, 3, 3], [(7 * step) % 20, 3, 19]])  # 3 repeats: PyTorch leaves it uncoalesced


def train(table: Any, optimizer: Any, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        optimizer.zero_grad()
        (table(ids(step)) - 0.5).pow(2).sum().backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("rule", "name", "keywords"),
    [
        ("sgd", "SGD", {"lr": 0.05}),
        ("adagrad", "Adagrad", {"lr": 0.1}),
        ("adagrad", "Adagrad", {"lr": 0.1, "lr_decay": 0.05, "initial_accumulator_value": 0.1}),
        ("adam", "SparseAdam", {"lr": 0.02, "betas": (0.8, 0.95)}),
    ],
)
@pytest.mark.parametrize("maximize", [False, True])
def test_same_path_as_torch(rule: str, name: str, keywords: dict[str, Any], maximize: bool):
    a, b = embedding(), embedding()
    lr = keywords["lr"] * (0.1 if maximize else 1.0)
    ours = Optimizer(rule, a, **{**keywords, "lr": lr}, maximize=maximize)
    theirs = getattr(torch.optim, name)(list(b.parameters()), **{**keywords, "lr": lr}, maximize=maximize)
    train(a, ours, 30)
    train(b, theirs, 30)
    torch.testing.assert_close(a.weight, b.weight, rtol=1e-5, atol=1e-5)
    if rule == "sgd":
        return
    mine, other = ours.state_dict()["state"][0], theirs.state_dict()["state"][0]
    assert float(mine["step"]) == float(other["step"])
    # SparseAdam's names are Adam's, so its state goes on here.
    c = copy.deepcopy(a)
    again = Optimizer(rule, c, **{**keywords, "lr": lr}, maximize=maximize)
    state = again.state_dict()
    again.load_state_dict({"state": copy.deepcopy(theirs.state_dict()["state"]), "param_groups": state["param_groups"]})
    train(b, theirs, 10, 30)
    train(c, again, 10, 30)
    torch.testing.assert_close(c.weight, b.weight, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", [rule.id for rule in RULES.values() if rule.sparse])
def test_untouched_rows_and_their_state_stay(rule: str):
    table = embedding()
    optimizer = Optimizer(rule, table, lr=0.05)
    before = table.weight.detach().clone()
    (table(torch.tensor([2, 5])) ** 2).sum().backward()
    optimizer.step()
    moved = (table.weight != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [2, 5]
    for name, state in optimizer.state[table.weight].items():
        if name not in ("step", "z"):
            rows = state if state.dim() == 1 else state.abs().sum(dim=1)
            assert rows.nonzero().flatten().tolist() == [2, 5], name


@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_dense_and_sparse_gradients_in_one_group_and_in_turns(rule: str):
    def run(make: Any) -> Any:
        table, head = embedding(), nn.Linear(6, 1)
        with torch.no_grad():
            head.weight.fill_(0.3)
            head.bias.zero_()
        params = [table.weight, *head.parameters()]
        optimizer = make(params)
        for step in range(12):
            optimizer.zero_grad()
            table.sparse = step % 3 != 1
            head(table(ids(step))).pow(2).sum().backward()
            if step % 4 == 3:
                table.weight.grad = None
            optimizer.step()
        return params

    ours = run(lambda p: Optimizer(rule, p, lr=0.02))
    name = {"sgd": "SGD", "adagrad": "Adagrad"}[rule]
    theirs = run(lambda p: getattr(torch.optim, name)(p, lr=0.02))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)])
def test_rows_of_other_shapes(shape: tuple[int, ...]):
    made = [torch.ones(shape, requires_grad=True) for _ in range(2)]
    values = torch.arange(3.0 * made[0][0].numel()).reshape(3, *shape[1:])
    for p in made:
        p.grad = torch.sparse_coo_tensor(torch.tensor([[4, 0, 4]]), values, shape, check_invariants=True)
    Optimizer("adagrad", [made[0]]).step()
    torch.optim.Adagrad([made[1]]).step()
    torch.testing.assert_close(made[0], made[1])


def test_clear_errors_for_what_has_no_sparse_form():
    table = embedding()
    table(ids(0)).sum().backward()
    with pytest.raises(
        InputError,
        match=r"adamw has no form for \(ids, rows\), the gradient of params\[0\]\['weight'\]; rules that have one: sgd",
    ):
        Optimizer("adamw", table).step()
    with pytest.raises(InputError, match=r"adagrad with weight_decay 0\.1 got .*set weight_decay=0"):
        Optimizer("adagrad", table, weight_decay=0.1).step()
    p = torch.ones(3, 2, requires_grad=True)
    p.grad = torch.ones(3, 2).to_sparse()
    with pytest.raises(InputError, match=r"2 sparse axes: the kernels take whole rows"):
        Optimizer("sgd", [p]).step()


def test_rows_outside_of_the_table_are_refused_before_anything_is_written():
    p = torch.ones(3, 2, requires_grad=True)
    grad = torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1, 2), (3, 2), check_invariants=True)
    grad._indices()[0, 0] = 7  # as a faulty extension would
    p.grad = grad
    with pytest.raises(InputError, match=r"hold 7; .* has rows 0 to 2"):
        Optimizer("sgd", [p]).step()
    assert torch.equal(p, torch.ones(3, 2))
