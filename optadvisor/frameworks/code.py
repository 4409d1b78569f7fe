"""A config as source code that builds it, in each framework. Runs as it stands."""

from __future__ import annotations

import pprint
import textwrap
from collections.abc import Callable, Mapping

from optadvisor import __version__
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.frameworks.keras.translation import translate as keras_class
from optadvisor.frameworks.optax.limits import refuse as refuse_optax
from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.frameworks.torch.translation import refuse as refuse_torch
from optadvisor.frameworks.torch.writing import demo, standalone
from optadvisor.kernels.errors import InputError, unknown


def code(config: OptimizerConfig, framework: str) -> str:
    """Source code that builds the config in a framework.

    For PyTorch it needs PyTorch alone where torch.optim has the config as one class, else optadvisor beside it.

    Errors: InputError for a framework outside FRAMEWORKS, and for a config that the framework cannot express.
    """
    if framework not in FRAMEWORKS:
        raise unknown("framework", framework, FRAMEWORKS)
    return FRAMEWORKS[framework](config)


def _header(config: OptimizerConfig, what: str) -> str:
    origin = config.provenance
    lines = [f'"""{what} from optadvisor {__version__}.']
    if origin.get("source") == "study":
        lines.append("")
        lines.append(
            f"Tuned on {origin['task']} (study {origin['study']}, seed {origin['seed']}, {origin['steps']} steps):"
        )
        better = "higher" if origin.get("direction") == "maximize" else "lower"
        lines.append(f"mean over {len(origin['seeds'])} fresh seeds {origin['value']:.4g}, {better} is better.")
    return "\n".join([*lines, '"""'])


def _config(config: OptimizerConfig) -> str:
    data = pprint.pformat(config.to_dict(), sort_dicts=False, width=100)
    return "CONFIG = oa.OptimizerConfig.from_dict(\n" + "\n".join("    " + line for line in data.splitlines()) + "\n)"


def _total(config: OptimizerConfig) -> int:
    return int(config.schedule["total_steps"] or 1000)


def _refuse(config: OptimizerConfig, framework: str, refuse: Callable[..., object]) -> None:
    for rule, hyperparameters in config.roles().values():
        try:
            refuse(rule, hyperparameters, config.convention_of(rule))
        except Inexpressible as error:
            raise InputError(
                f"no code for {framework}: {error}; use --framework numpy, which runs on our kernels"
            ) from None


def _torch(config: OptimizerConfig) -> str:
    _refuse(config, "torch", refuse_torch)
    try:
        return standalone(config, _header(config, f"{config.optimizer} for PyTorch"))
    except Inexpressible as error:
        why = textwrap.fill(f"Not PyTorch alone: {error}.", 100, initial_indent="# ", subsequent_indent="# ")
    end = demo()
    if config.optimizer == HYBRID:
        model = "torch.nn.EmbeddingBag(1000, 32), torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)"
        end = demo(model, "torch.randint(1000, (256, 4))")
    return f'''{_header(config, f"{config.optimizer} for PyTorch, built by optadvisor")}

import torch

import optadvisor as oa

{why}
{_config(config)}


def build(model: torch.nn.Module, total_steps: int = {_total(config)}):
    """Optimizer and scheduler of a model; call scheduler.step() after every optimizer.step()."""
    return CONFIG.build_torch(model, total_steps)
{end}'''


def _optax(config: OptimizerConfig) -> str:
    _refuse(config, "optax", refuse_optax)
    return f'''{_header(config, f"{config.optimizer} for JAX, built by optadvisor on optax")}

import jax
import optax

import optadvisor as oa

{_config(config)}


def build(params, total_steps={_total(config)}):
    """optax.GradientTransformation for a pytree of parameters; call update(grads, state, params)."""
    return CONFIG.build_optax(params, total_steps)


if __name__ == "__main__":
    # Shows that it runs: replace params, data and loss by yours.
    ids = jax.random.randint(jax.random.key(0), (256, 4), 0, 1000)
    target = jax.random.normal(jax.random.key(1), (256, 1))
    params = {{
        "embed": {{"embedding": 0.1 * jax.random.normal(jax.random.key(2), (1000, 8))}},
        "dense": {{"kernel": 0.1 * jax.random.normal(jax.random.key(3), (8, 1)), "bias": jax.numpy.zeros(1)}},
    }}
    optimizer = build(params, total_steps=100)
    state = optimizer.init(params)

    def loss_of(params):
        hidden = params["embed"]["embedding"][ids].sum(axis=1)
        return ((hidden @ params["dense"]["kernel"] + params["dense"]["bias"] - target) ** 2).mean()

    @jax.jit
    def train(params, state):
        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    for step in range(100):
        params, state, loss = train(params, state)
        if step % 20 == 0:
            print(f"step {{step}}: loss {{loss:.4f}}")
'''


def _keras(config: OptimizerConfig) -> str:
    _refuse(config, "keras", lambda *rule: keras_class(*rule, constant_lr=False))
    return f'''{_header(config, f"{config.optimizer} for Keras, built by optadvisor")}

import keras
import numpy as np

import optadvisor as oa

{_config(config)}


def build(model=None, total_steps={_total(config)}):
    """Optimizer for model.compile(optimizer=...); the model, built, tells which variable is in which group."""
    return CONFIG.build_keras(model, total_steps)


if __name__ == "__main__":
    # Shows that it runs: replace model and data by yours.
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    ids, target = rng.integers(1000, size=(256, 4)), rng.normal(size=(256, 1)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(1000, 8),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer=build(model, total_steps=100), loss="mse")
    for step in range(100):
        loss = float(model.train_on_batch(ids, target))
        if step % 20 == 0:
            print(f"step {{step}}: loss {{loss:.4f}}")
'''


def _numpy(config: OptimizerConfig) -> str:
    roles = ""
    if config.optimizer == HYBRID:
        roles = f', roles={{"w": "dense", "b": "{"no_decay" if "no_decay" in config.roles() else "dense"}"}}'
    return f'''{_header(config, f"{config.optimizer} for NumPy arrays, on optadvisor's kernels")}

import numpy as np

import optadvisor as oa

{_config(config)}


def build(params, total_steps={_total(config)}, roles=None):
    """Optimizer of a list or dict of float32 or float64 arrays, which step(grads) updates in place."""
    return oa.kernels.Optimizer.from_config(CONFIG, params, total_steps, roles)


if __name__ == "__main__":
    # Shows that it runs: least squares; replace params and gradients by yours.
    rng = np.random.default_rng(0)
    x, truth = rng.normal(size=(256, 8)), rng.normal(size=(8, 1))
    params = {{"w": np.zeros((8, 1)), "b": np.zeros(1)}}
    optimizer = build(params{roles})
    for step in range(100):
        error = x @ params["w"] + params["b"] - x @ truth
        if step % 20 == 0:
            print(f"step {{step}}: loss {{(error**2).mean():.4f}}")
        optimizer.step({{"w": 2 * x.T @ error / len(x), "b": 2 * error.mean(axis=0)}})
'''


FRAMEWORKS: Mapping[str, Callable[[OptimizerConfig], str]] = {
    "torch": _torch,
    "optax": _optax,
    "keras": _keras,
    "numpy": _numpy,
}
