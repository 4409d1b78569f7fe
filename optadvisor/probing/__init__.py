"""Measuring a task: gradient noise, curvature, learning-rate range, and what they add to its profile."""

from optadvisor.probing.builtin import BuiltinSubject
from optadvisor.probing.probe import Probe, measure
from optadvisor.probing.subject import Block, Sparse, Subject

__all__ = ["Block", "BuiltinSubject", "Probe", "Sparse", "Subject", "measure"]
