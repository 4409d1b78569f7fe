"""`build_keras`: the optimizer of a config for Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras

from optadvisor.config import OptimizerConfig
from optadvisor.frameworks.grouping import assign
from optadvisor.frameworks.keras.optimizer import ConfigOptimizer
from optadvisor.frameworks.keras.reading import parameters
from optadvisor.frameworks.keras.scheduling import ConfigSchedule
from optadvisor.frameworks.keras.translation import translate
from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.schedules import Schedule


def build_keras(
    config: OptimizerConfig,
    model: Any = None,
    total_steps: int | None = None,
    roles: Mapping[str, str] | None = None,
) -> keras.optimizers.Optimizer:
    """The optimizer of a config, for `model.compile(optimizer=...)` or `optimizer.apply`, its schedule included.

    Keras' own class where it takes the config's steps and every variable is treated alike, else `ConfigOptimizer`, which is
    one optimizer for all groups. model: tells which variable goes to which group by layer; without it by shape: arrays
    of less than two dimensions to no_decay. total_steps: steps of the training, where the schedule needs it and the config does
    not carry it. roles: path or pattern of paths -> "embedding", "dense" or "no_decay", for a model.

    Errors: InputError for a model that is not built, roles or a schedule as `grouping.assign` and `Schedule.resolve`
    say, and with the reason for what Keras cannot do.
    """
    schedule = Schedule.from_dict(config.schedule).resolve(total_steps)
    config = replace(config, schedule=schedule.to_dict())
    if roles and model is None:
        raise InputError("roles name variables of a model: pass model too")
    groups = [] if model is None else assign(config, parameters(model), roles)
    used = {group.role: (group.rule, group.hyperparameters) for group in groups} or config.roles()
    chosen = []
    for rule, hyperparameters in used.values():
        constant = schedule.name == "constant" or not rules.get(rule).scheduled
        try:
            found = translate(rule, hyperparameters, config.convention_of(rule), constant_lr=constant)
        except Inexpressible as error:
            raise InputError(f"{error}: use oa.kernels.Optimizer on NumPy arrays, or another rule") from None
        chosen.append(found and (*found, float(hyperparameters["lr"])))  # type: ignore[arg-type]
    if chosen[0] is not None and all(other == chosen[0] for other in chosen):
        name, keywords, lr = chosen[0]
        rate = lr if schedule.name == "constant" else ConfigSchedule(lr, schedule.to_dict())
        return getattr(keras.optimizers, name)(rate, **keywords)
    if model is None:
        return ConfigOptimizer(config)
    role_of = {id(parameter.value): group.role for group in groups for parameter in group.parameters}
    return ConfigOptimizer(config, [role_of[id(variable)] for variable in model.trainable_variables])
