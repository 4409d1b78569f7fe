"""How good the advice is on families it never saw: every figure of docs/advice.md.

Everything is left-one-family-out: for each family the knowledge is what the other families taught, the weights too. Best
configs are picked on one seed and scored on the others; means are over families, intervals over families drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from optadvisor.advisor import evidence, guide, lists, ranking
from optadvisor.advisor.classifier import TRIALS
from optadvisor.advisor.features import Scales
from optadvisor.advisor.knowledge import DEFAULT, Knowledge
from optadvisor.advisor.learning import classifiers, deepobs, fit, rates
from optadvisor.advisor.learning.dataset import Dataset, Floats, placed
from optadvisor.advisor.learning.judge import Estimate, Judge, best_of, over_families
from optadvisor.advisor.recommend import prior, recommend
from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.kernels.errors import InputError
from optadvisor.studies import seeds as seeding
from optadvisor.studies.outcomes import SCHEDULES
from optadvisor.studies.storage import quiet_optuna
from optadvisor.studies.tasks import registry

KS = (1, 2, 4, 8, 16)
DRAWS = 20  # random searches on each task
RANDOM_KS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Line:
    """A way to choose configs: its regret on each task (tasks, len(ks))."""

    name: str
    ks: tuple[int, ...]
    regrets: Floats

    def at(self, k: int, families: Sequence[str]) -> Estimate:
        return over_families(self.regrets[:, self.ks.index(k)], families)


@dataclass
class Report:
    """What `learn evaluate` found."""

    data: Dataset
    lines: dict[str, Line] = field(default_factory=dict)
    defaults: dict[str, Estimate] = field(default_factory=dict)
    closed: dict[str, Estimate] = field(default_factory=dict)
    matched: dict[int, int | None] = field(default_factory=dict)
    list_matched: dict[int, int | None] = field(default_factory=dict)
    confidence: list[tuple[str, str, float, bool]] = field(default_factory=list)
    deepobs: dict[str, list[float]] = field(default_factory=dict)
    deepobs_tasks: dict[str, list[float]] = field(default_factory=dict)
    chosen: dict[str, Scales] = field(default_factory=dict)
    classifiers: classifiers.Comparison | None = None
    rates: list[rates.Row] = field(default_factory=list)

    def families(self) -> list[str]:
        return self.data.families


def evaluate(data: Dataset, judge: Judge, progress: Progress = lambda text: None) -> Report:
    """Every table. InputError where the outcomes are of one seed: nothing is left to score a pick on."""
    if data.sheet.seeds < 2:
        raise InputError("the outcomes are of one seed: an evaluation takes learn build --seeds 2 or more")
    report = Report(data)
    known = fit.rows_only(data, Scales())
    progress("weights, chosen without each family's own scores")
    report.chosen = fit.scales_by_family(data, known)
    views = {
        family: replace(known, scales=scales, models=fit.models(rates.laws(data.without(family)))).without(family)
        for family, scales in report.chosen.items()
    }
    progress("lists")
    report.lines["learned list"] = _line(data, KS, lambda i: _list(data, judge, views[data.families[i]], i))
    progress("answers")
    report.lines["recommend"] = _line(data, KS, lambda i: _answer(judge, views[data.families[i]], i))
    report.lines["recommend, 1 trial said"] = _line(data, KS, lambda i: _answer(judge, views[data.families[i]], i, 1))
    progress("the guide alone")
    empty = Knowledge(known.candidates, [])
    report.lines["guide alone"] = _line(data, KS[:4], lambda i: _answer(judge, empty, i))
    progress("constants and random search")
    _baselines(report, judge, views)
    progress("TPE from scratch")
    report.lines["TPE from scratch"] = _line(data, KS, lambda i: tpe(judge, i, KS))
    _share(report, views)
    report.matched, report.list_matched = _matched(report, "recommend"), _matched(report, "learned list")
    progress("the classifier")
    report.classifiers = classifiers.compare(data)
    report.confidence = confidence(data, views, report.classifiers.predictions[classifiers.SHIPPED])
    progress("learning rates")
    report.rates = rates.evaluate(data)
    progress("DeepOBS")
    report.deepobs, report.deepobs_tasks = on_deepobs(replace(known, models=fit.models(rates.laws(data))))
    return report


def _matched(report: Report, name: str) -> dict[int, int | None]:
    """Of our first k: how many wide random trials are as good; None where all of RANDOM_KS are worse."""
    ours, wide, families = report.lines[name], report.lines["random search, wide"], report.families()
    means = {n: wide.at(n, families).mean for n in RANDOM_KS}
    return {k: next((n for n in RANDOM_KS if means[n] <= ours.at(k, families).mean), None) for k in KS[:4]}


def _line(data: Dataset, ks: tuple[int, ...], regrets: Callable[[int], Sequence[float]]) -> Line:
    return Line("", ks, np.array([regrets(i) for i in range(len(data))]))


def _fitting(data: Dataset, i: int) -> list[str]:
    """The rules that fit a task."""
    return [rule for r, rule in enumerate(data.rules) if not np.isnan(data.regrets[i, r]).any()]


def _flat(data: Dataset, i: int) -> Floats:
    flat: Floats = data.regrets[i].reshape(-1, data.regrets.shape[-1])
    return flat


def _list(data: Dataset, judge: Judge, view: Knowledge, i: int) -> list[float]:
    chosen = lists.ordered(view, data.profiles[i], max(KS), _fitting(data, i))
    return best_of(_flat(data, i)[chosen], KS)


def _answer(judge: Judge, view: Knowledge, i: int, trials: int | None = None, ks: Sequence[int] = KS) -> list[float]:
    profile = judge.data.profiles[i]
    advice = recommend(replace(profile, trials=trials) if trials else profile, max(ks), view)
    return judge.best_of(i, [entry.config for entry in advice if _possible(judge, i, entry.config)], ks)


def _possible(judge: Judge, i: int, config: OptimizerConfig) -> bool:
    """Whether the task can run the config: an advice for the profile may name what this task has no part for."""
    task = registry.get(judge.data.names[i])
    return task.refuses(config.optimizer, config.batch) is None


def _baselines(report: Report, judge: Judge, views: Mapping[str, Knowledge]) -> None:
    data = report.data
    index = {rule: r for r, rule in enumerate(data.rules)}
    rng = np.random.default_rng(seeding.derive(data.sheet.seed, seeding.SAMPLER, 99))

    def always(rule: str) -> Callable[[int], list[float]]:
        """The library's default, then quasi-random points of the rule's space."""
        order = [0, *range(*data.sheet.drawn(rule).indices(data.sheet.configs))]
        return lambda i: best_of(data.regrets[i, index[rule]][order], KS)

    for rule in ("adamw", "adam"):
        report.lines[f"always {rule}"] = _line(data, KS, always(rule))
    dense = [rule for rule in data.rules if rule not in ("ftrl", HYBRID)]
    means = {rule: np.array([always(rule)(i) for i in range(len(data))]) for rule in dense}
    report.lines["best constant rule"] = _line(data, KS, lambda i: means[_best_constant(data, means, i)][i])
    report.lines["library defaults"] = _line(
        data, KS[:4], lambda i: best_of(np.stack([data.regrets[i, index[r], 0] for r in _DEFAULT_ORDER]), KS[:4])
    )

    def random(i: int, allowed: Callable[[str, int], bool]) -> list[float]:
        pool = [
            data.regrets[i, index[rule], c]
            for rule in _fitting(data, i)
            for c in range(*data.sheet.drawn(rule).indices(data.sheet.configs))
            if allowed(rule, c)
        ]
        if not pool:
            return [1.0] * len(RANDOM_KS)
        stack = np.array(pool)
        return list(np.mean([best_of(stack[rng.permutation(len(stack))], RANDOM_KS) for _ in range(DRAWS)], axis=0))

    report.lines["random search, wide"] = _line(data, RANDOM_KS, lambda i: random(i, lambda rule, c: True))

    def narrow(i: int) -> list[float]:
        ranges = {rule: lists.ranges(views[data.families[i]], data.profiles[i], rule) for rule in _fitting(data, i)}
        return random(i, lambda rule, c: _within(data.sheet.configs_of(rule)[c], ranges[rule]))

    report.lines["random search, learned range"] = _line(data, RANDOM_KS, narrow)
    for rule, r in index.items():
        runs = ~np.isnan(data.regrets[:, r, 0, 0])
        families = [name for name, ran in zip(data.families, runs, strict=True) if ran]
        report.defaults[rule] = over_families(data.regrets[runs, r, 0].mean(axis=-1), families)


_DEFAULT_ORDER = ("adamw", "momentum", "adam", "nag", "rmsprop", "adagrad", "sgd")


def _best_constant(data: Dataset, means: Mapping[str, Floats], i: int) -> str:
    """The rule that is best on the other families at one trial."""
    others = np.array([family != data.families[i] for family in data.families])
    return min(means, key=lambda rule: float(means[rule][others, 0].mean()))


def _within(config: OptimizerConfig, ranges: Mapping[str, tuple[float, float]]) -> bool:
    """Whether the learning rates of a config are in the learned range."""
    for role, (_, values) in config.roles().items():
        name = f"{role}.lr" if config.optimizer == HYBRID else "lr"
        if name in ranges and role != "no_decay":
            low, high = ranges[name]
            if not low <= float(values["lr"]) <= high:  # type: ignore[arg-type]
                return False
    return True


def _share(report: Report, views: Mapping[str, Knowledge]) -> None:
    """Of the way from the best constant rule to the best rule of each task, both at the library's defaults: how much of
    it the first config goes, and how much choosing only the rule by outcomes on similar tasks, still at its default."""
    data = report.data
    constant, oracle, ours = [], [], []
    dense = [r for r, rule in enumerate(data.rules) if rule not in ("ftrl", HYBRID)]
    for i in range(len(data)):
        others = np.array([family != data.families[i] for family in data.families])
        best = min(dense, key=lambda r: float(data.regrets[others, r, 0].mean()))
        fitting = [data.rules.index(rule) for rule in _fitting(data, i)]
        view = views[data.families[i]]
        weighed = lists.weights(view, data.profiles[i])
        shares = [w for _, w in weighed]
        defaults = {
            n: lists.column(view, weighed, n)
            for name in _fitting(data, i)
            for n in view.of[name]
            if view.candidates[n].kind == DEFAULT
        }
        chosen = data.rules.index(view.candidates[lists.greedy(defaults, shares, 1, lambda k, f: True)[0]].optimizer)
        constant.append(float(data.regrets[i, best, 0].mean()))
        ours.append(float(data.regrets[i, chosen, 0].mean()))
        oracle.append(best_of(data.regrets[i, fitting, 0], [len(fitting)])[0])
    gap = np.array(constant) - np.array(oracle)
    first = {name: report.lines[name].regrets[:, 0] for name in ("recommend", "learned list")}
    for name, regrets in {**first, "the rule alone, at its default": np.array(ours)}.items():
        report.closed[name] = _ratio(np.array(constant) - regrets, gap, data.families)


def _ratio(above: Floats, below: Floats, families: Sequence[str], seed: int = 0) -> Estimate:
    """The ratio of two means over families, with its interval."""
    names = sorted(set(families))
    labels = np.array(families)
    a = np.array([above[labels == name].mean() for name in names])
    b = np.array([below[labels == name].mean() for name in names])
    draws = np.random.default_rng(seed).integers(len(names), size=(2000, len(names)))
    low, high = np.quantile(a[draws].mean(axis=1) / b[draws].mean(axis=1), [0.025, 0.975])
    return Estimate(float(a.mean() / b.mean()), float(low), float(high))


def tpe(judge: Judge, i: int, ks: Sequence[int]) -> list[float]:
    """Optuna's TPE over rule, schedule and the rule's space, with no knowledge: picked on the first seed, scored on the rest."""
    import optuna

    data, sheet = judge.data, judge.data.sheet
    task = registry.get(data.names[i])
    spaces = {rule: sheet.space(rule) for rule in _fitting(data, i)}
    origins = [seeding.derive(sheet.seed, seeding.TRIAL, s) for s in range(sheet.seeds)]
    with quiet_optuna():
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=i, group=True, multivariate=True))
    best, best_config, scores = np.inf, None, []
    ends = judge.scale(i)
    for n in range(1, max(ks) + 1):
        trial = study.ask()
        rule = trial.suggest_categorical("rule", list(spaces))
        space = spaces[rule]
        point = {
            name: trial.suggest_float(f"{rule}.{name}", axis.low, axis.high, log=axis.log)
            for name, _, _, axis in space.axes()
        }
        schedule = SCHEDULES[0] if rule == HYBRID else SCHEDULES[trial.suggest_int("schedule", 0, len(SCHEDULES) - 1)]
        config = space.decode(point, schedule, {})
        value = task.train(config, origins[0]).value
        study.tell(trial, value if np.isfinite(value) else 1e30)
        if best_config is None or value < best:
            best, best_config = value, config
        if n in ks:
            found = np.array([task.train(best_config, origin).value for origin in origins[1:]])
            scores.append(float(placed(found, ends[:, 1:]).mean()))
    return scores


def confidence(
    data: Dataset, views: Mapping[str, Knowledge], chances: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, float, bool]]:
    """(task, optimizer, confidence, whether it was within noise of the best) for every optimizer of an answer.

    chances: the classifier's entries for families left out (classifiers.compare), at its budget for unknown trials.
    """
    index = {name: i for i, name in enumerate(data.names)}
    found = []
    for entry in chances:
        i, rule = index[entry["task"]], entry["rule"]
        profile, decision = data.profiles[i], guide.decide(data.profiles[i])
        if entry["budget"] != TRIALS or rule not in decision.order:
            continue
        worth = sum(w for _, w in ranking.sure(lists.weights(views[data.families[i]], profile)))
        said = evidence.confidence(rule, prior(rule, decision), profile, entry["chance"], worth)
        found.append((data.names[i], rule, said, bool(entry["tie"])))
    return found


def on_deepobs(known: Knowledge) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Mean regret of 1, 2 and 3 trials, and by task, with DeepOBS left out of everything."""
    out = known.without(sources=("deepobs",))

    def advise(view: Knowledge, trials: int) -> deepobs.Advise:
        return lambda sweep: [e.config for e in recommend(replace(sweep.profile, trials=trials), 3, view)]

    guide = replace(Knowledge(known.candidates, []), left_out=frozenset({"deepobs"}))
    rows = {
        "recommend, DeepOBS left out": deepobs.mean(advise(out, 3), 3),
        "guide alone, DeepOBS left out": deepobs.mean(advise(guide, 3), 3),
    }
    return rows, deepobs.by_task(advise(out, 3), 3)
