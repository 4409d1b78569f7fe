"""Gradients of an embedding table as (ids, rows): only what was touched changes, whatever the table's height."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from optadvisor import OptimizerConfig
from optadvisor.kernels import RULES, InputError, NonFiniteGradient, Optimizer

from .cases import distance, noise, start

SPARSE = [name for name, rule in RULES.items() if rule.sparse]
# An untouched row of the dense step has a gradient of 0, which changes nothing in these rules; Adam's moments decay.
AS_DENSE = [name for name in SPARSE if name != "adam"]
HEIGHT, WIDTH, STEPS = 40, 6, 20
DTYPES = (np.float32, np.float64)


def draw(steps: int, dtype: Any, seed: int = 0, height: int = HEIGHT) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ids, rows) of some steps; ids repeat, and the last rows of the table never come."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        ids = random.integers(0, height - 5, size=int(random.integers(1, 25)))
        found.append((ids, random.normal(size=(ids.size, WIDTH)).astype(np.float32).astype(dtype)))
    return found


def summed(ids: np.ndarray, rows: np.ndarray, height: int = HEIGHT) -> np.ndarray:
    """The gradient of the whole table."""
    dense = np.zeros((height, rows.shape[1]), rows.dtype)
    np.add.at(dense, ids, rows)
    return dense


def kept(optimizer: Optimizer) -> dict[str, np.ndarray]:
    """State of the first parameter."""
    return {name: arrays[0] for name, arrays in optimizer.state_dict()["groups"][0]["state"].items()}


def everything(optimizer: Optimizer, *params: np.ndarray) -> list[bytes]:
    state = optimizer.state_dict()
    arrays = [a for group in state["groups"] for found in group["state"].values() for a in found]
    return [array.tobytes() for array in (*params, *arrays)] + [str(state["steps_done"]).encode()]


def test_the_rules_with_a_sparse_form():
    assert {"sgd", "adagrad", "adam", "ftrl"} <= set(SPARSE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", AS_DENSE)
def test_equal_to_a_dense_step_on_the_touched_rows(rule: str, dtype: type):
    ours, dense = start((HEIGHT, WIDTH), dtype), start((HEIGHT, WIDTH), dtype)
    sparse, whole = Optimizer(rule, [ours], lr=0.1), Optimizer(rule, [dense], lr=0.1)
    for ids, rows in draw(STEPS, dtype):
        before = ours.copy()
        sparse.step([(ids, rows)])
        whole.step([summed(ids, rows)])
        touched = np.unique(ids)
        assert distance(ours[touched], dense[touched]) < (1e-6 if dtype == np.float32 else 1e-14)
        untouched = np.setdiff1d(np.arange(HEIGHT), ids)
        np.testing.assert_array_equal(ours[untouched], before[untouched])
    for name, array in kept(whole).items():
        assert distance(kept(sparse)[name], array) < (1e-6 if dtype == np.float32 else 1e-14), name
    assert ours.dtype == dtype


def lazy_adam(p: np.ndarray, gradients: list[tuple[np.ndarray, np.ndarray]], lr: float, eps: float) -> np.ndarray:
    """Straight from the definition: moments of touched rows alone, steps counted for the whole table."""
    p, m, s = p.astype(np.float64), np.zeros(p.shape), np.zeros(p.shape)
    for t, (ids, rows) in enumerate(gradients, 1):
        for row in set(ids.tolist()):
            g = rows[ids == row].astype(np.float64).sum(axis=0)
            m[row] = 0.9 * m[row] + 0.1 * g
            s[row] = 0.999 * s[row] + 0.001 * g * g
            p[row] -= lr * (m[row] / (1 - 0.9**t)) / (np.sqrt(s[row] / (1 - 0.999**t)) + eps)
    return p


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_is_lazy(dtype: type):
    p, gradients = start((HEIGHT, WIDTH), dtype), draw(60, dtype)
    expected = lazy_adam(p, gradients, 0.05, 1e-8)
    optimizer = Optimizer("adam", {"table": p}, lr=0.05)
    for gradient in gradients:
        optimizer.step({"table": gradient})
    assert distance(p, expected) < (2e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", SPARSE)
def test_repeated_ids_are_summed_first(rule: str, dtype: type):
    """In the order in which they came; the update is not linear in the gradient."""
    one, two = start((HEIGHT, WIDTH), dtype), start((HEIGHT, WIDTH), dtype)
    repeated, once = Optimizer(rule, [one]), Optimizer(rule, [two])
    for seed in range(5):
        first, second, third, other = noise((WIDTH,), 4, dtype, seed)
        repeated.step([(np.array([7, 3, 7, 7]), np.stack([first, other, second, third]))])
        once.step([(np.array([3, 7]), np.stack([other, first + second + third]))])
    np.testing.assert_array_equal(one, two)
    for name, array in kept(once).items():
        np.testing.assert_array_equal(kept(repeated)[name], array)


@pytest.mark.parametrize("rule", SPARSE)
def test_untouched_rows_and_their_state_keep_every_bit(rule: str):
    p = start((HEIGHT, WIDTH), np.float32)
    optimizer = Optimizer(rule, [p])
    for gradient in draw(5, np.float32):
        optimizer.step([gradient])
    before, state = p.copy(), kept(optimizer)
    optimizer.step([(np.array([2, 39, 2]), np.ones((3, WIDTH), np.float32))])
    others = np.setdiff1d(np.arange(HEIGHT), [2, 39])
    assert p[others].tobytes() == before[others].tobytes()
    assert (p[[2, 39]] != before[[2, 39]]).all()
    for name, array in kept(optimizer).items():
        assert array[others].tobytes() == state[name][others].tobytes()
        assert (array[[2, 39]] != state[name][[2, 39]]).all()


@pytest.mark.parametrize("l1", [0.0, 0.5])
def test_ftrl_keeps_untouched_rows_and_the_initial_weights(l1: float):
    p = start((HEIGHT, WIDTH))
    before = p.copy()
    optimizer = Optimizer("ftrl", [p], lr=0.5, l1=l1)
    ids = np.array([4, 11])
    for _ in range(10):
        optimizer.step([(ids, np.zeros((2, WIDTH)))])
    others = np.setdiff1d(np.arange(HEIGHT), ids)
    np.testing.assert_array_equal(p[others], before[others])
    if l1:  # the penalty acts once a row is seen
        assert (np.abs(p[ids]) < np.abs(before[ids])).all()
    else:
        np.testing.assert_allclose(p[ids], before[ids], rtol=1e-15)


@pytest.mark.parametrize("rule", SPARSE)
def test_many_rows_with_any_ids(rule: str):
    """Ids far apart, in a table of several thousand rows, as many repeats as there are: the hash holds them."""
    height = 5000
    random = np.random.default_rng(3)
    ids = np.concatenate([np.arange(0, height, 2)[::-1], np.zeros(50, int), random.integers(0, height, 2000)])
    rows = random.normal(size=(ids.size, 3))
    ours, dense = start((height, 3)), start((height, 3))
    Optimizer(rule, [ours]).step([(ids, rows)])
    Optimizer(rule, [dense]).step([summed(ids, rows, height)])
    touched = np.unique(ids)  # at the first step lazy Adam is Adam
    assert distance(ours[touched], dense[touched]) < 1e-10


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8, np.uint64])
def test_ids_of_any_integer_type(kind: type):
    p = np.zeros((10, 2))
    Optimizer("sgd", [p], lr=1.0).step([(np.array([9, 1], kind), np.ones((2, 2)))])
    np.testing.assert_array_equal(np.flatnonzero(p[:, 0]), [1, 9])


def test_rows_need_not_be_contiguous_and_are_never_written():
    rows = np.arange(12.0).reshape(2, 6).T[:, ::-1]
    ids = np.array([0, 9, 1, 9, 2, 9, 3, 9, 4, 9, 5, 9])[::2]
    kept_rows, kept_ids = rows.copy(), ids.copy()
    rows.flags.writeable = ids.flags.writeable = False
    p = np.zeros((10, 2))
    Optimizer("sgd", [p], lr=1.0).step([(ids, rows)])
    np.testing.assert_array_equal(p[:6], -kept_rows)
    np.testing.assert_array_equal(rows, kept_rows)
    np.testing.assert_array_equal(ids, kept_ids)


@pytest.mark.parametrize("rule", SPARSE)
def test_no_ids_change_nothing_but_the_step_count(rule: str):
    p = start((HEIGHT, WIDTH), np.float32)
    optimizer = Optimizer(rule, [p])
    optimizer.step([draw(1, np.float32)[0]])
    before = everything(optimizer, p)[:-1]
    nothing = np.array([], int), np.zeros((0, WIDTH), np.float32)
    assert optimizer.step([nothing]) is True
    assert everything(optimizer, p)[:-1] == before
    assert optimizer.steps_done == 2


@pytest.mark.parametrize("rule", SPARSE)
def test_dense_and_sparse_gradients_may_alternate(rule: str):
    ours, dense = start((HEIGHT, WIDTH)), start((HEIGHT, WIDTH))
    one, two = Optimizer(rule, [ours]), Optimizer(rule, [dense])
    everyone = np.arange(HEIGHT)
    for t, gradient in enumerate(noise((HEIGHT, WIDTH), 6)):
        one.step([(everyone, gradient)] if t % 2 else [gradient])
        two.step([gradient])
    assert distance(ours, dense) < 1e-14


def test_several_tables_and_dense_parameters_in_one_step():
    params = {"a": start((HEIGHT, WIDTH)), "b": start((30, 3), seed=1), "w": start((4, 4), seed=2)}
    expected = {name: array.copy() for name, array in params.items()}
    optimizer = Optimizer("adagrad", params, lr=0.1)
    alone = {name: Optimizer("adagrad", [array], lr=0.1) for name, array in expected.items()}
    for t in range(5):
        grads: dict[str, Any] = {
            "a": draw(5, np.float64)[t],
            "b": (np.array([t, 2, t]), noise((3, 3), 5)[t]),
            "w": noise((4, 4), 5)[t],
        }
        optimizer.step(grads)
        for name, single in alone.items():
            single.step([grads[name]])
    for name, array in params.items():
        np.testing.assert_array_equal(array, expected[name])


def test_maximize_and_scale_reach_the_rows():
    p = np.zeros((5, 2))
    optimizer = Optimizer("sgd", [p], lr=1.0, maximize=True)
    optimizer.step([(np.array([1, 1]), np.full((2, 2), 8.0))], grad_scale=4.0)
    np.testing.assert_array_equal(p[1], 4.0)
    optimizer.step([(np.array([1]), np.ones((1, 2)))], lr=0.5)
    np.testing.assert_array_equal(p[1], 4.5)


def test_state_of_rows_is_saved_and_loaded():
    whole, first = start((HEIGHT, WIDTH)), start((HEIGHT, WIDTH))
    gradients = draw(8, np.float64)
    for rule in SPARSE:
        whole[...] = first[...] = start((HEIGHT, WIDTH))
        through, stopped = Optimizer(rule, [whole]), Optimizer(rule, [first])
        for gradient in gradients:
            through.step([gradient])
        for gradient in gradients[:4]:
            stopped.step([gradient])
        resumed = Optimizer(rule, [first])
        resumed.load_state_dict(stopped.state_dict())
        for gradient in gradients[4:]:
            resumed.step([gradient])
        np.testing.assert_array_equal(first, whole)


# Clipping


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("rule", SPARSE)
def test_clipping_counts_summed_rows_and_dense_gradients_together(rule: str, several: bool):
    ids, rows = np.array([3, 8, 3]), noise((3, WIDTH), 1)[0] * 10
    dense = noise((4, 4), 1, seed=2)[0] * 10
    norm = np.sqrt((summed(ids, rows) ** 2).sum() + (dense**2).sum())
    factor = 0.5 / (norm + 1e-6)
    table, w = start((HEIGHT, WIDTH)), start((4, 4))
    params: Any = [{"params": [table]}, {"params": [w], "rule": "adamw"}] if several else [table, w]
    grads: Any = [{"params": [(ids, rows)]}, {"params": [dense]}] if several else [(ids, rows), dense]
    optimizer = Optimizer(rule, params, max_norm=0.5)
    optimizer.step(grads)
    assert optimizer.grad_norm == pytest.approx(norm, rel=1e-12)
    expected, other = start((HEIGHT, WIDTH)), start((4, 4))
    Optimizer(rule, [expected]).step([(ids, rows * factor)])
    Optimizer("adamw" if several else rule, [other]).step([dense * factor])
    np.testing.assert_allclose(table, expected, rtol=1e-9)
    np.testing.assert_allclose(w, other, rtol=1e-9)


# Non-finite rows


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("rule", SPARSE)
def test_non_finite_rows_are_refused_before_anything_changes(rule: str, several: bool, bad: float):
    """A dense parameter and another table stand before the table with the bad row."""
    w, good, table = start((3, WIDTH)), start((9, WIDTH)), start((HEIGHT, WIDTH))
    arrays = [w, good, table]
    params: Any = [{"params": [array]} for array in arrays] if several else arrays
    rows = np.ones((3, WIDTH))
    rows[2, 1] = bad

    def wrap(last: np.ndarray) -> Any:
        grads = [np.ones_like(w), (np.array([1]), np.ones((1, WIDTH))), (np.array([4, 9, 4]), last)]
        return [{"params": [gradient]} for gradient in grads] if several else grads

    optimizer = Optimizer(rule, params)
    optimizer.step(wrap(np.ones((3, WIDTH))))
    before = everything(optimizer, *arrays)
    name = r"params\[2\]\[0\]" if several else r"params\[2\]"
    with pytest.raises(NonFiniteGradient, match=rf"{name} is (nan|inf) at flat index 13 \(step 2\)"):
        optimizer.step(wrap(rows))
    assert everything(optimizer, *arrays) == before
    optimizer.on_nonfinite = "skip"
    assert optimizer.step(wrap(rows)) is False
    assert everything(optimizer, *arrays) == before


# Errors

WRONG: dict[str, tuple[Any, list[str]]] = {
    "id too large": ((np.array([0, 40]), np.ones((2, WIDTH))), ["grads[0]", "hold 40", "rows 0 to 39"]),
    "negative id": ((np.array([0, -1]), np.ones((2, WIDTH))), ["hold -1", "rows 0 to 39"]),
    "too few rows": ((np.array([0, 1]), np.ones((1, WIDTH))), ["float64[1, 6]", "2 rows of params[0]", "[2, 6]"]),
    "too narrow": ((np.array([0, 1]), np.ones((2, 5))), ["float64[2, 5]", "[2, 6]"]),
    "flat rows": ((np.array([0]), np.ones(WIDTH)), ["float64[6]", "[1, 6]"]),
    "rows of another dtype": ((np.array([0]), np.ones((1, WIDTH), np.float32)), ["float32[1, 6]", "float64[1, 6]"]),
    "ids that are no integers": (
        (np.array([0.0]), np.ones((1, WIDTH))),
        ["ids of grads[0] are float64[1]", "integers"],
    ),
    "ids that are a mask": ((np.ones(HEIGHT, bool), np.ones((HEIGHT, WIDTH))), ["ids of grads[0] are bool[40]"]),
    "ids of two dimensions": ((np.array([[0]]), np.ones((1, WIDTH))), ["int64[1, 1]", "list of row numbers"]),
    "ids as a list": (([0], np.ones((1, WIDTH))), ["grads[0] is a tuple", "two NumPy arrays"]),
    "three parts": ((np.array([0]), np.ones((1, WIDTH)), 1), ["grads[0] is a tuple", "(ids, rows)"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rows_change_nothing(name: str):
    gradient, expected = WRONG[name]
    p = start((HEIGHT, WIDTH))
    optimizer = Optimizer("adagrad", [p])
    before = everything(optimizer, p)
    with pytest.raises(InputError) as caught:
        optimizer.step([gradient])
    assert "\n" not in str(caught.value)
    for part in expected:
        assert part in str(caught.value)
    assert everything(optimizer, p) == before


@pytest.mark.parametrize("rule", [name for name in RULES if name not in SPARSE])
def test_a_rule_without_a_sparse_form_says_so(rule: str):
    optimizer = Optimizer(rule, [start((HEIGHT, WIDTH))])
    with pytest.raises(InputError, match=rf"{rule} has no form for \(ids, rows\).*rules that have one: sgd, adagrad"):
        optimizer.step([(np.array([0]), np.ones((1, WIDTH)))])


@pytest.mark.parametrize("rule", [name for name in SPARSE if RULES[name].decays])
def test_weight_decay_would_touch_every_row(rule: str):
    optimizer = Optimizer(rule, [start((HEIGHT, WIDTH))], weight_decay=0.1)
    with pytest.raises(InputError, match=rf"{rule} with weight_decay 0.1 .* set weight_decay=0"):
        optimizer.step([(np.array([0]), np.ones((1, WIDTH)))])


def test_averages_would_touch_every_row():
    optimizer = Optimizer("sgd", [start((HEIGHT, WIDTH))], ema_decay=0.9)
    with pytest.raises(InputError, match=r"ema_decay would touch every row of params\[0\]"):
        optimizer.step([(np.array([0]), np.ones((1, WIDTH)))])


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_only_tables_have_rows(shape: tuple[int, ...]):
    with pytest.raises(InputError, match="only tables have rows"):
        Optimizer("sgd", [start(shape)]).step([(np.array([0]), np.ones((1, 1)))])


# The guide's hybrid, and its cost


@pytest.mark.parametrize("rule", SPARSE)
def test_hybrid_config_takes_rows_for_its_embedding(rule: str):
    config = OptimizerConfig(
        "hybrid",
        groups=[
            {"role": "embedding", "optimizer": rule, "hyperparameters": {"lr": 0.05}},
            {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 0.01, "weight_decay": 0.1}},
            {"role": "no_decay", "optimizer": "adamw", "hyperparameters": {"weight_decay": 0.0}},
        ],
    )
    params = {"table": start((1000, WIDTH)), "w": start((4, 4)), "b": start((4,))}
    expected = {name: array.copy() for name, array in params.items()}
    optimizer = Optimizer.from_config(config, params)
    alone = {
        "table": Optimizer(rule, [expected["table"]], lr=0.05),
        "w": Optimizer("adamw", [expected["w"]], lr=0.01, weight_decay=0.1),
        "b": Optimizer("adamw", [expected["b"]], lr=0.01, weight_decay=0.0),
    }
    rows, dense, bias = draw(5, np.float64, height=1000), noise((4, 4), 5), noise((4,), 5)
    for t in range(5):
        grads: dict[str, Any] = {"table": rows[t], "w": dense[t], "b": bias[t]}
        optimizer.step(grads)
        for name, single in alone.items():
            single.step([grads[name]])
    for name, array in params.items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("rule", SPARSE)
def test_a_step_allocates_by_the_rows_not_by_the_table(rule: str):
    table = np.zeros((200_000, 8), np.float32)
    optimizer = Optimizer(rule, [table])
    gradient = np.array([5, 199_999, 5]), np.ones((3, 8), np.float32)
    optimizer.step([gradient])
    tracemalloc.start()
    try:
        optimizer.step([gradient])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000 < table.nbytes


# Parity


def torch_rows(torch: Any, gradient: tuple[np.ndarray, np.ndarray]) -> Any:
    ids, rows = gradient
    return torch.sparse_coo_tensor(torch.tensor(ids)[None], torch.tensor(rows), (HEIGHT, WIDTH), check_invariants=True)


# SparseAdam puts eps beside the uncorrected root: at eps = 1e-20 the place does not matter.
@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rule", "name", "keywords"),
    [
        ("sgd", "SGD", {"lr": 0.1}),
        ("adagrad", "Adagrad", {"lr": 0.1}),
        ("adagrad", "Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-6}),
        ("adam", "SparseAdam", {"lr": 0.05, "eps": 1e-20}),
        ("adam", "SparseAdam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-20}),
    ],
)
def test_path_equals_torch_with_sparse_gradients(rule: str, name: str, keywords: dict[str, Any], dtype: type):
    torch = pytest.importorskip("torch")
    ours = start((HEIGHT, WIDTH), dtype)
    theirs = torch.tensor(ours, requires_grad=True)
    optimizer, twin = Optimizer(rule, [ours], **keywords), getattr(torch.optim, name)([theirs], **keywords)
    for t, gradient in enumerate(draw(100, dtype)):
        optimizer.step([gradient])
        theirs.grad = torch_rows(torch, gradient)
        twin.step()
        assert distance(ours, theirs.detach().numpy()) < (1e-6 if dtype == np.float32 else 1e-12), f"step {t + 1}"
