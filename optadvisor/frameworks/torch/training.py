"""`objective`: a model, its data and its loss as a function that `tune` calls, for training with a config's optimizer."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from optadvisor.config import OptimizerConfig
from optadvisor.frameworks.torch.batches import examples, generators, moved
from optadvisor.frameworks.torch.keeping import seed_all
from optadvisor.frameworks.torch.losses import loss_of
from optadvisor.frameworks.torch.profiling import profile
from optadvisor.frameworks.torch.reading import parameters
from optadvisor.frameworks.torch.subject import many
from optadvisor.kernels import rules
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.quantities import parse_count
from optadvisor.studies.tasks.task import MAXIMIZE, MINIMIZE

_AMP = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class objective:  # noqa: N801  # called as the function that it stands for
    """A training as an objective: for `oa.tune(objective)`, or by name in a file for `optadvisor tune FILE.py:NAME`.

    Called with (config, report, seed, steps) it trains once and returns what is judged.

    model: makes a new model each time; its numbers are drawn from torch's, which are seeded. train: mini-batches, a
    DataLoader or another iterable that starts anew each time, or a function that returns one; read round and round for
    `steps` optimizer steps (None: STEPS of the module, or --steps). held: batches to judge by, after every `every` steps
    (a tenth of the steps) and at the end, in evaluation mode without gradients. loss_fn: as `losses.loss_of` calls it.
    metric: metric(model, batch) -> number, what is judged in place of the loss; direction: "maximize" where higher is
    better. Both are averaged over the batches, by their number of examples. roles: of parameters, as build_torch takes
    them. device: where to train; as the model comes by default. amp: "bfloat16" or "float16" (with a GradScaler).
    max_norm: clip the norm of the gradients.

    Each trial trains by `config.build_torch(model, steps)` with its schedule. A loss that is not finite ends it as
    diverged. Pruning works. Its profile is read from model and data; fields of a PROFILE in its module win.

    Errors: InputError for what is none of that. What the person's code raises goes through.
    """

    scheduled = True  # build_torch follows the config's schedule

    def __init__(
        self,
        model: Callable[[], nn.Module],
        train: Any,
        held: Any,
        loss_fn: Callable[..., Any],
        *,
        steps: int | None = None,
        every: int | None = None,
        metric: Callable[[nn.Module, Any], Any] | None = None,
        direction: str = MINIMIZE,
        roles: Mapping[str, str] | None = None,
        device: str | torch.device | None = None,
        amp: str | None = None,
        max_norm: float | None = None,
    ) -> None:
        if isinstance(model, nn.Module) or not callable(model):
            raise InputError(
                f"model is {type(model).__name__}; it takes a function that makes a new model for each trial, such as "
                "lambda: Net()"
            )
        for name, function in (("loss_fn", loss_fn), ("metric", metric)):
            if not (callable(function) or (function is None and name == "metric")):
                raise InputError(f"{name} is {function!r}; it takes a function")
        if direction not in (MINIMIZE, MAXIMIZE):
            raise unknown("direction", direction, (MINIMIZE, MAXIMIZE))
        if direction == MAXIMIZE and metric is None:
            raise InputError("direction is 'maximize', and the loss is what is judged: give a metric")
        if amp is not None and amp not in _AMP:
            raise unknown("amp", amp, tuple(_AMP))
        if max_norm is not None and not (isinstance(max_norm, (int, float)) and 0.0 < max_norm < math.inf):
            raise InputError(f"max_norm is {max_norm!r}; it takes a number above 0")
        self.direction, self.STEPS = direction, None if steps is None else parse_count(steps, "steps")
        self._every = None if every is None else parse_count(every, "every")
        self._model, self._loss, self._metric, self._roles = model, loss_fn, metric, roles
        self._train, self._held = _source(train, "train"), _source(held, "held")
        self._device = None if device is None else torch.device(device)
        self._amp, self._max_norm = amp, max_norm
        # What tells a task of it: where it was made, whose code errors are looked for in, how it is called.
        self.__module__ = sys._getframe(1).f_globals.get("__name__", "__main__")
        self.__wrapped__ = model
        self.__doc__ = f"{_name(metric or loss_fn)} on held-out data"
        four = inspect.signature(objective.__call__).parameters.values()
        default = inspect.Parameter.empty if steps is None else self.STEPS
        self.__signature__ = inspect.Signature(
            [p.replace(default=default) if p.name == "steps" else p for p in four if p.name != "self"]
        )

    @property
    def SPACE(self) -> dict[str, float]:  # noqa: N802  # as in a module
        """Decay would touch every row of a sparse embedding, so nothing in its reach is decayed."""
        return {"weight_decay": 0.0, "embedding.weight_decay": 0.0} if self._read[1] else {}

    @functools.cached_property
    def refused(self) -> dict[str, str]:
        """Rules that take no sparse gradients, for a model that has them, and what is said of it."""
        found: dict[str, str] = {}
        for rule in rules.RULES.values() if self._read[1] else ():
            config = OptimizerConfig.of(rule.id, {"weight_decay": 0.0} if rule.decays else {})
            try:
                config.build_torch(self._made(), 1, self._roles)
            except InputError as error:
                found[rule.id] = str(error)
        return found

    @property
    def PROFILE(self) -> dict[str, Any]:  # noqa: N802  # as in a module
        """What the model and its data say of the task."""
        return self._read[0]

    @functools.cached_property
    def _read(self) -> tuple[dict[str, Any], bool]:
        """The profile, and whether gradients of embeddings come as rows: one model is made for both."""
        model = self._made()
        first = self._train if not callable(self._train) else None
        read = profile(model, first, self._loss).profile.to_dict()
        if first is None:
            read["batch_size"] = examples(next(iter(self._batches()), None))
        sparse = any(p.role == "sparse embedding" and p.trainable for p in parameters(model))
        return {name: value for name, value in read.items() if value is not None}, sparse

    def __call__(self, config: OptimizerConfig, report: Callable[[int, float], None], seed: int, steps: int) -> float:
        """Train once and judge. Errors: FloatingPointError where the loss is not finite, which is a diverged trial."""
        seed_all(seed, *generators(self._train))
        model = self._made()
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        optimizer, scheduler = config.build_torch(model, steps, self._roles)
        scaler = torch.amp.GradScaler(device.type, enabled=self._amp == "float16")
        every = self._every or max(1, steps // 10)
        chunks = self._whole() if config.batch == "full" else ([batch] for batch in self._batches())
        model.train()
        value = math.nan
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            self._backward(model, next(chunks), device, scaler, step)
            if self._max_norm is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), self._max_norm)
            scale = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            if scaler.get_scale() >= scale:  # else the step was skipped
                scheduler.step()
            if step % every == 0 or step == steps:
                value = self._judge(model, optimizer, device)
                report(step, value)
        return value

    def _made(self) -> nn.Module:
        model = self._model()
        if not isinstance(model, nn.Module):
            raise InputError(f"{_name(self._model)}() returned {type(model).__name__}; it must make a torch.nn.Module")
        return model if self._device is None else model.to(self._device)

    def _batches(self) -> Iterator[Any]:
        """Mini-batches without end."""
        while True:
            found = False
            for batch in self._train() if callable(self._train) else self._train:
                found = True
                yield batch
            if not found:
                raise InputError("train has no batches")

    def _whole(self) -> Iterator[list[Any]]:
        """All samples, for each step of a full-batch config."""
        if callable(self._train):
            raise InputError(
                "the config takes full batches, and train is a function, which may never end: pass a DataLoader or a list"
            )
        while True:
            yield list(self._train)

    def _backward(self, model: nn.Module, batches: list[Any], device: torch.device, scaler: Any, step: int) -> None:
        """Gradients of the loss over some batches, each by its share of the examples."""
        sizes = [examples(batch) or 1 for batch in batches]
        for batch, size in zip(batches, sizes, strict=True):
            with self._precision(device):
                loss = loss_of(self._loss, model, moved(batch, device))
            # Elsewhere than on the CPU each look at a number waits for the device.
            if (device.type == "cpu" or step % 10 == 0) and not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
            scaler.scale(loss if len(batches) == 1 else loss * (size / sum(sizes))).backward()

    def _precision(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(device.type, _AMP[self._amp]) if self._amp else contextlib.nullcontext()

    def _judge(self, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> float:
        """The metric, or the loss, on the held-out batches."""
        total, count = 0.0, 0
        model.eval()
        with torch.no_grad(), _evaluated(optimizer):
            for batch in self._held() if callable(self._held) else self._held:
                batch = moved(batch, device)
                with self._precision(device):
                    found = self._metric(model, batch) if self._metric else loss_of(self._loss, model, batch)
                size = examples(batch) or 1
                total += float(found) * size
                count += size
        model.train()
        if not count:
            raise InputError("held has no batches")
        return total / count


@contextlib.contextmanager
def _evaluated(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The weights to use in place of those where gradients are taken, for rules that tell the two apart."""
    groups = optimizer.param_groups
    apart = [g for g in groups if (rule := rules.RULES.get(g.get("rule", ""))) is not None and rule.schedule_free]
    if not apart:
        yield
        return
    params = [p for group in groups for p in group["params"]]
    kept = [p.detach().clone() for p in params]
    try:
        for p, use in zip(params, optimizer.evaluation(), strict=True):
            p.copy_(use)
        yield
    finally:
        for p, value in zip(params, kept, strict=True):
            p.copy_(value)


def _source(given: Any, name: str) -> Iterable[Any] | Callable[[], Iterable[Any]]:
    if callable(given) and not isinstance(given, (Tensor, nn.Module)) and not hasattr(given, "__iter__"):
        return given  # type: ignore[no-any-return]
    try:
        found = many(given)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if found is None:
        raise InputError(f"{name} is None; it takes a DataLoader, a list of batches, or a function that returns them")
    return found


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
