"""The kernels placed on torch's memory: which tensors they work on, where gradients are this step, what state there is."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optadvisor.frameworks.torch import memory, twins
from optadvisor.frameworks.torch.memory import Layout
from optadvisor.frameworks.torch.settings import Settings
from optadvisor.kernels import Optimizer as Kernels
from optadvisor.kernels import loops
from optadvisor.kernels.arrays import refuse_outside
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.group import Group

State = MutableMapping[Tensor, dict[str, Any]]

_address = Tensor.data_ptr
_contiguous = Tensor.is_contiguous
_size = Tensor.numel


def name_of(group: dict[str, Any], number: int, i: int) -> str:
    """What a parameter is called in messages."""
    names = group.get("param_names")
    return f"params[{number}][{names[i] if names else i!r}]"


class Bound:
    """A kernel group with torch's tensors: the parameters, their gradients of this step, their step counts.

    What a step costs beside the kernel is here: written for that (docs/pytorch.md has the figures).
    """

    def __init__(self, group: Group, params: list[Tensor], layouts: list[Layout], counts: list[float]) -> None:
        self.group, self.params, self.layouts = group, params, layouts
        self.counts = np.array(counts, dtype=np.float32)  # torch's dtype of a step
        self.addresses = list(map(_address, params))
        self.sizes = list(map(_size, params))
        self._full = np.array(self.sizes, dtype=np.int64)
        self._ordinary = not any(
            layout.axes or layout.copied or memory.on_gpu(p) or getattr(p, "grad_dtype", p.dtype) != p.dtype
            for p, layout in zip(params, layouts, strict=True)
        )
        self._idle: list[int] = []
        self._each = True  # whether the table is not as a step of ordinary gradients leaves it
        self._kept: list[Any] = []

    @property
    def moved(self) -> bool:
        """Whether a parameter has other memory than when the kernels were placed (`p.data = ...`, `model.to(...)`)."""
        return list(map(_address, self.params)) != self.addresses or list(map(_size, self.params)) != self.sizes

    def bind(self) -> bool:
        """Write where the gradients are; whether there are any."""
        gradients: list[Any] = [p.grad for p in self.params]
        if self._ordinary:
            try:
                addresses = list(map(_address, gradients))
            except (TypeError, RuntimeError):  # None, and sparse gradients, which have no address
                return self._bind_each(gradients)
            if all(map(_contiguous, gradients)) and list(map(_size, gradients)) == self.sizes:
                table = self.group.table
                table[:, loops.GRADIENT] = addresses
                if self._each:
                    table[:, loops.SIZE] = self._full
                    self.group.sparse.clear()
                    self._idle, self._each, self._kept = [], False, []
                return bool(addresses)
        return self._bind_each(gradients)

    def _bind_each(self, gradients: list[Tensor | None]) -> bool:
        self._each, self._idle, self._kept = True, [], []
        self.group.sparse.clear()
        for i, gradient in enumerate(gradients):
            if gradient is None:
                self._idle.append(i)
                self.group.bind(i, None)
            else:
                gradient = gradient.detach()
                find = self._dense if gradient.layout is torch.strided else self._rows
                found = find(i, gradient)
                self._kept.append(found)
                self.group.bind(i, found)
            if self.layouts[i].copied and gradient is not None:
                self.layouts[i].memory.copy_(self.layouts[i].tensor)
        return len(self._idle) < len(self.params)

    def _dense(self, i: int, gradient: Tensor) -> Any:
        p, layout = self.params[i], self.layouts[i]
        if gradient.shape != p.shape or gradient.device != p.device or gradient.dtype != p.dtype:
            raise InputError(
                f"the gradient of {self._name(i)} is {gradient.dtype}{list(gradient.shape)} on {gradient.device}, and the "
                f"parameter is {p.dtype}{list(p.shape)} on {p.device}: zero_grad() after such a change"
            )
        inner = layout.inner(gradient).contiguous()
        return memory.array(inner.resolve_neg() if inner.is_neg() else inner)

    def _rows(self, i: int, gradient: Tensor) -> Any:
        name, layout, leaf = self._name(i), self.layouts[i], self.group.leaves[i]
        if gradient.layout is not torch.sparse_coo or gradient.sparse_dim() != 1 or layout.axes:
            raise InputError(
                f"the gradient of {name} is {gradient.layout} with {gradient.sparse_dim()} sparse axes: the kernels take whole "
                "rows (torch.sparse_coo with one sparse axis, as nn.Embedding(sparse=True) makes)"
            )
        self.group.check_rows(i)
        ids, values = gradient._indices()[0].contiguous(), gradient._values()
        rows = values.reshape(values.shape[0], -1).contiguous()
        found = memory.array(ids), memory.array(rows)
        if not memory.on_gpu(ids):
            refuse_outside(found[0], f"the gradient of {name}", leaf)
        return found

    def _name(self, i: int) -> str:
        return self.group.leaves[i].name

    def done(self) -> None:
        """After a step: counts go up, autograd learns that the parameters changed, copies go back."""
        if self._idle:
            self.group.delays[self._idle] += 1
            active = np.ones(len(self.params), dtype=bool)
            active[self._idle] = False
            self.counts[active] += 1
            stepped = [p for p, stays in zip(self.params, active, strict=True) if stays]
        else:
            self.counts += 1
            stepped = self.params
        for p, layout in zip(self.params, self.layouts, strict=True) if self._each else ():
            if layout.copied and p.grad is not None:
                layout.tensor.copy_(layout.memory)
        torch.autograd.graph.increment_version(stepped)


class Placement:
    """The kernels over the parameters that have state or a gradient now; the rest has neither, as in torch.optim."""

    def __init__(self, groups: list[dict[str, Any]], state: State, on_nonfinite: str) -> None:
        self._listed = [list(group["params"]) for group in groups]
        self.settings = [Settings(group, f"group {number}") for number, group in enumerate(groups)]
        self._strangers: list[Tensor] = []
        members: dict[tuple[int, Any], tuple[Tensor, Layout]] = {}
        given = []
        seen: set[int] = set()  # PyTorch warns of a parameter that is listed twice; here it is updated once a step
        for number, (group, settings) in enumerate(zip(groups, self.settings, strict=True)):
            ordered = settings.rule.elementwise
            arrays = {}
            for i, p in enumerate(group["params"]):
                if id(p) in seen:
                    continue
                seen.add(id(p))
                if p.grad is None and not state.get(p):
                    self._strangers.append(p)
                    continue
                memory.check(p, name_of(group, number, i))
                layout = Layout(p, ordered)
                key = group["param_names"][i] if "param_names" in group else i
                members[number, key] = p, layout
                arrays[key] = memory.array(layout.memory)
            given.append({"params": arrays, **settings.kernel_group()})
        rule = self.settings[0].rule.id
        stream = next((torch.cuda.current_stream(p.device) for p, _ in members.values() if p.is_cuda), None)
        self._stream = stream
        self.engine = Kernels(rule, given, on_nonfinite=on_nonfinite, stream=stream)
        self.bounds = [
            self._bound(group, members, state) for group in self.engine.groups if group.leaves
        ]
        self._of = [
            [b for b in self.bounds if b.group.leaves[0].path[0] == number] for number in range(len(groups))
        ]
        for number, group in enumerate(groups):
            self._tell_peak(number, group)
        self.engine.initialise()
        self.engine.steps_done = int(max((b.counts.max() for b in self.bounds), default=0))
        for bound in self.bounds:
            bound.group.delays[:] = self.engine.steps_done - bound.counts
            self._adopt(bound, state)
        self._state, self._states = state, len(state)

    def _bound(
        self, group: Group, members: dict[tuple[int, Any], tuple[Tensor, Layout]], state: State
    ) -> Bound:
        own = [members[leaf.path[0], leaf.path[1]] for leaf in group.leaves]
        return Bound(group, [p for p, _ in own], [layout for _, layout in own], [_count(state.get(p)) for p, _ in own])

    def _adopt(self, bound: Bound, state: State) -> None:
        """Take over the state that there is, and put tensors over the kernels' memory in its place."""
        group = bound.group
        counts = twins.counts(group.rule)
        for i, (p, layout) in enumerate(zip(bound.params, bound.layouts, strict=True)):
            new: dict[str, Any] = {}
            if counts:
                new["step"] = torch.from_numpy(bound.counts[i : i + 1]).view(())
            before = state.get(p) or {}
            for k, name in enumerate(group.kept_names):
                new[name] = layout.outer(memory.tensor_over(group.view(k, i), p))
                if before.get(name) is not None:
                    new[name].copy_(before[name])
            if new:
                state[p] = {**before, **new}

    def fits(self, groups: Sequence[dict[str, Any]], state: State) -> bool:
        """Whether it is still what to step with; takes over changed hyperparameters."""
        if state is not self._state or len(state) != self._states or len(groups) != len(self._listed):
            return False
        for number, group in enumerate(groups):
            now, listed = group["params"], self._listed[number]
            if len(now) != len(listed) or not all(map(is_, now, listed)):
                return False
            changed = self.settings[number].changed(group)
            if changed and not self._retune(number, group, changed):
                return False
        if any(bound.moved for bound in self.bounds) or any(p.grad is not None for p in self._strangers):
            return False
        return self._stream is None or self._stream == torch.cuda.current_stream(self._stream.device)

    def _retune(self, number: int, group: dict[str, Any], changed: dict[str, Any]) -> bool:
        rule = self.settings[number].rule
        if any(name not in rule.names for name in changed):  # rule, maximize
            return False
        peak = group.get("initial_lr")
        return all([bound.group.retune(changed, _number(peak)) for bound in self._of[number]])

    def _tell_peak(self, number: int, group: dict[str, Any]) -> None:
        if "initial_lr" in group:  # what a scheduler of torch starts from
            for bound in self._of[number]:
                bound.group.retune({}, _number(group["initial_lr"]))

    def step(self) -> None:
        """One step of every parameter with a gradient."""
        if any([bound.bind() for bound in self.bounds]) and self.engine.advance():
            for bound in self.bounds:
                bound.done()


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _count(state: dict[str, Any] | None) -> float:
    """Steps that a parameter has done. torch.optim.SGD keeps no count: with a velocity the first step is behind it."""
    if not state:
        return 0.0
    step = state.get("step")
    if step is not None:
        return float(step)
    return 1.0 if any(isinstance(value, Tensor) for value in state.values()) else 0.0
