"""A PyTorch model as what is probed. Everything of the person's is put back: weights, buffers, modes, random numbers."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from optadvisor.config import OptimizerConfig
from optadvisor.frameworks.looking import DECLARED
from optadvisor.frameworks.parameters import Parameter
from optadvisor.frameworks.torch import batches as data
from optadvisor.frameworks.torch.forward import tensors
from optadvisor.frameworks.torch.keeping import seed_all, unmoved_randomness, untouched
from optadvisor.frameworks.torch.losses import loss_of
from optadvisor.frameworks.torch.profiling import profile
from optadvisor.frameworks.torch.reading import parameters, unwrap
from optadvisor.frameworks.torch.subject import Subject, many
from optadvisor.kernels.errors import InputError
from optadvisor.probing import ranging
from optadvisor.probing.subject import Block, Sparse, Weights
from optadvisor.profile import TaskProfile

POOL = 2**29  # bytes of mini-batches that are kept, so that the same one can be asked for again
FEWEST = 8  # mini-batches that are kept however large


class TorchSubject:
    """A model with its mini-batches and loss, in training mode.

    wanted: how many different mini-batches it is asked for; fewer are kept where they would take more than POOL bytes or
    a loader that does not shuffle has no more. The mini-batches go round.

    Errors: InputError for a model without a loss or data, without trainable parameters, or with complex ones.
    """

    def __init__(self, given: Subject, declared: TaskProfile, wanted: int, seed: int = 0) -> None:
        if given.loss_fn is None or given.batches is None:
            missing = "loss_fn" if given.batches is not None else "batches"
            raise InputError(
                f"{given.name} has no {missing}: a probe needs (model, batches, loss_fn), "
                "with loss_fn(model, batch) or a criterion such as nn.CrossEntropyLoss()"
            )
        self.name, self.declared, self._seed = given.name, declared, seed
        self._loss_fn: Callable[..., Any] = given.loss_fn
        self._model = unwrap(given.model)
        trainable = [p for p in parameters(given.model) if p.trainable]
        if not trainable:
            raise InputError(f"{given.name} has no parameters to train: unfreeze some")
        self._tensors: list[nn.Parameter] = [_plain(p) for p in trainable]
        self.blocks = [Block(p.name, p.role, p.shape) for p in trainable]
        self._given, self._wanted = given.batches, wanted
        with unmoved_randomness(*data.generators(given.batches)):
            seed_all(self._seed)
            self._pool = self._drawn()
        self.distinct: int | None = len(self._pool)
        self.batch_size, _ = data.size(given.batches, self._pool[0])
        known = {name: value for name, value in declared.to_dict().items() if value is not None}
        looked = profile(replace(given, declared=known))
        self.read: Mapping[str, tuple[Any, str]] = {
            name: (getattr(looked.profile, name), why) for name, why in looked.reasons.items() if why != DECLARED
        }
        self._initial = self._flat()
        self._start_buffers = self._buffers()

    # What a probe asks for ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Weights, .grad, buffers, modes and attributes of modules, and all generators are afterwards as they were."""
        kept = [tensor.detach().clone() for tensor in self._tensors]
        grads = [(tensor.grad, None if tensor.grad is None else tensor.grad.clone()) for tensor in self._tensors]
        with untouched(self._model):
            try:
                seed_all(self._seed)
                self._model.train()
                yield
            finally:
                with torch.no_grad():
                    for tensor, value, (grad, was) in zip(self._tensors, kept, grads, strict=True):
                        tensor.copy_(value)
                        tensor.grad = grad
                        if grad is not None and was is not None:
                            grad.copy_(was)

    def start(self) -> Weights:
        self._put(self._start_buffers)
        return self._initial.copy()

    def gradient(self, weights: Weights, number: int) -> tuple[float, Weights]:
        before = self._buffers()
        try:
            return self.advance(weights, number)
        finally:
            self._put(before)

    def advance(self, weights: Weights, number: int) -> tuple[float, Weights]:
        self._place(weights)
        torch.manual_seed((self._seed * 2**20 + number) % 2**63)
        with torch.enable_grad():
            batch = data.moved(self._pool[number % len(self._pool)], self._tensors[0].device)
            loss = loss_of(self._loss_fn, self._model, batch)
            if not loss.requires_grad:
                raise InputError(f"{self.name}: the loss does not depend on the parameters: return it without detach()")
            found = torch.autograd.grad(loss, self._tensors, allow_unused=True)
        parts = [
            np.zeros(block.size, dtype=np.float32) if grad is None else _array(grad)
            for block, grad in zip(self.blocks, found, strict=True)
        ]
        return float(loss.detach()), np.concatenate(parts)

    def train(self, config: OptimizerConfig, steps: int) -> float:
        return ranging.by_gradients(self, config, steps)

    def zeros(self) -> Sparse | None:
        """Of the first mini-batch, where its inputs are features, as a look at the model has it."""
        value, why = self.read.get("sparse_fraction", (None, ""))
        return None if value is None else Sparse(value, why)

    # How --------------------------------------------------------------------------------------------------------------

    def _flat(self) -> Weights:
        return np.concatenate([_array(tensor.detach()) for tensor in self._tensors] or [np.zeros(0, np.float32)])

    def _place(self, weights: Weights) -> None:
        first = 0
        with torch.no_grad():
            for tensor in self._tensors:
                part = torch.from_numpy(weights[first : first + tensor.numel()])
                tensor.copy_(part.view(tensor.shape))
                first += tensor.numel()

    def _buffers(self) -> list[tuple[nn.Module, str, torch.Tensor, torch.Tensor]]:
        return [
            (module, name, buffer, buffer.detach().clone())
            for module in self._model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    def _put(self, buffers: list[tuple[nn.Module, str, torch.Tensor, torch.Tensor]]) -> None:
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer
                buffer.copy_(value)

    def _drawn(self) -> list[Any]:
        pool: list[Any] = []
        size = 0
        again = isinstance(getattr(self._given, "sampler", None), torch.utils.data.RandomSampler)
        while True:
            before = len(pool)
            for batch in itertools.islice(self._given, self._wanted - len(pool)):
                pool.append(batch)
                size += sum(part.numel() * part.element_size() for part in tensors(batch))
                if size > POOL and len(pool) >= FEWEST:
                    return pool
            if len(pool) == before:
                break
            if not again or len(pool) >= self._wanted:
                break
        if not pool:
            raise InputError(f"{self.name} has no mini-batches: batches is empty")
        return pool


def subject(
    model: object,
    batches: Any,
    loss_fn: Callable[..., Any] | None,
    declared: TaskProfile,
    wanted: int,
    seed: int,
) -> TorchSubject:
    """What is probed, of a model with batches and loss, or of a loaded FILE.py:FACTORY."""
    if isinstance(model, nn.Module):
        model = Subject(type(model).__name__, model, many(batches), loss_fn)
    elif not isinstance(model, Subject):
        raise InputError(
            f"cannot probe {type(model).__name__}: it takes a built-in task's name, FILE.py:FACTORY or a torch.nn.Module"
        )
    told = {**(model.declared or {}), **{name: v for name, v in declared.to_dict().items() if v is not None}}
    return TorchSubject(model, TaskProfile.from_dict(told), wanted, seed)


def _plain(parameter: Parameter) -> nn.Parameter:
    tensor: nn.Parameter = parameter.value
    if tensor.is_complex():
        raise InputError(f"{parameter.name} is complex: a probe takes real parameters")
    return tensor


def _array(tensor: torch.Tensor) -> Weights:
    dense = tensor.to_dense() if tensor.is_sparse else tensor
    found: Weights = dense.detach().to("cpu", torch.float32).reshape(-1).numpy()
    return found
