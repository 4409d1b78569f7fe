"""`Monitor`: watches a torch.optim.Optimizer at work and tells the signs of signs.py. The training is not changed.

At a look two successive steps are measured, on a sample that is fixed at the start: of each tensor a block of rows, the
whole of a small one. Looks are dense at first (steps 1, 2, 4, 8, ...), when most trouble shows, and then every `every` steps.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from optadvisor.frameworks.signs import Reading, Sign
from optadvisor.frameworks.torch.sampling import Gradients, Place, gather, gradients, read
from optadvisor.frameworks.watching import Watch
from optadvisor.kernels.errors import InputError


class Monitor:
    """Signs of trouble from the steps of an optimizer: direction (oscillation) and step size (the other kinds).

    Create it after the optimizer; nothing else in the training changes. `signs` has what was seen so far, `report()`
    says it in words, `close()` (or the end of a `with`) takes it off again. Cost: below 2% of a step of a small
    convolutional net (benchmarks/monitor.py). Weights, state and torch's random numbers are left as they are.

    optimizer: any torch.optim.Optimizer, with groups, closures, a GradScaler or sparse gradients. model: for the names
    of parameters, where the optimizer was not given any. every: steps between looks once training is under way. path: a
    file of JSON lines, one object a look, appended to. writer: a SummaryWriter; tensorboard: a folder for a new one.
    sample: elements of each tensor that are measured; norms of gradients are of whole tensors.

    Errors: InputError for what is no optimizer, and where TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module | None = None,
        *,
        every: int = 50,
        path: str | Path | None = None,
        writer: Any = None,
        tensorboard: str | Path | None = None,
        sample: int = 4096,
    ) -> None:
        self.optimizer = _inner(optimizer)
        for name, value, least in (("every", every, 2), ("sample", sample, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name} is {value!r}; it takes a whole number, at least {least}")
        if writer is not None and tensorboard is not None:
            raise InputError("writer and tensorboard are both given: pass the SummaryWriter or the folder of a new one")
        self.every, self.sample = every, sample
        self.steps = self.looks = 0
        self.signs: list[Sign] = []
        self._names = _names(model)
        self._watch = Watch()
        self._places: list[Place] = []
        self._sizes: list[int] = []
        self._weights: Any = None  # before the step of a look
        self._now: Gradients | None = None
        self._before: Gradients | None = None  # of the step before
        self._path = None if path is None else Path(path)
        if self._path is not None and not self._path.parent.is_dir():
            raise InputError(
                f"path is {str(path)!r}, and there is no folder {str(self._path.parent)!r}: create it first"
            )
        self._own_writer = None if tensorboard is None else _summary_writer(tensorboard)
        self._writer = self._own_writer if writer is None else writer
        self._look_at = 1  # the next look
        self._hooks = [
            self.optimizer.register_step_pre_hook(self._pre),
            self.optimizer.register_step_post_hook(self._post),
        ]

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the monitor off the optimizer. What was seen stays."""
        while self._hooks:
            self._hooks.pop().remove()
        if self._own_writer is not None:
            self._own_writer.close()
            self._own_writer = self._writer = None

    def report(self) -> str:
        """What was seen, in words: a line a sign."""
        what = f"{self.steps:,} steps of {type(self.optimizer).__name__}, looked at {self.looks:,} times"
        if not self.signs:
            return f"{what}: no sign of trouble"
        return "\n".join([f"{what}: {', '.join(dict.fromkeys(s.name for s in self.signs))}", *map(str, self.signs)])

    def _pre(self, _: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        step = self.steps + 1
        if step < self._look_at - 1:
            return
        looks = step == self._look_at
        self._plan()
        self._weights = gather([place.cut(place.tensor) for place in self._places]) if looks else None
        # Within the step nesterov writes into the gradients; a closure computes them only there.
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        self._now = None if closure is not None else self._gradients(looks)

    def _post(self, *_: Any) -> None:
        step = self.steps + 1
        if step < self._look_at - 1:
            self.steps = step
            return
        found = getattr(self.optimizer, "found_inf", None)  # a fused optimizer under a GradScaler skips by itself
        if isinstance(found, Tensor) and found.item():
            return
        looks = step == self._look_at
        now = self._now or self._gradients(looks)
        self.steps = step
        if looks:
            self._look(now)
            self._look_at = min(2 * step, self.every) if step < self.every else step + self.every
        self._before, self._now, self._weights = now, None, None

    def _plan(self) -> None:
        """What is sampled: settled at the first look, and anew when the optimizer gets more parameters."""
        sizes = [len(group["params"]) for group in self.optimizer.param_groups]
        if sizes == self._sizes:
            return
        self._sizes = sizes
        draw = random.Random(0)  # not torch's numbers: those stay as without a monitor
        self._places = [
            Place.of(self._names.get(id(tensor)) or _name(group, number, i, tensor), tensor, group, self.sample, draw)
            for number, group in enumerate(self.optimizer.param_groups)
            for i, tensor in enumerate(group["params"])
            if tensor.numel()
        ]
        self._watch.members = {place.name: place.member() for place in self._places}

    def _gradients(self, whole: bool) -> Gradients:
        scale = getattr(self.optimizer, "grad_scale", None)  # a fused optimizer divides by it within its step
        return gradients(self._places, float(scale.item()) if isinstance(scale, Tensor) else 1.0, whole)

    def _look(self, now: Gradients) -> None:
        self.looks += 1
        readings, agreement = read(self.optimizer, self.steps, self._places, self._weights, now, self._before)
        new = self._watch.look(self.steps, readings, agreement)
        self.signs.extend(new)
        if self._path is None and self._writer is None:
            return
        figures = _figures(readings, agreement)
        if self._path is not None:
            line = {"step": self.steps, **figures, "active": self._watch.active, "signs": [s.to_dict() for s in new]}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
        if self._writer is not None:
            for name, value in figures.items():
                if value is not None:
                    self._writer.add_scalar(f"optadvisor/{name}", value, self.steps)
            for sign in new:
                self._writer.add_text("optadvisor/signs", str(sign), self.steps)


def _figures(readings: Mapping[str, Reading], agreement: float | None) -> dict[str, float | None]:
    """What is kept of a look: over all parameters, None where it is not known or not finite."""
    norm = math.sqrt(sum(r.gradient**2 for r in readings.values()))
    ratios = [r.ratio for r in readings.values() if r.ratio is not None]
    seconds = [r.second for r in readings.values() if r.second is not None]
    rates = [r.rate for r in readings.values() if r.rate is not None]
    found = {
        "lr": max((r.lr for r in readings.values()), default=None),
        "gradient_norm": norm,
        "agreement": agreement,
        "update_ratio": statistics.median(ratios) if ratios else None,
        "second_moment": statistics.median(seconds) if seconds else None,
        "adagrad_rate": statistics.median(rates) if rates else None,
    }
    return {name: None if v is None or not math.isfinite(v) else v for name, v in found.items()}


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The torch.optim.Optimizer inside the wrappers of Accelerate and Lightning."""
    while isinstance(getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"optimizer is {type(optimizer).__name__}; it takes a torch.optim.Optimizer")
    return optimizer


def _names(model: nn.Module | None) -> dict[int, str]:
    if model is None:
        return {}
    if not isinstance(model, nn.Module):
        raise InputError(f"model is {type(model).__name__}; it takes a torch.nn.Module")
    return {id(tensor): name for name, tensor in model.named_parameters()}


def _name(group: Mapping[str, Any], number: int, i: int, tensor: Tensor) -> str:
    names = group.get("param_names")
    return str(names[i]) if names else f"group {number}, parameter {i} {list(tensor.shape)}"


def _summary_writer(folder: str | Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "TensorBoard is not installed: pip install tensorboard, or take path='run.jsonl' in place of tensorboard"
        ) from None
    return SummaryWriter(str(folder))
