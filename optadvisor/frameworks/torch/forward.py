"""What happens in one forward pass of a PyTorch model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from optadvisor.frameworks.flow import Flow, Op, flow
from optadvisor.frameworks.torch import operations


@dataclass
class Seen:
    """One forward pass. inputs, output: of the model. lookups: tables with the ids that were read in them."""

    flow: Flow
    inputs: list[Tensor]
    lookups: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    output: tuple[int, ...] | None = None


def watch(model: nn.Module, call: Callable[[], Any], given: Iterable[Tensor]) -> Seen:
    """What happens inside a model during `call`, without gradients.

    given: the tensors of the batch. Operations outside the model's forward (a loss) are left out if it is called at all.
    Whatever `call` raises is let through.
    """
    recorder = _Recorder(model, given)
    hooks = [
        model.register_forward_pre_hook(recorder.entered, with_kwargs=True),
        model.register_forward_hook(recorder.left, always_call=True),
    ]
    try:
        with torch.no_grad(), recorder:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return Seen(flow(recorder.ops, recorder.complete), recorder.inputs, recorder.lookups, recorder.output)


class _Recorder(TorchFunctionMode):  # type: ignore[misc]  # torch is untyped to mypy here
    def __init__(self, model: nn.Module, given: Iterable[Tensor]) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self.lookups: list[tuple[Tensor, Tensor]] = []
        self.inputs: list[Tensor] = []
        self.output: tuple[int, ...] | None = None
        self.complete = True
        self._places: Any = WeakTensorKeyDictionary()
        self._inputs: Any = WeakTensorKeyDictionary()
        self._depth, self._called = 0, False
        self._constant: Any = WeakTensorKeyDictionary()
        for tensor in (*model.parameters(), *model.buffers()):
            self._constant[tensor] = None
        for tensor in given:
            self._input(tensor)

    def entered(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._depth == 0:  # what was done before the forward pass, or in an earlier one, is no part of it
            self.ops.clear()
            self.lookups.clear()
            self.inputs.clear()
            self._places = WeakTensorKeyDictionary()
            for tensor in tensors((args, kwargs)):
                self._input(tensor)
        self._depth += 1

    def left(self, module: nn.Module, args: Any, output: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._called = True
            first = next(iter(tensors(output)), None)
            self.output = None if first is None else tuple(first.shape)

    def _input(self, tensor: Tensor) -> None:
        if tensor not in self._constant:
            self._places[tensor] = self._add(Op("input"))
            self._inputs[tensor] = None
            self.inputs.append(tensor)

    def _add(self, op: Op) -> int:
        self.ops.append(op)
        return len(self.ops) - 1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = [(tensor, self._places.get(tensor)) for tensor in tensors((args, kwargs))]
        out = func(*args, **kwargs)
        if self._called and self._depth == 0:
            return out
        if operations.name(func) == "numpy" and any(place is not None for _, place in before):
            self.complete = False
        if operations.name(func) == "setitem" and isinstance(args[0], Tensor):
            self._record("cat", args, kwargs, before, [args[0]])
        made = list(tensors(out)) if isinstance(out, (Tensor, tuple, list, Mapping)) else []
        if made:
            self._record(operations.name(func), args, kwargs, before, made)
        return out

    def _record(
        self, name: str, args: Any, kwargs: Any, before: list[tuple[Tensor, int | None]], made: list[Tensor]
    ) -> None:
        inputs = tuple(dict.fromkeys(place for _, place in before if place is not None))
        if not inputs:
            if any(tensor not in self._constant for tensor, _ in before):
                self.complete = False  # a tensor that came from nowhere: something was done out of sight
            for tensor in made:
                self._constant[tensor] = None
            return
        kind = operations.kind(name, len(inputs))
        weights = [tensor for tensor, place in before if place is None]
        if kind == "product" and weights:
            kind = "linear"
        square = kind == "product" and any(_adjacency(t, self._inputs) for t, _ in before)
        indexed = kind == "scatter" and any(not t.is_floating_point() and self._given(p) for t, p in before)
        if name in ("embedding", "embedding_bag") and weights:
            self._looked_up(args, kwargs)
        weight = id(max(weights, key=Tensor.numel)) if weights else None
        place = self._add(Op(kind, inputs, weight, operations.strided(kind, args, kwargs), square, indexed))
        for tensor in made:
            self._places[tensor] = place
            if name in ("t", "transpose", "to", "float", "getitem", "squeeze", "unsqueeze", "coalesce") and all(
                t in self._inputs for t, _ in before
            ):
                self._inputs[tensor] = None  # still the input as it was given

    def _given(self, place: int | None) -> bool:
        """Whether an operation is an input, or a part of one."""
        while place is not None and self.ops[place].kind == "moves" and len(self.ops[place].inputs) == 1:
            place = self.ops[place].inputs[0]
        return place is not None and self.ops[place].kind == "input"

    def _looked_up(self, args: Any, kwargs: Any) -> None:
        given = [*args, *(kwargs[name] for name in ("input", "weight") if name in kwargs)][:2]
        ids = next((t for t in given if isinstance(t, Tensor) and not t.is_floating_point()), None)
        table = next((t for t in given if isinstance(t, Tensor) and t.is_floating_point()), None)
        if ids is not None and table is not None:
            self.lookups.append((table, ids))


def _adjacency(tensor: Tensor, inputs: Any) -> bool:
    """Whether a tensor is an input that says which nodes of a graph are joined: square, of floats or sparse."""
    square = tensor.ndim in (2, 3) and tensor.shape[-1] == tensor.shape[-2] and tensor.shape[-1] > 1
    return tensor in inputs and square and (tensor.is_floating_point() or tensor.layout != torch.strided)


def tensors(data: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists, dicts and plain objects of tensors, in order."""
    if isinstance(data, Tensor):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from tensors(value)
    elif isinstance(data, (tuple, list)):
        for value in data:
            yield from tensors(value)
    elif hasattr(data, "edge_index") and hasattr(data, "__dict__"):  # a batch of a graph library
        yield from tensors(getattr(data, "to_dict", lambda: vars(data))())
