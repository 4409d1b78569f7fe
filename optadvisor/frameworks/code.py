"""A config as source code that builds it: for PyTorch, or for our own kernels on NumPy arrays. Runs as it stands."""

from __future__ import annotations

import pprint
from collections.abc import Callable, Mapping
from typing import Any

from optadvisor import __version__
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.frameworks.torch.translation import translate
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.kernels.schedules import NEEDS_TOTAL, Schedule

_FACTORS = {
    "constant": "return 1.0",
    "warmup": "return min(1.0, step / WARMUP_STEPS) if WARMUP_STEPS else 1.0",
    "cosine": "return FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / total_steps)))",
    "warmup_cosine": "if step < WARMUP_STEPS:\n        return step / WARMUP_STEPS\n"
    "    done = min(1.0, (step - WARMUP_STEPS) / max(1, total_steps - WARMUP_STEPS))\n"
    "    return FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + math.cos(math.pi * done))",
}


def code(config: OptimizerConfig, framework: str) -> str:
    """Source code that builds the config in a framework.

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


def _torch(config: OptimizerConfig) -> str:
    if config.optimizer == HYBRID:
        raise InputError("a hybrid has one rule a group, and torch.optim has no class for that: use --framework numpy")
    schedule = Schedule.from_dict(config.schedule)
    (rule, values), *_ = config.roles().values()
    try:
        chosen = translate(rule, values, config.convention, constant_lr=schedule.name == "constant")
    except Inexpressible as error:
        raise InputError(f"{error}: use --framework numpy, which runs on our kernels") from None
    if schedule.name not in _FACTORS:
        raise InputError(f"code for schedule {schedule.name!r} is not written yet; written: {', '.join(_FACTORS)}")
    keywords = dict(chosen.keywords)
    decay = keywords.pop("weight_decay")
    rest = ", ".join(f"{key}={_literal(value)}" for key, value in keywords.items())
    total = schedule.total_steps
    default = "" if total is None else f" = {total}"
    warmup = schedule.resolve(total).warmup_steps if total is not None or schedule.name not in NEEDS_TOTAL else None
    if warmup is None and schedule.warmup_fraction is None:
        warmup = schedule.warmup_steps or 0
    constants = {
        "WARMUP_STEPS": f"round({schedule.warmup_fraction} * total_steps)" if warmup is None else str(warmup),
        "FLOOR": repr(schedule.floor),
    }
    body = _FACTORS[schedule.name]
    for constant, value in constants.items():
        body = body.replace(constant, value)
    imports = "import math\n\n" if "math." in body else ""
    batch = "    Every step uses all samples: the config is for full-batch descent.\n" if config.batch == "full" else ""
    return f'''{_header(config, f"{config.optimizer} for PyTorch")}

{imports}import torch


def lr_factor(step: int, total_steps: int{default}) -> float:
    """Factor on the learning rate after `step` steps: schedule {schedule.name}."""
    {body}


def build(model: torch.nn.Module, total_steps: int{default}):
    """Optimizer and scheduler of a model; call scheduler.step() after every optimizer.step().

{batch}    Weight decay leaves biases and normalisation (arrays of less than two dimensions) alone.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": {_literal(decay)}}},
        {{"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}},
    ]
    optimizer = torch.optim.{chosen.name}([g for g in groups if g["params"]], {rest})
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, total_steps))
    return optimizer, scheduler


if __name__ == "__main__":
    # Shows that it runs: replace model and data by yours.
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    inputs, labels = torch.rand(256, 64), torch.randint(10, (256,))
    optimizer, scheduler = build(model, total_steps=100)
    for step in range(100):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 20 == 0:
            print(f"step {{step}}: loss {{loss.item():.4f}}")
'''


def _numpy(config: OptimizerConfig) -> str:
    data = pprint.pformat(config.to_dict(), sort_dicts=False, width=100)
    roles = ""
    if config.optimizer == HYBRID:
        roles = f', roles={{"w": "dense", "b": "{"no_decay" if "no_decay" in config.roles() else "dense"}"}}'
    return f'''{_header(config, f"{config.optimizer} for NumPy arrays, on optadvisor's kernels")}

import numpy as np

import optadvisor as oa

CONFIG = oa.OptimizerConfig.from_dict(
{_indent(data)}
)


def build(params, total_steps={config.schedule["total_steps"] or 1000}, roles=None):
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


def _indent(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


def _literal(value: Any) -> str:
    return f"({', '.join(repr(v) for v in value)})" if isinstance(value, (list, tuple)) else repr(value)


FRAMEWORKS: Mapping[str, Callable[[OptimizerConfig], str]] = {"torch": _torch, "numpy": _numpy}
