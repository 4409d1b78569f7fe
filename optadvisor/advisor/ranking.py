"""Which configs to try in which order: outcomes and the guide in one sum, under the guide's law.

The list is built greedily (lists.py) to minimise

    sum_i w_i * min_{c in list} regret_i(c)  +  w_g * sum_n p_n * min_{c in list} doubt_n(c)

over the rows i of the knowledge, weighed by their likeness to the profile, and over the guide's own list of picks n,
where p_n falls with n and doubt_n is 0 for pick n and up to 1 for what is unlike it. Where the rows are about other
kinds of tasks, or much smaller ones, their weights vanish and the guide's list is what is left.

The law (what the contract says of the guide's rules) binds whatever the outcomes: who may be first, who never ranks
above whom, what is excluded, full-batch descent among the first five, and about a third other learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import mul

from optadvisor.advisor import guide, lists, settings
from optadvisor.advisor.guide import Decision
from optadvisor.advisor.knowledge import CONSTANT, DEFAULT, Candidate, Knowledge
from optadvisor.config import OptimizerConfig
from optadvisor.profile import TaskProfile

LR_STEP = 3.0  # between the learning rates of one optimizer in the guide's list
DISTINCT = (
    1.6  # two configs of one schedule with rates nearer than this are one; 1.5 is the contract, rates are rounded
)
LADDER = 6  # steps up and down
LEARNED = 8  # so many configs are chosen by the sum; what follows is the guide's list
FEW = 6.0  # tasks just like the profile that count for half of themselves; 0 to 6 are level on families held out
STEADY = 2.0  # factor on a learning rate from which on the law's word is taken: below it the listed rates did as well
FADE = 0.7  # p_n: how much less each further pick of the guide counts
LR_RANGE = (1e-5, 5.0)  # nobody starts an optimizer outside, unless a published setting says so


@dataclass(frozen=True)
class Option:
    """A config that may be advised: the guide's, at a factor of its learning rate, or a candidate of the knowledge.

    carried: of a candidate, by how much its learning rates were carried to the profile's length and size.
    """

    optimizer: str
    lr: float
    schedule: str
    factor: float = 1.0
    number: int | None = None
    carried: float = 1.0


@dataclass(frozen=True)
class Pick:
    """A config of the list, and what spoke for it.

    regret: expected regret on tasks like this one, by the outcomes alone; gain: by how much it lowers the sum, relative
    to the whole, of which `from_outcomes` is the share that the outcomes contribute.
    """

    option: Option
    config: OptimizerConfig
    regret: float | None
    gain: float = 0.0
    from_outcomes: float = 0.0


@dataclass(frozen=True)
class Ranking:
    """The list, and what it rests on.

    weighed: (row, weight) of the knowledge, the heaviest first, by likeness alone. rows: how many tasks exactly like this
    one they are worth together (`sure`). outcomes: their share of all weight, the guide's is the rest. favourite: the
    config that the outcomes alone would put first, with its expected regret.
    """

    picks: list[Pick]
    weighed: list[tuple[int, float]] = field(default_factory=list)
    outcomes: float = 0.0
    rows: float = 0.0
    favourite: Pick | None = None


def rank(profile: TaskProfile, decision: Decision, knowledge: Knowledge, top: int) -> Ranking:
    """The first `top` configs to try; fewer where there are no more distinct ones."""
    law = _Law(profile, decision)
    making = _Making(profile, decision, knowledge.left_out)
    plan = list(_guide_picks(making, max(top, LEARNED)))
    likeness = lists.weights(knowledge, profile)
    weighed = sure(likeness)
    total = sum(w for _, w in weighed)
    carried = _carried(profile, decision, knowledge, weighed)
    options = [*plan[:LEARNED], *_candidates(knowledge, decision, carried)] if total else plan[:LEARNED]
    shares = [w for _, w in weighed]
    fades = [FADE**n for n in range(min(LEARNED, len(plan)))]
    shares += [knowledge.guide_weight * fade / sum(fades) for fade in fades]
    columns = {}
    for option in options:
        on_rows = _on_rows(option, knowledge, weighed, carried.get(option.optimizer, 1.0))
        columns[option] = [*on_rows, *_doubts(option, plan[:LEARNED])]
    chosen = lists.greedy(columns, shares, min(top, LEARNED), law.allows)
    gains = lists.gains(columns, shares, chosen)
    guide_gains = _gains(columns, shares, chosen, len(weighed))
    picks = [
        Pick(
            option,
            _config(option, making, knowledge),
            sum(map(mul, shares, columns[option][: len(weighed)])) / total if total else None,
            gain,
            1.0 - by_guide / gain if gain else 0.0,
        )
        for option, gain, by_guide in zip(chosen, gains, guide_gains, strict=True)
    ]
    picks += [Pick(option, _config(option, making, knowledge), None) for option in _tail(making, chosen, top)]
    share = total / (total + knowledge.guide_weight) if total else 0.0
    favourite = None
    if total:
        means = {o: sum(map(mul, shares, column[: len(weighed)])) / total for o, column in columns.items()}
        best = min(means, key=means.__getitem__)
        favourite = Pick(best, _config(best, making, knowledge), means[best])
    return Ranking(picks, likeness, share, total, favourite)


def _config(option: Option, making: _Making, knowledge: Knowledge) -> OptimizerConfig:
    """The option as a config."""
    if option.number is None:
        return making.config(option.optimizer, option.factor)
    candidate, decision = _undecayed(knowledge.candidates[option.number].at(option.carried)), making.decision
    learned = "outcomes on studied tasks"
    carried = f"{learned}, times {option.carried:.2g} for the length and the size of this one (the fitted law of learning rates)"
    provenance = {
        "source": "outcomes",
        "rules": [reason["rule"] for reason in decision.reasons(option.optimizer)],
        "settings": [
            {"field": name, "source": carried if name.endswith("lr") and option.carried != 1.0 else learned}
            for name in _changed(candidate)
        ],
    }
    return candidate.config(making.profile, provenance, option.optimizer == "sgd" and decision.full_batch)


def _undecayed(candidate: Candidate) -> Candidate:
    """Without decay of embeddings: it would move rows that a mini-batch does not look up, and sparse gradients cannot have it.

    The outcomes are of runs that had it. Dropped from the 47 drawn hybrids, the held-out loss of clicks-dlrm and of
    ratings-factorisation (0.50 and 0.51 at best) changed by 0.0003 in the median, in either direction.
    """
    if "embedding" not in candidate.parts:
        return candidate
    rule, values = candidate.parts["embedding"]
    kept = {name: value for name, value in values.items() if name != "weight_decay"}
    return replace(candidate, parts={**candidate.parts, "embedding": (rule, kept)})


def _changed(candidate: Candidate) -> list[str]:
    parts = candidate.parts or {"": (candidate.optimizer, candidate.hyperparameters)}
    return [f"{role}.{name}" if role else name for role, (_, values) in parts.items() for name in values]


def sure(weighed: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The weights, all smaller where they are few together: a profile that is a little like everything is like nothing.

    A sum of FEW tasks just like the profile counts for half of itself, a larger one for more. Tasks of families that were
    left out have 4 to 10; a middling model, larger and longer than most of what was studied, 0.5 to 2.
    """
    total = sum(w for _, w in weighed)
    return [(i, w * total / (total + FEW)) for i, w in weighed]


# The law --------------------------------------------------------------------------------------------------------------


class _Law:
    """What may stand where, from the guide's decision."""

    def __init__(self, profile: TaskProfile, decision: Decision) -> None:
        self.profile, self.decision = profile, decision
        order = decision.order
        leader = decision.leader
        self.first = {order[0]}
        if leader and leader.id in ("R4", "R6") and profile.goal != "memory":
            self.first = set(leader.favours) & set(order) or self.first
        self.schedule = leader.schedule if leader and leader.id in ("R1", "R2") else None
        self.second: set[str] = set()
        if leader and leader.id == "R1" and order[:2] == ["adamw", "momentum"]:
            self.second = {"momentum"}
        self.before = self._before()

    def _before(self) -> dict[str, set[str]]:
        """Optimizer -> those that must have their turn before it."""
        order, found = self.decision.order, {}
        for name, ahead in (("adam", {"adamw"}), ("sgd", {"momentum", "nag"})):
            if name in order and (name == "adam" or self.profile.ill_conditioned):
                found[name] = {other for other in ahead & set(order) if order.index(other) < order.index(name)}
        if self.profile.goal == "memory":
            few = {name for name in order if guide.state_bounds(name, self.profile)[0] <= 1}
            for name in order[1:]:
                if name not in few:
                    found[name] = found.get(name, set()) | few
        return found

    def allows(self, option: Option, found: Sequence[Option]) -> bool:
        """Whether the option may be next after those found."""
        seen = list(dict.fromkeys(other.optimizer for other in found))
        name, position = option.optimizer, len(found)
        published = option.number is None and option.factor == 1.0
        if name not in seen and not published and not LR_RANGE[0] <= option.lr <= LR_RANGE[1]:
            return False
        if position == 0:
            return name in self.first and self.schedule in (None, option.schedule)
        if position == 1 and self.second and name not in self.second:
            return False
        if self.before.get(name, set()) - set(seen):
            return False
        again = position - len(seen)
        if name in seen:
            if name not in seen[:2]:
                return False
        elif again < (position + 1) // 3:
            return False
        if self.decision.full_batch and "sgd" not in seen and not self._in_time(name, position, seen):
            return False
        return all(distinct(option, other) for other in found)

    def _in_time(self, name: str, position: int, seen: Sequence[str]) -> bool:
        """Whether full-batch descent can still be among the first five, after what must come before it.

        The third place goes to another learning rate: it is lost to those that wait.
        """
        waiting = (self.before.get("sgd", set()) | {"sgd"}) - set(seen) - {name}
        return len(waiting) <= (3 if position < 2 else 4) - position


def distinct(one: Option, other: Option) -> bool:
    """Whether two options are two configs: another optimizer or schedule, or learning rates apart."""
    if one.optimizer != other.optimizer or one.schedule != other.schedule:
        return True
    return max(one.lr / other.lr, other.lr / one.lr) >= DISTINCT


# The guide's own list -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Making:
    """What the guide's configs are made from. Each is made once: checking a config takes longer than all of the sums."""

    profile: TaskProfile
    decision: Decision
    left_out: frozenset[str]
    kept: dict[tuple[str, float], OptimizerConfig] = field(default_factory=dict)

    def config(self, name: str, factor: float = 1.0) -> OptimizerConfig:
        key = (name, factor)
        if key not in self.kept:
            self.kept[key] = settings.make(name, self.profile, self.decision, factor, self.left_out)
        return self.kept[key]

    def option(self, name: str, factor: float = 1.0) -> Option:
        made = self.config(name)
        return Option(name, made.lr * factor, made.schedule["name"], factor)

    def lowest(self, name: str) -> float:
        """The smallest learning rate of the optimizer's config: a hybrid has two."""
        return min(float(values["lr"]) for _, values in self.config(name).roles().values())  # type: ignore[arg-type]


def _guide_picks(making: _Making, top: int) -> Iterator[Option]:
    """The guide's list: its optimizers in order, other learning rates of the leading ones at the third places."""
    decision = making.decision
    optimizers = map(making.option, decision.order)
    others = _other_learning_rates(making)
    # Full-batch descent that is admitted stands among the first five, though three optimizers be ahead of it.
    late = decision.full_batch and "sgd" in decision.order[3:4]
    again = 6 if late else 4
    for position in range(1, top + 1):
        varies = position in (3, again) or (position > 6 and position % 3 == 1)
        preferred, rest = (others, optimizers) if varies else (optimizers, others)
        pick = next(preferred, None) or next(rest, None)
        if pick is None:
            return
        yield pick


def _other_learning_rates(making: _Making, leading: Sequence[str] = ()) -> Iterator[Option]:
    """Other learning rates: of the two leading optimizers first, near ones first, up first unless training is shaky.

    leading: those that lead the list so far; left out, the guide's first two.
    """
    profile, decision = making.profile, making.decision
    shaky = profile.goal == "stability" or (decision.leader is not None and decision.leader.id == "R4")
    signs = (-1, 1) if shaky or profile.unstable else (1, -1)
    leading = leading or decision.order[:2]
    for names in (leading, [name for name in decision.order if name not in leading]):
        for step in range(1, LADDER + 1):
            for name in names:
                for sign in signs:
                    factor = LR_STEP ** (sign * step)
                    low, high = making.lowest(name) * factor, making.option(name).lr * factor
                    if low >= settings.LR_LIMITS[0] and high <= settings.LR_LIMITS[1]:
                        yield making.option(name, factor)


def _tail(making: _Making, chosen: Sequence[Option], top: int) -> Iterator[Option]:
    """What follows the learned part: the guide's other optimizers, every third place another learning rate."""
    found = list(chosen)
    if len(found) >= top:
        return
    leading = list(dict.fromkeys(option.optimizer for option in chosen))[:2]
    fresh = [making.option(name) for name in making.decision.order]
    others = list(_other_learning_rates(making, leading))
    while len(found) < top:
        seen = {option.optimizer for option in found}
        new = [option for option in fresh if option.optimizer not in seen]
        old = [option for option in others if option.optimizer in seen]
        again = len(found) - len(seen)
        ordered = [*old, *new] if again < (len(found) + 1) // 3 else [*new, *old]
        pick = next((option for option in ordered if all(distinct(option, other) for other in found)), None)
        if pick is None:
            return
        found.append(pick)
        yield pick


# The lines of the sum -------------------------------------------------------------------------------------------------


def _carried(
    profile: TaskProfile, decision: Decision, knowledge: Knowledge, weighed: Sequence[tuple[int, float]]
) -> dict[str, float]:
    """Optimizer -> what carries the learning rates of the weighed rows to the profile.

    The fitted law of learning rates (rates.py) predicts the best rate of the profile and of every row; the ratio of the one to
    the weighed geometric mean of the others. Within STEADY of 1 it is 1: the law is no surer than that.
    """
    total = sum(w for _, w in weighed)
    if not knowledge.rates or not total:
        return {}
    found = {}
    for name in decision.order:
        here = knowledge.rates.predict(name, profile)
        if here is None:
            continue
        there = [(w, knowledge.rates.predict(name, knowledge.rows[i].profile)) for i, w in weighed]
        mean = sum(w * math.log(rate.lr) for w, rate in there if rate) / total
        ratio = here.lr / math.exp(mean)
        found[name] = float(f"{ratio:.3g}") if max(ratio, 1.0 / ratio) > STEADY else 1.0
    return found


def _candidates(knowledge: Knowledge, decision: Decision, carried: Mapping[str, float]) -> Iterator[Option]:
    """The candidates that may be advised: of optimizers that are not excluded, with settings that no rule speaks against."""
    for name in decision.order:
        full = name == "sgd" and decision.full_batch
        factor = carried.get(name, 1.0)
        for number in knowledge.of.get(name, ()):
            candidate = knowledge.candidates[number].at(factor)
            if candidate.kind == DEFAULT or not LR_RANGE[0] <= candidate.lr <= LR_RANGE[1]:
                continue
            if full and candidate.kind != CONSTANT:  # exact gradients need no annealing and no decay
                continue
            if name == "adam" and candidate.hyperparameters.get("weight_decay"):  # R10
                continue
            yield Option(name, candidate.lr, candidate.schedule, number=number, carried=factor)


def _on_rows(option: Option, knowledge: Knowledge, weighed: Sequence[tuple[int, float]], carried: float) -> list[float]:
    """The option's regrets on the weighed rows; a config of the guide is placed on the ladder of learning rates.

    A row knows the rates of its own length and size: the option's, carried back.
    """
    if not weighed:
        return []
    if option.number is not None:
        return lists.column(knowledge, weighed, option.number)
    beside = knowledge.between(option.optimizer, option.schedule != "constant", option.lr / carried)
    if not beside:
        return [1.0] * len(weighed)
    missing = 1.0 - sum(share for _, share in beside)
    columns = [lists.column(knowledge, weighed, number) for number, _ in beside]
    return [
        missing + sum(share * value for (_, share), value in zip(beside, values, strict=True))
        for values in zip(*columns, strict=True)
    ]


def _doubts(option: Option, plan: Sequence[Option]) -> list[float]:
    """What the guide thinks of an option, for each of its picks: 0 its own, 1 what is unlike it.

    A candidate of the knowledge stands for the one pick that it is nearest to: it never serves two.
    """
    if option.number is None:
        return [0.0 if option == pick else 1.0 for pick in plan]
    near = [(_unlike(option, pick), n) for n, pick in enumerate(plan) if pick.optimizer == option.optimizer]
    doubts = [1.0] * len(plan)
    if near:
        doubt, n = min(near)
        doubts[n] = doubt
    return doubts


def _unlike(option: Option, pick: Option) -> float:
    """From 0.1: half of the way to 1 for a factor of 3 in the learning rate, more for another schedule."""
    apart = abs(math.log(option.lr / pick.lr, LR_STEP))
    return min(1.0, 0.1 + 0.45 * apart + 0.2 * (option.schedule != pick.schedule))


def _gains(
    columns: Mapping[Option, Sequence[float]], shares: Sequence[float], chosen: Sequence[Option], rows: int
) -> list[float]:
    """The part of each gain that the guide's lines contribute, on the scale of the whole."""
    total = sum(shares)
    lines = {option: columns[option][rows:] for option in chosen}
    part = lists.gains(lines, shares[rows:], chosen)
    return [gain * sum(shares[rows:]) / total for gain in part]
