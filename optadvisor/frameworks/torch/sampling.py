"""What a monitor measures of an optimizer's tensors: a fixed sample of each, gathered into one array and reduced there.

One torch.cat and one copy to the host a quantity, whatever the number of tensors; the rest is NumPy.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optadvisor.frameworks.signs import Member, Reading
from optadvisor.kernels import rules

_Array = np.ndarray[Any, Any]

# Second moments by the names of their state: those that fade, and Adagrad's sum, which does not.
_FADING, _GROWING = ("exp_avg_sq", "square_avg"), "sum"
# torch.optim's classes whose weight decay goes through the gradient, so that their second moment has it too.
_COUPLED = ("Adam", "NAdam", "RAdam", "RMSprop", "Adagrad")
# An embedding's table has a gradient in few of its rows: a sample with less than this share of them says nothing.
_TOUCHED = 0.02
# The second moment of a row that most steps leave alone lags behind its gradients, as it should.
_DENSE = 0.5


@dataclass(frozen=True)
class Place:
    """The sample of a tensor: `rows` rows from `start`, at most `count` elements."""

    name: str
    tensor: Tensor
    group: Mapping[str, Any]
    start: int
    rows: int
    count: int

    @classmethod
    def of(cls, name: str, tensor: Tensor, group: Mapping[str, Any], sample: int, draw: random.Random) -> Place:
        parts = tensor.numel() * (2 if tensor.is_complex() else 1)
        if parts <= sample:
            return cls(name, tensor, group, 0, 0, parts)
        height = tensor.shape[0]
        width = parts // height
        rows = max(1, sample // width)
        return cls(name, tensor, group, draw.randrange(height - rows + 1), rows, min(rows * width, sample))

    def cut(self, tensor: Tensor) -> Tensor:
        """The sample of a tensor of this shape: the parameter, its gradient or its state."""
        tensor = tensor.detach()
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor)
        if not self.rows:
            return tensor.reshape(-1)
        return tensor.narrow(0, self.start, self.rows).reshape(-1)[: self.count]

    def member(self) -> Member:
        group = self.group
        rule = rules.RULES.get(group.get("rule", ""))
        beta1, beta2 = group.get("betas", (0.0, group.get("alpha", 1.0)))
        return Member(
            self.name,
            weights=self.tensor.ndim >= 2,
            history=bool(group.get("momentum") or beta1),
            adaptive=rule.adaptive if rule else "eps" in group,
            memory=1.0 / (1.0 - float(beta2)) if beta2 < 1.0 else math.inf,
        )


@dataclass
class Gradients:
    """Gradients of one step: the sample of the dense ones, and at a look the norms of all, by name."""

    places: list[Place]
    values: _Array
    norms: dict[str, float] = field(default_factory=dict)


def gather(tensors: Sequence[Tensor]) -> _Array:
    """Flat tensors, one after the other, in one new array of the host (float32 or float64)."""
    parts: list[list[Tensor]] = []
    for tensor in tensors:
        if parts and parts[-1][0].device == tensor.device:
            parts[-1].append(tensor)
        else:
            parts.append([tensor])
    found = []
    for part in parts:
        whole = torch.cat(part)
        whole = whole.float() if whole.dtype in (torch.float16, torch.bfloat16) else whole
        found.append(whole.cpu().numpy())
    return found[0] if len(found) == 1 else np.concatenate(found or [np.zeros(0, np.float32)])


def gradients(places: Sequence[Place], scale: float, whole: bool) -> Gradients:
    """The gradients that are there now, divided by `scale`; whole: with the norm of each, of rows where it is sparse."""
    dense = [p for p in places if p.tensor.grad is not None and p.tensor.grad.layout == torch.strided]
    values = gather([place.cut(place.tensor.grad) for place in dense])
    found = Gradients(dense, values if scale == 1.0 else values / scale)
    if whole:
        rows = [p for p in places if p.tensor.grad is not None and p.tensor.grad.is_sparse]
        tensors = [p.tensor.grad.detach() for p in dense]
        tensors += [p.tensor.grad.detach().coalesce().values() for p in rows]
        norms = torch.stack([norm.float().cpu() for norm in torch._foreach_norm(tensors)]).tolist() if tensors else []
        found.norms = {p.name: norm / scale for p, norm in zip([*dense, *rows], norms, strict=True)}
    return found


def read(
    optimizer: torch.optim.Optimizer,
    steps: int,
    places: Sequence[Place],
    weights: _Array,
    now: Gradients,
    before: Gradients | None,
) -> tuple[dict[str, Reading], float | None]:
    """The readings of a step, by name, and the cosine of its gradients and those of the step before.

    weights: the sample of `places` before the step; the parameters now hold what came of it.
    """
    readings = {name: Reading(norm) for name, norm in now.norms.items()}
    if not now.places:
        return readings, None
    counts = [place.count for place in now.places]
    starts = np.cumsum([0, *counts[:-1]])
    g = now.values
    with np.errstate(all="ignore"):  # what is not finite is a sign, not a warning
        old = _those(now.places, places, weights)
        moved = gather([place.cut(place.tensor) for place in now.places]) - old
        touched = (g != 0).astype(g.dtype)
        share = np.add.reduceat(touched, starts) / np.asarray(counts)
        squares = np.add.reduceat(g * g, starts)
        steps_taken = np.add.reduceat(moved * moved * touched, starts)
        sizes = np.add.reduceat(old * old * touched, starts)
        ratios = np.sqrt(steps_taken / np.where(sizes > 0, sizes, np.nan))
        ratios[~np.isfinite(steps_taken)] = np.inf
        cosines, agreement = np.full(len(counts), np.nan), math.nan
        if before is not None and before.places == now.places:
            dots = np.add.reduceat(g * before.values, starts)
            others = np.add.reduceat(before.values * before.values, starts)
            cosines = dots / np.sqrt(squares * others)
            agreement = float(dots.sum() / np.sqrt(squares.sum() * others.sum()))
        seconds, rates = _moments(optimizer, steps, now.places, g, touched, old, starts)
    columns = zip(now.places, share, ratios, cosines, seconds, rates, strict=True)
    for place, there, ratio, cosine, second, rate in columns:
        readings[place.name] = Reading(
            now.norms[place.name],
            _known(ratio) if there >= _TOUCHED else None,
            _known(cosine),
            _known(second) if there >= _DENSE else None,
            _known(rate) if there >= _TOUCHED else None,
            float(place.group["lr"]),
        )
    return readings, _known(agreement)


def _moments(
    optimizer: torch.optim.Optimizer,
    steps: int,
    places: Sequence[Place],
    g: _Array,
    touched: _Array,
    weights: _Array,
    starts: _Array,
) -> tuple[_Array, _Array]:
    """By place: the second moment over the squared gradient, and Adagrad's rate; nan where there is none."""
    seconds, rates = np.full(len(places), np.nan), np.full(len(places), np.nan)
    kept: list[tuple[int, Tensor, bool, float]] = []
    for i, place in enumerate(places):
        state = optimizer.state.get(place.tensor) or {}
        name = next((n for n in (*_FADING, _GROWING) if n in state), None)
        if name is None or not isinstance(state[name], Tensor) or state[name].shape != place.tensor.shape:
            continue
        done = float(state.get("step", steps))
        if name == _GROWING:
            kept.append((i, state[name], False, 1.0 / (1.0 + (done - 1.0) * place.group.get("lr_decay", 0.0))))
        else:
            beta = place.group["betas"][1] if "betas" in place.group else place.group.get("alpha", 0.0)
            kept.append((i, state[name], True, 1.0 - float(beta) ** done))
    if not kept:
        return seconds, rates
    ends = [*starts[1:], len(g)]
    moments = gather([places[i].cut(tensor) for i, tensor, _, _ in kept])
    at = 0
    for i, _, fades, factor in kept:
        part = slice(int(starts[i]), int(ends[i]))
        moment = moments[at : at + places[i].count]
        at += places[i].count
        gradient = g[part]
        decay = _coupled(optimizer, places[i].group)
        if decay:
            gradient = gradient + decay * weights[part]
        if fades:
            mine = float(np.dot(gradient * touched[part], gradient))
            seconds[i] = float(np.dot(moment, touched[part])) / factor / mine if mine > 0.0 else np.nan
        else:
            logs = np.log(moment[(touched[part] > 0) & (moment > 0)])
            rates[i] = math.exp(-0.5 * float(logs.mean())) * factor if logs.size else np.nan
    return seconds, rates


def _coupled(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> float:
    """The weight decay that is part of the gradient, 0 where it is apart."""
    decay = float(group.get("weight_decay", 0.0))
    rule = rules.RULES.get(group.get("rule", ""))
    if rule is not None:
        return decay if rule.decay == "coupled" else 0.0
    return decay if type(optimizer).__name__ in _COUPLED and not group.get("decoupled_weight_decay") else 0.0


def _those(wanted: Sequence[Place], places: Sequence[Place], values: _Array) -> _Array:
    """The part of the sample of `places` that belongs to `wanted`."""
    if len(wanted) == len(places):
        return values
    ends = np.cumsum([place.count for place in places])
    at = {place.name: (int(end) - place.count, int(end)) for place, end in zip(places, ends, strict=True)}
    return np.concatenate([values[slice(*at[place.name])] for place in wanted])


def _known(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)
