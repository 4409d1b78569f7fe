"""What the rules' mathematics promises: identities between rules, limits, exact zeros, no NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optadvisor.kernels import RULES, Optimizer
from optadvisor.kernels.rules import Hyperparameter

from .cases import CASES, DEFAULTS, LACKS, Case, distance, noise, start
from .reference import ORACLES, run

SHAPE = (6, 4)
# Derandomised, so that a check of one change cannot fail on another's luck; widen it by hand to search further.
QUICK = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def walk(
    rule: str, gradients: list[np.ndarray], p: np.ndarray | None = None, convention: str | None = None, **keywords: Any
) -> np.ndarray:
    """Where the rule arrives from `p`."""
    p = start(SHAPE) if p is None else p.copy()
    optimizer = Optimizer(rule, [p], convention=convention, **keywords)
    for gradient in gradients:
        optimizer.step([gradient])
    return p


def bowl(p: np.ndarray) -> np.ndarray:
    """Gradient of an ill-conditioned parabola."""
    return np.linspace(0.1, 5.0, p.size).reshape(p.shape) * p


# Identities between rules


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_nag_forms_meet_at_the_lookahead_point(weight_decay: float):
    p, q = start(SHAPE), start(SHAPE)
    keywords = {"lr": 0.05, "momentum": 0.9, "weight_decay": weight_decay}
    evaluated = Optimizer("nag", {"w": p}, **keywords)
    ahead = Optimizer("nag", {"w": q}, convention="paper", **keywords)
    for _ in range(100):
        point = ahead.lookahead()["w"]
        assert distance(point, p) < 1e-12
        evaluated.step({"w": bowl(p)})
        ahead.step({"w": bowl(point)})
    assert distance(ahead.lookahead()["w"], p) < 1e-12
    assert distance(q, p) > 1e-6  # the two forms keep different points


def test_lookahead_leaves_the_parameters_and_uses_the_rate_asked_for():
    p = start(SHAPE)
    optimizer = Optimizer("nag", [p], lr=0.1, momentum=0.5, convention="paper")
    (gradient,) = noise(SHAPE, 1)
    optimizer.step([gradient])
    before = p.copy()
    (point,) = optimizer.lookahead(lr=0.2)
    np.testing.assert_array_equal(p, before)
    np.testing.assert_allclose(point, before - 0.2 * 0.5 * gradient, rtol=1e-14)


@pytest.mark.parametrize("case", [c for c in DEFAULTS if c != Case("nag", {}, "paper")], ids=str)
def test_lookahead_of_other_rules_is_where_they_are(case: Case):
    p = start(SHAPE)
    optimizer = Optimizer(case.rule, [p], convention=case.convention)
    optimizer.step(noise(SHAPE, 1))
    (point,) = optimizer.lookahead()
    np.testing.assert_array_equal(point, p)
    assert not np.shares_memory(point, p)


def test_momentum_without_momentum_is_sgd():
    gradients = noise(SHAPE, 50)
    for weight_decay in (0.0, 0.1):
        plain = walk("sgd", gradients, lr=0.1, weight_decay=weight_decay)
        for rule in ("momentum", "nag"):
            np.testing.assert_array_equal(walk(rule, gradients, lr=0.1, momentum=0.0, weight_decay=weight_decay), plain)


def test_adamw_without_decay_is_adam():
    gradients = noise(SHAPE, 50)
    for amsgrad in (False, True):
        np.testing.assert_array_equal(
            walk("adamw", gradients, weight_decay=0.0, amsgrad=amsgrad),
            walk("adam", gradients, weight_decay=0.0, amsgrad=amsgrad),
        )


def test_weight_decay_of_adam_is_not_that_of_adamw():
    gradients = noise(SHAPE, 50)
    assert distance(walk("adam", gradients, weight_decay=0.1), walk("adamw", gradients, weight_decay=0.1)) > 1e-4


def test_adam_with_beta1_0_is_bias_corrected_rmsprop():
    """Adam divides the average of squares by 1-beta2^t: rmsprop at lr*sqrt(1-beta2^t), with eps smaller by as much."""
    beta2, lr = 0.9, 0.01
    gradients = noise(SHAPE, 50)
    adam = walk("adam", gradients, lr=lr, betas=(0.0, beta2), eps=1e-12)
    p = start(SHAPE)
    rmsprop = Optimizer("rmsprop", [p], alpha=beta2, eps=1e-12)
    for t, gradient in enumerate(gradients, 1):
        rmsprop.step([gradient], lr=lr * math.sqrt(1 - beta2**t))
    assert distance(p, adam) < 1e-9


def test_rmsprop_that_never_forgets_is_adagrad():
    """alpha -> 1: the average of squares is (1-alpha) times their sum, to a relative error of about steps*(1-alpha)."""
    gradients = noise(SHAPE, 50)
    adagrad = walk("adagrad", gradients, lr=0.1, eps=1e-12)
    gaps = []
    for forget in (1e-4, 1e-6, 1e-8):
        rmsprop = walk(
            "rmsprop", gradients, lr=0.1 * math.sqrt(forget), alpha=1 - forget, eps=1e-12 * math.sqrt(forget)
        )
        gaps.append(distance(rmsprop, adagrad))
    assert gaps[0] > 30 * gaps[1] > 900 * gaps[2]
    assert gaps[2] < 1e-6


def test_dampening_equal_to_momentum_is_a_moving_average():
    beta, p, gradients = 0.8, start(SHAPE), noise(SHAPE, 50)
    optimizer = Optimizer("momentum", [p], lr=0.1, momentum=beta, dampening=beta)
    average = gradients[0]
    for t, gradient in enumerate(gradients):
        if t:
            average = beta * average + (1 - beta) * gradient
        optimizer.step([gradient])
        (found,) = optimizer.state_dict()["groups"][0]["state"]["momentum_buffer"]
        np.testing.assert_allclose(found, average, rtol=1e-12, atol=1e-15)


def test_centered_rmsprop_divides_by_the_standard_deviation():
    """A gradient that never changes has no variance, so the step tends to lr*g/eps."""
    p = np.zeros(3)
    optimizer = Optimizer("rmsprop", [p], lr=1e-3, alpha=0.5, eps=0.1, centered=True)
    gradient = np.array([1.0, -2.0, 3.0])
    for _ in range(100):
        before = p.copy()
        optimizer.step([gradient])
    np.testing.assert_allclose(before - p, 1e-3 * gradient / 0.1, rtol=1e-6)


@pytest.mark.parametrize(("alpha", "dtype"), [(0.3, np.float32), (0.3, np.float64), (0.9, np.float32)])
def test_centered_rmsprop_survives_a_variance_that_rounds_below_0(alpha: float, dtype: type):
    """Gradients that never change: their average of squares and their squared average differ by rounding alone."""
    gradient = np.random.default_rng(0).normal(size=500).astype(dtype)
    p = np.zeros(500, dtype)
    optimizer = Optimizer("rmsprop", [p], alpha=alpha, centered=True)
    for _ in range(300):
        optimizer.step([gradient])
    (square,) = optimizer.state_dict()["groups"][0]["state"]["square_avg"]
    (mean,) = optimizer.state_dict()["groups"][0]["state"]["grad_avg"]
    assert np.isfinite(p).all()
    assert (square < mean * mean).any(), "nothing rounded below 0: the test shows nothing"


def test_amsgrad_never_lengthens_a_step():
    """After one large gradient Adam's divisor fades; amsgrad's does not."""
    gradients = [np.full(1, 10.0)] + [np.full(1, 0.01)] * 200
    adam, amsgrad = (walk("adam", gradients, np.zeros(1), betas=(0.9, 0.9), amsgrad=flag)[0] for flag in (False, True))
    assert abs(adam) > 5 * abs(amsgrad) > 0


# FTRL


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
def test_ftrl_without_regularisation_is_adagrad_like_descent(beta: float):
    """p <- p - lr*g/(beta + sqrt(n)), coordinates without a gradient so far stay."""
    p, gradients, lr = start(SHAPE), noise(SHAPE, 100), 0.3
    expected, n = p.copy(), np.zeros(SHAPE)
    optimizer = Optimizer("ftrl", [p], lr=lr, beta=beta)
    for gradient in gradients:
        optimizer.step([gradient])
        n += gradient**2
        expected -= lr * gradient / np.where(beta + np.sqrt(n) > 0, beta + np.sqrt(n), 1.0)
        assert distance(p, expected) < 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [0.0, 1e-3, 1.0])
def test_ftrl_keeps_untouched_weights(beta: float, dtype: type):
    p = start(SHAPE, dtype)
    before = p.copy()
    optimizer = Optimizer("ftrl", [p], beta=beta)
    gradient = np.zeros(SHAPE, dtype)
    gradient[0] = 1.0
    for _ in range(20):
        optimizer.step([gradient])
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p[1:], before[1:], rtol=4 * np.finfo(dtype).eps)
    assert (p[0] < before[0]).all()


def test_ftrl_l1_gives_exact_zeros_and_more_of_them_as_it_grows():
    """Features that hardly matter lose their weight altogether; one that does matter keeps it."""
    draw = np.random.default_rng(0)
    features = draw.normal(size=(400, 12))
    target = 2.0 * features[:, 0] + 0.05 * draw.normal(size=400)
    zeros = []
    for l1 in (0.0, 2.0, 8.0):
        weights = np.zeros(12)
        optimizer = Optimizer("ftrl", [weights], lr=0.5, l1=l1)
        for row, value in zip(features, target, strict=True):
            optimizer.step([(row @ weights - value) * row])
        zeros.append(int((weights == 0.0).sum()))
        assert abs(weights[0] - 2.0) < 0.2
    assert zeros[0] == 0 < zeros[1] <= zeros[2]
    assert zeros[2] == 11


def test_ftrl_l2_shrinks_towards_zero():
    gradients = noise(SHAPE, 50)
    sizes = [np.abs(walk("ftrl", gradients, l2=l2)).sum() for l2 in (0.0, 1.0, 100.0)]
    assert sizes[0] > sizes[1] > sizes[2] > 0


# Every rule


def moves_by_itself(case: Case) -> bool:
    """Decay and regularisation move the parameters without a gradient; Keras' ftrl forgets where they started."""
    shrinks = any(case.complete.get(name, 0.0) for name in ("weight_decay", "l1", "l2"))
    return shrinks or (case.rule, case.convention) == ("ftrl", "keras")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_zero_gradient_moves_nothing_that_does_not_decay(case: Case, dtype: type):
    p = start(SHAPE, dtype)
    before = p.copy()
    optimizer = Optimizer(case.rule, [p], convention=case.convention, **case.hyperparameters)
    for _ in range(3):
        optimizer.step([np.zeros(SHAPE, dtype)])
    assert np.isfinite(p).all()
    if moves_by_itself(case):
        assert (np.abs(p) < np.abs(before)).all()
    else:
        np.testing.assert_allclose(p, before, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("case", [c for c in DEFAULTS if not RULES[c.rule].constant_lr], ids=str)
def test_lr_0_moves_nothing(case: Case):
    p, before = start(SHAPE), start(SHAPE)
    optimizer = Optimizer(case.rule, [p], convention=case.convention)
    for gradient in noise(SHAPE, 3):
        optimizer.step([gradient], lr=0.0)
    np.testing.assert_array_equal(p, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", DEFAULTS, ids=str)
def test_every_rule_descends_a_parabola(case: Case, dtype: type):
    p = start(SHAPE, dtype)
    first = float(np.abs(p).max())
    optimizer = Optimizer(
        case.rule,
        [p],
        convention=case.convention,
        lr={"ftrl": 2.0, "adagrad": 0.5, "rowwise_adagrad": 0.5}.get(case.rule, 0.02),
    )
    for _ in range(500):
        (point,) = optimizer.lookahead()
        optimizer.step([bowl(point).astype(dtype)])
    assert np.abs(p).max() < 0.4 * first


# Any hyperparameters, any finite gradient


def number(h: Hyperparameter, low: float, high: float, open_high: bool) -> st.SearchStrategy[float]:
    inside = st.floats(low, high, exclude_max=open_high, allow_subnormal=False)
    edges = [value for value in (low, high) if not (open_high and value == high)]
    return st.sampled_from([*edges, h.default if not isinstance(h.default, tuple) else h.default[0]]) | inside


def keyword(h: Hyperparameter, divides_by_lr: bool) -> st.SearchStrategy[Any]:
    """The whole valid range; where that has no end, up to ten times what a study searches, or 10."""
    if isinstance(h.default, bool):
        return st.booleans()
    if h.name == "eps":  # where the divisor has faded to 0, a velocity over eps must still be a float32, below 3e38
        return number(h, 1e-20, 1.0, False)
    high = h.high if math.isfinite(h.high) else 10.0 * max((d.high for d in h.search), default=1.0)
    low = 1e-6 if h.name == "lr" and divides_by_lr else h.low
    values = number(h, low, high, h.open_high)
    return st.tuples(values, values) if isinstance(h.default, tuple) else values


def keywords(case: Case) -> st.SearchStrategy[dict[str, Any]]:
    record, lacks = RULES[case.rule], LACKS.get((case.rule, case.convention), set())
    known = [h for h in record.hyperparameters if h.name not in lacks]
    return st.fixed_dictionaries({h.name: keyword(h, record.constant_lr) for h in known})


def gradients(dtype: type, largest: float = 1e15) -> st.SearchStrategy[np.ndarray]:
    width = np.dtype(dtype).itemsize * 8
    bound = float(np.dtype(dtype).type(largest))
    numbers = st.floats(-bound, bound, width=width) | st.sampled_from([0.0, -0.0, bound, -bound, 1.0, 1e-20, 1e-38])
    return hnp.arrays(dtype, (3, 5), elements=numbers, fill=st.nothing())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", DEFAULTS, ids=str)
def test_no_nan_from_finite_gradients(case: Case, dtype: type):
    @QUICK
    @given(keywords(case), gradients(dtype))
    def check(values: dict[str, Any], rows: np.ndarray) -> None:
        if values.get("centered"):  # at alpha = 0 the variance is always 0, and every step is g/eps
            values["alpha"] = max(values["alpha"], 0.5)
        p = np.array([-1.0, -1e-3, 0.0, 0.5, 2.0], dtype)
        optimizer = Optimizer(case.rule, [p], convention=case.convention, **values)
        for row in rows:
            optimizer.step([row])
        assert p.dtype == dtype
        assert not np.isnan(p).any()
        for arrays in optimizer.state_dict()["groups"][0]["state"].values():
            assert not np.isnan(arrays[0]).any()

    check()


def well_conditioned(values: dict[str, Any]) -> dict[str, Any]:
    """Away from where few digits are left: 1 - beta^t, the centered variance, and a divisor that is all eps."""
    tame = {
        "betas": tuple(min(beta, 1 - 1e-5) for beta in values.get("betas", ())),
        "centered": False,
        "eps": max(values.get("eps", 1.0), 1e-8),
    }
    return {name: tame.get(name, value) for name, value in values.items()}


@pytest.mark.parametrize("case", DEFAULTS, ids=str)
def test_any_hyperparameters_agree_with_the_oracle(case: Case):
    @QUICK
    @given(keywords(case).map(well_conditioned), gradients(np.float64, 1e3))
    def check(values: dict[str, Any], rows: np.ndarray) -> None:
        p = np.array([-1.1, -0.037, 0.0, 0.53, 2.3])
        with np.errstate(under="ignore"):
            expected, _ = run(ORACLES[case.rule, case.convention], p, rows, RULES[case.rule].complete(values))
        optimizer = Optimizer(case.rule, [p], convention=case.convention, **values)
        for row in rows:
            optimizer.step([row])
        # lamb at lr = 1 takes a tensor that only decays to exactly 0: then nothing but rounding of the start is left.
        assert distance(p, expected) < 1e-9 or np.abs(p - expected).max() < 1e-14

    check()
