"""`ConfigOptimizer`: a whole config as one Keras optimizer, hybrids and PyTorch's conventions included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from optadvisor.config import OptimizerConfig
from optadvisor.frameworks.keras import scalars
from optadvisor.frameworks.keras.scheduling import ConfigSchedule
from optadvisor.frameworks.running import Steps
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.schedules import Schedule


@keras.saving.register_keras_serializable("optadvisor")
class ConfigOptimizer(keras.optimizers.Optimizer):  # type: ignore[misc]
    """The rules of a config on Keras variables, each in its group, on every backend of Keras.

    config: an OptimizerConfig or its dict, with a schedule whose step counts are known. roles: "embedding", "dense" or
    "no_decay" of each trainable variable, in their order (so Keras, too, finds their states in a saved model); without it by
    shape, as in kernels.Optimizer.from_config. Further keywords are Keras' own (clipnorm, use_ema,
    gradient_accumulation_steps, ...); weight decay is the config's.

    `learning_rate` is that of the dense group, a schedule where the config's is not constant; other groups keep their ratio to
    it. Saved with a model, it comes back with its groups.

    Errors: InputError for what Keras cannot do (`Steps`), and for an open schedule.
    """

    def __init__(
        self,
        config: OptimizerConfig | Mapping[str, Any],
        roles: Sequence[str] | None = None,
        learning_rate: Any = None,
        name: str = "optadvisor",
        **keywords: Any,
    ) -> None:
        config = config if isinstance(config, OptimizerConfig) else OptimizerConfig.from_dict(config)
        schedule = Schedule.from_dict(config.schedule).resolve()
        if learning_rate is None:
            constant = schedule.name == "constant"
            learning_rate = config.lr if constant else ConfigSchedule(config.lr, schedule.to_dict())
        if keywords.pop("weight_decay", None):
            raise InputError("weight_decay belongs to the config: set it in its hyperparameters")
        super().__init__(learning_rate, name=name, **keywords)
        self.config = config
        self.roles = None if roles is None else tuple(roles)
        self._numbers: dict[Any, list[Any]] = {}
        self._parts = config.roles()
        self._steps = {
            role: Steps(rule, hyperparameters, config.convention_of(rule), keras.ops, scalars.library())
            for role, (rule, hyperparameters) in self._parts.items()
        }

    def build(self, variables: list[Any]) -> None:
        """Make the states of the variables."""
        if self.built:
            return
        super().build(variables)
        if self.roles is not None and len(self.roles) != len(variables):
            raise InputError(
                f"{len(variables)} trainable variables, and roles for {len(self.roles)}: build the optimizer anew after freezing"
            )
        self._role_of, self._states = [], []
        for i, variable in enumerate(variables):
            role = self.config.role_of(variable.shape, self.roles[i] if self.roles else None)
            self._role_of.append(role)
            self._states.append(self._made(variable, self._steps[role]))

    def _made(self, variable: Any, steps: Steps) -> list[Any]:
        found = []
        for state in (*steps.states, *steps.row_states):
            if state in steps.row_states:
                shape = tuple(variable.shape[:1]) or (1,)
                path = variable.path.replace("/", "_")
                made = self.add_variable(shape, dtype=variable.dtype, name=f"{path}_{state.name}")
            else:
                made = self.add_variable_from_reference(variable, name=state.name)
            made.assign(keras.ops.broadcast_to(steps.start(state, variable.value), made.shape))
            found.append(made)
        return found

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """One step of all variables, as Keras calls it."""
        self._numbers = {}  # what a group's step needs is computed once, not for each variable
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable."""
        index = self._get_variable_index(variable)
        role, states = self._role_of[index], self._states[index]
        if (role, variable.dtype) not in self._numbers:
            self._numbers[role, variable.dtype] = self._coefficients(role, learning_rate, variable.dtype)
        new, *after = self._steps[role].step(
            keras.ops.convert_to_tensor(variable),
            keras.ops.cast(gradient, variable.dtype),
            [keras.ops.convert_to_tensor(state) for state in states],
            self._numbers[role, variable.dtype],
        )
        self.assign(variable, new)
        for state, value in zip(states, after, strict=True):
            self.assign(state, value)

    def _coefficients(self, role: str, learning_rate: Any, kind: str) -> list[Any]:
        rule, hyperparameters = self._parts[role]
        own, peak = float(hyperparameters["lr"]), self.config.lr  # type: ignore[arg-type]
        with scalars.double():
            lr = scalars.cast(learning_rate, "float64")
            if not rules.get(rule).scheduled:
                lr = own
            elif own != peak:
                lr = lr * (own / peak) if peak else own
            t = scalars.cast(self.iterations, "float64") + 1.0
            return [scalars.cast(number, kind) for number in self._steps[role].coefficients(t, lr)]

    def get_config(self) -> dict[str, Any]:
        """What `from_config` takes."""
        kept = super().get_config()
        del kept["weight_decay"]
        return {**kept, "config": self.config.to_dict(), "roles": self.roles and list(self.roles)}
