"""`Hybrid`: several classes of torch.optim as one optimizer, each on its own parameter groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from optadvisor.kernels.errors import InputError


class Hybrid(Optimizer):  # type: ignore[misc]
    """One optimizer made of several: their groups in one list, their state in one dict.

    parts: optimizers of PyTorch over different parameters. The groups and the state of the parts are the very objects of
    this one, so schedulers, hooks, zero_grad, GradScaler, state_dict and load_state_dict work as for any other optimizer.

    Errors: InputError for no parts; PyTorch's own for a parameter that is in two of them.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        if not parts:
            raise InputError("a hybrid of no optimizers: pass at least one")
        self.parts = list(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        for part in self.parts:
            self.state.update(part.state)
        self._share([len(part.param_groups) for part in self.parts])

    def _share(self, sizes: Sequence[int]) -> None:
        """Hand the parts their groups, and the one state."""
        groups = iter(self.param_groups)
        for part, size in zip(self.parts, sizes, strict=True):
            own = [next(groups) for _ in range(size)]
            # Classes put older states in order there, and take every entry for one of their own.
            kept = {p: self.state[p] for group in own for p in group["params"] if p in self.state}
            part.__setstate__({"state": kept, "param_groups": own})
            part.state = self.state

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every part. closure: evaluates the model again and returns the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            # Inside PyTorch's wrapper, which would run everybody's global hooks once for each part.
            getattr(type(part).step, "__wrapped__", type(part).step)(part)
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to the part whose groups have the same "role"; its hyperparameters where none are given."""
        if len(self.param_groups) < sum(len(part.param_groups) for part in self.parts):
            super().add_param_group(param_group)  # from __init__: the parts have it already
            return
        role = param_group.get("role")
        part = next((part for part in self.parts if any(g.get("role") == role for g in part.param_groups)), None)
        if part is None:
            known = [repr(group.get("role")) for group in self.param_groups]
            raise InputError(f"the group's role is {role!r}; it says which optimizer is meant: {', '.join(known)}")
        like = next(group for group in part.param_groups if group.get("role") == role)
        given = param_group["params"]
        added = {
            **{key: value for key, value in like.items() if key not in ("params", "initial_lr", "param_names")},
            **param_group,
            "params": [given] if isinstance(given, Tensor) else list(given),
        }
        mine = {id(p) for group in self.param_groups for p in group["params"]}
        if any(id(p) in mine for p in added["params"]):
            raise ValueError("some parameters appear in more than one parameter group")
        part.add_param_group(added)
        # Groups of a part stay together, so that the order says whose they are.
        self.param_groups[:] = [group for each in self.parts for group in each.param_groups]

    def __setstate__(self, state: dict[str, Any]) -> None:
        sizes = [len(part.param_groups) for part in state.get("parts", ()) or self.parts]
        super().__setstate__(state)
        self._share(sizes)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "parts": self.parts}

    def __repr__(self) -> str:
        return f"Hybrid({', '.join(map(repr, self.parts))})"
