"""What holds for every profile, against a naive reading of the contract that shares no code with the engine."""

from __future__ import annotations

import itertools
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from optadvisor.advisor import recommend
from optadvisor.profile import ARCHITECTURES, DOMAINS, GOALS, TaskProfile

STATES = {"sgd": 0, "momentum": 1, "nag": 1, "adagrad": 1, "rmsprop": 1, "adam": 2, "adamw": 2, "ftrl": 2}
DENSE = {"sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamw"}


def one_of(*values):
    return st.sampled_from([None, *values])


flags = one_of(True, False)
profiles = st.builds(
    TaskProfile,
    domain=one_of(*DOMAINS),
    architecture=one_of(*ARCHITECTURES),
    goal=one_of(*GOALS),
    parameters=one_of(1, 1000, 10**6, 10**9, 10**12),
    samples=one_of(1, 1000, 10_000, 10_001, 100_000, 100_001, 10**9),
    batch_size=one_of(1, 32, 1000, 10**6),
    steps=one_of(1, 7, 1000, 99_999, 100_000, 10**7),
    trials=one_of(1, 4, 5, 1000),
    sparse_fraction=one_of(0.0, 0.499, 0.5, 0.899, 0.9, 1.0),
    convex=flags,
    unstable=flags,
    non_stationary=flags,
    ill_conditioned=flags,
    memory_limit=one_of(0, 3999, 4000, 7999, 8000, 4 * 10**6, 8 * 10**6, 10**13),
)


class Reading:
    """The contract's page read literally for one profile: what applies, favours, excludes, and may come first."""

    def __init__(self, p: TaskProfile) -> None:
        self.profile = p
        self.long = (
            (p.steps or 0) >= 100_000
            or bool(p.non_stationary)
            or (None not in (p.steps, p.batch_size, p.samples) and p.steps * p.batch_size >= 100 * p.samples)
        )
        self.limited = p.memory_limit is not None and p.parameters is not None
        self.rules = self.applying()
        self.candidates = set(DENSE)
        if "R3" in self.rules:
            self.candidates |= {"hybrid", "ftrl"}
        if "R6" in self.rules or (p.sparse_fraction or 0) >= 0.5:
            self.candidates.add("ftrl")
        self.excluded = {"adagrad": "R7"} if self.long else {}
        for name in sorted(self.candidates - set(self.excluded)):
            if self.limited and 4 * self.states(name) * p.parameters > p.memory_limit:
                self.excluded[name] = "R9"
        self.left = self.candidates - set(self.excluded)

    def states(self, name: str) -> int:
        """Of a hybrid the fewest: its embeddings' Adagrad has one state, FTRL two."""
        if name == "hybrid":
            return 2 if self.profile.non_stationary else 1
        return STATES[name]

    def applying(self) -> set[str]:
        p, found = self.profile, set()
        if p.domain == "vision" and p.architecture in (
            None, "cnn", "resnet", "unet", "mlp", "other", "transformer", "gan",
        ):  # fmt: skip
            found.add("R1")
        if p.domain == "language" or p.architecture == "transformer":
            found.add("R2")
        sparse = p.sparse_fraction is not None and p.sparse_fraction >= 0.5
        if p.architecture == "embedding-tower" or (
            p.domain == "recsys"
            and (
                (p.architecture in (None, "mlp", "other") and (sparse or p.sparse_fraction is None))
                or (p.architecture in ("cnn", "resnet", "unet", "rnn", "gnn", "transformer") and sparse)
            )
        ):
            found.add("R3")
        if p.domain == "rl" or p.architecture in ("gan", "policy") or p.unstable or p.non_stationary:
            found.add("R4")
        if p.samples is not None and (
            (p.samples <= 10_000 and p.architecture in (None, "linear", "mlp")) or (p.convex and p.samples <= 100_000)
        ):
            found.add("R5")
        if p.architecture == "linear" and (p.sparse_fraction or 0) >= 0.9:
            found.add("R6")
        if not found:
            found.add("R11")
        if p.ill_conditioned:
            found.add("R8")
        if p.goal == "memory" or self.limited:
            found.add("R9")
        return found

    def favours(self, rule: str) -> set[str]:
        if rule == "R9":
            small = {name for name in self.candidates - {"adagrad"} if self.states(name) <= 1}
            small |= set() if self.long else {"adagrad"}
            return self.left & small if self.profile.goal == "memory" else self.left
        return {
            "R1": {"momentum", "nag"},
            "R2": {"adamw"},
            "R3": {"hybrid"},
            "R4": {"adam", "rmsprop"},
            "R5": {"sgd"} if self.profile.convex else set(),
            "R6": {"adagrad", "ftrl"},
            "R8": {"momentum", "nag"},
            "R11": {"adamw"},
        }[rule]

    @property
    def leader(self) -> str | None:
        """Who decides before R9 has its say."""
        p = self.profile
        if "R5" in self.rules and p.convex and not p.ill_conditioned:
            return "R5"
        return next((rule for rule in ("R6", "R3", "R2", "R4", "R1", "R11", "R8") if rule in self.rules), None)

    @property
    def firm(self) -> bool:
        p = self.profile
        return self.leader == "R2" and p.domain == "vision" and p.architecture == "transformer"

    def conflicts(self) -> dict[frozenset[str], str]:
        found = {}
        for pair in itertools.combinations(sorted(self.rules), 2):
            one, other = (self.favours(rule) for rule in pair)
            if not one or not other or one & other:
                continue
            if "R8" in pair and (one if pair[1] == "R8" else other) != {"sgd"}:
                continue
            found[frozenset(pair)] = self.kept(*pair)
        return found

    def kept(self, one: str, other: str) -> str:
        if "R9" in (one, other):
            rival = other if one == "R9" else one
            hard = any(rule == "R9" for rule in self.excluded.values())
            return rival if self.firm and rival == "R2" and not hard else "R9"
        for rule in (self.leader, "R6", "R3", "R2", "R4", "R1", "R11", "R8"):
            if rule in (one, other):
                return rule
        raise AssertionError((one, other))

    def may_lead(self) -> set[str]:
        """Optimizers of which one must come first."""
        p = self.profile
        if self.leader is None:
            wanted = self.left
        elif self.leader == "R1":
            quick = p.goal == "speed" or (p.trials is not None and p.trials <= 4)
            wanted = {"adamw"} if quick else {"momentum"}
        else:
            wanted = self.favours(self.leader)
        wanted = wanted & self.left
        if p.goal == "memory" and not (self.firm and wanted):
            small = {name for name in self.left if self.states(name) <= 1}
            return (wanted & small) or small
        return wanted or self.left


@settings(deadline=None, max_examples=400)
@given(profiles)
@example(TaskProfile())
@example(TaskProfile(domain="vision", architecture="transformer", convex=True, samples=1000, goal="memory"))
@example(TaskProfile(domain="recsys", non_stationary=True, parameters=1000, memory_limit=7999, goal="memory"))
@example(TaskProfile(domain="language", samples=1000, ill_conditioned=True))
def test_the_guide_is_read_as_the_contract_says(profile):
    reading, data = Reading(profile), recommend(profile, 20).to_dict()
    entries = data["recommendations"]
    order = list(dict.fromkeys(entry["optimizer"] for entry in entries))

    assert order[0] in reading.may_lead()
    assert {entry["optimizer"]: entry["rule"] for entry in data["excluded"]} == reading.excluded
    assert len(data["excluded"]) == len(reading.excluded)
    assert set(order) == reading.left
    assert {frozenset(entry["rules"]): entry["kept"] for entry in data["conflicts"]} == reading.conflicts()
    assert len(data["conflicts"]) == len(reading.conflicts())

    cited = {reason["rule"] for entry in entries for reason in entry["reasons"]}
    assert ("R11" in cited) is ("R11" in reading.rules and bool({"adamw"} & reading.left))
    assert cited <= reading.rules | {"R7", "R10"}
    for rule in reading.rules:
        for name in reading.favours(rule) & reading.left:
            found = next(entry for entry in entries if entry["optimizer"] == name)
            assert rule in [reason["rule"] for reason in found["reasons"]], f"{name} does not cite {rule}"


@settings(deadline=None, max_examples=300)
@given(profiles)
@example(TaskProfile(domain="language", samples=1000, ill_conditioned=True))
@example(TaskProfile(domain="speech", architecture="transformer"))
@example(TaskProfile(domain="vision", parameters=1000, samples=10001, batch_size=1000, steps=1, memory_limit=0))
def test_every_answer_is_whole(profile):
    data = recommend(profile, 20).to_dict()
    entries = data["recommendations"]
    configs = [entry["config"] for entry in entries]
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert recommend(profile, 20).to_dict() == data, "the same question has the same answer"
    assert recommend(profile).to_dict()["recommendations"] == entries[:5]
    assert len(entries) == 20 or any("20" in warning for warning in data["warnings"])
    assert len(entries) >= 5
    assert entries[0]["reasons"]
    assert len(
        {json.dumps([c["optimizer"], c["hyperparameters"], c["groups"], c["schedule"]]) for c in configs}
    ) == len(entries)

    order = [entry["optimizer"] for entry in entries]
    for config in (configs[order.index(name)] for name in set(order)):
        assert 1e-5 <= min(rates(config)) <= max(rates(config)) <= 5, "nobody starts far from published practice"
    if profile.ill_conditioned and "sgd" in order:
        for velocity in ("momentum", "nag"):
            assert velocity not in order or order.index(velocity) < order.index("sgd")
    for config in configs:
        assert 1e-7 <= min(rates(config)) <= max(rates(config)) <= 30
        decays = config["hyperparameters"].get("weight_decay", 0) > 0
        assert decays is ([g["role"] for g in config["groups"]] == ["no_decay"])
        if config["optimizer"] == "adam":
            assert not decays, "L2 inside Adam is what R10 warns of"
    full = [config["batch"] == "full" for config in configs]
    admitted = "R5" in Reading(profile).rules
    assert any(full[:5]) is admitted
    assert all(is_full is (admitted and name == "sgd") for is_full, name in zip(full, order, strict=True))
    if profile.memory_limit is not None and profile.parameters is not None:
        assert all((entry["memory_bytes"] or 0) <= profile.memory_limit for entry in entries)
    for question in data["questions"]:
        assert getattr(profile, question["field"]) is None
    for entry in entries:
        assert 0 < entry["confidence"] < 1


def rates(config):
    if config["optimizer"] == "hybrid":
        return [group["hyperparameters"]["lr"] for group in config["groups"] if group["role"] != "no_decay"]
    return [config["hyperparameters"]["lr"]]
