"""From an optimizer and a profile to a config: reference values, published practice, what the profile changes."""

from __future__ import annotations

import functools
import itertools
import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from typing import Any

from optadvisor.advisor import laws
from optadvisor.advisor import published as tables
from optadvisor.advisor.conditions import any_holds
from optadvisor.advisor.guide import Decision, hybrid_groups
from optadvisor.config import HYBRID, OptimizerConfig, no_decay
from optadvisor.kernels.rules import RULES
from optadvisor.kernels.schedules import WARMS_UP, Schedule
from optadvisor.profile import TaskProfile
from optadvisor.quantities import show_count

VERY_LONG = 100_000  # steps from which on the guide's smaller beta2 is used (its rule R7 calls the same length long)
PRACTICE = 4.0  # how many tuned points of a task just alike a published setting counts as: a paper's whole experience
LR_LIMITS = (1e-7, 30.0)


@functools.cache
def practice() -> list[dict[str, Any]]:
    """The published settings, in the order in which they are tried."""
    text = resources.files("optadvisor.advisor").joinpath("data/practice.toml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = tomllib.loads(text)["practice"]
    return entries


def published(optimizer: str, profile: TaskProfile, without: Collection[str] = ()) -> dict[str, Any]:
    """The first entry of published practice for the optimizer that fits the profile.

    without: ids of sources (published.SOURCES); entries that rest on one of them are passed over.
    """
    return next(
        entry
        for entry in practice()
        if optimizer in entry["optimizers"] and any_holds(entry["when"], profile) and entry.get("from") not in without
    )


def make(
    optimizer: str,
    profile: TaskProfile,
    decision: Decision,
    lr_factor: float = 1.0,
    without: Collection[str] = (),
) -> OptimizerConfig:
    """The config to start the optimizer with; `lr_factor` multiplies its learning rate, `without` is as in `published`."""
    if optimizer == HYBRID:
        return _hybrid(profile, decision, lr_factor, without)
    full = optimizer == "sgd" and decision.full_batch
    values, notes = _values(optimizer, profile, lr_factor, without)
    if full:
        values.pop("weight_decay", None)
        notes = [note for note in notes if note["field"] != "weight_decay"]
    return OptimizerConfig.of(
        optimizer,
        values,
        _schedule(optimizer, profile, decision, full),
        batch="full" if full else "mini",
        provenance=_provenance(optimizer, decision, notes, lr_factor),
    )


def _hybrid(profile: TaskProfile, decision: Decision, lr_factor: float, without: Collection[str]) -> OptimizerConfig:
    groups, notes = [], []
    rules = hybrid_groups(profile)
    for role, name in rules.items():
        values, own = _values(name, profile, lr_factor, without)
        groups.append({"role": role, "optimizer": name, "hyperparameters": RULES[name].complete(values)})
        notes += [{**note, "field": f"{role}.{note['field']}"} for note in own]
    return OptimizerConfig(
        HYBRID,
        {},
        _schedule(HYBRID, profile, decision, False).to_dict(),
        [*groups, no_decay(rules["dense"])],
        provenance=_provenance(HYBRID, decision, notes, lr_factor),
    )


def _provenance(
    optimizer: str, decision: Decision, notes: Sequence[Mapping[str, Any]], lr_factor: float
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "source": "guide",
        "rules": [reason["rule"] for reason in decision.reasons(optimizer)],
        "settings": list(notes),
    }
    if lr_factor != 1.0:
        found["lr_factor"] = lr_factor
    return found


def _values(
    optimizer: str, profile: TaskProfile, lr_factor: float, without: Collection[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Hyperparameters that differ from the rule's defaults, and a note on where each comes from."""
    rule = RULES[optimizer]
    entry = published(optimizer, profile, without)
    lr, how = _learning_rate(entry, profile)
    lr, more = _with_tuned(optimizer, lr, profile, without)
    values: dict[str, Any] = {"lr": min(max(_round(lr * lr_factor), LR_LIMITS[0]), LR_LIMITS[1])}
    notes = [{"field": "lr", "source": entry["source"] + how}, *more]
    for name in ("weight_decay", "eps", "betas"):
        # Decay that was published for AdamW is not L2 inside an adaptive rule (R10).
        coupled = name == "weight_decay" and rule.adaptive and rule.decay != "decoupled"
        if name in entry and name in rule.names and not coupled:
            values[name] = entry[name]
            notes.append({"field": name, "source": entry["source"]})
    change = _second_moment(profile)
    if "betas" in rule.names and change:
        values["betas"] = [values.get("betas", rule.defaults["betas"])[0], change[0]]
        notes.append({"field": "betas", "source": change[1]})
    if optimizer == "rmsprop" and profile.non_stationary:
        values["alpha"] = 0.9
        notes.append({"field": "alpha", "source": "selection guide: 0.9 instead of 0.99 where gradients change fast"})
    return values, notes


def _second_moment(profile: TaskProfile) -> tuple[float, str] | None:
    """A smaller beta2 than the default, with the reason."""
    if profile.non_stationary:
        return 0.95, "selection guide: beta2 0.95 where gradients change fast"
    if profile.steps is not None and profile.steps >= VERY_LONG:
        return 0.98, f"selection guide: beta2 0.98 for a very long run ({show_count(profile.steps)} steps)"
    big = profile.parameters is not None and profile.parameters >= 10**9
    if big and (profile.domain == "language" or profile.architecture == "transformer"):
        return 0.95, "Brown et al. 2020, GPT-3, appendix B: beta2 0.95 for models of billions of parameters"
    return None


def _with_tuned(
    optimizer: str, lr: float, profile: TaskProfile, without: Collection[str]
) -> tuple[float, list[dict[str, Any]]]:
    """The learning rate of practice drawn towards the tuned tables of the profile's domain, and a note on each source.

    The mean in ln lr, practice as PRACTICE points, a tuned point as its likeness (published.learning_rate). DeepOBS is
    not among them: it is a row of the knowledge, and counts there.
    """
    found = tables.learning_rate(optimizer, profile, {*without, tables.DEEPOBS.id})
    near = [point for point in found.points if point.profile.domain == profile.domain] if found else []
    if not found or not near or profile.domain is None:
        return lr, []
    share = found.weight / (found.weight + PRACTICE)
    text = (
        f"drawn by a share of {share:.2f} towards lr {found.lr:.2g}, which the tuned tables have for a task like this"
    )
    sources = dict.fromkeys(point.source.text for point in near)
    return lr ** (1.0 - share) * found.lr**share, [{"field": "lr", "source": f"{'; '.join(sources)}: {text}"}]


def _learning_rate(entry: Mapping[str, Any], profile: TaskProfile) -> tuple[float, str]:
    """The published learning rate carried to the profile's size and batch, and how that was done."""
    lr, how = float(entry.get("lr", 0.0)), ""
    table = entry.get("by_parameters")
    if table and profile.parameters is not None:
        lr = _interpolate(table, profile.parameters)
        how = f"; at {show_count(profile.parameters)} parameters"
    if "scale" in entry and profile.batch_size is not None:
        law, within = laws.BATCH[entry["scale"]], entry["range"]
        lr *= law.factor(entry["batch_size"], profile.batch_size, within)
        how += f"; {law.name} scaling to batch {laws.held(profile.batch_size, within)}"
    return lr, how


def _interpolate(table: Sequence[Sequence[float]], parameters: int) -> float:
    if parameters <= table[0][0]:
        return float(table[0][1])
    for (x0, y0), (x1, y1) in itertools.pairwise(table):
        if parameters <= x1:
            share = math.log(parameters / x0) / math.log(x1 / x0)
            return float(y0 * (y1 / y0) ** share)
    return float(table[-1][1])


def _round(value: float) -> float:
    return float(f"{value:.2g}")


def _schedule(optimizer: str, profile: TaskProfile, decision: Decision, full_batch: bool) -> Schedule:
    """The deciding rule's schedule; constant for rules that shrink their own steps and for exact gradients."""
    rule = decision.schedule_rule
    name, warmup = rule.schedule, rule.warmup_fraction
    if full_batch or optimizer in (HYBRID, "adagrad", "rowwise_adagrad") or not RULES[optimizer].scheduled:
        name, warmup = "constant", 0.0
    if name not in WARMS_UP:
        warmup = 0.0
    elif profile.goal == "stability":
        warmup = min(2 * warmup, 0.2)
    if profile.steps is None:
        return Schedule(name, None, None, 0.0, warmup)
    return Schedule(name, round(warmup * profile.steps), profile.steps)


def search_space(
    config: OptimizerConfig, learned: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, dict[str, Any]]:
    """What a study searches around the config: the rules' own axes, lr within a factor of 10 of the config's.

    learned: axis -> the range that was good on tasks like it (lists.ranges); it is searched, and the config's value with it.
    """
    if config.optimizer != HYBRID:
        return _axes(config.optimizer, config.hyperparameters, "", learned or {})
    space: dict[str, dict[str, Any]] = {}
    for group in config.groups:
        if group["role"] != "no_decay":
            space.update(_axes(group["optimizer"], group["hyperparameters"], f"{group['role']}.", learned or {}))
    return space


def _axes(
    optimizer: str, values: Mapping[str, Any], prefix: str, learned: Mapping[str, tuple[float, float]]
) -> dict[str, dict[str, Any]]:
    axes = {}
    for hyperparameter, axis in RULES[optimizer].search():
        low, high = axis.low, axis.high
        if axis.name == "lr":
            low, high = _round(values["lr"] / 10), _round(values["lr"] * 10)
        if prefix + axis.name in learned:
            ends = learned[prefix + axis.name]
            low, high = ends if axis.name == "lr" else (max(ends[0], axis.low), min(ends[1], axis.high))
            value = values[hyperparameter.name]
            own = float(value if axis.index is None else value[axis.index])
            own = 1.0 - own if axis.complement else own
            low, high = (_round(min(low, own) if own > 0 else low), _round(max(high, own)))
        axes[prefix + axis.name] = {
            "hyperparameter": hyperparameter.name,
            "low": low,
            "high": high,
            "log": axis.log,
            "complement": axis.complement,
        }
    return axes
