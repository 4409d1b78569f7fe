"""Errors of the package that a person can act on, and the one way to offer the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What was passed in is wrong. The message is one line: the thing, its value, the remedy."""


class NonFiniteGradient(FloatingPointError):
    """A gradient holds NaN or Inf. Raised before any parameter or state has changed."""


def nearest(value: str, known: Iterable[str]) -> str | None:
    """The known name that `value` most likely means, or None."""
    candidates = list(known)
    folded = {name.lower(): name for name in candidates}
    match = difflib.get_close_matches(value.lower(), list(folded), n=1, cutoff=0.5)
    return folded[match[0]] if match else None


def unknown(what: str, value: object, known: Iterable[str]) -> InputError:
    """The error for a name outside a known set: `unknown("optimizer", "adamv", ids)`."""
    names = list(known)
    guess = nearest(str(value), names)
    hint = f"did you mean {guess!r}? " if guess else ""
    return InputError(f"unknown {what} {value!r}: {hint}known: {', '.join(names)}")
