"""Single numbers in float64 on Keras' backends: schedules, bias corrections.

float32 loses most digits of 1 - beta**t. keras.ops has no float64 on JAX unless the whole process is switched to it, and
its cosine is float32 there, so JAX's own functions compute these.
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras


def library() -> Any:
    """The functions for them, under NumPy's names."""
    if keras.config.backend() == "jax":
        import jax.numpy

        return jax.numpy
    return keras.ops


def double() -> Any:
    """A context in which float64 exists."""
    if keras.config.backend() == "jax":
        import jax

        return jax.enable_x64(True)
    return contextlib.nullcontext()


def cast(x: Any, kind: str) -> Any:
    """A number or an array of one as a dtype by name, inside of `double`."""
    if keras.config.backend() == "jax":
        import jax.numpy

        return jax.numpy.asarray(getattr(x, "value", x), kind)
    return keras.ops.cast(keras.ops.convert_to_tensor(x), kind)
