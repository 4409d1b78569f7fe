"""config.build_torch: optimizer and scheduler of a config for a PyTorch model."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest

import optadvisor as oa
from optadvisor.kernels import InputError, Schedule

torch = pytest.importorskip("torch")
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

from optadvisor.frameworks.torch.hybrid import Hybrid  # noqa: E402
from optadvisor.frameworks.torch.scheduling import ScheduleLR  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    # Adagrad makes sparse tensors, and PyTorch says once that it does not check them.
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),
]
torch.set_num_threads(1)
nn = torch.nn

NO_DECAY = {"role": "no_decay", "optimizer": "adamw", "hyperparameters": {"weight_decay": 0.0}}
WARM = {"name": "warmup_cosine", "warmup_steps": 3, "floor": 0.1}


class Recommender(nn.Module):
    """A table with sparse gradients, one with dense gradients, and a tower with a norm."""

    def __init__(self, sparse: bool = True) -> None:
        super().__init__()
        self.items = nn.Embedding(30, 4, sparse=sparse)
        self.users = nn.Embedding(20, 4)
        self.tower = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 1))

    def forward(self, ids: Any) -> Any:
        return self.tower(torch.cat([self.items(ids[:, 0]), self.users(ids[:, 1])], 1)).squeeze(1)


def hybrid(embedding: str = "adagrad", dense: str = "adamw", **h: Any) -> oa.OptimizerConfig:
    return oa.OptimizerConfig(
        "hybrid",
        groups=[
            {"role": "embedding", "optimizer": embedding, "hyperparameters": {"lr": 0.05}},
            {"role": "dense", "optimizer": dense, "hyperparameters": {"lr": 0.01, "weight_decay": 0.1, **h}},
            {"role": "no_decay", "optimizer": dense, "hyperparameters": {"weight_decay": 0.0}},
        ],
        schedule=WARM,
    )


def batches(steps: int, start: int = 0) -> list[Any]:
    found = []
    for t in range(start, start + steps):
        g = torch.Generator().manual_seed(t)
        found.append((torch.randint(20, (8, 2), generator=g), torch.randn(8, generator=g)))
    return found


def train(model: Any, optimizer: Any, scheduler: Any, data: list[Any]) -> None:
    for ids, target in data:
        optimizer.zero_grad()
        (model(ids) - target).square().mean().backward()
        optimizer.step()
        scheduler.step()


def made(config: oa.OptimizerConfig, seed: int = 0, total: int = 40, **keywords: Any) -> tuple[Any, Any, Any]:
    torch.manual_seed(seed)
    model = Recommender()
    return model, *config.build_torch(model, total, **keywords)


def equal(one: Any, two: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


# A hybrid is one optimizer ------------------------------------------------------------------------------------------


def test_a_hybrid_is_one_optimizer_of_torchs_own_classes():
    model, optimizer, scheduler = made(hybrid())
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert isinstance(optimizer, Hybrid)
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
    # Sparse and dense tables are groups of their own: fused Adagrad takes no sparse gradients.
    assert [type(part).__name__ for part in optimizer.parts] == ["Adagrad", "Adagrad", "AdamW"]
    assert [(g["role"], g["rule"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups] == [
        ("embedding", "adagrad", 0.0, 1),
        ("embedding", "adagrad", 0.0, 1),
        ("dense", "adamw", 0.1, 2),
        ("no_decay", "adamw", 0.0, 4),
    ]
    oa.torch.check_groups(optimizer.param_groups, model)


def test_a_hybrid_takes_the_steps_of_its_classes():
    """Beside two optimizers of torch.optim with two schedulers: bit for bit."""
    ours, optimizer, scheduler = made(hybrid())
    torch.manual_seed(0)
    model = Recommender()
    factor = Schedule.from_dict(WARM).resolve(40).factor
    both = [
        torch.optim.Adagrad([model.items.weight], lr=0.05),
        torch.optim.Adagrad([model.users.weight], lr=0.05, fused=True),
        torch.optim.AdamW(
            [
                {"params": [p for p in model.tower.parameters() if p.ndim > 1], "weight_decay": 0.1},
                {"params": [p for p in model.tower.parameters() if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=0.01,
            fused=True,
        ),
    ]
    schedulers = [torch.optim.lr_scheduler.LambdaLR(each, factor) for each in both]
    for ids, target in batches(40):
        for each in both:
            each.zero_grad()
        (model(ids) - target).square().mean().backward()
        for each in (*both, *schedulers):
            each.step()
    train(ours, optimizer, scheduler, batches(40))
    assert equal(ours, model)


def checkpoint(*things: Any) -> Any:
    """The state_dicts through a file that holds plain data only."""
    file = io.BytesIO()
    torch.save([thing.state_dict() for thing in things], file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    "config",
    [
        hybrid(),
        hybrid(amsgrad=True),
        hybrid("sgd", "momentum"),
        hybrid("adam", "rmsprop", momentum=0.5, centered=True),
        hybrid("momentum", "nadam"),
        oa.OptimizerConfig.of("radam", {"weight_decay": 0.1}, Schedule("cosine")),
    ],
    ids=lambda c: "-".join(g["optimizer"] for g in c.groups),
)
def test_training_goes_on_bit_equal_from_a_checkpoint(config: oa.OptimizerConfig):
    torch.manual_seed(0)
    sparse = config.optimizer == "hybrid"
    one, two, three = (Recommender(sparse) for _ in range(3))
    two.load_state_dict(one.state_dict())
    whole = config.build_torch(one, 40)
    train(one, *whole, batches(40))

    half = config.build_torch(two, 40)
    train(two, *half, batches(20))
    saved = checkpoint(two, *half)
    fresh = config.build_torch(three, 40)
    for thing, state in zip((three, *fresh), saved, strict=True):
        thing.load_state_dict(state)
    train(three, *fresh, batches(20, 20))
    assert equal(one, three)
    assert fresh[1].get_last_lr() == whole[1].get_last_lr()


def test_pickle_and_deepcopy_keep_it_whole():
    model, optimizer, scheduler = made(hybrid())
    train(model, optimizer, scheduler, batches(5))
    for other_model, other in (
        copy.deepcopy((model, optimizer)),
        pickle.loads(pickle.dumps((model, optimizer))),  # noqa: S301
    ):
        assert all(part.state is other.state for part in other.parts)
        one, two = copy.deepcopy((model, optimizer)), (other_model, other)
        for m, o in (one, two):
            train(m, o, torch.optim.lr_scheduler.ConstantLR(o, 1.0), batches(5, 5))
        assert equal(one[0], two[0])
    assert equal(model, copy.deepcopy(model))


def test_torchs_own_schedulers_reach_every_part():
    model, optimizer, _ = made(hybrid())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.5, 0.5, 0.1, 0.1], 20, cycle_momentum=False)
    train(model, optimizer, scheduler, batches(3))
    rates = [group["lr"] for part in optimizer.parts for group in part.param_groups]
    assert rates == scheduler.get_last_lr()
    assert rates[0] != rates[2]


def test_closures_and_hooks_run_once_a_step():
    model, optimizer, _ = made(hybrid())
    seen: list[str] = []
    handles = [
        optimizer.register_step_pre_hook(lambda *_: seen.append("before")),
        optimizer.register_step_post_hook(lambda *_: seen.append("after")),
        register_optimizer_step_post_hook(lambda o, *_: seen.append(type(o).__name__)),
    ]
    ids, target = batches(1)[0]

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (model(ids) - target).square().mean()
        loss.backward()
        seen.append("closure")
        return loss

    loss = optimizer.step(closure)
    for handle in handles:
        handle.remove()
    assert loss.requires_grad
    assert seen == ["before", "closure", "after", "Hybrid"]


def test_state_dict_hooks_of_pytorch_work():
    _, optimizer, _ = made(hybrid())
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "extra": 1})
    seen: list[Any] = []
    optimizer.register_load_state_dict_post_hook(seen.append)
    state = optimizer.state_dict()
    assert state["extra"] == 1
    optimizer.load_state_dict(state)
    assert seen == [optimizer]


@pytest.mark.parametrize("bad", [False, True])
def test_grad_scaler_unscales_and_skips(bad: bool):
    model, optimizer, scheduler = made(hybrid())
    train(model, optimizer, scheduler, batches(4))
    twin, other = copy.deepcopy((model, optimizer))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    ids, target = batches(1, 4)[0]
    optimizer.zero_grad()
    scaler.scale((model(ids) - target).square().mean()).backward()
    if bad:
        model.tower[0].weight.grad[0, 0] = float("inf")
    before = copy.deepcopy(model)
    scaler.step(optimizer)
    scaler.update()
    if bad:
        assert equal(model, before)
        assert scaler.get_scale() == 512.0
    else:
        train(twin, other, torch.optim.lr_scheduler.ConstantLR(other, 1.0), batches(1, 4))
        assert equal(model, twin)  # powers of two change no digit
        assert not equal(model, before)


def test_clipping_and_zero_grad_see_all_parameters():
    model, optimizer, _ = made(hybrid())
    ids, target = batches(1)[0]
    (model(ids) - target).square().mean().backward()
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_group_added_later_goes_to_the_part_of_its_role():
    model, optimizer, _ = made(hybrid())
    head = nn.Linear(3, 2)
    optimizer.add_param_group({"params": head.parameters(), "role": "dense", "lr": 0.5})
    group = optimizer.parts[-1].param_groups[-1]
    assert (group["rule"], group["weight_decay"], group["lr"]) == ("adamw", 0.1, 0.5)
    assert group is optimizer.param_groups[-1]
    head.weight.grad, head.bias.grad = torch.ones(2, 3), torch.ones(2)
    before = head.weight.clone()
    optimizer.step()
    assert not torch.equal(head.weight, before)
    with pytest.raises(InputError, match="the group's role is None; it says which optimizer is meant: 'embedding'"):
        optimizer.add_param_group({"params": [torch.zeros(2, requires_grad=True)]})
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [model.items.weight], "role": "dense"})


# Our kernels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "kernels"),
    [(hybrid("ftrl"), None), (hybrid("rowwise_adagrad", "lamb"), None), (hybrid(), "optadvisor")],
    ids=["ftrl", "rowwise_adagrad", "asked for"],
)
def test_a_hybrid_on_our_kernels_goes_on_bit_equal_from_a_checkpoint(config: oa.OptimizerConfig, kernels: str | None):
    one, two, three = (made(config, kernels=kernels) for _ in range(3))
    assert type(one[1]) is oa.torch.Optimizer
    train(*one, batches(40))
    train(*two, batches(20))
    for thing, state in zip(three, checkpoint(*two), strict=True):
        thing.load_state_dict(state)
    train(*three, batches(20, 20))
    assert equal(one[0], three[0])


def test_the_kernels_refuse_what_they_cannot_before_training():
    with pytest.raises(InputError, match=r"items.weight has sparse gradients, which lion does not take"):
        oa.OptimizerConfig("lion").build_torch(Recommender())
    with pytest.raises(InputError, match="which sgd with weight_decay does not take"):
        oa.OptimizerConfig("sgd", {"weight_decay": 0.1}).build_torch(Recommender(), kernels="optadvisor")
    with pytest.raises(
        InputError, match="takes its gradient at the look-ahead point, and in PyTorch the gradient is there"
    ):
        oa.OptimizerConfig("nag", convention="paper").build_torch(Recommender(sparse=False))


# Which class ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "name", "fused"),
    [
        ("sgd", "SGD", True),
        ("momentum", "SGD", True),
        ("nag", "SGD", True),
        ("adagrad", "Adagrad", True),
        ("rmsprop", "RMSprop", None),
        ("adam", "Adam", True),
        ("adamw", "AdamW", True),
        ("nadam", "NAdam", None),
        ("radam", "RAdam", None),
    ],
)
def test_one_rule_is_torchs_own_class(rule: str, name: str, fused: bool | None):
    config = oa.OptimizerConfig.of(rule, {"weight_decay": 0.1})
    optimizer, _ = config.build_torch(Recommender(sparse=False))
    assert type(optimizer) is getattr(torch.optim, name)
    assert {group.get("fused") for group in optimizer.param_groups} == {fused}
    assert {group.get("nesterov", False) for group in optimizer.param_groups} == {rule == "nag"}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_sparse_tables_under_adam_go_to_sparse_adam():
    optimizer, _ = hybrid("adam").build_torch(Recommender(), 10)
    assert [type(part).__name__ for part in optimizer.parts] == ["Adam", "SparseAdam", "AdamW"]


@pytest.mark.parametrize("rule", ["sgd", "momentum", "nag", "adagrad"])
def test_sparse_gradients_move_a_table_as_dense_ones_do(rule: str):
    models = [Recommender(sparse) for sparse in (True, False)]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        train(model, *oa.OptimizerConfig(rule, {}, WARM).build_torch(model, 30), batches(30))
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_half_precision_is_not_fused():
    optimizer, _ = oa.OptimizerConfig("adamw").build_torch(Recommender(sparse=False).bfloat16())
    assert not optimizer.param_groups[0]["fused"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            oa.OptimizerConfig.of("adamw"),
            "items.weight has sparse gradients, which torch.optim.AdamW does not take: use a",
        ),
        (hybrid("rmsprop"), r"items.weight has sparse gradients, which torch.optim.RMSprop does not take"),
        (hybrid("nadam"), r"torch.optim.NAdam does not take"),
        (
            oa.OptimizerConfig.of("adagrad", {"weight_decay": 0.1}),
            r"torch.optim.Adagrad with weight_decay does not take",
        ),
        (oa.OptimizerConfig.of("sgd", {"weight_decay": 0.1}), r"torch.optim.SGD with weight_decay does not take"),
        (oa.OptimizerConfig.of("adam", {"amsgrad": True}), r"torch.optim.Adam does not take"),
        (oa.OptimizerConfig.of("adam", {"weight_decay": 0.1}), r"or build the embedding with sparse=False"),
    ],
    ids=str,
)
def test_sparse_gradients_are_refused_before_training(config: oa.OptimizerConfig, words: str):
    with pytest.raises(InputError, match=words):
        config.build_torch(Recommender(), 10)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (oa.OptimizerConfig("ftrl"), "torch.optim has no ftrl: leave kernels out, then it runs on ours"),
        (oa.OptimizerConfig("lion"), "torch.optim has no lion"),
        (oa.OptimizerConfig("muon"), "torch.optim.Muon iterates in bfloat16"),
        (hybrid("ftrl", "adamw"), "torch.optim has no ftrl"),
        (
            oa.OptimizerConfig("adam", convention="keras"),
            "no adam in convention 'keras', which is keras.optimizers.Adam",
        ),
        (oa.OptimizerConfig("adam", {"amsgrad": True}, convention="optax"), "no adam in convention 'optax'"),
        (oa.OptimizerConfig("nag", convention="paper"), "no nag in convention 'paper'"),
        (oa.OptimizerConfig("momentum", {}, WARM, convention="keras"), "no momentum in convention 'keras'"),
        (oa.OptimizerConfig("rmsprop", convention="optax"), "no rmsprop in convention 'optax'"),
        (oa.OptimizerConfig("adagrad", {"weight_decay": 0.1}, convention="keras"), "no adagrad in convention 'keras'"),
    ],
    ids=str,
)
def test_what_torch_has_not_is_refused_where_torch_was_asked_for(config: oa.OptimizerConfig, words: str):
    with pytest.raises(InputError, match=words):
        config.build_torch(Recommender(), 10, kernels="torch")


def test_wrong_arguments():
    config = oa.OptimizerConfig("adamw", {}, WARM)
    with pytest.raises(InputError, match="unknown kernels 'touch': did you mean 'torch'"):
        config.build_torch(Recommender(sparse=False), 10, kernels="touch")
    with pytest.raises(InputError, match="schedule warmup_cosine needs the length of the training: pass total_steps"):
        config.build_torch(Recommender(sparse=False))
    with pytest.raises(InputError, match=r"'itmes.*' matches no parameter of the model"):
        config.build_torch(Recommender(sparse=False), 10, {"itmes.*": "dense"})
    with pytest.raises(InputError, match="a hybrid of no optimizers"):
        Hybrid([])


def test_roles_that_are_declared_win():
    optimizer, _ = hybrid().build_torch(Recommender(), 10, {"users.*": "dense", "tower.3.*": "no_decay"})
    assert [(g["role"], len(g["params"])) for g in optimizer.param_groups] == [
        ("embedding", 1),
        ("dense", 2),
        ("no_decay", 5),
    ]


# The scheduler -------------------------------------------------------------------------------------------------------


def test_the_scheduler_gives_the_factors_of_the_schedule():
    for name in ("constant", "warmup", "cosine", "warmup_cosine", "step", "linear", "inverse_sqrt", "wsd"):
        warm = 5 if name in ("warmup", "warmup_cosine", "linear", "inverse_sqrt", "wsd") else 0
        schedule = Schedule(name, warm)
        config = oa.OptimizerConfig("sgd", {"lr": 0.5}, schedule.to_dict())
        optimizer, scheduler = config.build_torch(nn.Linear(2, 2), 30)
        for t in range(35):
            assert optimizer.param_groups[0]["lr"] == 0.5 * schedule.resolve(30).factor(t), (name, t)
            optimizer.step()
            scheduler.step()


def test_stepping_the_scheduler_first_warns_as_pytorchs_do():
    _, scheduler = oa.OptimizerConfig("sgd").build_torch(nn.Linear(2, 2))
    with pytest.warns(UserWarning, match=r"lr_scheduler.step\(\)` before `optimizer.step\(\)"):
        scheduler.step()


def test_a_saved_schedule_comes_back(tmp_path: Path):
    config = oa.OptimizerConfig("sgd", {"lr": 0.5}, WARM)
    optimizer, scheduler = config.build_torch(nn.Linear(2, 2), 30)
    for _ in range(7):
        optimizer.step()
        scheduler.step()
    torch.save(scheduler.state_dict(), tmp_path / "state.pt")
    _, other = config.build_torch(nn.Linear(2, 2), 99)
    with warnings.catch_warnings():
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.schedule == scheduler.schedule
    assert other.last_epoch == 7
    assert other.get_last_lr() == scheduler.get_last_lr()
    plain = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    with pytest.raises(InputError, match="the state holds no schedule"):
        other.load_state_dict(plain.state_dict())


def test_a_rule_without_schedules_keeps_its_rate_in_a_hybrid():
    group = {"params": [torch.zeros(1, requires_grad=True)], "rule": "ftrl", "role": "embedding"}
    dense = {"params": [torch.zeros(1, requires_grad=True)], "rule": "adamw", "role": "dense"}
    scheduler = ScheduleLR(torch.optim.SGD([group, dense], lr=0.1), Schedule("cosine", total_steps=10))
    for _ in range(5):
        scheduler.optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr() == [0.1, 0.05]
