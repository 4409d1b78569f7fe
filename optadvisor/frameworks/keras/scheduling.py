"""A config's schedule as a LearningRateSchedule of Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from optadvisor.frameworks.keras import scalars
from optadvisor.frameworks.running import factor
from optadvisor.kernels.schedules import Schedule


@keras.saving.register_keras_serializable("optadvisor")
class ConfigSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """lr times the factor of a schedule at the steps done, in Keras' floatx. schedule: as `Schedule.to_dict` writes it.

    Errors: InputError for a schedule whose step counts are open.
    """

    def __init__(self, lr: float, schedule: Mapping[str, Any]) -> None:
        self.lr = float(lr)
        self.schedule = Schedule.from_dict(schedule).resolve()

    def __call__(self, step: Any) -> Any:
        with scalars.double():
            rate = self.lr * factor(self.schedule, scalars.cast(step, "float64"), scalars.library())
            return scalars.cast(rate, keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """What `from_config` takes."""
        return {"lr": self.lr, "schedule": self.schedule.to_dict()}
