"""A config as PyTorch code that stands alone: one class of torch.optim, a schedule in one expression. Imports no torch."""

from __future__ import annotations

from optadvisor.config import HYBRID, OptimizerConfig, no_decay
from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.frameworks.torch.translation import translate
from optadvisor.kernels.rules.record import Value
from optadvisor.kernels.schedules import NEEDS_TOTAL, Schedule

_FACTORS = {
    "constant": "return 1.0",
    "warmup": "return min(1.0, step / WARMUP_STEPS) if WARMUP_STEPS else 1.0",
    "cosine": "return FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / total_steps)))",
    "warmup_cosine": "if step < WARMUP_STEPS:\n        return step / WARMUP_STEPS\n"
    "    done = min(1.0, (step - WARMUP_STEPS) / max(1, total_steps - WARMUP_STEPS))\n"
    "    return FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + math.cos(math.pi * done))",
}


def standalone(config: OptimizerConfig, header: str) -> str:
    """Source code that needs PyTorch alone; header: its docstring.

    Errors: Inexpressible for what one class of torch.optim and one expression for the schedule are not.
    """
    if config.optimizer == HYBRID:
        raise Inexpressible("a hybrid has one rule a group, and torch.optim has no class for that")
    schedule = Schedule.from_dict(config.schedule)
    rule, values = config.roles()["dense"]
    chosen = translate(rule, values, config.convention, constant_lr=schedule.name == "constant")
    if config.groups != ([no_decay(rule)] if values["weight_decay"] else []):
        raise Inexpressible("its groups differ in more than weight decay, which leaves out norms and biases")
    if schedule.name not in _FACTORS:
        raise Inexpressible(f"schedule {schedule.name!r} has no short form; those that have: {', '.join(_FACTORS)}")
    keywords = dict(chosen.keywords)
    decay = keywords.pop("weight_decay")
    rest = ", ".join(f"{key}={literal(value)}" for key, value in keywords.items())
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
    return f'''{header}

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
        {{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": {literal(decay)}}},
        {{"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}},
    ]
    optimizer = torch.optim.{chosen.name}([g for g in groups if g["params"]], {rest})
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, total_steps))
    return optimizer, scheduler
{demo()}'''


def demo(
    model: str = "torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)",
    inputs: str = "torch.rand(256, 64)",
) -> str:
    """The end of a file with `build`: it trains a small model. model: its layers; inputs: 256 examples for them."""
    return f"""

if __name__ == "__main__":
    # Shows that it runs: replace model and data by yours.
    torch.manual_seed(0)
    model = torch.nn.Sequential({model})
    inputs, labels = {inputs}, torch.randint(10, (256,))
    optimizer, scheduler = build(model, total_steps=100)
    for step in range(100):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 20 == 0:
            print(f"step {{step}}: loss {{loss.item():.4f}}")
"""


def literal(value: Value | list[float]) -> str:
    """A hyperparameter as Python source."""
    return f"({', '.join(repr(v) for v in value)})" if isinstance(value, (list, tuple)) else repr(value)
