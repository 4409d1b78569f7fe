"""`ConfigOptimizer`: a whole config as one Keras optimizer, hybrids and PyTorch's conventions included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from optadvisor.config import OptimizerConfig
from optadvisor.frameworks.keras.scheduling import ConfigSchedule
from optadvisor.frameworks.running import Steps
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.schedules import Schedule


@keras.saving.register_keras_serializable("optadvisor")
class ConfigOptimizer(keras.optimizers.Optimizer):  # type: ignore[misc]
    """The rules of a config on Keras variables, each in its group, on every backend of Keras.

    config: an OptimizerConfig or its dict, with a schedule whose step counts are known. roles: path of a variable -> "embedding",
    "dense" or "no_decay"; variables that it does not name go by shape, as in kernels.Optimizer.from_config. Further
    keywords are Keras' own (clipnorm, use_ema, gradient_accumulation_steps, ...); weight decay is the config's.

    `learning_rate` is that of the dense group, a schedule where the config's is not constant; other groups keep their ratio to
    it. Saved with a model, it comes back with its groups.

    Errors: InputError for what Keras cannot do (`Steps`), and for an open schedule.
    """

    def __init__(
        self,
        config: OptimizerConfig | Mapping[str, Any],
        roles: Mapping[str, str] | None = None,
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
        self.roles = dict(roles or {})
        self._steps = {
            role: Steps(rule, hyperparameters, config.convention_of(rule), keras.ops)
            for role, (rule, hyperparameters) in config.roles().items()
        }

    def build(self, variables: list[Any]) -> None:
        """Make the states of the variables."""
        if self.built:
            return
        super().build(variables)
        known = {variable.path for variable in variables}
        for path in self.roles:
            if path not in known:
                raise InputError(f"roles: {path!r} is no trainable variable of the model: build it for this model anew")
        self._role_of, self._states = [], []
        for variable in variables:
            role = self.config.role_of(variable.shape, self.roles.get(variable.path))
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

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable."""
        index = self._get_variable_index(variable)
        steps, states = self._steps[self._role_of[index]], self._states[index]
        rule, hyperparameters = self.config.roles()[self._role_of[index]]
        own, peak = float(hyperparameters["lr"]), self.config.lr  # type: ignore[arg-type]
        kind = variable.dtype
        lr = keras.ops.cast(learning_rate, kind)
        if not rules.get(rule).scheduled:
            lr = own
        elif own != peak:
            lr = lr * (own / peak) if peak else own
        numbers = steps.coefficients(keras.ops.cast(self.iterations + 1, kind), lr)
        new, *after = steps.step(
            keras.ops.convert_to_tensor(variable),
            keras.ops.cast(gradient, kind),
            [keras.ops.convert_to_tensor(state) for state in states],
            [keras.ops.convert_to_tensor(number, dtype=kind) for number in numbers],
        )
        self.assign(variable, new)
        for state, value in zip(states, after, strict=True):
            self.assign(state, value)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` takes."""
        kept = super().get_config()
        del kept["weight_decay"]
        return {**kept, "config": self.config.to_dict(), "roles": dict(self.roles)}
