"""config.build_keras: groups, saving, refusals. The paths are in test_round_trips.py and test_conventions.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optadvisor as oa
from optadvisor.kernels import InputError

os.environ.setdefault("KERAS_BACKEND", "jax")
jax = pytest.importorskip("jax")
keras = pytest.importorskip("keras")
from optadvisor.frameworks.keras.optimizer import ConfigOptimizer  # noqa: E402
from optadvisor.frameworks.keras.scheduling import ConfigSchedule  # noqa: E402

pytestmark = pytest.mark.parity

WARM = {"name": "warmup_cosine", "warmup_steps": 3, "floor": 0.1}
HYBRID = oa.OptimizerConfig(
    "hybrid",
    groups=[
        {"role": "embedding", "optimizer": "ftrl", "hyperparameters": {"lr": 0.05}},
        {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 0.01, "weight_decay": 0.3}},
        {"role": "no_decay", "optimizer": "adamw", "hyperparameters": {"lr": 0.02, "weight_decay": 0.0}},
    ],
    schedule=WARM,
)


@pytest.fixture(autouse=True)
def _float32():
    with jax.enable_x64(False):
        yield


def model() -> Any:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            layers.Embedding(12, 3),
            layers.Flatten(),
            layers.Dense(4),
            layers.LayerNormalization(),
            layers.Dense(1),
        ]
    )


def batches(steps: int, start: int = 0) -> list[Any]:
    draw = np.random.default_rng(start)
    return [(draw.integers(12, size=(8, 2)), draw.normal(size=(8, 1)).astype(np.float32)) for _ in range(steps)]


def values(found: Any) -> list[np.ndarray]:
    return [np.asarray(v.value) for v in found]


def test_a_hybrid_is_one_optimizer_with_a_group_for_each_variable():
    own = model()
    optimizer = HYBRID.build_keras(own, 20)
    assert isinstance(optimizer, keras.optimizers.Optimizer)
    assert optimizer.roles == ("embedding", "dense", *["no_decay"] * 3, "dense", "no_decay")
    own.compile(optimizer=optimizer, loss="mse")
    for batch in batches(3):
        own.train_on_batch(*batch)
    # two states for each of seven variables, and the step count
    assert len(optimizer.variables) == 2 * 7 + 1


# Keras turns its arrays into NumPy's in a way that NumPy deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_model_goes_on_from_a_file_with_its_groups_and_state(tmp_path: Path):
    own = model()
    own.compile(optimizer=HYBRID.build_keras(own, 20), loss="mse")
    for batch in batches(5):
        own.train_on_batch(*batch)
    own.save(tmp_path / "model.keras")
    other = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(other.optimizer, ConfigOptimizer)
    assert other.optimizer.config == own.optimizer.config
    assert other.optimizer.roles == own.optimizer.roles
    for batch in batches(5, 1):
        own.train_on_batch(*batch)
        other.train_on_batch(*batch)
    for one, two in zip(values(own.weights), values(other.weights), strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(values(own.optimizer.variables), values(other.optimizer.variables), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_schedule_goes_through_kerass_own_serialisation():
    schedule = ConfigSchedule(0.5, {"name": "linear", "warmup_steps": 2, "total_steps": 10})
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    for t in range(12):
        assert float(again(t)) == pytest.approx(0.5 * schedule.schedule.factor(t), rel=1e-6)
        assert float(schedule(t)) == float(again(t))


def test_kerass_own_class_where_it_takes_the_same_steps():
    cases = {
        "SGD": oa.OptimizerConfig("sgd", {"weight_decay": 0.1}),
        "Lion": oa.OptimizerConfig("lion"),
        "Lamb": oa.OptimizerConfig("lamb", {"weight_decay": 0.0}),
        "Adagrad": oa.OptimizerConfig("adagrad", convention="keras"),
        "RMSprop": oa.OptimizerConfig("rmsprop", {}, WARM, convention="keras"),
        "Adam": oa.OptimizerConfig("adam", {"amsgrad": True}, convention="keras"),
        "AdamW": oa.OptimizerConfig("adamw", convention="keras"),
        "Ftrl": oa.OptimizerConfig("ftrl", convention="keras"),
    }
    for name, config in cases.items():
        optimizer = config.build_keras(total_steps=10)
        assert type(optimizer) is type(getattr(keras.optimizers, name)(0.1)), name
    assert isinstance(cases["RMSprop"].build_keras(total_steps=10)._learning_rate, ConfigSchedule)


@pytest.mark.parametrize("given", [True, False])
def test_weight_decay_leaves_norms_and_biases_alone(given: bool):
    """By layer with a model, by shape without; Keras' exclude_from_weight_decay would be lost in a saved model."""
    own = model()
    config = oa.OptimizerConfig.of("adamw", {"lr": 0.1, "weight_decay": 0.5})
    optimizer = config.build_keras(own if given else None)
    before = values(own.trainable_variables)
    optimizer.apply([np.zeros(v.shape, "float32") for v in own.trainable_variables], own.trainable_variables)
    for variable, old in zip(own.trainable_variables, before, strict=True):
        expected = old * 0.95 if len(variable.shape) == 2 else old
        np.testing.assert_allclose(np.asarray(variable.value), expected, rtol=1e-6, err_msg=variable.path)


def test_declared_roles_win():
    own = model()
    optimizer = HYBRID.build_keras(own, 20, {"*embeddings": "dense", "*layer_normalization*/gamma": "dense"})
    assert optimizer.roles == ("dense", "dense", "no_decay", "dense", "no_decay", "dense", "no_decay")


def test_the_learning_rate_can_be_set_and_ratios_stay():
    config = oa.OptimizerConfig(
        "hybrid",
        groups=[
            {"role": "embedding", "optimizer": "sgd", "hyperparameters": {"lr": 0.5}},
            {"role": "dense", "optimizer": "momentum", "hyperparameters": {"lr": 0.1}},
        ],
    )
    own = model()
    optimizer = config.build_keras(own)
    optimizer.build(own.trainable_variables)
    optimizer.learning_rate = 0.01
    before = values(own.trainable_variables)
    optimizer.apply([np.ones(v.shape, "float32") for v in own.trainable_variables], own.trainable_variables)
    moved = [old - new for old, new in zip(before, values(own.trainable_variables), strict=True)]
    np.testing.assert_allclose(moved[0], 0.05, rtol=1e-5)
    np.testing.assert_allclose(moved[1], 0.01, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_kerass_own_keywords_work_with_it():
    own = model()
    optimizer = ConfigOptimizer(HYBRID.to_dict() | {"schedule": {"name": "constant"}}, clipnorm=1e-12, use_ema=True)
    before = values(own.trainable_variables)
    own.compile(optimizer=optimizer, loss="mse")
    own.train_on_batch(*batches(1)[0])
    assert optimizer.get_config()["clipnorm"] == 1e-12
    assert any((old != new).any() for old, new in zip(before, values(own.trainable_variables), strict=True))
    with pytest.raises(InputError, match="weight_decay belongs to the config"):
        ConfigOptimizer(HYBRID.to_dict() | {"schedule": {"name": "constant"}}, weight_decay=0.1)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (oa.OptimizerConfig("muon"), r"keras.optimizers.Muon .* use oa.kernels.Optimizer on NumPy arrays"),
        (oa.OptimizerConfig("lamb"), "keras.optimizers.Lamb decays weights outside of its trust ratio"),
        (oa.OptimizerConfig("schedule_free_adamw"), "evaluates at other weights than it trains"),
        (oa.OptimizerConfig("nag", convention="paper"), "look-ahead point, and Keras gives the gradient"),
        (oa.OptimizerConfig("adam", {}, {"name": "cosine"}), "schedule cosine needs the length of the training"),
    ],
    ids=str,
)
def test_what_is_refused(config: oa.OptimizerConfig, words: str):
    with pytest.raises(InputError, match=words):
        config.build_keras()


def test_wrong_arguments():
    with pytest.raises(InputError, match="roles name variables of a model: pass model too"):
        oa.OptimizerConfig("adam").build_keras(roles={"*": "dense"})
    with pytest.raises(InputError, match="has no weights yet"):
        oa.OptimizerConfig("adam").build_keras(keras.Sequential([keras.layers.Dense(2)]))
    optimizer = HYBRID.build_keras(model(), 20)
    with pytest.raises(InputError, match="2 trainable variables, and roles for 7: build the optimizer anew"):
        optimizer.build(model().trainable_variables[:2])
