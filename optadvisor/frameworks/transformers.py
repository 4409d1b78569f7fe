"""A config as keyword arguments of transformers.TrainingArguments, or why Hugging Face's Trainer cannot train it itself.

Read from the Trainer of transformers 5.24 and held to it by tests/frameworks/test_transformers.py. Imports transformers
only where a model is given to compare the groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.frameworks.torch.translation import translate
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.rules.record import Value
from optadvisor.kernels.schedules import Schedule

if TYPE_CHECKING:
    from torch import nn

_RECIPE = "pass Trainer(optimizers=config.build_torch(model, total_steps)) in place of these arguments"

# Class of torch.optim -> the Trainer's name, and which keywords its `optim_args` carries.
_OPTIM: dict[str, tuple[str, tuple[str, ...]]] = {
    "SGD": ("sgd", ("momentum", "dampening", "nesterov")),
    "Adagrad": ("adagrad", ("lr_decay", "eps")),
    "RMSprop": ("rmsprop", ("alpha", "eps", "momentum", "centered")),
    "AdamW": ("adamw_torch", ()),
}
# What the Trainer leaves at PyTorch's default.
_FIXED: dict[str, Value] = {"amsgrad": False, "initial_accumulator_value": 0.0}


def to_training_arguments(
    config: OptimizerConfig, total_steps: int | None = None, model: nn.Module | None = None
) -> dict[str, Any]:
    """Keyword arguments for transformers.TrainingArguments with which Trainer takes the very steps of a config.

    total_steps: optimizer steps of the training, where the config does not carry it; becomes max_steps. model: compare
    which parameters the Trainer decays and which the config does. `max_grad_norm` is 0, no clipping, which is what
    the config says; the Trainer's own default clips at 1.

    Errors: InputError, one line, for what the Trainer cannot express, with the reason and the recipe: a hybrid, other
    groups than no_decay, full batches, a rule, convention, hyperparameter or schedule it has not; for other groups of
    decay than the model's; for a schedule whose length is unknown.
    """
    schedule = Schedule.from_dict(config.schedule).resolve(total_steps)
    try:
        chosen = _optimizer(config, schedule)
        planned = _schedule(schedule, float(chosen["learning_rate"]))
    except Inexpressible as error:
        raise InputError(f"Hugging Face's Trainer cannot express this config: {error}; {_RECIPE}") from None
    if model is not None and chosen["weight_decay"]:
        _compare(model)
    length = {} if schedule.total_steps is None else {"max_steps": schedule.total_steps}
    return {**chosen, **planned, **length, "max_grad_norm": 0.0}


def _optimizer(config: OptimizerConfig, schedule: Schedule) -> dict[str, Any]:
    if config.optimizer == HYBRID:
        raise Inexpressible("it is a hybrid, a rule for each of its groups")
    if config.batch == "full":
        raise Inexpressible("each of its steps uses all samples")
    values = rules.get(config.optimizer).complete(config.hyperparameters)
    _check_groups(config, values)
    constant = schedule.name == "constant"
    convention = config.convention_of(config.optimizer)
    made = translate(config.optimizer, values, convention, constant_lr=constant)
    keywords, name = dict(made.keywords), made.name
    lr, decay = keywords.pop("lr"), keywords.pop("weight_decay")
    if name == "Adam":
        if decay:
            raise Inexpressible(f"adam with weight_decay {decay:g} decays through the gradient, and its Adam is AdamW")
        name = "AdamW"  # without decay the same
    if name not in _OPTIM:
        raise Inexpressible(f"it has no {config.optimizer}")
    for key, default in _FIXED.items():
        if keywords.pop(key, default) != default:
            raise Inexpressible(f"it does not take {key} of {config.optimizer}")
    optim, carried = _OPTIM[name]
    found: dict[str, Any] = {"optim": optim, "learning_rate": lr, "weight_decay": decay}
    if name == "AdamW":
        beta1, beta2 = keywords["betas"]  # type: ignore[misc]
        return {**found, "adam_beta1": beta1, "adam_beta2": beta2, "adam_epsilon": keywords["eps"]}
    text = ",".join(f"{key}={_text(keywords[key])}" for key in carried if key in keywords)
    return {**found, **({"optim_args": text} if text else {})}


def _check_groups(config: OptimizerConfig, values: Mapping[str, Value]) -> None:
    """The Trainer has two groups, which differ in weight decay alone, and makes both whether they are asked for or not."""
    roles = config.roles()
    if values.get("weight_decay") and "no_decay" not in roles:
        raise Inexpressible("it decays norms and biases too, which the Trainer leaves alone")
    for role, (rule, own) in roles.items():
        if role == "dense":
            continue
        wanted = {**values, "weight_decay": 0.0} if "weight_decay" in values else values
        if role != "no_decay" or rule != config.optimizer or own != wanted:
            raise Inexpressible(f"its group {role} differs in more than weight decay")


def _schedule(schedule: Schedule, lr: float) -> dict[str, Any]:
    """The schedule by the Trainer's names. Its factors are those of schedules.py (test_transformers.py has all of them)."""
    warmup, total, floor = schedule.warmup_steps or 0, schedule.total_steps or 0, schedule.floor
    more: dict[str, Any] = {}
    if schedule.name == "constant":
        name = "constant"
    elif schedule.name == "warmup":
        name = "constant_with_warmup"
    elif schedule.name in ("cosine", "warmup_cosine"):
        name = "cosine_with_min_lr" if floor else "cosine"
        more = {"min_lr_rate": floor} if floor else {}
    elif schedule.name == "linear":
        name = "polynomial" if floor else "linear"
        more = {"power": 1.0, "lr_end": floor * lr} if floor else {}
    elif schedule.name == "inverse_sqrt" and warmup:
        name = "inverse_sqrt"
    elif schedule.name == "wsd" and not (floor and warmup):
        name = "warmup_stable_decay"
        decay = max(1, round(schedule.decay_fraction * total))
        more = {"num_decay_steps": decay, "decay_type": "linear", "min_lr_ratio": floor}
        if warmup + decay > total:
            raise Inexpressible("its warm-up reaches into the decay of wsd")
    else:
        why = {"inverse_sqrt": " without warm-up", "wsd": " with both a warm-up and a floor"}.get(schedule.name, "")
        raise Inexpressible(f"it has no schedule {schedule.name}{why}")
    return {"lr_scheduler_type": name, "warmup_steps": warmup, **({"lr_scheduler_kwargs": more} if more else {})}


def _compare(model: nn.Module) -> None:
    """InputError where the Trainer decays other parameters of a model than our groups do."""
    from optadvisor.frameworks.torch.reading import parameters

    try:
        from transformers import Trainer
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise InputError("comparing the groups of a model needs transformers: pip install transformers") from None
    theirs = set(Trainer.get_decay_parameter_names(None, model))
    for parameter in parameters(model):
        decayed = parameter.name in theirs
        if parameter.trainable and decayed != parameter.decay:
            does = "decays" if decayed else "does not decay"
            raise InputError(
                f"Hugging Face's Trainer {does} {parameter.name} ({parameter.why}), and the config "
                f"{'does not' if decayed else 'does'}: {_RECIPE}"
            )


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
