"""The selection guide: rules R1..R11 read from data, families G1..G11, and the engine that combines them."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from typing import Any

from optadvisor.advisor.conditions import Condition, any_holds
from optadvisor.config import HYBRID
from optadvisor.kernels.rules import RULES, Family
from optadvisor.profile import TaskProfile
from optadvisor.quantities import show_bytes


@dataclass(frozen=True)
class GuideRule:
    """One rule of the guide; guide.toml says what each field means."""

    id: str
    title: str
    when: list[Condition]
    favours: list[str]
    reasons: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    excludes: list[str] = field(default_factory=list)
    leads: list[Condition] = field(default_factory=lambda: [{}])
    favours_when: list[Condition] = field(default_factory=lambda: [{}])
    firm: list[Condition] = field(default_factory=list)
    variant: list[dict[str, Any]] = field(default_factory=list)
    batch: str = "mini"
    schedule: str = "constant"
    warmup_fraction: float = 0.0
    prior: float = 0.0
    warning: str = ""
    default: bool = False
    concerns: list[str] = field(default_factory=list)

    def adapted(self, profile: TaskProfile) -> GuideRule:
        """The rule with its first variant that fits, and with favours only where it has any."""
        rule = self if any_holds(self.favours_when, profile) else replace(self, favours=[])
        for variant in rule.variant:
            if any_holds(variant["when"], profile):
                changes = {name: value for name, value in variant.items() if name not in ("when", "reasons")}
                return replace(rule, reasons={**rule.reasons, **variant.get("reasons", {})}, **changes)
        return rule

    def reason(self, optimizer: str) -> str | None:
        """Why this rule speaks for the optimizer, or None where it does not."""
        if optimizer in self.reasons:
            return self.reasons[optimizer] if optimizer not in self.excludes else None
        return self.reasons.get("*") if optimizer in (self.concerns or self.favours) else None


@dataclass(frozen=True)
class Guide:
    """The whole guide as its file has it."""

    source: str
    precedence: list[str]
    default_order: list[str]
    sparse_only: list[str]
    prior_of_the_rest: float
    rules: dict[str, GuideRule]
    hybrid: Family
    hybrid_groups: list[dict[str, Any]]
    take_it_when: dict[str, str]
    questions: list[dict[str, Any]]


@dataclass(frozen=True)
class Decision:
    """What the guide makes of a profile: who is tried in which order, under which rule, and what was overruled."""

    order: list[str]
    leader: GuideRule | None
    applied: list[GuideRule]
    conflicts: list[dict[str, Any]]
    excluded: list[dict[str, Any]]
    full_batch: bool
    warnings: list[str]

    @property
    def schedule_rule(self) -> GuideRule:
        """The rule whose schedule the answer takes: the leader's, R11's where no rule leads."""
        return self.leader or load().rules["R11"]

    def reasons(self, optimizer: str) -> list[dict[str, str]]:
        """Every rule that speaks for the optimizer, the deciding one first."""
        lead = self.leader.id if self.leader else ""
        found = [(rule.id, rule.reason(optimizer)) for rule in self.applied]
        ordered = sorted(found, key=lambda pair: pair[0] != lead)
        return [{"rule": rule, "text": text} for rule, text in ordered if text]


@functools.cache
def load() -> Guide:
    """The shipped guide."""
    text = resources.files("optadvisor.advisor").joinpath("data/guide.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    known = {f.name for f in fields(GuideRule)}
    rules = {}
    for raw in data["rule"]:
        values = {"concerns" if name == "for" else name: value for name, value in raw.items()}
        assert set(values) <= known, f"guide.toml, rule {raw['id']}: {set(values) - known}"
        rules[raw["id"]] = GuideRule(**values)
    return Guide(
        data["source"],
        data["precedence"],
        data["default_order"],
        data["sparse_only"],
        data["prior_of_the_rest"],
        rules,
        Family(**data["hybrid"]),
        data["hybrid_groups"],
        data["take_it_when"],
        data["question"],
    )


def family(optimizer: str) -> tuple[Family, ...]:
    """The guide's rows on an optimizer: one, three for sgd, G11 for hybrid."""
    return (load().hybrid,) if optimizer == HYBRID else RULES[optimizer].families


def described(optimizer: str) -> tuple[Family, ...]:
    """What is said of an optimizer: the guide's rows, or for a rule outside the guide the description in its record."""
    return family(optimizer) or RULES[optimizer].described


def states(optimizer: str) -> int | None:
    """State arrays an optimizer keeps by default; None for hybrid, where it depends on the split."""
    return None if optimizer == HYBRID else RULES[optimizer].states()


def hybrid_groups(profile: TaskProfile) -> dict[str, str]:
    """Role -> rule of a hybrid for the profile."""
    found: dict[str, str] = next(e["rules"] for e in load().hybrid_groups if any_holds(e["when"], profile))
    return found


def state_bounds(optimizer: str, profile: TaskProfile) -> tuple[int, int]:
    """Fewest and most state arrays: they differ for a hybrid, whose split into groups is unknown."""
    rules = hybrid_groups(profile).values() if optimizer == HYBRID else [optimizer]
    kept = [RULES[name].states() for name in rules]
    return min(kept), max(kept)


def memory(optimizer: str, parameters: int | None) -> int | None:
    """Bytes of optimizer state in float32, 4 x states x parameters; None where parameters or split are unknown."""
    kept = states(optimizer)
    return None if kept is None or parameters is None else 4 * kept * parameters


def decide(profile: TaskProfile) -> Decision:
    """Apply every rule to the profile and settle who decides."""
    guide = load()
    applied = _applied(guide, profile)
    leader = next((applied[r] for r in guide.precedence if r in applied and any_holds(applied[r].leads, profile)), None)
    order = _candidates(guide, applied, profile, leader)
    excluded = _excluded_by_rules(applied, order)
    order = [name for name in order if name not in [entry["optimizer"] for entry in excluded]]
    order, applied, leader = _memory_goal(profile, order, applied, leader)
    warnings = []
    if profile.memory_limit is not None:
        out, memory_warnings = _over_the_limit(profile, order, profile.memory_limit)
        excluded += out
        warnings += memory_warnings
        order = [name for name in order if name not in [entry["optimizer"] for entry in out]]
        if profile.parameters is not None:
            # A goal of memory already favours the small ones; of these some always fit, sgd at least.
            small = [name for name in applied["R9"].favours if name in order]
            fits = f"fits the limit of {show_bytes(profile.memory_limit)}"
            applied["R9"] = _memory_rule(applied["R9"], small or order, order, fits, profile)
    if leader and leader.warning and order[0] in leader.favours:
        warnings.insert(0, leader.warning)
    order, pinned = _place_plain_descent(order, applied)
    if "ftrl" in order and "R7" in applied:
        warnings.append(applied["R7"].reasons["ftrl"])
    overruled = {entry["optimizer"] for entry in excluded if entry["rule"] == "R9"}
    return Decision(
        order,
        leader,
        list(applied.values()),
        _conflicts(guide, applied, profile, leader, overruled),
        excluded,
        pinned,
        warnings,
    )


def _applied(guide: Guide, profile: TaskProfile) -> dict[str, GuideRule]:
    found = {
        rule.id: rule.adapted(profile)
        for rule in guide.rules.values()
        if not rule.default and any_holds(rule.when, profile)
    }
    if not {"R1", "R2", "R3", "R4", "R5", "R6"} & set(found):
        found.update({rule.id: rule.adapted(profile) for rule in guide.rules.values() if rule.default})
    return found


def _candidates(
    guide: Guide, applied: Mapping[str, GuideRule], profile: TaskProfile, leader: GuideRule | None
) -> list[str]:
    """Every optimizer that may be advised, in the order of the deciding rule, then of the guide."""
    sparse = "R3" in applied or "R6" in applied or (profile.sparse_fraction or 0.0) >= 0.5
    wanted = {name for rule in applied.values() for name in rule.favours} | ({"ftrl"} if sparse else set())
    first = leader.order if leader else []
    everything = [*first, *guide.default_order, *guide.sparse_only]
    order = list(dict.fromkeys(everything))
    return [name for name in order if name not in guide.sparse_only or name in wanted]


def _excluded_by_rules(applied: Mapping[str, GuideRule], order: list[str]) -> list[dict[str, Any]]:
    return [
        {"optimizer": name, "rule": rule.id, "text": rule.reasons[name]}
        for rule in applied.values()
        for name in rule.excludes
        if name in order
    ]


def _memory_rule(
    rule: GuideRule, favours: list[str], concerns: list[str], text: str, profile: TaskProfile
) -> GuideRule:
    """R9 with the optimizers that it favours, and a reason for each one that it concerns."""

    def words(name: str) -> str:
        least, most = state_bounds(name, profile)
        if least < most:
            return f"{name} keeps {least} to {most} states a parameter, by the share of embeddings: {text}"
        return f"{name} keeps {most or 'no'} state{'' if most == 1 else 's'} a parameter: {text}"

    return replace(rule, favours=favours, reasons={name: words(name) for name in concerns})


def _memory_goal(
    profile: TaskProfile, order: list[str], applied: dict[str, GuideRule], leader: GuideRule | None
) -> tuple[list[str], dict[str, GuideRule], GuideRule | None]:
    """Goal memory: at most one state comes first, unless the leader stands whatever the goal. Not an exclusion."""
    if profile.goal != "memory":
        return order, applied, leader
    # A hybrid counts by its fewest states: those of the embeddings, which are nearly all of its parameters.
    small = [name for name in order if state_bounds(name, profile)[0] <= 1]
    rule = _memory_rule(applied["R9"], small, small, "memory is the goal", profile)
    applied = {**applied, "R9": rule}
    rest = [name for name in order if name not in small]
    if leader and any_holds(leader.firm, profile):
        return (
            [order[0], *[n for n in small if n != order[0]], *[n for n in rest if n != order[0]]],
            applied,
            leader,
        )
    if leader and small and order[0] not in small:
        leader = replace(rule, schedule=leader.schedule, warmup_fraction=leader.warmup_fraction)
    return [*small, *rest], applied, leader


def _over_the_limit(profile: TaskProfile, order: list[str], limit: int) -> tuple[list[dict[str, Any]], list[str]]:
    """What does not fit the memory limit, by computed bytes; and what could not be computed."""
    if profile.parameters is None:
        return [], ["the memory limit could not be enforced: the number of parameters is unknown (--parameters)"]
    out, warnings = [], []
    for name in order:
        need, most = (4 * kept * profile.parameters for kept in state_bounds(name, profile))
        if need > limit:
            least = "at least " if need < most else ""
            text = f"{name} needs {least}{show_bytes(need)} of optimizer state, the limit is {show_bytes(limit)}"
            out.append({"optimizer": name, "rule": "R9", "text": text})
        elif most > limit:
            warnings.append(
                f"{name} needs {show_bytes(need)} to {show_bytes(most)} of optimizer state, depending on the share "
                f"of embeddings; the limit is {show_bytes(limit)}"
            )
    return out, warnings


def _place_plain_descent(order: list[str], applied: Mapping[str, GuideRule]) -> tuple[list[str], bool]:
    """Where plain sgd stands: among the first where R5 admits it, but never before what R8 moves ahead of it.

    Returns the order, and whether sgd takes the full batch.
    """
    admitted = any(rule.batch == "full" for rule in applied.values())
    if "sgd" not in order:
        return order, admitted
    ahead = [name for name in applied["R8"].favours if name in order] if "R8" in applied else []
    first = order[0]
    rest = [name for name in order if name != "sgd"]
    if admitted and first != "sgd":
        lead = [first, *[name for name in ahead if name != first]] if ahead else rest[:2]
        rest = [*lead, *[name for name in rest if name not in lead]]
        rest.insert(len(lead), "sgd")
    elif ahead:
        rest.insert(max(order.index("sgd"), 1 + max(rest.index(name) for name in ahead)), "sgd")
    else:
        rest.insert(order.index("sgd"), "sgd")
    return rest, admitted


def _conflicts(
    guide: Guide,
    applied: Mapping[str, GuideRule],
    profile: TaskProfile,
    leader: GuideRule | None,
    overruled: set[str],
) -> list[dict[str, Any]]:
    """Pairs of applied rules that favour disjoint optimizers, with the rule that was kept."""

    def strength(rule: GuideRule) -> tuple[int, int]:
        if rule.id == "R9":
            return (3, 0) if overruled else (1, 1)
        if leader and rule.id == leader.id and any_holds(rule.firm, profile):
            return (2, 0)
        return (1 if any_holds(rule.leads, profile) else 0, -guide.precedence.index(rule.id))

    rules = [rule for rule in applied.values() if rule.favours]
    found = []
    for i, one in enumerate(rules):
        for other in rules[i + 1 :]:
            if not _disjoint(one, other):
                continue
            kept, yields = sorted((one, other), key=strength, reverse=True)
            found.append(
                {
                    "rules": [one.id, other.id],
                    "kept": kept.id,
                    "text": f"{yields.id} ({yields.title}) would favour {_names(yields.favours)}; "
                    f"{kept.id} ({kept.title}) decides: {_names(kept.favours)}",
                }
            )
    return found


def _disjoint(one: GuideRule, other: GuideRule) -> bool:
    for rule, against in ((one, other), (other, one)):
        if rule.over:  # it only says who comes before whom
            return set(against.favours) <= set(rule.over)
    return not set(one.favours) & set(other.favours)


def _names(optimizers: list[str]) -> str:
    return " or ".join(optimizers) if len(optimizers) < 4 else ", ".join(optimizers)


def questions(profile: TaskProfile, most: int = 3) -> list[dict[str, str]]:
    """What is unknown and would help most."""
    found: dict[str, str] = {}
    for question in load().questions:
        name = question["field"]
        if getattr(profile, name) is None and name not in found and any_holds(question["when"], profile):
            found[name] = question["why"]
    return [{"field": name, "why": why} for name, why in list(found.items())[:most]]
