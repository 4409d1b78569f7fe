"""Rules outside the guide: what is special about each, and parity with optax, PyTorch and reference implementations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from optadvisor import OptimizerConfig
from optadvisor.kernels import RULES, InputError, NonFiniteGradient, Optimizer, Schedule
from optadvisor.kernels.rules.nadam import momentum_at, momentum_product

from .cases import SETTINGS, Case, distance, noise, start
from .reference import ORACLES, run

DTYPES = (np.float32, np.float64)
BOUND = {np.float32: 1e-6, np.float64: 1e-12}
STAGED = [name for name, rule in RULES.items() if not rule.elementwise]
SHAPES = [(17,), (8, 5), (5, 8), (2, 3, 4), ()]


def test_the_rules_with_a_tensor_stage():
    assert STAGED == ["rowwise_adagrad", "lamb", "muon"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (0,), (0, 4), (1, 9), (9, 1), (40, 3), (3, 40), (2, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("rule", STAGED)
def test_every_shape_reaches_the_stage_as_it_is(rule: str, shape: tuple[int, ...], dtype: type):
    """Norms, rows and matrices are those of the parameter, not of the flat memory."""
    for settings in SETTINGS[rule]:
        case = Case(rule, settings)
        p, gradients = start(shape, dtype), noise(shape, 10, dtype)
        optimizer = Optimizer(rule, [p], **settings)
        for gradient in gradients:
            optimizer.step([gradient])
        if p.size:
            expected, _ = run(ORACLES[rule, "pytorch"], start(shape, dtype), gradients, case.complete)
            assert distance(p, expected) < (1e-5 if dtype == np.float32 else 1e-12)
        assert p.dtype == dtype


# Row-wise Adagrad


def test_rowwise_adagrad_keeps_one_number_a_row():
    params = {"table": start((50, 8), np.float32), "bias": start((3,), np.float32)}
    optimizer = Optimizer("rowwise_adagrad", params)
    optimizer.step({"table": noise((50, 8), 1, np.float32)[0], "bias": np.ones(3, np.float32)})
    (state,) = [group["state"] for group in optimizer.state_dict()["groups"]]
    assert [array.shape for array in state["sum"]] == [(3,), (50,)]
    assert optimizer.groups[0].states.size == 0
    assert RULES["rowwise_adagrad"].states() == 0


def test_rowwise_adagrad_of_single_columns_is_adagrad():
    one, two = start((20, 1)), start((20, 1))
    rowwise, plain = Optimizer("rowwise_adagrad", [one], eps=1e-8), Optimizer("adagrad", [two], eps=1e-8)
    for gradient in noise((20, 1), 20):
        rowwise.step([gradient])
        plain.step([gradient])
    assert distance(one, two) < 1e-14


def test_a_state_of_rows_of_another_height_is_refused():
    optimizer = Optimizer("rowwise_adagrad", [start((6, 2))])
    state = optimizer.state_dict()
    state["groups"][0]["state"]["sum"] = [np.zeros(5)]
    with pytest.raises(
        InputError, match=r"state 'sum' of params\[0\] is float64\[5\], this optimizer's is float64\[6\]"
    ):
        optimizer.load_state_dict(state)


# NAdam


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("momentum_decay", [0.0, 1e-9, 4e-3, 1.0, 100.0])
def test_product_of_momenta_in_closed_form(beta1: float, momentum_decay: float):
    product = 1.0
    for t in range(1, 400):
        product *= momentum_at(t, beta1, momentum_decay)
        if t % 7 == 1:
            assert momentum_product(t, beta1, momentum_decay) == pytest.approx(product, rel=1e-12, abs=1e-300)


# RAdam


def test_radam_starts_as_plain_momentum():
    """With beta2 = 0.999 the variance is unknown for five steps, and the step is in units of the gradient."""
    p = np.zeros(2)
    optimizer = Optimizer("radam", [p], lr=0.1)
    steps = []
    for _ in range(8):
        before = p.copy()
        optimizer.step([np.array([1.0, 100.0])])
        steps.append(before - p)
    for step in steps[:5]:
        np.testing.assert_allclose(step, [0.1, 10.0])
    for step in steps[5:]:
        assert 0 < step[0] < 0.01
        np.testing.assert_allclose(step[1], step[0], rtol=1e-6)


# LAMB


def test_lambs_step_is_as_long_as_the_tensor_times_lr():
    params = [start((8, 5)), 1000.0 * start((7,)), np.zeros(3)]
    before = [array.copy() for array in params]
    optimizer = Optimizer("lamb", params, lr=0.01)
    optimizer.step([noise(array.shape, 1)[0] for array in params])
    for array, old in zip(params[:2], before, strict=False):
        assert np.linalg.norm(array - old) == pytest.approx(0.01 * np.linalg.norm(old), rel=1e-12)
    assert (params[2] != 0).any()  # weights of 0 still get going


# Lion


def test_lion_moves_by_lr_whatever_the_gradient():
    p = np.zeros(5)
    Optimizer("lion", [p], lr=0.1, weight_decay=0.0).step([np.array([1e-30, -1e-30, 1e30, -1e30, 0.0])])
    np.testing.assert_array_equal(p, [-0.1, 0.1, -0.1, 0.1, 0.0])


# Muon


@pytest.mark.parametrize("shape", [(6, 12), (40, 7), (7, 40)])
def test_muon_moves_every_singular_direction_alike(shape: tuple[int, int]):
    p = start(shape)
    before = p.copy()
    Optimizer("muon", [p], lr=1.0).step(noise(shape, 1))
    values = np.linalg.svd(before - p, compute_uv=False) / math.sqrt(max(1, shape[0] / shape[1]))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_muon_gives_what_is_no_matrix_to_adamw():
    params = {"w": start((4, 3)), "b": start((4,)), "k": start((2, 3, 4)), "s": start(())}
    expected = {name: array.copy() for name, array in params.items()}
    keywords: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.05, "betas": (0.8, 0.99)}
    optimizer = Optimizer("muon", params, adam_lr_factor=0.2, **keywords)
    names = [name for name in params if name != "w"]
    adamw = Optimizer(
        "adamw",
        {name: expected[name] for name in names},
        **{**keywords, "lr": 0.1 * 0.2},
        eps=RULES["muon"].defaults["eps"],
    )
    alone = Optimizer("muon", [expected["w"]], adam_lr_factor=0.2, **keywords)
    gradients = {name: noise(array.shape, 6) for name, array in params.items()}
    for t in range(6):
        optimizer.step({name: path[t] for name, path in gradients.items()})
        adamw.step({name: gradients[name][t] for name in names})
        alone.step([gradients["w"][t]])
    for name, array in params.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-13, err_msg=name)
    kept = [set(group["state"]) for group in optimizer.state_dict()["groups"]]
    assert sorted(map(sorted, kept)) == [["exp_avg", "exp_avg_sq"], ["momentum_buffer"]]


def test_muon_in_a_config_with_schedule_and_no_decay():
    config = OptimizerConfig.of("muon", {"lr": 0.1, "weight_decay": 0.1}, Schedule("warmup", 4))
    params = {"w": start((4, 3)), "b": start((4,))}
    before = {name: array.copy() for name, array in params.items()}
    optimizer = Optimizer.from_config(config, params)
    grads = {"w": noise((4, 3), 1)[0], "b": np.ones(4)}
    optimizer.step(grads)
    for name, array in params.items():  # a warm-up starts at 0
        np.testing.assert_array_equal(array, before[name])
    optimizer.step(grads)
    assert (params["w"] != before["w"]).all()
    np.testing.assert_allclose(params["b"], before["b"] - 0.1 / 4 * 0.015, rtol=1e-6)


@pytest.mark.parametrize("rule", STAGED)
def test_a_bad_gradient_of_a_later_group_stops_the_stage(rule: str):
    """The forms for matrices and for the rest are groups of their own: both are checked before either changes."""
    params = {"w": start((4, 3)), "b": start((4,))}
    before = {name: array.copy() for name, array in params.items()}
    for name in params:
        grads = {key: np.ones_like(array) for key, array in params.items()}
        grads[name].flat[-1] = np.nan
        with pytest.raises(NonFiniteGradient, match=rf"params\['{name}'\]"):
            Optimizer(rule, params).step(grads)
        for key, array in params.items():
            np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", STAGED)
def test_stages_with_clipping_averages_and_scale(rule: str, dtype: type):
    shapes = [(6, 4), (5,)]
    one, two = [start(shape, dtype) for shape in shapes], [start(shape, dtype) for shape in shapes]
    fused, plain = Optimizer(rule, one, max_norm=0.5, ema_decay=0.9), Optimizer(rule, two)
    averages = None
    for t in range(10):
        gradients = [noise(shape, 10, dtype)[t] for shape in shapes]
        fused.step(gradients, grad_scale=2.0)
        norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients)) / 2
        factor = min(1.0, 0.5 / (norm + 1e-6)) / 2
        plain.step([(g * factor).astype(dtype) for g in gradients])
        now = [array.copy() for array in two]
        averages = now if averages is None else [0.9 * a + 0.1 * b for a, b in zip(averages, now, strict=True)]
    assert averages is not None
    for array, other, own, average in zip(one, two, fused.averages(), averages, strict=True):
        assert distance(array, other) < (2e-5 if dtype == np.float32 else 1e-12)
        assert distance(own, average) < (2e-5 if dtype == np.float32 else 1e-12)


# Schedule-free AdamW


def test_schedule_free_evaluates_at_the_average():
    """x is the average of the points z; y, where gradients are taken, lies between the two."""
    p, lr, beta1 = start((6, 4)), 0.01, 0.9
    z, x, s = p.copy(), p.copy(), np.zeros_like(p)
    optimizer = Optimizer("schedule_free_adamw", {"w": p}, lr=lr, betas=(beta1, 0.99))
    np.testing.assert_array_equal(optimizer.evaluation()["w"], p)
    for t, gradient in enumerate(noise((6, 4), 40), 1):
        optimizer.step({"w": gradient})
        s = 0.99 * s + 0.01 * gradient**2
        z = z - lr * gradient / (np.sqrt(s / (1 - 0.99**t)) + 1e-8)
        x = x + (z - x) / t
        assert distance(p, beta1 * x + (1 - beta1) * z) < 1e-13
        assert distance(optimizer.evaluation()["w"], x) < 1e-13
    assert not np.shares_memory(optimizer.evaluation()["w"], p)


@pytest.mark.parametrize("dtype", DTYPES)
def test_evaluation_keeps_dtype_and_structure_and_copies_for_other_rules(dtype: type):
    one, two = start((3,), dtype), start((2, 2), dtype)
    groups = [{"params": [one]}, {"params": {"b": two}, "rule": "adamw"}]
    optimizer = Optimizer("schedule_free_adamw", groups)
    for _ in range(3):
        optimizer.step([{"params": [np.ones(3, dtype)]}, {"params": {"b": np.ones((2, 2), dtype)}}])
    found = optimizer.evaluation()
    assert found[0]["params"][0].dtype == dtype
    assert (found[0]["params"][0] != one).all()
    np.testing.assert_array_equal(found[1]["params"]["b"], two)
    assert not np.shares_memory(found[1]["params"]["b"], two)


def test_schedule_free_takes_no_schedule():
    words = "schedule_free_adamw.*averages its weights in place of a schedule.*constant, not cosine"
    with pytest.raises(InputError, match=words):
        OptimizerConfig("schedule_free_adamw", {}, Schedule("cosine").to_dict())


# Parity: optax, where it is installed


def optax_rules(optax: Any) -> dict[str, Callable[[dict[str, Any]], Any]]:
    def betas(h: dict[str, Any]) -> dict[str, float]:
        return dict(zip(("b1", "b2"), h["betas"], strict=True))

    return {
        "lion": lambda h: optax.lion(h["lr"], weight_decay=h["weight_decay"], **betas(h)),
        "lamb": lambda h: optax.lamb(h["lr"], eps=h["eps"], weight_decay=h["weight_decay"], **betas(h)),
    }


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", [Case(r, s) for r in ("lion", "lamb") for s in SETTINGS[r]], ids=str)
def test_path_equals_optax(case: Case):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    with jax.enable_x64(True):
        shapes = [(17,), (8, 5), (2, 3, 4)]
        ours = [start(shape, seed=seed) for seed, shape in enumerate(shapes)]
        theirs = [jax.numpy.asarray(array) for array in ours]
        gradients = [noise(shape, 100, seed=seed) for seed, shape in enumerate(shapes)]
        optimizer, twin = (
            Optimizer(case.rule, ours, **case.hyperparameters),
            optax_rules(optax)[case.rule](case.complete),
        )
        state = twin.init(theirs)
        for t in range(100):
            now = [path[t] for path in gradients]
            updates, state = twin.update([jax.numpy.asarray(g) for g in now], state, theirs)
            theirs = optax.apply_updates(theirs, updates)
            optimizer.step(now)
            for array, other in zip(ours, theirs, strict=True):
                assert distance(array, np.asarray(other)) < 1e-12, f"step {t + 1}"


# Parity: the reference implementation of schedule-free, where it is installed


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("settings", SETTINGS["schedule_free_adamw"], ids=str)
def test_path_equals_the_reference_of_schedule_free(settings: dict[str, Any], dtype: type):
    torch, schedulefree = pytest.importorskip("torch"), pytest.importorskip("schedulefree")
    ours = start((8, 5), dtype)
    theirs = torch.tensor(ours, requires_grad=True)
    complete = RULES["schedule_free_adamw"].complete(settings)
    optimizer = Optimizer("schedule_free_adamw", [ours], **settings)
    twin = schedulefree.AdamWScheduleFree([theirs], **complete)
    twin.train()
    for t, gradient in enumerate(noise((8, 5), 100, dtype), 1):
        optimizer.step([gradient])
        theirs.grad = torch.tensor(gradient)
        twin.step()
        assert distance(ours, theirs.detach().numpy()) < BOUND[dtype], f"step {t}"
        if t % 25 == 0:
            twin.eval()
            assert distance(optimizer.evaluation()[0], theirs.detach().numpy()) < BOUND[dtype], f"step {t}"
            twin.train()


# Parity: PyTorch's Muon. It iterates in bfloat16, of 8 bits; without that rounding the two are the same.


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (6, 6)], ids=str)
@pytest.mark.parametrize("settings", SETTINGS["muon"], ids=str)
def test_path_equals_torch_without_bfloat16(
    settings: dict[str, Any], shape: tuple[int, int], dtype: type, monkeypatch: pytest.MonkeyPatch
):
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    ours, theirs, optimizer, twin = muon_pair(torch, settings, shape, dtype)
    for t, gradient in enumerate(noise(shape, 100, dtype), 1):
        optimizer.step([gradient])
        theirs.grad = torch.tensor(gradient)
        twin.step()
        # Five steep iterations enlarge the rounding of the products: measured 2e-6 and 4e-15.
        assert distance(ours, theirs.detach().numpy()) < (1e-5 if dtype == np.float32 else 1e-12), f"step {t}"


@pytest.mark.parity
def test_path_is_near_torchs_own_muon():
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    ours, theirs, optimizer, twin = muon_pair(torch, {"lr": 0.01}, (8, 5), np.float32)
    for gradient in noise((8, 5), 20, np.float32):
        optimizer.step([gradient])
        theirs.grad = torch.tensor(gradient)
        twin.step()
    assert distance(ours, theirs.detach().numpy()) < 0.02


def muon_pair(torch: Any, settings: dict[str, Any], shape: tuple[int, int], dtype: Any) -> tuple[Any, Any, Any, Any]:
    ours = start(shape, dtype)
    theirs = torch.tensor(ours, requires_grad=True)
    h = RULES["muon"].complete(settings)
    twin = torch.optim.Muon(
        [theirs],
        lr=h["lr"],
        weight_decay=h["weight_decay"],
        momentum=h["momentum"],
        nesterov=h["nesterov"],
        adjust_lr_fn="match_rms_adamw" if h["match_rms"] else "original",
    )
    return ours, theirs, Optimizer("muon", [ours], **settings), twin
