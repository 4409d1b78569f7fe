"""Published results that the package ships: whole sweeps, tuned points, and the learning rate they speak for.

data/SOURCES.md has each source's licence and what was left out. Pure Python, read on first use.
"""

from __future__ import annotations

import csv
import functools
import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from optadvisor.advisor import laws
from optadvisor.kernels.rules import RULES
from optadvisor.profile import TaskProfile


@dataclass(frozen=True)
class Source:
    """Where results are from. `id` is what `without` takes, `text` what an answer cites."""

    id: str
    text: str
    licence: str


DEEPOBS = Source(
    "deepobs",
    "DeepOBS baselines, Schneider et al. 2019 (github.com/fsschneider/DeepOBS_Baselines, MIT)",
    "MIT, (c) 2019 Frank Schneider",
)
MARIN = Source(
    "marin",
    "marin's optimizer sweeps of AdamW, Wen et al. 2025 (github.com/marin-community/marin, Apache-2.0)",
    "Apache-2.0, the Marin authors",
)
EPFL = Source(
    "epfl",
    "Benchmarking Optimizers for LLM Pretraining, Semenov et al. 2025 (github.com/epfml/llm-optimizer-benchmark, Apache-2.0)",
    "Apache-2.0, the authors of llm-optimizer-benchmark",
)
RLZOO = Source(
    "rlzoo",
    "RL Baselines3 Zoo's tuned hyperparameters (github.com/DLR-RM/rl-baselines3-zoo, MIT)",
    "MIT, the authors of RL Baselines3 Zoo",
)
SOURCES = {source.id: source for source in (DEEPOBS, MARIN, EPFL, RLZOO)}

# Rules that take one learning rate for the other: the class is named by the rule that more was published on.
_CLASSES = {"nag": "momentum", "adamw": "adam"}

# DeepOBS ran momentum at 0.99; our rules have 0.9 by default.
DEEPOBS_MOMENTUM = 0.99
_DEEPOBS_RAN: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"momentum": DEEPOBS_MOMENTUM},
    "adam": {"betas": [0.9, 0.999], "eps": 1e-8},
}

# Llama blocks of 32 layers with hidden size 512, 768, 1024 and four times that inside, embeddings not counted; data are
# 20 tokens a parameter, times the ratio to Chinchilla's; a sample is a sequence of 4096 tokens.
_MARIN_PARAMETERS = {"130m": 134_217_728, "300m": 301_989_888, "520m": 536_870_912}
_MARIN_SEQUENCE = 4096


@dataclass(frozen=True)
class Run:
    """One training of a sweep: what was run and what came out, None where it diverged.

    hyperparameters: the rule's, lr among them, as they were run. setup: what else differs from the sweep's profile.
    """

    rule: str
    hyperparameters: Mapping[str, Any]
    value: float | None
    setup: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lr(self) -> float:
        return float(self.hyperparameters["lr"])

    @property
    def our_lr(self) -> float:
        """The learning rate that this is for our rule at its default momentum."""
        return ours(self.rule, self.lr, self.hyperparameters)


@dataclass(frozen=True)
class Sweep:
    """A published task and its runs. family: tasks of one family are near twins. goal: "min" or "max" of the metric."""

    task: str
    family: str
    profile: TaskProfile
    metric: str
    goal: str
    source: Source
    runs: tuple[Run, ...]
    note: str = ""
    sequence_length: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a tuned point reached: mean and standard deviation over `seeds` seeds (0 of one)."""

    metric: str
    goal: str
    mean: float
    std: float = 0.0
    seeds: int = 1


@dataclass(frozen=True)
class Tuned:
    """A setting that somebody found good on a task; lr is as it was run with `hyperparameters`.

    count, spread: how many published settings it stands for, and the standard deviation of ln lr among them.
    """

    name: str
    family: str
    profile: TaskProfile
    rule: str
    lr: float
    source: Source
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = None
    sequence_length: int | None = None
    count: int = 1
    spread: float = 0.0

    @property
    def our_lr(self) -> float:
        """The learning rate that this is for our rule at its default momentum."""
        return ours(self.rule, self.lr, self.hyperparameters)


def kin(rule: str) -> str:
    """The class of rules that a rule shares its learning rate with: adam and adamw, momentum and nag; else itself."""
    return _CLASSES.get(rule, rule)


def ours(rule: str, lr: float, hyperparameters: Mapping[str, Any]) -> float:
    """A published learning rate as one for our rule at its default momentum.

    Only the momentum changes it: 0.99 at lr x, as DeepOBS ran it, is 0.9 at 10 x (laws.at_momentum).
    """
    if "momentum" not in hyperparameters:
        return lr
    return laws.at_momentum(lr, hyperparameters["momentum"], float(RULES[rule].defaults["momentum"]))  # type: ignore[arg-type]


# records -------------------------------------------------------------------------------------------------------------


@functools.cache
def sweeps() -> tuple[Sweep, ...]:
    """The 8 tasks of DeepOBS, 3 x 36 runs each, and 6 language models of marin around their tuned points."""
    return (*_deepobs(), *_marin())


@functools.cache
def tuned() -> tuple[Tuned, ...]:
    """Every tuned point: DeepOBS's best learning rates, the language models' settings, RL's by kind of algorithm."""
    return (*_deepobs_best(), *_marin_tuned(), *_epfl(), *_rlzoo())


def _read(name: str) -> str:
    return resources.files("optadvisor.advisor").joinpath(f"data/{name}").read_text(encoding="utf-8")


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(_read(name).splitlines()))


@functools.cache
def _deepobs_data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_read("deepobs.json"))
    return data


def _deepobs() -> Iterator[Sweep]:
    data = _deepobs_data()
    for task in data["tasks"]:
        yield Sweep(
            task["task"],
            task["family"],
            TaskProfile(**task["profile"]),
            task["metric"],
            task["goal"],
            DEEPOBS,
            tuple(
                Run(rule, {"lr": lr, **_DEEPOBS_RAN[rule]}, value)
                for rule, values in task["runs"].items()
                for lr, value in zip(data["learning_rates"], values, strict=True)
            ),
            f"parameters counted from the network: {task['counted_from']}",
        )


def _deepobs_best() -> Iterator[Tuned]:
    tasks = {task["task"]: task for task in _deepobs_data()["tasks"]}
    for row in _rows("deepobs_best.csv"):
        task, rule = tasks[row["task"]], row["optimizer"]
        outcome = Outcome(task["metric"], task["goal"], float(row["mean"]), float(row["std"]), int(row["n"]))
        profile, lr = TaskProfile(**task["profile"]), float(row["best_lr"])
        yield Tuned(row["task"], task["family"], profile, rule, lr, DEEPOBS, _DEEPOBS_RAN[rule], outcome)


def _marin() -> Iterator[Sweep]:
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in _rows("marin.csv"):
        groups.setdefault((row["size"], row["chinchilla"]), []).append(row)
    for (size, ratio), rows in groups.items():
        parameters = _MARIN_PARAMETERS[size]
        samples = 20 * parameters * int(ratio) // _MARIN_SEQUENCE
        base = rows[0]
        batch = int(base["batch_size"])
        yield Sweep(
            f"llama_{size}_{ratio}x",
            "marin-llama",
            TaskProfile("language", "transformer", None, parameters, samples, batch, samples // batch),
            "loss",
            "min",
            MARIN,
            tuple(_marin_run(row, base) for row in rows),
            "the first run is the tuned point, every other one changes one thing; parameters without embeddings",
            _MARIN_SEQUENCE,
        )


def _marin_run(row: dict[str, str], base: dict[str, str]) -> Run:
    hyperparameters = {
        "lr": float(row["lr"]),
        "betas": [float(row["beta1"]), float(row["beta2"])],
        "eps": float(row["eps"]),
        "weight_decay": float(row["weight_decay"]),
    }
    setup = {
        name: float(row[name])
        for name in ("batch_size", "warmup_steps", "max_grad_norm")
        if row["changed"] in ("base", name)
    }
    return Run("adamw", hyperparameters, None if row["diverged"] == "1" else float(row["loss"]), setup)


def _marin_tuned() -> Iterator[Tuned]:
    for sweep in _marin():
        base = sweep.runs[0]
        rest = {name: value for name, value in base.hyperparameters.items() if name != "lr"}
        outcome = Outcome(sweep.metric, sweep.goal, float(base.value or math.nan))
        yield Tuned(
            *(sweep.task, sweep.family, sweep.profile, base.rule, base.lr, MARIN, rest, outcome),
            sequence_length=sweep.sequence_length,
        )


def _epfl() -> Iterator[Tuned]:
    for row in _rows("epfl.csv"):
        batch, steps = int(row["batch_size"]), int(row["steps"])
        profile = TaskProfile(
            "language", "transformer", None, int(row["parameters"]), batch * steps, batch, steps
        )  # one pass: every sample is a sequence not seen before
        betas = [float(row["beta1"]), float(row["beta2"])]
        ran = {"betas": betas, "weight_decay": float(row["weight_decay"])}
        yield Tuned(
            *(f"llama_{row['model']}", "epfl-llama", profile, row["rule"], float(row["lr"]), EPFL, ran),
            sequence_length=int(row["sequence_length"]),
        )


def _rlzoo() -> Iterator[Tuned]:
    for row in _rows("rlzoo.csv"):
        kind = "atari" if row["atari"] == "1" else "control"
        batch = int(row["batch_size"]) if row["batch_size"] else None
        profile = TaskProfile("rl", "policy", batch_size=batch)
        yield Tuned(
            *(f"{row['algorithm']}_{kind}", f"rl-{kind}", profile, row["rule"], float(row["lr"]), RLZOO),
            count=int(row["count"]),
            spread=float(row["spread"]),
        )


# learning rates ------------------------------------------------------------------------------------------------------

# What a difference between tasks costs: a point at distance d counts exp(-d). Assumed, and fitted to nothing.
_DOMAIN, _ARCHITECTURE, _PARAMETERS, _BATCH = 1.0, 1.0, 0.7, 0.3  # the last two a decade
_KIN = 0.7  # what another rule's point of the same class counts
# The best learning rate of a rule, task by task, is off its best constant by a factor of 1.8 to 3.7 in the median, so
# ln 4 is a standard deviation where nothing like the task was published; it counts as one point.
_PRIOR_SPREAD = math.log(4.0)
# Deviations from the mean to the ends of the interval. For a normal distribution it would be 1.28, which holds 65% of the 46
# points that can be predicted with their family left out; 1.9 holds 78%, 2.2 89%.
_TENTH = 2.0


@dataclass(frozen=True)
class Prediction:
    """What was published says of ln lr: median, and the bounds that hold 80%. weight: in points on tasks just alike."""

    median: float
    low: float
    high: float
    weight: float
    points: tuple[Tuned, ...]

    @property
    def lr(self) -> float:
        return math.exp(self.median)


def learning_rate(rule: str, profile: TaskProfile, without: Collection[str] = ()) -> Prediction | None:
    """The learning rate of our rule for a profile, from the tuned points of its class; None where there is none.

    A weighted mean in ln lr. Weights fall with the distance of the profiles, n points of one family and rule count as
    sqrt(n). Each point is first carried to the profile's batch and, for language models, to its size, as `carried`
    says. `points` are those used, the weightiest first. without: ids of sources to leave out.
    """
    found = [point for point in tuned() if kin(point.rule) == kin(rule) and point.source.id not in without]
    if not found:
        return None
    twins = Counter((point.family, point.rule) for point in found)
    weights = [
        (1.0 if point.rule == rule else _KIN)
        * math.exp(-distance(profile, point.profile))
        / math.sqrt(twins[point.family, point.rule])
        for point in found
    ]
    logs = [math.log(carried(point, profile)) for point in found]
    total = sum(weights)
    mean = sum(w * x for w, x in zip(weights, logs, strict=True)) / total
    squares = sum(w * ((x - mean) ** 2 + point.spread**2) for w, x, point in zip(weights, logs, found, strict=True))
    deviation = math.sqrt((_PRIOR_SPREAD**2 + squares) / (1.0 + total) * (1.0 + 1.0 / (1.0 + total)))
    order = sorted(range(len(found)), key=lambda i: -weights[i])
    return Prediction(mean, mean - _TENTH * deviation, mean + _TENTH * deviation, total, tuple(found[i] for i in order))


def distance(one: TaskProfile, other: TaskProfile) -> float:
    """How unlike two tasks are: domain, architecture, a decade of parameters or of batch. Unknown fields cost nothing."""
    cost = 0.0
    if one.domain and other.domain and one.domain != other.domain:
        cost += _DOMAIN
    if one.architecture and other.architecture and one.architecture != other.architecture:
        cost += _ARCHITECTURE
    for name, decade in (("parameters", _PARAMETERS), ("batch_size", _BATCH)):
        x, y = getattr(one, name), getattr(other, name)
        if x and y:
            cost += decade * abs(math.log10(x / y))
    return cost


def carried(point: Tuned, profile: TaskProfile) -> float:
    """A point's learning rate, for our rule, at the profile's batch and size.

    Batch: the laws of laws.py within their range, in supervised training alone (the laws were not shown for RL or
    GANs). Size: the law of width, from one language model to another and no further than its reach; that a language
    model of unsaid architecture is a transformer is assumed.
    """
    lr, was = point.our_lr, point.profile
    batch = laws.batch_law(point.rule)
    if batch and was.batch_size and profile.batch_size and _supervised(was) and _supervised(profile):
        lr *= batch.factor(was.batch_size, profile.batch_size)
    alike = _language_model(was) and _language_model(profile)
    if alike and point.rule in laws.WIDTH.rules and was.parameters and profile.parameters:
        lr *= laws.WIDTH.factor(was.parameters, profile.parameters)
    return lr


def _supervised(profile: TaskProfile) -> bool:
    return profile.domain != "rl" and profile.architecture not in ("policy", "gan")


def _language_model(profile: TaskProfile) -> bool:
    return profile.domain == "language" and profile.architecture in (None, "transformer")
