"""Our update rules as optax.GradientTransformation, for what optax has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optadvisor.frameworks.running import Steps, factor
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.rules.record import Value
from optadvisor.kernels.schedules import Schedule


class RuleState(NamedTuple):
    """Steps done, and the rule's states by name, each a pytree like the parameters."""

    count: Any
    states: dict[str, Any]


def rate(lr: float, schedule: Schedule) -> Any:
    """A learning rate as optax takes it: a number where it stays, else a schedule of the step count."""
    if schedule.name == "constant":
        return lr

    def at(count: Any) -> Any:
        kind = jnp.result_type(float)
        with jax.enable_x64(True):
            return jnp.asarray(lr * factor(schedule, jnp.asarray(count, jnp.float64), jnp), kind)

    return at


def by_rule(
    rule: str, hyperparameters: Mapping[str, Value], convention: str, schedule: Schedule
) -> optax.GradientTransformation:
    """The steps of one of our rules; `update` needs the parameters. Half precision is computed in float32.

    schedule: as `resolve` returned it. Errors: Inexpressible as `Steps` says.
    """
    steps = Steps(rule, hyperparameters, convention, jnp)
    peak = float(hyperparameters["lr"])  # type: ignore[arg-type]

    def numbers(count: Any, kind: Any) -> list[Any]:
        # In float64, as the kernels do: float32 loses most digits of 1 - beta**t, and of radam's rectification.
        with jax.enable_x64(True):
            t = jnp.asarray(count, jnp.float64)
            lr = peak if schedule.name == "constant" else peak * factor(schedule, t, jnp)
            return [jnp.asarray(number, kind) for number in steps.coefficients(t + 1.0, lr)]

    def init(params: Any) -> RuleState:
        def start(state: Any, p: Any, shape: tuple[int, ...]) -> Any:
            value = jnp.asarray(steps.start(state, p.astype(_kind(p))), _kind(p))
            return jnp.broadcast_to(value, shape)

        states = {s.name: jax.tree.map(lambda p, s=s: start(s, p, p.shape), params) for s in steps.states}
        rows = {s.name: jax.tree.map(lambda p, s=s: start(s, p, p.shape[:1] or (1,)), params) for s in steps.row_states}
        return RuleState(jnp.zeros([], jnp.int32), {**states, **rows})

    def update(updates: Any, state: RuleState, params: Any = None) -> tuple[Any, RuleState]:
        if params is None:
            raise InputError(f"{rule} needs the parameters: call update(grads, state, params)")
        leaves, form = jax.tree.flatten(params)
        gradients = form.flatten_up_to(updates)
        names = [s.name for s in (*steps.states, *steps.row_states)]  # JAX sorts the keys of a dict
        kept = [form.flatten_up_to(state.states[name]) for name in names]
        now = {kind: numbers(state.count, kind) for kind in {_kind(p) for p in leaves}}
        moved, after = [], [[] for _ in kept]  # type: ignore[var-annotated]
        for i, (p, g) in enumerate(zip(leaves, gradients, strict=True)):
            kind = _kind(p)
            wide = p.astype(kind)
            new, *states = steps.step(wide, g.astype(kind), [tree[i] for tree in kept], now[kind])
            moved.append((new - wide).astype(p.dtype))
            for found, value in zip(after, states, strict=True):
                found.append(value)
        states_after = {name: form.unflatten(found) for name, found in zip(names, after, strict=True)}
        return form.unflatten(moved), RuleState(optax.safe_increment(state.count), states_after)

    return optax.GradientTransformation(init, update)


def _kind(p: Any) -> Any:
    """The dtype of the arithmetic: float32 for half precision."""
    return jnp.promote_types(p.dtype, jnp.float32)
