"""One toy model trained by one config in NumPy, PyTorch, optax and Keras: the same path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import optadvisor as oa
from optadvisor.kernels import RULES, InputError, Optimizer, Schedule

os.environ.setdefault("KERAS_BACKEND", "jax")
torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
keras = pytest.importorskip("keras")
pytestmark = pytest.mark.parity
torch.set_num_threads(1)

STEPS, BATCH = 100, 16
# Largest distance of a tensor, norm by norm, at every step. Measured: float32 2.1e-6 (optax, adamw), 0.9e-6 elsewhere;
# float64 7e-12 (PyTorch keeps NAdam's product of momenta in float32), but 3e-8 in Keras' own training loop.
BOUND = {"float32": 1e-5, "float64": 1e-7}
NAMES = ("table", "w1", "b1", "w2", "b2")
WARM = Schedule("warmup_cosine", 10, floor=0.1)

# Rates at which the rules move the toy by about as much.
RATES = {
    "sgd": 0.1,
    "momentum": 0.02,
    "nag": 0.02,
    "adagrad": 0.05,
    "rmsprop": 3e-3,
    "adam": 5e-3,
    "adamw": 5e-3,
    "ftrl": 0.05,
    "rowwise_adagrad": 0.05,
    "nadam": 5e-3,
    "radam": 5e-3,
    "lamb": 5e-3,
    "lion": 1e-3,
    "muon": 5e-3,
    "schedule_free_adamw": 5e-3,
}
MORE: dict[str, dict[str, Any]] = {
    "momentum": {"dampening": 0.5},
    "adagrad": {"lr_decay": 0.01, "initial_accumulator_value": 0.2},
    "rmsprop": {"momentum": 0.5, "centered": True, "alpha": 0.9},
    "adam": {"amsgrad": True, "betas": (0.8, 0.95)},
    "adamw": {"amsgrad": True},
    "ftrl": {"l1": 1e-3, "l2": 1e-3},
    "nadam": {"momentum_decay": 0.1},
}
REFUSED = {
    "optax": {"muon", "schedule_free_adamw"},
    "keras": {"muon", "schedule_free_adamw", "lamb"},
}


def toy() -> tuple[dict[str, np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
    """First parameters and mini-batches: two ids a sample -> table -> tanh layer -> two numbers."""
    draw = np.random.default_rng(0)
    shapes = {"table": (12, 3), "w1": (6, 5), "b1": (5,), "w2": (5, 2), "b2": (2,)}
    params = {name: draw.normal(size=shape) for name, shape in shapes.items()}
    batches = [(draw.integers(12, size=(BATCH, 2)), draw.normal(size=(BATCH, 2))) for _ in range(STEPS)]
    return params, batches


def configs() -> Iterator[tuple[str, oa.OptimizerConfig]]:
    for rule, record in RULES.items():
        decay = {"weight_decay": 0.05} if record.decays else {}
        schedule = WARM if record.scheduled else Schedule("constant", 0)
        yield rule, oa.OptimizerConfig.of(rule, {"lr": RATES[rule], **decay}, schedule)
        if rule in MORE:
            yield f"{rule} with more", oa.OptimizerConfig.of(rule, {"lr": RATES[rule], **MORE[rule]}, schedule)
    for table, dense in (("adagrad", "adamw"), ("ftrl", "momentum"), ("rowwise_adagrad", "adam")):
        yield f"hybrid of {table} and {dense}", hybrid(table, dense)


def hybrid(table: str, dense: str) -> oa.OptimizerConfig:
    groups = [
        {"role": "embedding", "optimizer": table, "hyperparameters": {"lr": RATES[table]}},
        {"role": "dense", "optimizer": dense, "hyperparameters": {"lr": RATES[dense], "weight_decay": 0.05}},
        {"role": "no_decay", "optimizer": dense, "hyperparameters": {"weight_decay": 0.0}},
    ]
    return oa.OptimizerConfig("hybrid", groups=groups, schedule=WARM.to_dict())


CONFIGS = dict(configs())
Path = list[dict[str, np.ndarray]]


def in_numpy(config: oa.OptimizerConfig, dtype: str) -> Path:
    params, batches = toy()
    p = {name: array.astype(dtype) for name, array in params.items()}
    optimizer = Optimizer.from_config(config, p, STEPS, {"table": "embedding"})
    path = []
    for ids, target in batches:
        x = p["table"][ids].reshape(BATCH, -1)
        hidden = np.tanh(x @ p["w1"] + p["b1"])
        error = (hidden @ p["w2"] + p["b2"] - target.astype(dtype)) / BATCH
        before = error @ p["w2"].T * (1 - hidden**2)
        rows = np.zeros_like(p["table"])
        np.add.at(rows, ids.reshape(-1), (before @ p["w1"].T).reshape(2 * BATCH, -1))
        grads = (rows, x.T @ before, before.sum(0), hidden.T @ error, error.sum(0))
        optimizer.step(dict(zip(NAMES, grads, strict=True)))
        path.append({name: array.copy() for name, array in p.items()})
    return path


def in_torch(config: oa.OptimizerConfig, dtype: str, kernels: str | None = None) -> Path:
    params, batches = toy()

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(12, 3, _weight=torch.tensor(params["table"]))
            for name in NAMES[1:]:
                setattr(self, name, torch.nn.Parameter(torch.tensor(params[name])))

        def forward(self, ids: Any) -> Any:
            return torch.tanh(self.table(ids).flatten(1) @ self.w1 + self.b1) @ self.w2 + self.b2

    model = Model().to(getattr(torch, dtype))
    optimizer, scheduler = config.build_torch(model, STEPS, kernels=kernels)
    path = []
    for ids, target in batches:
        optimizer.zero_grad()
        (model(torch.tensor(ids)) - torch.tensor(target.astype(dtype))).square().mean().backward()
        optimizer.step()
        scheduler.step()
        values = [p.detach().numpy().copy() for p in model.parameters()]
        order = [name.removesuffix(".weight") for name, _ in model.named_parameters()]
        path.append(dict(zip(order, values, strict=True)))
    return path


def in_optax(config: oa.OptimizerConfig, dtype: str) -> Path:
    params, batches = toy()
    with jax.enable_x64(dtype == "float64"):
        p: Any = {
            "embed": {"embedding": params["table"]},
            "one": {"kernel": params["w1"], "bias": params["b1"]},
            "two": {"kernel": params["w2"], "bias": params["b2"]},
        }
        p = jax.tree.map(lambda array: jax.numpy.array(array, dtype), p)
        optimizer = config.build_optax(p, STEPS)

        def loss(p: Any, ids: Any, target: Any) -> Any:
            x = p["embed"]["embedding"][ids].reshape(BATCH, -1)
            hidden = jax.numpy.tanh(x @ p["one"]["kernel"] + p["one"]["bias"])
            return ((hidden @ p["two"]["kernel"] + p["two"]["bias"] - target) ** 2).mean()

        @jax.jit
        def step(p: Any, state: Any, ids: Any, target: Any) -> Any:
            updates, state = optimizer.update(jax.grad(loss)(p, ids, target), state, p)
            return optax.apply_updates(p, updates), state

        state, path = optimizer.init(p), []
        for ids, target in batches:
            p, state = step(p, state, ids, target.astype(dtype))
            found = (
                p["embed"]["embedding"],
                p["one"]["kernel"],
                p["one"]["bias"],
                p["two"]["kernel"],
                p["two"]["bias"],
            )
            path.append({name: np.asarray(value) for name, value in zip(NAMES, found, strict=True)})
    return path


def keras_model(dtype: str) -> Any:
    params, _ = toy()
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            layers.Embedding(12, 3),
            layers.Flatten(),
            layers.Dense(5, activation="tanh"),
            layers.Dense(2),
        ]
    )
    model.set_weights([params[name].astype(dtype) for name in NAMES])
    return model


def in_keras(config: oa.OptimizerConfig, dtype: str) -> Path:
    _, batches = toy()
    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        with jax.enable_x64(dtype == "float64"):
            model = keras_model(dtype)
            model.compile(optimizer=config.build_keras(model, STEPS), loss="mse")
            path = []
            for ids, target in batches:
                model.train_on_batch(ids, target.astype(dtype))
                values = [np.asarray(variable.value) for variable in model.weights]
                path.append(dict(zip(NAMES, values, strict=True)))
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(before)
    return path


FRAMEWORKS: dict[str, Callable[[oa.OptimizerConfig, str], Path]] = {
    "torch": in_torch,
    "torch with our kernels": lambda config, dtype: in_torch(config, dtype, "optadvisor"),
    "optax": in_optax,
    "keras": in_keras,
}


def test_every_rule_and_a_hybrid_are_trained():
    assert {config.optimizer for config in CONFIGS.values()} == {*RULES, "hybrid"}
    first, last = in_numpy(CONFIGS["adamw"], "float64")[:: STEPS - 1]
    assert all(np.linalg.norm(last[name] - first[name]) > 0.05 * np.linalg.norm(first[name]) for name in NAMES)


# Compiling costs seconds: the keywords of MORE for optax and Keras are in test_conventions.py, in float64 too.
RUNS = [
    (name, framework, dtype)
    for name, config in CONFIGS.items()
    for framework in FRAMEWORKS
    for dtype in BOUND
    if "torch" in framework or (" more" not in name and (dtype == "float32" or config.optimizer in ("adamw", "hybrid")))
]


@pytest.mark.parametrize(("name", "framework", "dtype"), RUNS)
def test_the_path_is_that_of_the_kernels(name: str, framework: str, dtype: str):
    config = CONFIGS[name]
    if config.optimizer in REFUSED.get(framework, ()):
        with pytest.raises(InputError, match="another rule"):
            FRAMEWORKS[framework](config, dtype)
        return
    expected, found = in_numpy(config, dtype), FRAMEWORKS[framework](config, dtype)
    worst = 0.0
    # Against a tensor's largest norm so far: a small tensor passes through 0, where no relative error holds.
    largest = dict.fromkeys(NAMES, 0.0)
    for t in range(STEPS):
        for tensor in NAMES:
            array, reference = found[t][tensor], expected[t][tensor]
            assert array.dtype == dtype
            largest[tensor] = max(largest[tensor], float(np.linalg.norm(reference)))
            worst = max(worst, float(np.linalg.norm(array - reference)) / largest[tensor])
    assert worst < BOUND[dtype]
