"""PyTorch's own behaviour of an optimizer, on the inputs of its database, `torch.testing._internal.common_optimizers`.

The database is packaged, the tests that read it (test/test_optim.py of the repository) are not: these are theirs in
substance. Every input for the CPU is run; those that we refuse or take on purpose are listed below with the reason.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # PyTorch's test utilities need it
# Importing the database sets flags of the whole process; nothing here relies on them.
from torch.optim.lr_scheduler import ReduceLROnPlateau  # noqa: E402
from torch.optim.optimizer import (  # noqa: E402
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db  # noqa: E402

from optadvisor.frameworks.torch.optimizer import Optimizer  # noqa: E402
from optadvisor.kernels import InputError  # noqa: E402

pytestmark = pytest.mark.parity
torch.set_num_threads(1)

RULES = {
    "SGD": "sgd",
    "Adagrad": "adagrad",
    "RMSprop": "rmsprop",
    "Adam": "adam",
    "AdamW": "adamw",
    "NAdam": "nadam",
    "RAdam": "radam",
}
# Classes that are no rule of ours, or another one: their inputs are not run.
WITHOUT_RULE = {
    "Adadelta": "no rule here",
    "Adafactor": "no rule here",
    "Adamax": "no rule here",
    "ASGD": "no rule here",
    "LBFGS": "no rule here, and it needs a closure",
    "Rprop": "no rule here",
    "Muon": "iterates in bfloat16 and takes matrices alone: another rule than ours",
    "SparseAdam": "takes only sparse gradients: test_sparse.py compares adam with it",
}
# Inputs refused in one line: (class, keyword that is refused).
REFUSED = {
    ("NAdam", "decoupled_weight_decay"): "the rule has only L2",
    ("RAdam", "decoupled_weight_decay"): "the rule has only L2",
}
# Error inputs that torch refuses and we take, with the reason.
TAKEN = {
    "lr as Tensor doesn't work with foreach & not capturable": "foreach does nothing here, and lr is read as a number",
    "betas must be either both floats or both Tensors": "each is read as a number",
    r"betas\[0\] as a Tensor is not supported for capturable=False and foreach=True": "foreach does nothing here",
}


@dataclass(frozen=True)
class Config:
    """An input of the database and the rule that it is here."""

    info: Any
    rule: str
    kwargs: dict[str, Any]
    description: str

    def __str__(self) -> str:
        return f"{self.info.name}-{self.description.replace(' ', '_')}"

    def ours(self, params: Any, **more: Any) -> Optimizer:
        kwargs = {k: v for k, v in self.kwargs.items() if k != "nesterov"}
        return Optimizer(self.rule, params, **{**copy.deepcopy(kwargs), **more})

    def theirs(self, params: Any, **more: Any) -> Any:
        return self.info.optim_cls(params, **{**copy.deepcopy(self.kwargs), **more})

    @property
    def up(self) -> bool:
        return bool(self.kwargs.get("maximize"))


def configs() -> tuple[list[Config], list[Config]]:
    taken, refused = [], []
    for info in optim_db:
        if info.name not in RULES:
            continue
        for given in info.optim_inputs_func(device="cpu"):
            kwargs = dict(given.kwargs)
            rule = RULES[info.name]
            if info.name == "SGD" and kwargs.get("momentum"):
                rule = "nag" if kwargs.get("nesterov") else "momentum"
                kwargs.setdefault("lr", 1e-3)  # the rules' own default is 1e-2
            (refused if any((info.name, key) in REFUSED for key in kwargs) else taken).append(
                Config(info, rule, kwargs, given.desc)
            )
    return taken, refused


CONFIGS, REFUSALS = configs()
every = pytest.mark.parametrize("config", CONFIGS, ids=str)
one_a_class = pytest.mark.parametrize("config", [c for c in CONFIGS if c.description == "default"], ids=str)
STATES = [c for c in CONFIGS if c.rule != "sgd"]


class Problem:
    """A loss over tensors of several shapes, one of them with another order in memory, one empty, one of shape ()."""

    def __init__(self, dtype: Any = torch.float32, *, gaps: bool = False) -> None:
        make = torch.Generator().manual_seed(0)

        def values(*shape: int) -> Any:
            return torch.randn(shape, generator=make, dtype=torch.float64).to(dtype)

        weight, bias = (values(10, 5, 2)[..., 0], values(10, 2)[..., 0]) if gaps else (values(10, 5), values(10))
        filters = values(4, 3, 2, 2).to(memory_format=torch.channels_last)
        self.params = [p.requires_grad_() for p in (weight, bias, values(), values(0, 3), filters)]
        self.x = values(5)

    def loss(self) -> Any:
        weight, bias, scale, empty, filters = self.params
        return (weight.mv(self.x) + bias).pow(2).sum() + (scale - 1) ** 2 + empty.sum() + (filters**2).mean()

    def closure(self, optimizer: Any) -> Callable[[], Any]:
        def evaluate() -> Any:
            optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            return loss

        return evaluate

    def train(self, optimizer: Any, steps: int, schedulers: tuple[Any, ...] = ()) -> None:
        for _ in range(steps):
            loss = optimizer.step(self.closure(optimizer))
            for scheduler in schedulers:
                scheduler.step(*((loss.detach(),) if isinstance(scheduler, ReduceLROnPlateau) else ()))


def pair(config: Config, dtype: Any = torch.float32, **kwargs: Any) -> tuple[Problem, Any, Problem, Any]:
    a, b = Problem(dtype, **kwargs), Problem(dtype, **kwargs)
    return a, config.ours(a.params), b, config.theirs(b.params)


def assert_close(a: Problem, b: Problem, room: float = 1e-5) -> None:
    for p, q in zip(a.params, b.params, strict=True):
        torch.testing.assert_close(p, q, rtol=room, atol=room)


def test_every_class_is_accounted_for():
    assert {info.name for info in optim_db} == RULES.keys() | WITHOUT_RULE.keys()
    assert {(c.info.name, key) for c in REFUSALS for key in c.kwargs if (c.info.name, key) in REFUSED} == REFUSED.keys()


@pytest.mark.parametrize("config", REFUSALS, ids=str)
def test_what_a_rule_has_not_is_refused_in_one_line(config: Config):
    with pytest.raises(
        InputError, match=f"{config.rule}: decoupled_weight_decay is True.*use torch.optim.{config.info.name}"
    ):
        config.ours(Problem().params)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_same_path_as_torch(config: Config, dtype: Any):
    a, ours, b, theirs = pair(config, dtype)
    a.train(ours, 60)
    b.train(theirs, 60)
    # torch's NAdam keeps its product of momenta in float32 whatever the parameters are.
    assert_close(a, b, 1e-5 if dtype == torch.float32 or config.rule == "nadam" else 1e-11)


@every
def test_parameters_with_gaps_in_memory(config: Config):
    a, ours, b, theirs = pair(config, gaps=True)
    before = [p.stride() for p in a.params]
    a.train(ours, 20)
    b.train(theirs, 20)
    assert_close(a, b)
    assert [p.stride() for p in a.params] == before


@one_a_class
@pytest.mark.parametrize("up", [False, True])
def test_every_scheduler_of_the_database(config: Config, up: bool):
    for number, makers in enumerate(config.info.scheduler_inputs):
        a, b = Problem(), Problem()
        ours, theirs = config.ours(a.params, maximize=up), config.theirs(b.params, maximize=up)
        before = a.loss().item()
        a.train(ours, 40, tuple(make(ours) for make in makers))
        b.train(theirs, 40, tuple(make(theirs) for make in makers))
        assert (a.loss().item() > before) == up, number
        assert [g["lr"] for g in ours.param_groups] == [g["lr"] for g in theirs.param_groups], number
        assert_close(a, b)


@every
@pytest.mark.parametrize("key", ["lr", "weight_decay"])
def test_groups_of_their_own_lr_and_weight_decay(config: Config, key: str):
    a, b = Problem(), Problem()
    made = []
    for problem, make in ((a, config.ours), (b, config.theirs)):
        groups = [{"params": problem.params[:1]}, {"params": problem.params[1:], key: 0.02}]
        made.append(make(groups))
        problem.train(made[-1], 30)
    assert_close(a, b)
    assert [g[key] for g in made[0].param_groups] == [g[key] for g in made[1].param_groups]


@every
def test_state_dict_goes_both_ways(config: Config):
    a, ours, b, theirs = pair(config)
    a.train(ours, 15)
    b.train(theirs, 15)
    of_ours, of_theirs = copy.deepcopy(ours.state_dict()), copy.deepcopy(theirs.state_dict())
    keys = [{name for name in state if state[name] is not None} for state in of_theirs["state"].values()]
    assert [set(state) for state in of_ours["state"].values()] == keys
    for name in of_theirs["param_groups"][0].keys() - {"foreach", "fused", "capturable", "differentiable", "params"}:
        mine, other = of_ours["param_groups"][0][name], of_theirs["param_groups"][0][name]
        assert (tuple(mine) if isinstance(mine, tuple) else mine) == other, name
    c, d = copy.deepcopy(a), copy.deepcopy(b)
    fresh, other = config.ours(c.params), config.theirs(d.params)
    fresh.load_state_dict(of_theirs)
    other.load_state_dict(of_ours)
    b.train(theirs, 15)
    c.train(fresh, 15)
    d.train(other, 15)
    assert_close(c, b)
    assert_close(d, b)


@every
def test_state_dict_round_trip_is_exact_and_deterministic(config: Config):
    a = Problem()
    ours = config.ours(a.params)
    a.train(ours, 10)
    saved = copy.deepcopy(ours.state_dict())
    b = copy.deepcopy(a)
    again = config.ours(b.params)
    given = copy.deepcopy(saved)
    again.load_state_dict(given)
    torch.testing.assert_close(given["state"], saved["state"], rtol=0, atol=0)
    a.train(ours, 10)
    b.train(again, 10)
    assert_close(a, b, 0.0)
    torch.testing.assert_close(ours.state_dict()["state"], again.state_dict()["state"], rtol=0, atol=0)
    assert ours.state_dict()["param_groups"] == again.state_dict()["param_groups"]


@one_a_class
def test_saved_to_a_file_and_read_with_weights_only(config: Config):
    a = Problem()
    ours = config.ours(a.params)
    a.train(ours, 5)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    b = copy.deepcopy(a)
    again = config.ours(b.params)
    again.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    a.train(ours, 5)
    b.train(again, 5)
    assert_close(a, b, 0.0)


@pytest.mark.parametrize("config", [c for c in STATES if c.description == "default"], ids=str)
def test_older_state_dicts(config: Config):
    a = Problem()
    ours = config.ours(a.params)
    a.train(ours, 5)
    state = copy.deepcopy(ours.state_dict())
    for group in state["param_groups"]:
        for name in ("maximize", "rule", "weight_decay"):
            del group[name]
    for of in state["state"].values():
        of["step"] = of["step"].item()
    b = copy.deepcopy(a)
    again = config.ours(b.params)
    again.load_state_dict(state)
    a.train(ours, 5)
    b.train(again, 5)
    assert_close(a, b, 0.0)


@every
@pytest.mark.parametrize("how", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["deepcopy", "pickle"])  # noqa: S301
@pytest.mark.parametrize("steps", [0, 7])
def test_copies_go_on_alike(config: Config, how: Any, steps: int):
    a = Problem()
    ours = config.ours(a.params)
    a.train(ours, steps)
    b, again = how((a, ours))
    assert {k for k in vars(again) if k[0] != "_"} == {k for k in vars(ours) if k[0] != "_"}
    a.train(ours, 7)
    untouched = copy.deepcopy([p.detach() for p in a.params])
    b.train(again, 7)
    assert_close(a, b, 0.0)
    torch.testing.assert_close([p.detach() for p in a.params], untouched, rtol=0, atol=0)
    again.add_param_group({"params": [torch.ones(2, requires_grad=True)]})


@every
def test_nothing_happens_without_gradients(config: Config):
    a = Problem()
    ours = config.ours(a.params)
    before = copy.deepcopy([p.detach() for p in a.params])
    ours.zero_grad()
    ours.step()
    torch.testing.assert_close([p.detach() for p in a.params], before, rtol=0, atol=0)
    assert not ours.state_dict()["state"]


@every
def test_zero_gradients_move_only_by_decay(config: Config):
    a, ours, b, theirs = pair(config)
    for problem, optimizer in ((a, ours), (b, theirs)):
        for p in problem.params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert_close(a, b)
    decays = config.kwargs.get("weight_decay", 0.01 if config.rule == "adamw" else 0.0)
    if not decays:
        assert_close(a, Problem(), 0.0)


@one_a_class
def test_a_parameter_may_miss_steps(config: Config):
    a, ours, b, theirs = pair(config)
    for step in range(12):
        for problem, optimizer in ((a, ours), (b, theirs)):
            optimizer.zero_grad()
            problem.loss().backward()
            for number, p in enumerate(problem.params):
                if (step + number) % 3 == 0 or (number == 4 and step < 6):
                    p.grad = None
            optimizer.step()
    assert_close(a, b)
    steps = {k: float(s["step"]) for k, s in theirs.state_dict()["state"].items() if "step" in s}
    assert {k: float(s["step"]) for k, s in ours.state_dict()["state"].items() if "step" in s} == steps
    assert len(set(steps.values())) > 1 or config.rule == "sgd"


@one_a_class
def test_hooks(config: Config):
    a = Problem()
    ours = config.ours(a.params)
    seen: list[Any] = []
    handles = [
        ours.register_step_pre_hook(lambda optimizer, args, kwargs: seen.append(("before", optimizer is ours))),
        ours.register_step_post_hook(lambda optimizer, args, kwargs: seen.append(("after", optimizer is ours))),
        register_optimizer_step_pre_hook(lambda optimizer, *_: seen.append("every before")),
        register_optimizer_step_post_hook(lambda optimizer, *_: seen.append("every after")),
    ]
    try:
        a.train(ours, 1)
    finally:
        for handle in handles:
            handle.remove()
    assert seen == ["every before", ("before", True), ("after", True), "every after"]
    a.train(ours, 1)
    assert len(seen) == 4
    ours.register_state_dict_pre_hook(lambda optimizer: seen.append("saving"))
    ours.register_state_dict_post_hook(lambda optimizer, state: {**state, "more": 1})
    state = ours.state_dict()
    assert (seen[-1], state["more"]) == ("saving", 1)
    ours.register_load_state_dict_pre_hook(lambda optimizer, state: {k: v for k, v in state.items() if k != "more"})
    ours.register_load_state_dict_post_hook(lambda optimizer: seen.append("loaded"))
    ours.load_state_dict(state)
    assert seen[-1] == "loaded"


@one_a_class
def test_a_pre_hook_may_change_the_arguments(config: Config):
    a = Problem()
    ours = config.ours(a.params)
    ours.register_step_pre_hook(lambda optimizer, args, kwargs: ((optimizer, a.closure(optimizer)), kwargs))
    assert ours.step().item() == pytest.approx(Problem().loss().item())


def error_inputs() -> list[Any]:
    found = []
    for info in optim_db:
        if info.name in RULES:
            for given in info.optim_error_inputs_func("cpu", torch.float32):
                found.append(pytest.param(info, given, id=f"{info.name}-{given.optimizer_error_input.desc}"))
    return found


@pytest.mark.parametrize(("info", "given"), error_inputs())
def test_error_inputs(info: Any, given: Any):
    assert given.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR
    inputs = given.optimizer_error_input
    rule = "momentum" if "momentum" in inputs.kwargs else RULES[info.name]
    params = inputs.params if inputs.params is not None else Problem().params
    if inputs.desc in TAKEN:
        Optimizer(rule, params, **inputs.kwargs)
    elif given.error_type is UserWarning:
        with pytest.warns(UserWarning, match=given.error_regex):
            Optimizer(rule, params, **inputs.kwargs)
    else:
        with pytest.raises(given.error_type) as error:
            Optimizer(rule, params, **inputs.kwargs)
        assert "\n" not in str(error.value)
        if inputs.params is not None or "Tensor lr" in inputs.desc:  # PyTorch's own words; values have ours
            assert error.match(given.error_regex)


@one_a_class
@pytest.mark.parametrize("flag", ["foreach", "fused"])
def test_the_choice_of_an_implementation_is_taken_and_does_nothing(config: Config, flag: str):
    a, b = Problem(), Problem()
    a.train(config.ours(a.params, **{flag: True}), 5)
    b.train(config.ours(b.params, **{flag: False}), 5)
    assert_close(a, b, 0.0)


@one_a_class
@pytest.mark.parametrize("flag", ["capturable", "differentiable"])
def test_what_the_kernels_cannot_is_refused(config: Config, flag: str):
    config.ours(Problem().params, **{flag: False})
    with pytest.raises(InputError, match=f"{config.rule}: {flag} is True.*leave it out"):
        config.ours(Problem().params, **{flag: True})


@one_a_class
def test_complex_parameters_are_refused(config: Config):
    with pytest.raises(InputError, match=r"params\[0\]\[0\] is complex64.*view_as_real"):
        config.ours([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])


@one_a_class
def test_a_tensor_lr_is_read_in_every_step(config: Config):
    a, b = Problem(), Problem()
    rate = torch.tensor(0.01)
    ours, other = config.ours(a.params, lr=rate), config.ours(b.params, lr=0.01)
    for step in range(6):
        rate.fill_(0.01 / (step + 1))
        other.param_groups[0]["lr"] = rate.item()
        a.train(ours, 1)
        b.train(other, 1)
    assert_close(a, b, 0.0)
    assert ours.param_groups[0]["lr"] is rate
