"""`build_optax`: the optimizer of a config as an optax.GradientTransformation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import optax

from optadvisor.config import OptimizerConfig
from optadvisor.frameworks.grouping import assign
from optadvisor.frameworks.optax.reading import parameters
from optadvisor.frameworks.optax.translation import translate
from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.schedules import Schedule

FROZEN = "frozen"


def build_optax(
    config: OptimizerConfig, params: Any, total_steps: int | None = None, roles: Mapping[str, str] | None = None
) -> optax.GradientTransformation:
    """The transformation of a config for a pytree of parameters, its schedule and groups included.

    Groups that differ become optax.multi_transform with a label ("embedding", "dense", "no_decay") a leaf. total_steps: updates
    of the training, where the schedule needs it and the config does not carry it. roles: name or pattern of names, such as
    "*/Embed_0/*" -> role. Where optax has not the rule, or not in the config's convention, our own runs on JAX arrays;
    like weight decay it needs update(grads, state, params). Leaves that do not train (integers) are left as they are.

    Errors: InputError for roles or a schedule as `grouping.assign` and `Schedule.resolve` say, and with the reason for
    what cannot be a gradient transformation.
    """
    schedule = Schedule.from_dict(config.schedule).resolve(total_steps)
    members = parameters(params)
    label = {}
    transformations = {}
    for group in assign(config, members, roles):
        own = schedule if rules.get(group.rule).scheduled else Schedule("constant", 0)
        try:
            made, _ = translate(group.rule, group.hyperparameters, config.convention_of(group.rule), own)
        except Inexpressible as error:
            raise InputError(f"{error}: use oa.kernels.Optimizer on NumPy arrays, or another rule") from None
        transformations[group.role] = made
        label.update({parameter.name: group.role for parameter in group.parameters})
    leaves, form = jax.tree.flatten(params)
    names = iter(members)
    labels = [
        label.get(next(names).name, FROZEN) if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else FROZEN
        for leaf in leaves
    ]
    if len(set(labels)) == 1:
        return transformations[labels[0]]
    if FROZEN in labels:
        transformations[FROZEN] = optax.set_to_zero()
    return optax.multi_transform(transformations, form.unflatten(labels))
