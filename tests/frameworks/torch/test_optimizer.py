"""optadvisor.torch.Optimizer beyond PyTorch's own database: groups, memory, schedulers, sparse gradients, refusals."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import optadvisor as oa
from optadvisor.kernels import RULES, InputError, NonFiniteGradient, sharing
from optadvisor.kernels import Optimizer as Kernels

torch = pytest.importorskip("torch")
from optadvisor.frameworks.torch.optimizer import Optimizer  # noqa: E402
from optadvisor.frameworks.torch.twins import fixed  # noqa: E402

pytestmark = pytest.mark.parity
torch.set_num_threads(1)
nn = torch.nn


def network(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


X = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(1))
Y = torch.arange(8) % 3


def gradients(model: Any, optimizer: Any) -> Any:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(X), Y)
    loss.backward()
    return loss.detach()


def train(model: Any, optimizer: Any, steps: int, *schedulers: Any) -> None:
    for _ in range(steps):
        gradients(model, optimizer)
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def apart(a: Any, b: Any) -> float:
    return max(float((p - q).detach().abs().max()) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_takes_the_steps_of_the_kernels_on_arrays(rule: str):
    model = network()
    optimizer = Optimizer(rule, model)
    arrays = {str(i): p.detach().numpy().copy() for i, p in enumerate(model.parameters())}
    kernels = Kernels(rule, arrays)
    for _ in range(5):
        gradients(model, optimizer)
        kernels.step({str(i): p.grad.numpy() for i, p in enumerate(model.parameters())})
        optimizer.step()
    for i, p in enumerate(model.parameters()):
        np.testing.assert_array_equal(p.detach().numpy(), arrays[str(i)])
    kept = {name for group in kernels.groups for name in group.kept_names}
    found = {name for state in optimizer.state.values() for name in state} - {"step"}
    assert found == kept


def test_reached_from_the_package_and_made_of_a_model():
    model = network()
    optimizer = oa.torch.Optimizer("adamw", model, lr=0.01)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
    other = network()
    train(model, optimizer, 20)
    train(other, torch.optim.AdamW(other.parameters(), lr=0.01), 20)
    assert apart(model, other) < 1e-6


def test_the_state_is_the_memory_of_the_kernels():
    model, other = network(), network()
    optimizer, theirs = Optimizer("momentum", model, lr=0.1), torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    for each, own in ((model, optimizer), (other, theirs)):
        train(each, own, 3)
        for p in each.parameters():
            own.state[p]["momentum_buffer"].zero_()  # somebody restarts the velocity in place
        train(each, own, 3)
    assert apart(model, other) < 1e-6


def test_state_that_was_cleared_starts_anew():
    model = network()
    optimizer = Optimizer("adam", model)
    train(model, optimizer, 3)
    optimizer.state.clear()
    train(model, optimizer, 1)
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}


@pytest.mark.parametrize("change", ["data", "load_assign", "double", "vector"])
def test_parameters_that_moved_are_found(change: str):
    model, other = network(), network()
    ours, theirs = Optimizer("adamw", model, lr=0.01), torch.optim.AdamW(other.parameters(), lr=0.01)
    for each, own in ((model, ours), (other, theirs)):
        train(each, own, 3)
        own.zero_grad()
        if change == "data":
            for p in each.parameters():
                p.data = p.data.clone()
        elif change == "vector":
            nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(each.parameters()) * 0.5, each.parameters())
        elif change == "double":
            each.to(memory_format=torch.channels_last)
        else:
            each.load_state_dict({k: v * 0.5 for k, v in each.state_dict().items() if "num" not in k}, strict=False)
        train(each, own, 3)
    assert apart(model, other) < 1e-6


def test_a_model_that_became_float64_takes_its_state_along():
    model = network()
    optimizer = Optimizer("adam", model)
    train(model, optimizer, 2)
    model.double()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(X.double()), Y).backward()
    optimizer.step()
    state = optimizer.state[next(iter(model.parameters()))]
    assert (state["exp_avg"].dtype, float(state["step"])) == (torch.float64, 3.0)


def test_a_parameter_cut_to_a_part_of_its_memory():
    p = torch.ones(6, requires_grad=True)
    optimizer = Optimizer("sgd", [p], lr=1.0)
    p.grad = torch.ones(6)
    optimizer.step()
    p.grad = None
    p.data = p.data[:2]  # pruning: the same address, another size
    p.grad = torch.ones(2)
    optimizer.step()
    assert p.tolist() == [-1.0, -1.0]


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_experts_of_which_each_step_uses_some(rule: str):
    def run(make: Any) -> tuple[list[Any], Any]:
        params = [torch.ones(3, requires_grad=True) for _ in range(6)]
        optimizer = make(params)
        for step in range(10):
            optimizer.zero_grad()
            for i in ((step + 1) % 6, (step * 5) % 6):
                params[i].grad = torch.linspace(-1.0, 2.0, 3) * (i + 1)
            optimizer.step()
        return params, optimizer

    ours, optimizer = run(lambda p: Optimizer(rule, p, lr=0.1))
    theirs, _ = run(lambda p: getattr(torch.optim, {"sgd": "SGD", "adam": "Adam"}[rule])(p, lr=0.1))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    before = optimizer._placement
    optimizer.zero_grad()
    ours[2].grad = torch.ones(3)
    optimizer.step()
    assert optimizer._placement is before  # nothing is placed anew once all have been seen


def test_float32_and_float64_in_one_group():
    a = torch.ones(3, requires_grad=True)
    b = torch.ones(3, dtype=torch.float64, requires_grad=True)
    c, d = a.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()
    ours, theirs = Optimizer("adam", [a, b]), torch.optim.Adam([c, d])
    for _ in range(4):
        for p, q in ((a, c), (b, d)):
            p.grad = q.grad = torch.linspace(-1, 1, 3, dtype=p.dtype)
        ours.step()
        theirs.step()
    torch.testing.assert_close([a, b], [c, d], rtol=1e-6, atol=1e-6)


def test_channels_last_and_expanded_gradients():
    def made() -> list[Any]:
        torch.manual_seed(0)
        return [
            torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last).requires_grad_(),
            torch.ones(4, 3).requires_grad_(),
        ]

    a, b = made(), made()
    ours, theirs = Optimizer("adam", a, lr=0.1), torch.optim.Adam(b, lr=0.1)
    for _ in range(3):
        for params in (a, b):
            params[0].grad = torch.linspace(-1, 1, 48).reshape(4, 3, 2, 2)  # another order in memory than the parameter
            params[1].grad = torch.tensor([1.0, 2.0, 3.0]).expand(4, 3)
        ours.step()
        theirs.step()
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert a[0].is_contiguous(memory_format=torch.channels_last)
    assert ours.state[a[0]]["exp_avg"].stride() == a[0].stride()
    torch.testing.assert_close(ours.state[a[0]]["exp_avg"], theirs.state[b[0]]["exp_avg"], rtol=1e-6, atol=1e-6)


def test_autograd_notices_that_a_step_changed_the_parameters():
    p = torch.ones(2, requires_grad=True)
    optimizer = Optimizer("sgd", [p])
    loss = (p * p).sum()
    p.grad = torch.ones(2)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_groups_of_several_rules_in_one_state_dict():
    def groups(model: Any) -> list[dict[str, Any]]:
        first, *rest = model.parameters()
        return [
            {"params": rest, "rule": "adamw", "lr": 1e-2, "weight_decay": 0.1},
            {"params": [first], "rule": "adagrad", "lr": 0.1},
        ]

    model, other = network(), network()
    optimizer = Optimizer("hybrid", groups(model))
    made = groups(other)
    for group in made:
        del group["rule"]
    both = torch.optim.AdamW([made[0]]), torch.optim.Adagrad([made[1]])
    train(model, optimizer, 5)
    for _ in range(5):
        gradients(other, both[0])
        for one in both:
            one.step()
            one.zero_grad()
    assert apart(model, other) < 1e-6
    saved = copy.deepcopy(optimizer.state_dict())
    assert [group["rule"] for group in saved["param_groups"]] == ["adamw", "adagrad"]
    assert set(saved["state"][4]) == {"step", "sum"}
    again = copy.deepcopy(model)
    restored = Optimizer("hybrid", groups(again))
    restored.load_state_dict(saved)
    train(model, optimizer, 3)
    train(again, restored, 3)
    assert apart(model, again) == 0.0


def test_a_group_of_another_rule_has_its_own_keys_and_defaults():
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = Optimizer("adamw", [{"params": [a]}, {"params": [b], "rule": "momentum"}], lr=0.5, betas=(0.8, 0.9))
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    second = {
        key: value for key, value in optimizer.param_groups[1].items() if key not in ("params", "rule", "maximize")
    }
    assert second == {**RULES["momentum"].defaults, **fixed(RULES["momentum"])}


def test_groups_of_a_config():
    model, other = network(), network()
    config = oa.OptimizerConfig("adamw", groups=[{"role": "no_decay", "hyperparameters": {"weight_decay": 0.0}}])
    optimizer = Optimizer("adamw", config.param_groups(model))
    theirs = torch.optim.AdamW(config.param_groups(other))
    assert [group["role"] for group in optimizer.param_groups] == ["dense", "no_decay"]
    train(model, optimizer, 5)
    train(other, theirs, 5)
    assert apart(model, other) < 1e-6


def test_parameters_added_during_the_training():
    def run(make: Any) -> Any:
        model = network()
        *first, weight, bias = model.parameters()
        optimizer = make(first)
        train(model, optimizer, 3)
        optimizer.add_param_group({"params": [weight], "lr": 0.02})
        train(model, optimizer, 3)
        optimizer.add_param_group({"params": bias})
        train(model, optimizer, 3)
        return model

    assert apart(run(lambda p: Optimizer("adamw", p)), run(torch.optim.AdamW)) < 1e-6


def test_frozen_parameters_get_no_state_until_they_learn():
    model, other = network(), network()
    ours, theirs = Optimizer("adamw", model), torch.optim.AdamW(other.parameters())
    for each, own in ((model, ours), (other, theirs)):
        each[0].requires_grad_(False)
        train(each, own, 3)
        assert len(own.state) == 4
        each[0].requires_grad_(True)
        train(each, own, 3)
        assert len(own.state) == 5
    assert apart(model, other) < 1e-6


@pytest.mark.parametrize("rule", ["adamw", "momentum", "rmsprop"])
def test_a_cycle_of_lr_and_momentum(rule: str):
    name, keywords = {
        "adamw": ("AdamW", {}),
        "momentum": ("SGD", {"momentum": 0.9, "lr": 0.1}),
        "rmsprop": ("RMSprop", {"momentum": 0.9}),
    }[rule]
    model, other = network(), network()
    ours = Optimizer(rule, model, **keywords)
    theirs = getattr(torch.optim, name)(other.parameters(), **keywords)
    cycles = [torch.optim.lr_scheduler.OneCycleLR(own, max_lr=0.005, total_steps=20) for own in (ours, theirs)]
    train(model, ours, 15, cycles[0])
    train(other, theirs, 15, cycles[1])
    assert apart(model, other) < 2e-6
    key = "betas" if rule == "adamw" else "momentum"
    assert ours.param_groups[0][key] == theirs.param_groups[0][key] != ours.defaults[key]


def test_a_switch_that_changes_the_states_keeps_those_there_are():
    model, other = network(), network()
    ours, theirs = Optimizer("rmsprop", model), torch.optim.RMSprop(other.parameters())
    for each, own in ((model, ours), (other, theirs)):
        train(each, own, 3)
        before = own.state[next(iter(each.parameters()))]["square_avg"].clone()
        if own is ours:
            own.param_groups[0]["momentum"] = 0.5
        else:  # torch would fail on the missing buffer: make it
            for p in each.parameters():
                own.state[p]["momentum_buffer"] = torch.zeros_like(p)
            own.param_groups[0]["momentum"] = 0.5
        assert float(before.abs().max()) > 0
        train(each, own, 3)
    assert apart(model, other) < 1e-6


def test_the_paper_s_adamw_knows_the_peak_from_a_scheduler():
    model = network()
    optimizer = Optimizer("adamw", model, convention="paper", lr=0.01, weight_decay=0.001)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=4)
    arrays = {str(i): p.detach().numpy().copy() for i, p in enumerate(model.parameters())}
    kernels = Kernels("adamw", arrays, convention="paper", lr=0.01, weight_decay=0.001)
    for _ in range(6):
        gradients(model, optimizer)
        kernels.step({str(i): p.grad.numpy() for i, p in enumerate(model.parameters())}, lr=scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    for i, p in enumerate(model.parameters()):
        np.testing.assert_allclose(p.detach().numpy(), arrays[str(i)], rtol=1e-6, atol=1e-7)


def test_grad_scaler():
    model, other = network(), network()
    ours, theirs = Optimizer("adamw", model), torch.optim.AdamW(other.parameters())
    scalers = [torch.amp.GradScaler("cpu", init_scale=256.0) for _ in range(2)]
    for step in range(5):
        for each, own, scaler in ((model, ours, scalers[0]), (other, theirs, scalers[1])):
            own.zero_grad()
            scaler.scale(nn.functional.cross_entropy(each(X), Y)).backward()
            if step == 2:
                next(iter(each.parameters())).grad[0] = float("inf")
            scaler.step(own)
            scaler.update()
    assert apart(model, other) < 1e-6
    assert float(next(iter(ours.state.values()))["step"]) == 4.0
    assert scalers[0].get_scale() == 128.0


@pytest.mark.parametrize("how", ["raise", "skip", "ignore"])
def test_gradients_that_are_not_finite(how: str):
    model = network()
    optimizer = Optimizer("adam", model, on_nonfinite=how)
    train(model, optimizer, 2)
    gradients(model, optimizer)
    model[4].weight.grad[1, 2] = float("nan")
    before = copy.deepcopy(model)
    if how == "raise":
        with pytest.raises(
            NonFiniteGradient, match=r"gradient of params\[0\]\['4.weight'\] is nan at flat index 66 \(step 3\)"
        ):
            optimizer.step()
    else:
        optimizer.step()
    assert bool(torch.isnan(model[4].weight).any()) == (how == "ignore")
    assert (apart(model, before) == 0.0) == (how != "ignore")
    assert float(optimizer.state[model[4].weight]["step"]) == (3.0 if how == "ignore" else 2.0)
    if how != "ignore":
        train(model, optimizer, 1)
        assert float(optimizer.state[model[4].weight]["step"]) == 3.0


def test_after_an_error_the_next_step_works():
    model = network()
    optimizer = Optimizer("adam", model)
    train(model, optimizer, 2)
    optimizer.param_groups[0]["lr"] = -1.0
    gradients(model, optimizer)
    for _ in range(2):  # not only once
        with pytest.raises(InputError, match=r"lr is -1\.0; it must be at least 0"):
            optimizer.step()
    optimizer.param_groups[0]["lr"] = 1e-3
    train(model, optimizer, 1)
    assert float(optimizer.state[model[4].weight]["step"]) == 3.0


def test_weights_to_evaluate():
    model = network()
    optimizer = Optimizer("schedule_free_adamw", model, lr=0.01)
    arrays = [p.detach().numpy().copy() for p in model.parameters()]
    kernels = Kernels("schedule_free_adamw", arrays, lr=0.01)
    for _ in range(5):
        gradients(model, optimizer)
        kernels.step([p.grad.numpy() for p in model.parameters()])
        optimizer.step()
    for found, expected, p in zip(optimizer.evaluation(), kernels.evaluation(), model.parameters(), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)
        assert not torch.equal(found, p)


def test_a_large_group_steps_on_several_threads_to_the_same_bits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharing, "LEAST", 4096)
    made: list[bool] = []

    def run(threads: int) -> Any:
        torch.set_num_threads(threads)
        try:
            torch.manual_seed(0)
            params = [torch.randn(n, requires_grad=True) for n in (30_000, 5, 0, 40_001)]
            optimizer = Optimizer("adamw", params)
            for p in params:
                p.grad = torch.randn_like(p)
            for _ in range(3):
                optimizer.step()
            made.append(isinstance(optimizer._placement.engine.groups[0].kernel, sharing.Shared))
            return params
        finally:
            torch.set_num_threads(1)

    for one, two in zip(run(1), run(2), strict=True):
        assert torch.equal(one, two)
    assert made == [False, True]


def test_profilers_see_the_step():
    model = network()
    optimizer = Optimizer("adamw", model)
    train(model, optimizer, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        train(model, optimizer, 1)
    names = {event.name for event in profile.events()}
    assert {"Optimizer.step#Optimizer.step", "Optimizer.zero_grad#Optimizer.zero_grad"} <= names


def test_zero_grad_to_zeros():
    model = network()
    optimizer = Optimizer("sgd", model)
    train(model, optimizer, 1)
    optimizer.zero_grad(set_to_none=False)
    assert all(float(p.grad.abs().sum()) == 0.0 for p in model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def one(dtype: Any = torch.float32, shape: tuple[int, ...] = (3, 2)) -> Any:
    return torch.zeros(shape, dtype=dtype, requires_grad=dtype.is_floating_point or dtype.is_complex)


REFUSALS = {
    "rule": (lambda: Optimizer("adanw", [one()]), "unknown optimizer 'adanw': did you mean"),
    "keyword": (lambda: Optimizer("adamw", [one()], beta=1), "adamw has no 'beta': did you mean 'betas'"),
    "of another rule": (lambda: Optimizer("adam", [one()], momentum=0.9), "adam has no 'momentum'"),
    "slip in a group": (
        lambda: Optimizer("adamw", [{"params": [one()], "weigth_decay": 0.1}]),
        "group 0: adamw has no 'weigth_decay': did you mean 'weight_decay'",
    ),
    "sgd with momentum": (lambda: Optimizer("sgd", [one()], momentum=0.9), "that is rule 'momentum'"),
    "momentum with nesterov": (lambda: Optimizer("momentum", [one()], nesterov=True), "that is rule 'nag'"),
    "on_nonfinite": (lambda: Optimizer("sgd", [one()], on_nonfinite="rise"), "did you mean 'raise'"),
    "convention": (lambda: Optimizer("adam", [one()], convention="torch"), "unknown convention of adam 'torch'"),
    "look-ahead": (lambda: Optimizer("nag", [one()], convention="paper"), "wants its gradient at another point"),
    "maximize": (lambda: Optimizer("adam", [one()], maximize=1), "maximize is 1; it takes True or False"),
    "half": (
        lambda: Optimizer("adam", [one(torch.bfloat16)]),
        "params[0][0] is bfloat16, which the kernels have only on a GPU",
    ),
    "integers": (
        lambda: Optimizer("adam", [one(torch.int64)]),
        "params[0][0] is int64; parameters are float32 or float64",
    ),
    "named": (lambda: Optimizer("adam", [("w", one(torch.float16))]), "params[0]['w'] is float16"),
    "sparse parameter": (
        lambda: Optimizer("adam", [one().detach().to_sparse()]),
        "params[0][0] is torch.sparse_coo: parameters are dense",
    ),
    "hybrid's own": (
        lambda: Optimizer("hybrid", [one()], lr=0.1),
        "hybrid has no hyperparameters of its own, found ['lr']",
    ),
    "hybrid without rules": (lambda: Optimizer("hybrid", [one()]), "group 0 of a hybrid names no rule"),
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str):
    make, message = REFUSALS[name]
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_of_the_person_s_own_stay_in_the_groups():
    optimizer = Optimizer("adamw", [{"params": [one()], "lr_scale": 0.5, "name": "head"}])
    assert (optimizer.param_groups[0]["lr_scale"], optimizer.param_groups[0]["name"]) == (0.5, "head")


def test_a_refused_group_is_not_added():
    optimizer = Optimizer("adamw", [one()])
    with pytest.raises(InputError, match=r"params\[1\]\[0\] is bfloat16"):
        optimizer.add_param_group({"params": [one(torch.bfloat16)]})
    assert len(optimizer.param_groups) == 1


def test_shared_memory_is_refused():
    whole = torch.zeros(6)
    a, b = whole[:4].requires_grad_(), whole[2:].requires_grad_()
    optimizer = Optimizer("sgd", [a, b])
    a.grad, b.grad = torch.ones(4), torch.ones(4)
    with pytest.raises(InputError, match="share memory"):
        optimizer.step()


def test_a_rule_in_units_of_its_lr_refuses_a_scheduler():
    model = network()
    optimizer = Optimizer("ftrl", model, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    train(model, optimizer, 1, scheduler)
    gradients(model, optimizer)
    with pytest.raises(InputError, match="ftrl keeps its state in units of 1/lr: its schedule is constant"):
        optimizer.step()


def test_state_dicts_of_others_are_refused_and_change_nothing():
    model, other = network(), network()
    optimizer = Optimizer("adam", model)
    train(model, optimizer, 2)
    before = copy.deepcopy(optimizer.state_dict())

    def refused(made: Any, message: str) -> None:
        with pytest.raises(InputError) as error:
            optimizer.load_state_dict(made)
        assert message in str(error.value)
        after = optimizer.state_dict()
        assert after["param_groups"] == before["param_groups"]
        torch.testing.assert_close(after["state"], before["state"], rtol=0, atol=0)

    for make, message in (
        (lambda p: torch.optim.AdamW(p), "decoupled_weight_decay is True, and adam has False: that is rule 'adamw'"),
        (lambda p: torch.optim.RMSprop(p), "has no state 'exp_avg'"),
        (lambda p: Optimizer("nag", p), "rule is 'nag', this optimizer has 'adam': build it with rule='nag'"),
    ):
        theirs = make(list(other.parameters()))
        train(other, theirs, 1)
        refused(theirs.state_dict(), message)
    wrong = copy.deepcopy(before)
    wrong["state"][0]["exp_avg"] = torch.zeros(1, 1, 1, 1)
    refused(wrong, "parameter 0: state 'exp_avg' is [1, 1, 1, 1], the parameter is [4, 1, 3, 3]")
