"""`probe`: measure a task, a built-in one or a person's own PyTorch model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optadvisor.kernels.errors import InputError
from optadvisor.probing import BuiltinSubject, Probe, Subject, measure
from optadvisor.probing.probe import BATCHES, STEPS, Progress
from optadvisor.probing.ranging import HELD
from optadvisor.profile import TaskProfile
from optadvisor.quantities import parse_count
from optadvisor.studies.study import LADDER_STEPS
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.function import is_target
from optadvisor.studies.tasks.registry import get


def probe(
    target: Any,
    batches: Any = None,
    loss_fn: Any = None,
    *,
    profile: TaskProfile | Mapping[str, Any] | None = None,
    mini_batches: int = BATCHES,
    steps: int = STEPS,
    seed: int = 0,
    range_test: bool = True,
    progress: Progress | None = None,
) -> Probe:
    """Measure a task at its start and after a short warm-up; what is measured completes its profile.

    target: the name of a built-in task, "FILE.py:FACTORY" of a function that returns (model, batches, loss_fn), or a
    torch.nn.Module, with batches, a DataLoader or another re-iterable of mini-batches, and loss_fn(model, batch) or a
    criterion such as nn.CrossEntropyLoss(). profile: what you know of the task; it wins over what is measured.
    mini_batches: whose gradients are compared at each of the two places. steps: of the warm-up. seed: of mini-batches
    and random directions. range_test: whether to try learning rates, most of the cost. progress: is told what is done.
    The model is in training mode meanwhile, and everything is put back afterwards: weights, buffers, .grad, modes and
    random generators, also when something fails.

    Errors: InputError for what cannot be probed; NonFiniteGradient where the loss is not finite at the start.
    Formulas, cost and meaning of each measure: docs/probe.md.
    """
    declared = profile if isinstance(profile, TaskProfile) else TaskProfile.from_dict(profile or {})
    mini_batches, steps = parse_count(mini_batches, "mini_batches", 2), parse_count(steps, "steps")
    seed = parse_count(seed, "seed", 0)
    wanted = max(2 * mini_batches + steps, (LADDER_STEPS if range_test else 0) + HELD)
    found = _subject(target, batches, loss_fn, declared, wanted, seed)
    return measure(found, mini_batches=mini_batches, steps=steps, seed=seed, range_test=range_test, progress=progress)


def _subject(target: Any, batches: Any, loss_fn: Any, declared: TaskProfile, wanted: int, seed: int) -> Subject:
    if isinstance(target, (str, BuiltinTask)) and (batches is not None or loss_fn is not None):
        raise InputError(f"{target} brings its own mini-batches and loss: leave batches and loss_fn out")
    if isinstance(target, BuiltinTask) or (isinstance(target, str) and not is_target(target)):
        task = get(target) if isinstance(target, str) else target
        return BuiltinSubject(task, seed, declared)
    if isinstance(target, str):
        from optadvisor.frameworks import torch

        target = torch.load(target)  # one line where PyTorch is missing
    from optadvisor.frameworks.torch import probing

    return probing.subject(target, batches, loss_fn, declared, wanted, seed)
