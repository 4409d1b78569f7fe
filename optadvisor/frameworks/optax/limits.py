"""What cannot be a transformation of optax. Imports no optax: code for it is written with it."""

from __future__ import annotations

from collections.abc import Mapping

from optadvisor.frameworks.refusing import Inexpressible
from optadvisor.frameworks.running import check
from optadvisor.kernels.rules.record import Value

STAGED = ("lamb",)  # rules of optax that need a whole tensor, as ours do
_WHY = {
    "muon": "optax.contrib.muon corrects the bias of its average, so it is another rule",
    "schedule_free_adamw": "schedule_free_adamw evaluates at other weights than it trains, which optax.contrib.schedule_free has",
    "nag": "nag in convention 'paper' takes its gradient at the look-ahead point, and optax is given the gradient",
}


def refuse(rule: str, hyperparameters: Mapping[str, Value], convention: str) -> None:
    """Inexpressible, with the reason, for a rule that neither optax has nor `Steps` can run."""
    if rule in STAGED:
        return
    try:
        check(rule, hyperparameters, convention)
    except Inexpressible as error:
        raise Inexpressible(_WHY.get(rule, str(error))) from None
