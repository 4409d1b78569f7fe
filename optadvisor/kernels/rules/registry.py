"""Rules by id. A new rule is a new file and one name here."""

from __future__ import annotations

from optadvisor.kernels.errors import unknown
from optadvisor.kernels.rules.adagrad import ADAGRAD
from optadvisor.kernels.rules.adam import ADAM, ADAMW
from optadvisor.kernels.rules.ftrl import FTRL
from optadvisor.kernels.rules.momentum import MOMENTUM, NAG
from optadvisor.kernels.rules.record import Rule
from optadvisor.kernels.rules.rmsprop import RMSPROP
from optadvisor.kernels.rules.sgd import SGD

RULES: dict[str, Rule] = {rule.id: rule for rule in (SGD, MOMENTUM, NAG, ADAGRAD, RMSPROP, ADAM, ADAMW, FTRL)}


def get(name: str) -> Rule:
    """The rule of that id; InputError with the nearest id if there is none."""
    if not isinstance(name, str) or name not in RULES:
        raise unknown("optimizer", name, RULES)
    return RULES[name]
