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

    What a step costs beside the kernel is here: a pass of C calls over the tensors is 0.05 to 0.1 us a tensor, and in a
    training, whose own work has emptied the caches, what a step executes first counts more than how often.
    """

    def __init__(self, group: Group, params: list[Tensor], layouts: list[Layout], counts: list[float]) -> None:
        self.group, self.params, self.layouts = group, params, layouts
        self.counts = np.array(counts, dtype=np.float32)  # torch's dtype of a step
        self.addresses = list(map(_address, params))
        self._sizes = list(map(_size, params))
        self._full = np.array(self._sizes, dtype=np.int64)
        self._ordinary = not any(
            layout.axes or layout.copied or memory.on_gpu(p) or getattr(p, "grad_dtype", p.dtype) != p.dtype
            for p, layout in zip(params, layouts, strict=True)
        )
        self._copies = [(p, layout) for p, layout in zip(params, layouts, strict=True) if layout.copied]
        self._idle: list[int] = []
        self._each = True  # whether the table is not as a step of ordinary gradients leaves it
        self._kept: list[Any] = []

    def bind(self) -> bool | None:
        """Write where the gradients are; whether there are any. None: the parameters have other shapes than before."""
        gradients: list[Any] = [p.grad for p in self.params]
        if not self._ordinary:
            return self._bind_each(gradients)
        try:
            addresses = list(map(_address, gradients))
        except (TypeError, RuntimeError):  # None, and sparse gradients, which have no address
            return self._bind_some(gradients)
        if not all(map(_contiguous, gradients)) or list(map(_size, gradients)) != self._sizes:
            return self._bind_each(gradients)
        self.group.table[:, loops.GRADIENT] = addresses
        if self._each:
            self.group.table[:, loops.SIZE] = self._full
            self.group.sparse.clear()
            self._idle, self._each, self._kept = [], False, []
        return True

    def _bind_some(self, gradients: list[Tensor | None]) -> bool | None:
        """`bind` where some parameters have none, as every step of a mixture of experts."""
        there = [i for i, gradient in enumerate(gradients) if gradient is not None]
        found: list[Any] = [gradients[i] for i in there]
        try:
            addresses = list(map(_address, found))
        except RuntimeError:
            return self._bind_each(gradients)
        if not all(map(_contiguous, found)) or list(map(_size, found)) != [self._sizes[i] for i in there]:
            return self._bind_each(gradients)
        table = self.group.table
        table[:, loops.SIZE] = 0
        table[there, loops.SIZE], table[there, loops.GRADIENT] = self._full[there], addresses
        self.group.sparse.clear()
        self._idle = [i for i, gradient in enumerate(gradients) if gradient is None]
        self._each, self._kept = True, []
        return bool(there)

    def _bind_each(self, gradients: list[Tensor | None]) -> bool | None:
        if any(p.shape != layout.tensor.shape for p, layout in zip(self.params, self.layouts, strict=True)):
            return None
        self._each, self._idle, self._kept = True, [], []
        self.group.sparse.clear()
        for i, gradient in enumerate(gradients):
            if gradient is None:
                self._idle.append(i)
                self.group.bind(i, None)
                continue
            gradient = gradient.detach()
            found = (self._dense if gradient.layout is torch.strided else self._rows)(i, gradient)
            self._kept.append(found)
            self.group.bind(i, found)
            if self.layouts[i].copied:
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
        stepped = self.params
        if not self._each:
            self.counts += 1
        else:
            active = np.ones(len(self.params), dtype=bool)
            active[self._idle] = False
            self.counts[active] += 1
            self.group.delays[self._idle] += 1
            stepped = [p for p, stepped in zip(self.params, active, strict=True) if stepped]
            for p, layout in self._copies:
                if p.grad is not None:
                    layout.tensor.copy_(layout.memory)
        torch.autograd.graph.increment_version(stepped)


class Part:
    """A group of `param_groups`: what the kernels were told of it, and the kernel groups that work for it."""

    def __init__(self, group: dict[str, Any], number: int) -> None:
        self.settings = Settings(group, f"group {number}")
        self.stateless = not self.settings.rule.states() and not twins.counts(self.settings.rule)
        self.listed = list(group["params"])
        self.strangers: list[Tensor] = []  # without state or gradient so far
        self.bounds: list[Bound] = []

    def fits(self, group: dict[str, Any]) -> bool:
        """Whether its parameters and where they are have not changed; takes over changed hyperparameters."""
        changed = self.settings.changed(group)
        if changed and not self._retune(group, changed):
            return False
        params = group["params"]
        if len(params) != len(self.listed) or not all(map(is_, params, self.listed)):
            return False
        for bound in self.bounds:  # `p.data = ...` and `model.to(...)` give a parameter other memory
            if list(map(_address, bound.params)) != bound.addresses:
                return False
        return not self.strangers or all(p.grad is None for p in self.strangers)

    def _retune(self, group: dict[str, Any], changed: dict[str, Any]) -> bool:
        if any(name not in self.settings.rule.names for name in changed):  # rule, maximize
            return False
        peak = _number(group.get("initial_lr"))
        return all(bound.group.retune(changed, peak) for bound in self.bounds)


class Placement:
    """The kernels over the parameters that have state or a gradient now; the rest has neither, as in torch.optim."""

    def __init__(self, groups: list[dict[str, Any]], state: State, on_nonfinite: str) -> None:
        self._parts = [Part(group, number) for number, group in enumerate(groups)]
        members: list[list[tuple[int, Tensor, Layout]]] = []
        seen: set[int] = set()  # PyTorch warns of a parameter that is listed twice; here it is updated once a step
        for number, (group, part) in enumerate(zip(groups, self._parts, strict=True)):
            members.append([])
            for i, p in enumerate(group["params"]):
                if id(p) in seen:
                    continue
                seen.add(id(p))
                # Without states there is nothing to save by leaving out what learns but has no gradient now.
                if p.grad is None and not state.get(p) and not (part.stateless and p.requires_grad):
                    part.strangers.append(p)
                    continue
                memory.check(p, name_of(group, number, i))
                members[number].append((i, p, Layout(p, part.settings.rule.elementwise)))
        places = dict.fromkeys(str(p.device) for own in members for _, p, _ in own)
        if len(places) > 1:
            raise InputError(f"the parameters are on {' and '.join(places)}: one optimizer works in one place")
        streams = [torch.cuda.current_stream(p.device) for own in members for _, p, _ in own if p.is_cuda]
        self._stream = streams[0] if streams else None
        given = [
            {"params": [memory.array(layout.memory) for _, _, layout in own], **part.settings.kernel_group()}
            for own, part in zip(members, self._parts, strict=True)
        ]
        rule = self._parts[0].settings.rule.id
        self.engine = Kernels(
            rule, given, on_nonfinite=on_nonfinite, stream=self._stream, threads=torch.get_num_threads()
        )
        self.bounds = [self._bound(groups, group, members, state) for group in self.engine.groups if group.leaves]
        self.engine.initialise()
        self.engine.steps_done = int(max((b.counts.max() for b in self.bounds), default=0))
        for bound in self.bounds:
            bound.group.delays[:] = self.engine.steps_done - bound.counts
            self._adopt(bound, state)
        self._state, self._states = state, len(state)

    def _bound(self, groups: list[dict[str, Any]], group: Group, members: list[Any], state: State) -> Bound:
        number = group.leaves[0].path[0]
        own = [members[number][leaf.path[1]] for leaf in group.leaves]
        for leaf, (i, _, _) in zip(group.leaves, own, strict=True):
            leaf.name = name_of(groups[number], number, i)
        bound = Bound(
            group, [p for _, p, _ in own], [layout for _, _, layout in own], [_count(state.get(p)) for _, p, _ in own]
        )
        self._parts[number].bounds.append(bound)
        if "initial_lr" in groups[number]:  # what a scheduler of torch starts from
            group.retune({}, _number(groups[number]["initial_lr"]))
        return bound

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

    def step(self, groups: Sequence[dict[str, Any]], state: State) -> bool:
        """One step of every parameter with a gradient; False, and nothing done, where the kernels must be placed anew."""
        if state is not self._state or len(state) != self._states or len(groups) != len(self._parts):
            return False
        for part, group in zip(self._parts, groups, strict=True):
            if not part.fits(group):
                return False
        if self._stream is not None and self._stream != torch.cuda.current_stream(self._stream.device):
            return False
        found = False
        for bound in self.bounds:
            some = bound.bind()
            if some is None:
                return False
            found = some or found
        # The gradients live as long as the parameters hold them, so long enough for their addresses.
        if found and self.engine.advance():
            for bound in self.bounds:
                bound.done()
        return True


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
