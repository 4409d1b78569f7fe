"""The registered update rules, in the order of their lineage."""

from optadvisor.kernels.rules.registry import RULES, get
from optadvisor.kernels.rules.record import Dimension, Family, Form, Hyperparameter, Rule, State, flatten

__all__ = ["RULES", "Dimension", "Family", "Form", "Hyperparameter", "Rule", "State", "flatten", "get"]
