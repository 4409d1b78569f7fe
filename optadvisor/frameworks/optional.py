"""Names of a framework's package that are imported on first use; a framework that is missing is one clear line."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from optadvisor.kernels.errors import InputError


def lazily(package: str, name: str, homes: Mapping[str, str], installs: Mapping[str, str]) -> Any:
    """The object `name` of optadvisor.PACKAGE, from its home; as `__getattr__` of a package calls it.

    installs: top-level module of a framework -> the command that installs it.
    Errors: AttributeError for a name that is not there, InputError where its framework is not installed.
    """
    if name not in homes:
        raise AttributeError(f"module 'optadvisor.frameworks.{package}' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(homes[name]), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name not in installs:
            raise
        raise InputError(
            f"optadvisor.{package}.{name} needs {error.name}, which is not installed: {installs[error.name]}"
        ) from None
