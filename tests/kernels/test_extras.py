"""What a step does besides the rule: clipping, averages of the weights, scaled gradients, going up instead of down."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from optadvisor import OptimizerConfig
from optadvisor.kernels import InputError, NonFiniteGradient, Optimizer, Schedule

from .cases import CASES, DEFAULTS, Case, distance, noise, start
from .torch_twin import TWINS, twin

SHAPES = [(), (0,), (17,), (8, 5)]
DTYPES = (np.float32, np.float64)
ROUNDING = {np.float32: 2e-6, np.float64: 1e-13}
# Averages and steps of a whole path, in the dtype of the parameters.
BOUND = {np.float32: 1e-6, np.float64: 1e-12}


def arrays(dtype: Any) -> list[np.ndarray]:
    return [start(shape, dtype, seed) for seed, shape in enumerate(SHAPES)]


def path(steps: int, dtype: Any) -> list[list[np.ndarray]]:
    """Gradients of all SHAPES, by step."""
    tensors = [noise(shape, steps, dtype, seed) for seed, shape in enumerate(SHAPES)]
    return [[tensor[t] for tensor in tensors] for t in range(steps)]


def norm(gradients: list[np.ndarray]) -> float:
    return float(np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients)))


# Clipping


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e9])
def test_clipping_by_the_global_norm(max_norm: float, dtype: type):
    p, expected = arrays(dtype), arrays(np.float64)
    optimizer = Optimizer("sgd", p, lr=0.1, max_norm=max_norm)
    for gradients in path(20, dtype):
        optimizer.step(gradients)
        factor = min(1.0, max_norm / (norm(gradients) + 1e-6))
        assert optimizer.grad_norm == pytest.approx(norm(gradients), rel=1e-12)
        for array, gradient in zip(expected, gradients, strict=True):
            array -= 0.1 * factor * gradient
    for array, reference in zip(p, expected, strict=True):
        assert array.dtype == dtype
        assert distance(array, reference) < ROUNDING[dtype]


def test_a_norm_below_the_limit_changes_nothing():
    one, two = arrays(np.float32), arrays(np.float32)
    clipped, plain = Optimizer("adamw", one, max_norm=1e6), Optimizer("adamw", two)
    for gradients in path(5, np.float32):
        clipped.step(gradients)
        plain.step(gradients)
    for array, other in zip(one, two, strict=True):
        np.testing.assert_array_equal(array, other)
    assert plain.grad_norm is None


def test_squares_of_float32_gradients_do_not_overflow():
    p = np.zeros(4, np.float32)
    optimizer = Optimizer("sgd", [p], lr=1.0, max_norm=1.0)
    optimizer.step([np.full(4, 1e30, np.float32)])
    assert optimizer.grad_norm == pytest.approx(2e30)
    np.testing.assert_allclose(p, -0.5, rtol=1e-6)


def test_the_norm_is_that_of_all_groups_and_dtypes():
    one, two, three = start((5,), np.float32), start((3, 2)), start((4,), np.float32)
    groups = [{"params": [one, two]}, {"params": [three], "rule": "momentum", "lr": 0.5}]
    gradients = [np.ones(5, np.float32), np.full((3, 2), 2.0), np.full(4, 3.0, np.float32)]
    optimizer = Optimizer("sgd", groups, lr=1.0, max_norm=1.0)
    before = [array.copy() for array in (one, two, three)]
    optimizer.step([{"params": gradients[:2]}, {"params": gradients[2:]}])
    total = np.sqrt(5 + 24 + 36)
    assert optimizer.grad_norm == pytest.approx(total)
    for array, old, gradient, lr in zip((one, two, three), before, gradients, (1.0, 1.0, 0.5), strict=True):
        np.testing.assert_allclose(array, old - lr * gradient / total, rtol=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_clipping_never_hides_a_bad_gradient(several: bool):
    p = [start((3,)), start((4,))]
    groups: Any = [{"params": [array]} for array in p] if several else p
    bad: Any = [np.ones(3), np.array([1.0, np.inf, 1.0, 1.0])]
    if several:
        bad = [{"params": [gradient]} for gradient in bad]
    before = [array.copy() for array in p]
    optimizer = Optimizer("sgd", groups, max_norm=1.0)
    with pytest.raises(NonFiniteGradient):
        optimizer.step(bad)
    optimizer.on_nonfinite = "skip"
    assert optimizer.step(bad) is False
    for array, old in zip(p, before, strict=True):
        np.testing.assert_array_equal(array, old)


# Averages


def test_averages_by_their_definition():
    p, decay = start((4, 3)), 0.9
    optimizer = Optimizer("sgd", {"w": p}, lr=0.1, ema_decay=decay)
    np.testing.assert_array_equal(optimizer.averages()["w"], p)
    average = None
    for gradient in noise((4, 3), 30):
        optimizer.step({"w": gradient})
        average = p.copy() if average is None else decay * average + (1 - decay) * p
        np.testing.assert_allclose(optimizer.averages()["w"], average, rtol=1e-13)
    assert not np.shares_memory(optimizer.averages()["w"], p)


def test_averages_have_the_structure_of_params():
    one, two = start((3,), np.float32), start((2, 2))
    for tree in ([one, two], {"a": one, "b": two}, [{"params": [one]}, {"params": {"b": two}, "rule": "adamw"}]):
        found = Optimizer("adam", tree, ema_decay=0.5).averages()
        if isinstance(tree, dict):
            pair = [found["a"], found["b"]]
        else:
            pair = found if tree[0] is one else [found[0]["params"][0], found[1]["params"]["b"]]
        assert [(array.shape, array.dtype) for array in pair] == [((3,), np.float32), ((2, 2), np.float64)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_averages_do_not_disturb_the_rule(case: Case, dtype: type):
    """Tensors of more than a block, so that the step goes through them in pieces."""
    shape = (30, 150)
    one, two = start(shape, dtype), start(shape, dtype)
    keywords: dict[str, Any] = {"convention": case.convention, **case.hyperparameters}
    averaged, plain = Optimizer(case.rule, [one], ema_decay=0.99, **keywords), Optimizer(case.rule, [two], **keywords)
    for gradient in noise(shape, 4, dtype):
        averaged.step([gradient])
        plain.step([gradient])
    np.testing.assert_array_equal(one, two)


def test_a_skipped_step_leaves_the_average():
    p = start((3,))
    optimizer = Optimizer("sgd", [p], ema_decay=0.5, on_nonfinite="skip")
    optimizer.step([np.ones(3)])
    before = optimizer.averages()[0].copy()
    assert optimizer.step([np.full(3, np.nan)]) is False
    np.testing.assert_array_equal(optimizer.averages()[0], before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_averages_are_saved_and_loaded(dtype: type):
    whole, first, gradients = arrays(dtype), arrays(dtype), path(10, dtype)
    through, stopped = (Optimizer("adamw", p, ema_decay=0.9, max_norm=2.0) for p in (whole, first))
    for now in gradients:
        through.step(now)
    for now in gradients[:4]:
        stopped.step(now)
    state = stopped.state_dict()
    saved = copy.deepcopy(state)
    assert [array.shape for array in state["groups"][0]["state"]["average"]] == SHAPES
    resumed = Optimizer("adamw", first, ema_decay=0.9, max_norm=2.0)
    resumed.load_state_dict(state)
    for now in gradients[4:]:
        resumed.step(now)
    for array, other in zip(first, whole, strict=True):
        np.testing.assert_array_equal(array, other)
    for array, other in zip(resumed.averages(), through.averages(), strict=True):
        np.testing.assert_array_equal(array, other)
    for array, old in zip(state["groups"][0]["state"]["average"], saved["groups"][0]["state"]["average"], strict=True):
        np.testing.assert_array_equal(array, old)


def test_a_state_with_averages_fits_only_an_optimizer_that_keeps_them():
    with_averages, without = Optimizer("sgd", [start((2,))], ema_decay=0.5), Optimizer("sgd", [start((2,))])
    with pytest.raises(InputError, match="state 'average' is missing"):
        with_averages.load_state_dict(without.state_dict())
    with pytest.raises(InputError, match="state 'average' is not one of sgd's"):
        without.load_state_dict(with_averages.state_dict())


# Scale


@pytest.mark.parametrize("scale", [1.0, 4.0, 1024.0])
@pytest.mark.parametrize("case", DEFAULTS, ids=str)
def test_gradients_are_divided_by_the_scale(case: Case, scale: float):
    """Powers of 2, so that both ways round alike."""
    one, two = start((6, 3), np.float32), start((6, 3), np.float32)
    scaled, plain = (Optimizer(case.rule, [p], convention=case.convention) for p in (one, two))
    for gradient in noise((6, 3), 5, np.float32):
        scaled.step([gradient * np.float32(scale)], grad_scale=scale)
        plain.step([gradient])
    np.testing.assert_array_equal(one, two)


def test_the_scale_holds_for_one_step_and_comes_before_clipping():
    p = np.zeros(4)
    optimizer = Optimizer("sgd", [p], lr=1.0, max_norm=1.0)
    optimizer.step([np.full(4, 8.0)], grad_scale=16.0)  # of norm 1 once divided
    assert optimizer.grad_norm == pytest.approx(1.0)
    np.testing.assert_allclose(p, -0.5, rtol=2e-6)
    plain = Optimizer("sgd", [p], lr=1.0)
    p[...] = 0.0
    plain.step([np.ones(4)], grad_scale=4.0)
    plain.step([np.ones(4)])
    np.testing.assert_array_equal(p, -1.25)


# Maximize


@pytest.mark.parametrize("case", CASES, ids=str)
def test_maximize_is_the_step_of_the_negated_gradient(case: Case):
    one, two = start((6, 3)), start((6, 3))
    keywords: dict[str, Any] = {"convention": case.convention, **case.hyperparameters}
    up, down = Optimizer(case.rule, [one], maximize=True, **keywords), Optimizer(case.rule, [two], **keywords)
    for gradient in noise((6, 3), 5):
        up.step([gradient])
        down.step([-gradient])
    np.testing.assert_array_equal(one, two)


def test_a_group_may_go_the_other_way():
    one, two = np.zeros(2), np.zeros(2)
    optimizer = Optimizer("sgd", [{"params": [one], "maximize": True}, {"params": [two]}], lr=1.0)
    for grad_scale in (1.0, 1.0, 2.0):
        optimizer.step([{"params": [np.ones(2)]}, {"params": [np.ones(2)]}], grad_scale=grad_scale)
    assert (one[0], two[0]) == (2.5, -2.5)


# All at once


def test_everything_at_once_over_groups_and_dtypes():
    """Clipping, averages, scale, maximize, schedule: against a loop that takes one after the other."""
    shapes, dtypes = [(3, 2), (4,), (5,)], [np.float32, np.float64, np.float32]
    p = [start(shape, dtype, seed) for seed, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))]
    q = [array.copy() for array in p]
    gradients = [noise(s, 12, d, i) for i, (s, d) in enumerate(zip(shapes, dtypes, strict=True))]
    ours = Optimizer(
        "adamw",
        [
            {"params": p[:2], "weight_decay": 0.1},
            {"params": p[2:], "rule": "momentum", "lr": 0.02, "maximize": True},
        ],
        max_norm=0.7,
        ema_decay=0.8,
    )
    alone = [
        Optimizer("adamw", [q[0]], weight_decay=0.1),
        Optimizer("adamw", [q[1]], weight_decay=0.1),
        Optimizer("momentum", [q[2]], lr=0.02, maximize=True),
    ]
    averages = [array.copy() for array in q]
    for t in range(12):
        now, lr = [path[t] for path in gradients], None if t % 3 else 0.005
        ours.step([{"params": now[:2]}, {"params": now[2:]}], lr, grad_scale=2.0)
        halved = [gradient / 2 for gradient in now]
        factor = min(1.0, 0.7 / (norm(halved) + 1e-6))
        assert ours.grad_norm == pytest.approx(norm(halved), rel=1e-12)
        for i, single in enumerate(alone):
            single.step([(halved[i] * factor).astype(dtypes[i])], lr)
            averages[i] = q[i].copy() if t == 0 else 0.8 * averages[i] + 0.2 * q[i]
    found = ours.averages()
    for array, other, average, own in zip(p, q, averages, [*found[0]["params"], *found[1]["params"]], strict=True):
        assert distance(array, other) < 5e-6
        assert distance(own, average) < 5e-6
        assert own.dtype == array.dtype
    assert distance(p[1], q[1]) < 1e-12


def test_from_config_takes_them_too():
    config = OptimizerConfig.of("adamw", {"lr": 0.1}, Schedule("warmup", 4))
    p, q = {"w": start((3, 2)), "b": start((3,))}, {"w": start((3, 2)), "b": start((3,))}
    configured = Optimizer.from_config(config, p, max_norm=0.5, ema_decay=0.5, maximize=True)
    direct = [
        Optimizer("adamw", [q["b"]], weight_decay=0.0, maximize=True),
        Optimizer("adamw", [q["w"]], maximize=True),
    ]
    for t in range(8):
        grads = {"w": noise((3, 2), 8)[t], "b": noise((3,), 8)[t]}
        configured.step(grads)
        factor = min(1.0, 0.5 / (norm(list(grads.values())) + 1e-6))
        for single, name in zip(direct, ("b", "w"), strict=True):
            single.step([grads[name] * factor], lr=0.1 * min(1.0, t / 4))
    for name in p:
        np.testing.assert_allclose(p[name], q[name], rtol=1e-12)
    assert set(configured.averages()) == {"w", "b"}


# Errors

WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "max_norm of 0": ({"max_norm": 0.0}, ["max_norm is 0.0", "above 0"]),
    "negative max_norm": ({"max_norm": -1}, ["max_norm is -1", "above 0"]),
    "endless max_norm": ({"max_norm": np.inf}, ["max_norm is inf", "takes a number"]),
    "max_norm as text": ({"max_norm": "1"}, ["max_norm is '1'", "takes a number"]),
    "max_norm as bool": ({"max_norm": True}, ["max_norm is True"]),
    "ema_decay of 1": ({"ema_decay": 1.0}, ["ema_decay is 1.0", "1 excluded"]),
    "negative ema_decay": ({"ema_decay": -0.1}, ["ema_decay is -0.1", "from 0 to 1"]),
    "ema_decay nan": ({"ema_decay": np.nan}, ["ema_decay is nan"]),
    "maximize of 1": ({"maximize": 1}, ["maximize is 1", "True or False"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_refused_at_once(name: str):
    keywords, expected = WRONG[name]
    for make in (
        lambda: Optimizer("sgd", [start((2,))], **keywords),
        lambda: Optimizer.from_config(OptimizerConfig("sgd"), [start((2,))], **keywords),
    ):
        with pytest.raises(InputError) as caught:
            make()
        for part in expected:
            assert part in str(caught.value)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, "2", True])
def test_a_wrong_scale_changes_nothing(scale: Any):
    p = start((2,))
    before = p.copy()
    optimizer = Optimizer("sgd", [p])
    with pytest.raises(InputError, match="grad_scale is "):
        optimizer.step([np.ones(2)], grad_scale=scale)
    np.testing.assert_array_equal(p, before)
    assert optimizer.steps_done == 0


def test_averages_that_nobody_asked_for():
    with pytest.raises(InputError, match="keeps no averages: pass ema_decay"):
        Optimizer("sgd", [start((2,))]).averages()


# Parity

TORCH_RULES = [Case(rule) for rule, convention in TWINS if convention == "pytorch"]


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", TORCH_RULES, ids=str)
def test_clipped_path_equals_torch(case: Case, dtype: type):
    torch = pytest.importorskip("torch")
    p = [start(shape, dtype, seed) for seed, shape in enumerate([(17,), (8, 5)])]
    tensors = [torch.tensor(array, requires_grad=True) for array in p]
    ours, theirs = Optimizer(case.rule, p, max_norm=3.0), twin(case, tensors)
    clipped = 0
    for t in range(100):
        gradients = [noise(array.shape, 100, dtype, seed)[t] for seed, array in enumerate(p)]
        ours.step(gradients)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = torch.tensor(gradient)
        total = float(torch.nn.utils.clip_grad_norm_(tensors, 3.0))
        theirs.step()
        clipped += total > 3.0
        assert ours.grad_norm == pytest.approx(total, rel=1e-5 if dtype == np.float32 else 1e-12)
        for array, tensor in zip(p, tensors, strict=True):
            # The norm is summed in float64 here, in float32 there: the factors differ in their last digit.
            assert distance(array, tensor.detach().numpy()) < 3 * BOUND[dtype], f"step {t + 1}"
    assert clipped > 20


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
def test_averages_equal_torch(dtype: type):
    torch = pytest.importorskip("torch")
    swa = torch.optim.swa_utils
    model = torch.nn.Linear(5, 3).to(torch.tensor(np.zeros(1, dtype)).dtype)
    averaged = swa.AveragedModel(model, multi_avg_fn=swa.get_ema_multi_avg_fn(0.9))
    theirs = torch.optim.AdamW(model.parameters(), lr=0.05)
    p = {name: tensor.detach().numpy().copy() for name, tensor in model.named_parameters()}
    ours = Optimizer("adamw", p, lr=0.05, ema_decay=0.9)
    for t in range(60):
        gradients = {name: noise(array.shape, 60, dtype)[t] for name, array in p.items()}
        for name, tensor in model.named_parameters():
            tensor.grad = torch.tensor(gradients[name])
        theirs.step()
        averaged.update_parameters(model)
        ours.step(gradients)
        for name, tensor in averaged.module.named_parameters():
            assert distance(ours.averages()[name], tensor.detach().numpy()) < BOUND[dtype], f"{name}, step {t + 1}"


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", TORCH_RULES, ids=str)
def test_maximize_equals_torch(case: Case, dtype: type):
    torch = pytest.importorskip("torch")
    p = start((8, 5), dtype)
    tensor = torch.tensor(p, requires_grad=True)
    ours, theirs = Optimizer(case.rule, [p], maximize=True), twin(case, [{"params": [tensor], "maximize": True}])
    for t, gradient in enumerate(noise((8, 5), 100, dtype)):
        tensor.grad = torch.tensor(gradient)
        theirs.step()
        ours.step([gradient])
        assert distance(p, tensor.detach().numpy()) < BOUND[dtype], f"step {t + 1}"
