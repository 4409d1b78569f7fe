"""Configs in the terms of other frameworks."""

from optadvisor.frameworks.code import FRAMEWORKS, code

__all__ = ["FRAMEWORKS", "code"]
