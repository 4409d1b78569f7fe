"""The registered update rules, in the order of their lineage."""

from optadvisor.kernels.rules.record import Dimension, Family, Form, Hyperparameter, Rule, State, flatten
from optadvisor.kernels.rules.registry import RULES, get

__all__ = ["RULES", "Dimension", "Family", "Form", "Hyperparameter", "Rule", "State", "flatten", "get"]
