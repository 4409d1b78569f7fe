"""`Inexpressible`: why a framework cannot take the steps of a config."""

from __future__ import annotations

from optadvisor.kernels.errors import InputError


class Inexpressible(InputError):  # noqa: N818  (what cannot be said, not a failure)
    """A framework has not this update; the text says why, and who asked adds what to do instead."""
