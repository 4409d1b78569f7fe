"""`recommend`: a profile in, ranked configs with reasons, evidence and confidence out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from optadvisor.advisor import evidence, guide, lists, published, settings
from optadvisor.advisor.guide import Decision
from optadvisor.advisor.knowledge import Knowledge, load
from optadvisor.advisor.ranking import Pick, Ranking
from optadvisor.advisor.ranking import rank as ranked
from optadvisor.config import OptimizerConfig
from optadvisor.kernels.errors import InputError
from optadvisor.profile import TaskProfile

TOP = 5
SPEAKS = 0.5  # share of the outcomes in the ranking from which on they contradict the guide aloud
LOW = 0.5  # a confidence below this is called low
WORTH_A_TRIAL = 0.02  # expected gain of the best so far from which on a further config is worth racing
NOISE = 0.05  # differences of expected regret below this are within the noise of seeds


@dataclass(frozen=True)
class Recommendation:
    """One config to try: rank from 1, why, what is known, what it costs, what to search, when to take it.

    expected_regret: on tasks like this one, from outcomes alone: 0 is the best config known, 1 a random one; None where
    no outcome speaks. moved_by: by how much the config lowers the expected regret of the best of those before it, and
    the parts of that which outcomes and guide contribute (ranking.py). lr_interval: {"low", "high", "source"}, where the
    optimizer's best learning rate lies in four of five cases: from outcomes, or from tuned tables of the domain.
    """

    rank: int
    optimizer: str
    confidence: float
    config: OptimizerConfig
    reasons: list[dict[str, str]]
    evidence: list[dict[str, Any]]
    memory_bytes: int | None
    search_space: dict[str, dict[str, Any]]
    take_it_when: str
    lr_factor: float = 1.0
    expected_regret: float | None = None
    moved_by: dict[str, float] = field(default_factory=dict)
    lr_interval: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The recommendation as the JSON of `optadvisor recommend` has it."""
        return {
            "rank": self.rank,
            "optimizer": self.optimizer,
            "confidence": self.confidence,
            "config": self.config.to_dict(),
            "reasons": self.reasons,
            "evidence": self.evidence,
            "memory_bytes": self.memory_bytes,
            "search_space": self.search_space,
            "take_it_when": self.take_it_when,
            "expected_regret": self.expected_regret,
            "moved_by": self.moved_by,
            "lr_interval": self.lr_interval,
        }


@dataclass(frozen=True)
class Advice:
    """The answer to a profile. Iterates over its recommendations, the best first.

    disagreements: where the guide's law keeps first what outcomes would not. basis: the shares of outcomes and guide in
    the ranking, and how many tasks exactly like this one the outcomes are worth. race: where the confidence is low, how
    many of the first configs are worth trying against each other.
    """

    profile: TaskProfile
    recommendations: list[Recommendation]
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    excluded: list[dict[str, Any]] = field(default_factory=list)
    questions: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    disagreements: list[dict[str, Any]] = field(default_factory=list)
    basis: dict[str, float] = field(default_factory=dict)
    race: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.recommendations)

    def __len__(self) -> int:
        return len(self.recommendations)

    def __getitem__(self, index: int) -> Recommendation:
        return self.recommendations[index]

    @property
    def best(self) -> Recommendation:
        return self.recommendations[0]

    def to_dict(self) -> dict[str, Any]:
        """The answer as `optadvisor recommend --format json` prints it."""
        return {
            "profile": self.profile.to_dict(),
            "recommendations": [r.to_dict() for r in self.recommendations],
            "conflicts": self.conflicts,
            "excluded": self.excluded,
            "questions": self.questions,
            "warnings": self.warnings,
            "disagreements": self.disagreements,
            "basis": self.basis,
            "race": self.race,
        }


class Profiled(Protocol):
    """What was read or measured of a task: it has a profile."""

    @property
    def profile(self) -> TaskProfile: ...


def recommend(
    profile: TaskProfile | Profiled | None = None, top: int = TOP, knowledge: Knowledge | None = None
) -> Advice:
    """Rank optimizers for a task and say why.

    profile: what is known; every field may be unknown. What `torch.profile` and `probe` return has one and may be given.
    top: how many configs, in the order in which to try them; about every third one is another learning rate of a leading
    optimizer. knowledge: what was learned from outcomes, by default what the package ships and the person's own studies.

    Errors: InputError where `top` is not a whole number of at least 1, and for what is no profile.
    """
    profile = TaskProfile() if profile is None else getattr(profile, "profile", profile)
    if not isinstance(profile, TaskProfile):
        raise InputError(f"profile is {type(profile).__name__}; it takes a TaskProfile, or what has one as .profile")
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise InputError(f"top is {top!r}; it takes a whole number, at least 1")
    decision = guide.decide(profile)
    knowledge = load() if knowledge is None else knowledge
    ranking = ranked(profile, decision, knowledge, top)
    warnings = list(decision.warnings)
    if len(ranking.picks) < top:
        warnings.append(f"only {len(ranking.picks)} distinct configs can be advised here, {top} were asked for")
    recommendations = [
        _recommendation(place, pick, profile, decision, ranking, knowledge)
        for place, pick in enumerate(ranking.picks, 1)
    ]
    race = _race(recommendations, profile)
    if race:
        warnings.insert(0, race["text"])
    return Advice(
        profile,
        recommendations,
        decision.conflicts,
        decision.excluded,
        guide.questions(profile),
        warnings,
        _disagreements(decision, ranking),
        {
            "outcomes": round(ranking.outcomes, 3),
            "guide": round(1.0 - ranking.outcomes, 3),
            "tasks": round(ranking.rows, 2),
        },
        race,
    )


def _recommendation(
    place: int, pick: Pick, profile: TaskProfile, decision: Decision, ranking: Ranking, knowledge: Knowledge
) -> Recommendation:
    name, config = pick.option.optimizer, pick.config
    near = evidence.studied(name, knowledge, ranking.weighed)
    studied = ranking.outcomes >= SPEAKS and config.batch == "mini"
    learned = lists.ranges(knowledge, profile, name, ranking.weighed) if studied else None
    chances = knowledge.classifier.probabilities(profile, profile.trials) if knowledge.classifier else {}
    return Recommendation(
        place,
        name,
        evidence.confidence(name, prior(name, decision), profile, chances.get(name), ranking.rows),
        config,
        decision.reasons(name),
        [*_settings_evidence(config), *near, *evidence.cited(name, profile)],
        guide.memory(name, profile.parameters),
        settings.search_space(config, learned),
        guide.load().take_it_when[name],
        pick.option.factor,
        None if pick.regret is None else round(pick.regret, 3),
        {
            "gain": round(pick.gain, 4),
            "outcomes": round(pick.gain * pick.from_outcomes, 4),
            "guide": round(pick.gain * (1.0 - pick.from_outcomes), 4),
        },
        _lr_interval(name, profile, ranking, knowledge),
    )


def _lr_interval(name: str, profile: TaskProfile, ranking: Ranking, knowledge: Knowledge) -> dict[str, Any] | None:
    """Where the best learning rate of an optimizer lies with a probability of 80%, and how that is known."""
    if ranking.outcomes >= SPEAKS and knowledge.rates:
        rate = knowledge.rates.predict(name, profile)
        if rate:
            return {
                "low": _two(rate.low),
                "high": _two(rate.high),
                "source": "outcomes of studied tasks, constant rate",
            }
    found = published.learning_rate(name, profile, knowledge.left_out)
    if found and profile.domain and found.points[0].profile.domain == profile.domain:
        low, high = (_two(math.exp(end)) for end in (found.low, found.high))
        return {"low": low, "high": high, "source": "tuned tables of the domain"}
    return None


def _two(value: float) -> float:
    return float(f"{value:.2g}")


def _race(found: list[Recommendation], profile: TaskProfile) -> dict[str, Any] | None:
    """Where the first optimizer is less likely than not within noise of the best: which configs to race."""
    if found[0].confidence >= LOW or profile.trials == 1 or len(found) < 2:
        return None
    worth = [entry.rank for entry in found if entry.rank <= 2 or entry.moved_by["gain"] >= WORTH_A_TRIAL]
    return {
        "configs": len(worth),
        "ranks": worth,
        "text": f"the confidence is low ({found[0].confidence:.0%}): race configs {', '.join(map(str, worth))} of this list "
        f"(optadvisor compare TASK --advised {max(worth)}) where you can afford it",
    }


def _disagreements(decision: Decision, ranking: Ranking) -> list[dict[str, Any]]:
    """Where the guide's law keeps an optimizer first although outcomes speak clearly for another one."""
    first, favourite = ranking.picks[0], ranking.favourite
    if favourite is None or first.regret is None or favourite.option.optimizer == first.option.optimizer:
        return []
    if ranking.outcomes < SPEAKS or first.regret - favourite.regret < NOISE:  # type: ignore[operator]
        return []
    rule = decision.leader.id if decision.leader else "the guide"
    return [
        {
            "guide": first.option.optimizer,
            "outcomes": favourite.option.optimizer,
            "kept": first.option.optimizer,
            "rule": rule,
            "expected_regret": {
                first.option.optimizer: round(first.regret, 3),
                favourite.option.optimizer: round(favourite.regret, 3),  # type: ignore[arg-type]
            },
            "text": f"{rule} puts {first.option.optimizer} first (expected regret {first.regret:.2f} on the studied tasks "
            f"nearest to yours); by their outcomes it would be {favourite.option.optimizer} at lr "
            f"{favourite.option.lr:.2g} ({favourite.regret:.2f}): short runs of small models, worth "
            f"{ranking.rows:.1f} tasks like yours",
        }
    ]


def prior(name: str, decision: Decision) -> float:
    """The strongest prior among the rules that speak for the optimizer: they favour it, or decide and try it first."""
    leader = decision.leader
    first = [leader.prior] if leader and name == decision.order[0] else []
    favoured = [rule.prior for rule in decision.applied if name in rule.favours]
    return max([guide.load().prior_of_the_rest, *first, *favoured])


def _settings_evidence(config: OptimizerConfig) -> list[dict[str, Any]]:
    by_source: dict[str, list[str]] = {}
    for note in config.provenance["settings"]:
        by_source.setdefault(note["source"], []).append(note["field"])
    return [{"source": source, "text": f"sets {', '.join(names)}"} for source, names in by_source.items()]
