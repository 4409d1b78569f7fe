"""Rules by id. A new rule is a new file and one name here."""

from __future__ import annotations

from optadvisor.kernels.errors import unknown
from optadvisor.kernels.rules.adagrad import ADAGRAD
from optadvisor.kernels.rules.adam import ADAM, ADAMW
from optadvisor.kernels.rules.ftrl import FTRL
from optadvisor.kernels.rules.lamb import LAMB
from optadvisor.kernels.rules.lion import LION
from optadvisor.kernels.rules.momentum import MOMENTUM, NAG
from optadvisor.kernels.rules.muon import MUON
from optadvisor.kernels.rules.nadam import NADAM
from optadvisor.kernels.rules.radam import RADAM
from optadvisor.kernels.rules.record import Rule
from optadvisor.kernels.rules.rmsprop import RMSPROP
from optadvisor.kernels.rules.rowwise_adagrad import ROWWISE_ADAGRAD
from optadvisor.kernels.rules.schedule_free_adamw import SCHEDULE_FREE_ADAMW
from optadvisor.kernels.rules.sgd import SGD

GUIDE = (SGD, MOMENTUM, NAG, ADAGRAD, RMSPROP, ADAM, ADAMW, FTRL)
BEYOND = (ROWWISE_ADAGRAD, NADAM, RADAM, LAMB, LION, MUON, SCHEDULE_FREE_ADAMW)

RULES: dict[str, Rule] = {rule.id: rule for rule in (*GUIDE, *BEYOND)}


def get(name: str) -> Rule:
    """The rule of that id; InputError with the nearest id if there is none."""
    if not isinstance(name, str) or name not in RULES:
        raise unknown("optimizer", name, RULES)
    return RULES[name]
