"""Looking without a trace: a model and all random states are afterwards as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards its modes, buffers and attributes, and all random states, as they were."""
    modules = list(model.modules())
    attributes = [dict(vars(module)) for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    values = [(b, b.detach().clone()) for own in buffers for b in own.values() if b is not None]
    with unmoved_randomness():
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, before, own in zip(modules, attributes, buffers, strict=True):
                vars(module).clear()
                vars(module).update(before)
                module._buffers.clear()
                module._buffers.update(own)
            with torch.no_grad():
                for buffer, value in values:
                    buffer.copy_(value)


@contextmanager
def unmoved_randomness(*generators: torch.Generator) -> Iterator[None]:
    """The random states of PyTorch, NumPy and Python, and those of generators, afterwards as they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    own = [(generator, generator.get_state()) for generator in generators]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
            for generator, state in own:
                generator.set_state(state)


def seed_all(seed: int, *generators: torch.Generator) -> None:
    """Start the random numbers of Python, NumPy and PyTorch, and those of generators, at a seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed % 2**63)
    for generator in generators:
        generator.manual_seed(seed % 2**63)
