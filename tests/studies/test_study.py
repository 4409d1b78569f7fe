"""The study loop: the same trials for the same plan, whatever is interrupted; the best confirmed on fresh seeds."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import optadvisor as oa
from optadvisor.config import OptimizerConfig
from optadvisor.kernels import RULES, InputError
from optadvisor.studies import seeds, storage, study
from optadvisor.studies.confirming import CONFIRMATIONS
from optadvisor.studies.executors.threads import Threads
from optadvisor.studies.study import Plan, Result, StudyError
from optadvisor.studies.tasks import registry
from optadvisor.studies.tasks.task import Report, TrialRecord

DENSE = ["sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamw"]
Train = Callable[[OptimizerConfig, int, int], TrialRecord]


def bowl(config: OptimizerConfig, seed: int, steps: int) -> TrialRecord:
    """A training that takes no time: best at lr 0.01, with a little noise of the seed."""
    noise = (seed % 1000) / 1e5
    value = abs(math.log10(config.hyperparameters["lr"]) + 2) + noise
    return TrialRecord(config, seed, value, 1e-6, [(steps, value)], {"accuracy": 1 / (1 + value)})


class Bowl:
    """A task around a function."""

    name, title, metric, steps, profile = "bowl", "a bowl", "height", 10, oa.TaskProfile(parameters=100)

    def __init__(self, train: Train = bowl) -> None:
        self._train = train

    def refuses(self, optimizer: str) -> str | None:
        return None

    def train(
        self, config: OptimizerConfig, seed: int, steps: int | None = None, report: Report | None = None
    ) -> TrialRecord:
        record = self._train(config, seed, steps or 10)
        if report:
            for step in (2, 4, 6, 8):
                report(step, record.value + 1 / step)
        return record


class Stop(BaseException):
    """Comes where Ctrl-C would."""


class Counted:
    """bowl, counting its trainings; raises Stop at one of them."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.seeds: list[int] = []
        self.stop_at = stop_at
        self._lock = threading.Lock()

    def __call__(self, config: OptimizerConfig, seed: int, steps: int) -> TrialRecord:
        with self._lock:
            self.seeds.append(seed)
            if len(self.seeds) - 1 == self.stop_at:
                raise Stop
        return bowl(config, seed, steps)


PLAN = Plan("bowl", ("adamw", "sgd", "nag"), 40, 7, 10, {"adamw": {"lr": 0.09}})


@pytest.fixture(autouse=True)
def quiet():
    with storage.quiet_optuna():
        yield


@pytest.fixture
def kept() -> optuna.storages.BaseStorage:
    return storage.open_storage(None, "bowl")


def run(
    kept: Any, plan: Plan = PLAN, train: Train = bowl, name: str | None = None, jobs: int = 2, **more: Any
) -> Result:
    task = Bowl(train)
    return study.run(task, plan, name or study.create(kept, plan), kept, Threads(task, jobs), **more)


def trials(result: Result) -> list[Any]:
    return [
        (t.number, t.optimizer, t.record.seed, t.record.value, t.record.config.hyperparameters) for t in result.trials
    ]


def test_a_study_has_exactly_its_trials(kept: Any):
    result = run(kept)
    assert [trial.number for trial in result.trials] == list(range(40))
    assert {trial.optimizer for trial in result.trials} == set(PLAN.optimizers)
    assert result.runs == 40 + study.CANDIDATES * CONFIRMATIONS
    assert result.best.hyperparameters["lr"] == pytest.approx(0.01, rel=0.3)
    data = result.to_dict()
    assert (data["trials"], data["runs"]) == (40, 55)


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_the_same_seed_gives_the_same_trials_with_any_number_of_jobs(kept: Any, jobs: int):
    assert trials(run(kept, jobs=jobs)) == trials(run(kept, jobs=3))


def test_another_seed_gives_other_trials(kept: Any):
    other = run(kept, Plan("bowl", PLAN.optimizers, 40, 8, 10, PLAN.starts))
    assert trials(other)[1:] != trials(run(kept))[1:]


def test_the_first_trial_of_a_rule_is_the_advised_one(kept: Any):
    first = next(trial for trial in run(kept).trials if trial.optimizer == "adamw")
    assert first.record.config.hyperparameters["lr"] == 0.09


def test_real_trainings_do_not_depend_on_the_jobs():
    results = [oa.tune("digits-mlp", trials=16, steps=20, jobs=jobs, optimizers=["adamw", "nag"]) for jobs in (1, 4)]
    assert trials(results[0]) == trials(results[1])
    assert results[0].value == results[1].value


def test_confirmation_is_on_fresh_seeds_the_same_for_all_candidates(kept: Any):
    train = Counted()
    result = run(kept, train=train)
    searched = {trial.record.seed for trial in result.trials}
    assert len(searched) == 40
    assert len(set(result.seeds)) == CONFIRMATIONS
    assert not searched & set(result.seeds)
    assert Counter(train.seeds[40:]) == dict.fromkeys(result.seeds, study.CANDIDATES)


def test_the_value_is_the_mean_over_the_confirmation_seeds(kept: Any):
    result = run(kept)
    values = [bowl(result.best, seed, 10).value for seed in result.seeds]
    assert result.value == pytest.approx(sum(values) / len(values))
    origin = result.best.provenance
    assert origin["value"] == result.value
    assert origin["seeds"] == result.seeds
    assert result.trials[origin["trial"]].record.config.hyperparameters == result.best.hyperparameters


def test_the_lowest_mean_wins_and_not_the_luckiest_trial(kept: Any):
    def lucky(config: OptimizerConfig, seed: int, steps: int) -> TrialRecord:
        record = bowl(config, seed, steps)
        luck = 10.0 if config.optimizer == "sgd" and seed not in searched else 0.0
        value = (0.0 if config.optimizer == "sgd" and seed in searched else record.value) + luck
        return TrialRecord(config, seed, value, 0.0, [], {})

    searched = {seeds.derive(7, seeds.TRIAL, number) for number in range(40)}
    plan = Plan("bowl", ("adamw", "sgd"), 3, 7, 10)
    result = run(kept, plan, lucky)
    assert min(result.trials, key=lambda t: t.record.value).optimizer == "sgd"
    assert result.best.optimizer == "adamw"


@pytest.mark.parametrize("stop_at", [0, 1, 5, 17, 39, 41])
@pytest.mark.parametrize("jobs", [1, 3])
def test_an_interrupted_study_resumes_to_the_same_trials(kept: Any, stop_at: int, jobs: int):
    undisturbed = run(kept)
    name, first = study.create(kept, PLAN), Counted(stop_at)
    with pytest.raises(Stop):
        run(kept, train=first, name=name, jobs=jobs)
    again = storage.open_storage(None, "bowl")
    assert study.latest(again, "bowl") == (name, PLAN)
    second = Counted()
    resumed = run(again, train=second, name=name)
    assert trials(resumed) == trials(undisturbed)
    assert (resumed.value, resumed.seeds, resumed.runs) == (undisturbed.value, undisturbed.seeds, undisturbed.runs)
    saved = min(stop_at, 40) - (len(second.seeds) - 55)
    assert len(second.seeds) <= 55 - max(0, min(stop_at, 40) - jobs), "only what was running is trained again"
    assert saved >= 0
    in_storage = [
        trial.user_attrs["number"]
        for rule in PLAN.optimizers
        for trial in optuna.load_study(storage=again, study_name=f"{name}/{rule}").trials
    ]
    assert sorted(in_storage) == list(range(40)), "nothing is doubled"


def test_every_finished_trial_is_stored_before_the_next_wave(kept: Any):
    name, counts = study.create(kept, PLAN), []

    def progress(done: Any, planned: int) -> None:
        fresh = storage.open_storage(None, "bowl")
        stored = sum(
            len(optuna.load_study(storage=fresh, study_name=f"{name}/{rule}").trials) for rule in PLAN.optimizers
        )
        counts.append((len(done), stored, planned))

    run(kept, name=name, progress=progress)
    assert counts[-1] == (40, 40, 40)
    assert all(done == stored for done, stored, _ in counts)


def test_resuming_a_finished_study_repeats_the_result_without_its_trials(kept: Any):
    name = study.create(kept, PLAN)
    before = run(kept, name=name)
    train = Counted()
    after = run(storage.open_storage(None, "bowl"), train=train, name=name)
    assert trials(after) == trials(before)
    for name in ("best", "value", "std", "metrics", "seeds", "runs"):
        assert getattr(after, name) == getattr(before, name)
    assert len(train.seeds) == 15, "the confirmation alone"


def test_an_error_in_a_training_ends_the_study_and_keeps_the_rest(kept: Any):
    def broken(config: OptimizerConfig, seed: int, steps: int) -> TrialRecord:
        if seed == seeds.derive(PLAN.seed, seeds.TRIAL, 20):
            raise ZeroDivisionError("a bug")
        return bowl(config, seed, steps)

    name = study.create(kept, PLAN)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(kept, train=broken, name=name)
    resumed = run(kept, name=name)
    assert trials(resumed) == trials(run(kept))


def test_diverged_trials_are_results(kept: Any):
    def steep(config: OptimizerConfig, seed: int, steps: int) -> TrialRecord:
        record = bowl(config, seed, steps)
        if config.hyperparameters["lr"] < 0.05:
            return record
        return TrialRecord(config, seed, math.inf, 1e-6, [(steps, math.inf)], {"accuracy": math.nan})

    name = study.create(kept, PLAN)
    result = run(kept, train=steep, name=name)
    states = Counter(trial["state"] for trial in result.to_dict()["trials_log"])
    assert set(states) == {"complete", "diverged"}
    assert states.total() == 40
    first = result.to_dict()["trials_log"][0]
    assert (first["value"], first["state"]) == (None, "diverged")
    assert result.best.hyperparameters["lr"] < 0.05
    again = run(storage.open_storage(None, "bowl"), train=Counted(), name=name)
    assert trials(again) == trials(result), "inf survives the storage"


def test_a_study_in_which_all_diverges_fails_clearly_and_keeps_its_trials(kept: Any):
    def bad(config: OptimizerConfig, seed: int, steps: int) -> TrialRecord:
        return TrialRecord(config, seed, math.inf, 1e-6, [(steps, math.inf)], {})

    name = study.create(kept, PLAN)
    with pytest.raises(StudyError, match=r"bowl#1: each of its 40 configs diverged in its trial, .* --optimizer"):
        run(kept, train=bad, name=name)
    train = Counted()
    with pytest.raises(StudyError):
        run(kept, train=train, name=name)
    assert train.seeds == []


def test_candidates_that_diverge_on_a_fresh_seed_make_way_for_the_next(kept: Any):
    def fragile(config: OptimizerConfig, seed: int, steps: int) -> TrialRecord:
        record = bowl(config, seed, steps)
        if config.optimizer == "nag":
            return TrialRecord(config, seed, record.value + 9, 0.0, [], record.metrics)
        if seed in searched:
            return record
        return TrialRecord(config, seed, math.inf, 1e-6, [], {})  # without the metrics of a whole training

    searched = {seeds.derive(7, seeds.TRIAL, number) for number in range(40)}
    result = run(kept, train=fragile)
    assert result.best.optimizer == "nag"
    assert math.isfinite(result.value)
    assert result.runs > 55

    def hopeless(config: OptimizerConfig, seed: int, steps: int) -> TrialRecord:
        return bowl(config, seed, steps) if seed in searched else TrialRecord(config, seed, math.inf, 0.0, [], {})

    with pytest.raises(StudyError, match="diverged on a fresh seed"):
        run(kept, train=hopeless)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_trials(kept: Any, count: int):
    result = run(kept, Plan("bowl", PLAN.optimizers, count, 7, 10))
    assert [trial.optimizer for trial in result.trials][:3] == list(PLAN.optimizers[:count])
    assert result.runs == count + min(count, 3) * 5


def test_two_studies_of_a_task_have_two_names(kept: Any):
    assert [study.create(kept, PLAN) for _ in range(3)] == ["bowl#1", "bowl#2", "bowl#3"]
    other = Plan("other", PLAN.optimizers, 4, 0, 10)
    assert study.create(kept, other) == "other#1"
    assert study.latest(kept, "bowl") == ("bowl#3", PLAN)
    assert study.latest(kept, "nothing") is None


def test_a_plan_of_another_format_is_refused(kept: Any):
    header = optuna.create_study(storage=kept, study_name="bowl#1")
    header.set_user_attr("plan", {**PLAN.to_dict(), "format": 99})
    with pytest.raises(
        InputError, match="the stored study has format 99; this version resumes formats 2 and 3: start a new"
    ):
        study.latest(kept, "bowl")


def test_a_study_of_format_2_is_resumed_as_it_was_planned(kept: Any):
    new = ("first", "learned", "schedules")
    old = {name: value for name, value in PLAN.to_dict().items() if name not in new}
    optuna.create_study(storage=kept, study_name="bowl#1").set_user_attr("plan", {**old, "format": 2})
    assert study.latest(kept, "bowl") == ("bowl#1", PLAN)


def test_a_study_whose_sampler_would_draw_otherwise_is_not_mixed(kept: Any, monkeypatch: pytest.MonkeyPatch):
    name = study.create(kept, PLAN)
    run(kept, name=name)
    monkeypatch.setattr(seeds, "SAMPLER", 99)
    with pytest.raises(InputError, match=r"trial \d+ of study bowl#1 has other settings than this version would try"):
        run(kept, name=name)


# A learned start

SCHEDULES = ("constant", "cosine")
FIRST = (
    ("sgd", {"lr": 5.0, "weight_decay": 1e-6, "schedule": "cosine"}),  # beyond the range of the rule's record
    ("adamw", {"lr": 0.02, "schedule": "constant"}),
    ("sgd", {"lr": 0.5, "weight_decay": 1e-6, "schedule": "constant"}),
    ("adamw", {"lr": 0.03, "schedule": "cosine"}),
)
COMPLETE = {"one_minus_beta1": 0.1, "one_minus_beta2": 0.001, "eps": 1e-8, "weight_decay": 0.01}
WARM = replace(
    PLAN,
    trials=60,
    first=tuple((name, {**(COMPLETE if name == "adamw" else {}), **point}) for name, point in FIRST),
    starts={"nag": {"lr": 0.04, "one_minus_momentum": 0.1, "weight_decay": 1e-6, "schedule": "cosine"}},
    learned={"adamw": {"lr": (0.004, 0.025)}, "nag": {"lr": (0.005, 0.05), "one_minus_momentum": (0.05, 0.2)}},
    schedules=dict.fromkeys(PLAN.optimizers, SCHEDULES),
)


def learned_values(trial: Any) -> tuple[str, float, str]:
    config = trial.record.config
    return config.optimizer, config.hyperparameters["lr"], config.schedule["name"]


def test_a_warm_plan_survives_the_storage(kept: Any):
    name = study.create(kept, WARM)
    assert study.latest(storage.open_storage(None, "bowl"), "bowl") == (name, WARM)
    assert WARM.warm
    assert not PLAN.warm


def test_the_learned_list_runs_first_in_its_order_with_its_schedules(kept: Any):
    result = run(kept, WARM)
    expected = [(name, point["lr"], point["schedule"]) for name, point in FIRST]
    assert [learned_values(trial) for trial in result.trials[:4]] == expected
    assert len(result.trials) == 60
    cosine = result.trials[0].record.config.schedule
    assert (cosine["name"], cosine["warmup_steps"], cosine["total_steps"]) == ("cosine", 0, 10)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_small_budget_is_spent_on_the_head_of_the_list(kept: Any, count: int):
    result = run(kept, replace(WARM, trials=count, first=WARM.first[:count]))
    assert [learned_values(trial)[0] for trial in result.trials] == [name for name, _ in FIRST[:count]]


def test_a_rule_that_is_not_in_the_list_begins_where_it_starts(kept: Any):
    nag = next(trial for trial in run(kept, WARM).trials if trial.optimizer == "nag")
    assert learned_values(nag) == ("nag", 0.04, "cosine")


def test_learned_ranges_are_searched_first_and_all_of_the_space_later(kept: Any):
    trials_ = run(kept, WARM).trials
    until = 4 + round(study.NARROW * 56)
    # A wave that begins before the change is drawn from the learned range whole.
    waves = {"adamw": (0.004, 0.03), "nag": (0.005, 0.05)}
    for trial in trials_[4:until]:
        low, high = waves.get(trial.optimizer, (1e-3, 5.0))
        assert low <= trial.record.config.hyperparameters["lr"] <= high
    late = [t for t in trials_[until + 8 :] if t.optimizer in waves]
    outside = [t for t in late if not waves[t.optimizer][0] <= learned_values(t)[1] <= waves[t.optimizer][1]]
    assert outside, "all of the space has its turn"
    assert {learned_values(trial)[2] for trial in trials_[4:]} == set(SCHEDULES)


def test_a_warm_study_is_the_same_with_any_jobs_and_after_an_interruption(kept: Any):
    undisturbed = run(kept, WARM, jobs=1)
    assert trials(run(kept, WARM, jobs=4)) == trials(undisturbed)
    for stop_at in (2, 11, 40):
        name = study.create(kept, WARM)
        with pytest.raises(Stop):
            run(kept, WARM, train=Counted(stop_at), name=name)
        resumed = run(storage.open_storage(None, "bowl"), WARM, name=name)
        assert trials(resumed) == trials(undisturbed)
        assert resumed.value == undisturbed.value
    stored = optuna.load_study(storage=storage.open_storage(None, "bowl"), study_name=f"{name}/adamw").trials
    assert {trial.params["schedule"] for trial in stored} == set(SCHEDULES)


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruning_goes_on_where_the_range_changes(kept: Any, pruner: str):
    plan = replace(WARM, pruner=pruner, trials=80)
    one, other = run(kept, plan, jobs=1), run(kept, plan, jobs=3)
    assert trials(one) == trials(other)
    assert [t.record.state for t in one.trials] == [t.record.state for t in other.trials]
    assert "pruned" in {t.record.state for t in one.trials[-30:]}


def test_the_range_test_moves_a_learned_start(kept: Any):
    plan = replace(WARM, first=(), learned={"nag": {"one_minus_momentum": (0.05, 0.2)}}, range_test=True)
    result = run(kept, plan)
    nag = next(trial for trial in result.trials if trial.optimizer == "nag")
    assert learned_values(nag)[1] != 0.04
    assert learned_values(nag)[2] == "cosine"


# oa.tune: the plan that follows from the arguments


def tune(**arguments: Any) -> Result:
    """A study that starts as advised: what is learned changes with what the package ships (tests/test_warming.py)."""
    return oa.tune("digits-mlp", **{"trials": 7, "steps": 5, "warm": False, **arguments})


def test_the_default_rules_are_the_dense_ones_in_the_order_of_the_advice():
    result = tune()
    order = [trial.optimizer for trial in result.trials]
    assert sorted(order) == sorted(DENSE)
    advised = oa.recommend(registry.get("digits-mlp").profile, top=1).recommendations[0].config
    assert order[0] == advised.optimizer


def test_an_optimizer_filter():
    result = tune(optimizers=["nag", "ftrl", "nag"], trials=6)
    assert {trial.optimizer for trial in result.trials} == {"nag", "ftrl"}
    assert tune(optimizers="nag").best.optimizer == "nag"


def test_resume_keeps_the_plan():
    before = tune(seed=3)
    for asked in ({}, {"seed": 3}, {"trials": 7, "steps": 5}):
        after = oa.tune("digits-mlp", resume=True, **asked)
        assert after.study == before.study == "digits-mlp#1"
        assert trials(after) == trials(before)
    assert tune(seed=3).study == "digits-mlp#2"


def test_resume_without_a_study_starts_one():
    assert tune(resume=True).study == "digits-mlp#1"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"seed": 4}, "started with seed 3, not 4"),
        ({"trials": 8}, "started with trials 7, not 8"),
        ({"steps": 6}, "started with steps 5, not 6"),
        ({"optimizers": ["nag"]}, "started with optimizers .*, not .*nag"),
    ],
)
def test_resume_with_another_plan_is_refused(asked: dict[str, Any], message: str, data_folder: Path):
    tune(seed=3, optimizers=["sgd"])
    before = {path: path.read_bytes() for path in data_folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=message):
        oa.tune("digits-mlp", resume=True, **asked)
    assert {path: path.read_bytes() for path in data_folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("url", ["sqlite:///{}/studies.db", "{}/my.journal"])
def test_a_storage_of_ones_own(tmp_path: Path, url: str, data_folder: Path):
    where = url.format(tmp_path)
    before = tune(storage=where, optimizers=["sgd"])
    after = oa.tune("digits-mlp", storage=where, resume=True)
    assert trials(after) == trials(before)
    assert trials(tune(optimizers=["sgd"])) == trials(before), "the storage changes nothing"
    assert oa.load_config("digits-mlp").optimizer == "sgd"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"trials": -1}, "trials is -1"),
        ({"trials": math.nan}, "trials is nan"),
        ({"trials": 1.5}, "trials is 1.5"),
        ({"trials": True}, "trials is True"),
        ({"jobs": 0}, "jobs is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": math.inf}, "steps is inf"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"optimizers": ["momentun"]}, "unknown optimizer 'momentun': did you mean 'momentum'"),
        ({"optimizers": ["hybrid"]}, "cannot be trained with 'hybrid': it has no embeddings"),
        ({"sampler": "tpee"}, "unknown sampler 'tpee': did you mean 'tpe'"),
        ({"pruner": "medium"}, "unknown pruner 'medium': did you mean 'median'"),
        ({"ranges": {"lr": (1e-1, 1e-3)}}, r"the range of lr is 0.1..0.001; it takes low..high"),
        ({"ranges": {"learning_rate": (0, 1)}}, "unknown hyperparameter or axis 'learning_rate'"),
        ({"ranges": {"betas": (0.9, 0.99)}}, "give one_minus_beta1 and one_minus_beta2 a range"),
        ({"ranges": {"lr": (-1.0, 1.0)}}, "lr is -1.0; it must be at least 0"),
        ({"fixed": {"weight_decay": -1}}, "weight_decay is -1.0; it must be at least 0"),
        ({"fixed": {"momentums": 0.9}}, "did you mean 'momentum'"),
        ({"fixed": {"lr": 0.1}, "ranges": {"lr": (0.1, 1.0)}}, "lr is both fixed and given a range"),
        ({"objectives": ["steps"]}, "give it with --target"),
        ({"objectives": ["stepps"]}, "did you mean 'steps'"),
        ({"target": 0.1}, "used by the objective 'steps' only"),
        ({"objectives": ["memory"], "pruner": "median"}, "leave out --pruner"),
        ({"storage": "nonsense://x"}, "cannot open the storage"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(arguments: dict[str, Any], message: str, data_folder: Path):
    with pytest.raises(InputError, match=message):
        tune(**arguments)
    assert not data_folder.exists()


def test_an_unknown_task(data_folder: Path):
    with pytest.raises(InputError, match="unknown task 'digit-mlp': did you mean 'digits-mlp'"):
        oa.tune("digit-mlp")
    assert not data_folder.exists()


def test_numbers_as_people_write_them():
    result = oa.tune("digits-mlp", trials="2", steps="0.005k", seed=1e1, optimizers=["sgd"])
    assert (len(result.trials), result.seed, result.best.provenance["steps"]) == (2, 10, 5)


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if not rule.elementwise])
def test_a_rule_that_needs_whole_tensors_is_refused_at_once(rule: str, data_folder: Path):
    with pytest.raises(
        InputError, match=f"cannot be trained with '{rule}': .* the rule needs whole tensors; pick another"
    ):
        oa.tune("digits-mlp", optimizers=["adamw", rule])
    assert not data_folder.exists()


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if rule.elementwise])
def test_every_rule_can_be_studied(rule: str):
    assert tune(optimizers=[rule], trials=2).best.optimizer == rule


# Samplers, pruners, spaces, objectives


@pytest.mark.parametrize("sampler", ["random", "qmc", "cmaes", "gp"])
def test_every_sampler_gives_the_same_trials_again(kept: Any, sampler: str):
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    if sampler == "gp":
        pytest.importorskip("torch")
    plan = replace(PLAN, sampler=sampler, trials=30)
    assert trials(run(kept, plan, jobs=1)) == trials(run(kept, plan, jobs=3))
    assert trials(run(kept, plan))[9:] != trials(run(kept))[9:30]


def test_a_quasi_random_sequence_goes_on_from_wave_to_wave(kept: Any):
    result = run(kept, Plan("bowl", ("sgd",), 32, 7, 10, sampler="qmc"))
    rates = np.log10([trial.record.config.hyperparameters["lr"] for trial in result.trials])
    low, high = np.log10([0.001, 3.0])
    counts = np.histogram(rates, bins=8, range=(low, high))[0]
    assert counts.min() >= 2, "32 points of a Sobol sequence leave no eighth empty"


def test_a_sampler_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, data_folder: Path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="sampler 'cmaes' needs the package cmaes: pip install cmaes"):
        tune(sampler="cmaes")
    assert not data_folder.exists() or not list(data_folder.rglob("*.json"))


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruning_is_the_same_with_any_number_of_jobs_and_after_an_interruption(kept: Any, pruner: str):
    plan = replace(PLAN, pruner=pruner, trials=60)
    undisturbed = run(kept, plan, jobs=1)
    states = [trial.record.state for trial in undisturbed.trials]
    assert 5 < states.count("pruned") < 50
    for jobs in (2, 4):
        other = run(kept, plan, jobs=jobs)
        assert trials(other) == trials(undisturbed)
        assert [trial.record.state for trial in other.trials] == states
    name = study.create(kept, plan)
    with pytest.raises(Stop):
        run(kept, plan, train=Counted(35), name=name)
    resumed = run(storage.open_storage(None, "bowl"), plan, name=name)
    assert trials(resumed) == trials(undisturbed)
    assert [trial.record.state for trial in resumed.trials] == states
    assert resumed.best.provenance["trial"] == undisturbed.best.provenance["trial"]
    pruned = next(trial for trial in undisturbed.trials if trial.record.pruned)
    assert pruned.to_dict()["state"] == "pruned"
    assert len(pruned.record.curve) < 5


def test_real_pruning_saves_steps_and_keeps_the_best():
    plain, pruned = tune(trials=80, steps=100), tune(trials=80, steps=100, pruner="median")
    shortened = [trial for trial in pruned.trials if trial.record.pruned]
    assert len(shortened) > 10
    assert all(trial.record.curve[-1][0] < 100 for trial in shortened)
    assert pruned.value < 1.2 * plain.value


def test_ranges_and_fixed_values_hold():
    result = tune(
        trials=30, ranges={"lr": (2e-3, 3e-3), "momentum": (0.5, 0.6)}, fixed={"weight_decay": 0.01, "amsgrad": True}
    )
    for trial in result.trials:
        values = trial.record.config.hyperparameters
        assert 2e-3 <= values["lr"] <= 3e-3
        assert values["weight_decay"] == 0.01
        assert 0.5 <= values.get("momentum", 0.5) <= 0.6 or trial.optimizer == "rmsprop"
        assert values.get("amsgrad", True) is True
    again = oa.tune("digits-mlp", resume=True)
    assert trials(again) == trials(result)


def test_several_objectives(kept: Any):
    plan = replace(PLAN, objectives=("value", "steps", "memory"), target=0.5)
    result = run(kept, plan)
    data = result.to_dict()
    assert data["objectives"] == ["value", "steps", "memory"]
    memory = {"sgd": 0.0, "nag": 400.0, "adamw": 800.0}
    for entry in data["pareto"]:
        trial = result.trials[entry["number"]]
        assert entry["values"][0] == trial.record.value
        assert entry["values"][2] == memory[trial.optimizer]
    numbers = [entry["number"] for entry in data["pareto"]]
    assert min(result.trials, key=lambda t: t.record.value).number in numbers
    cheapest = min((t for t in result.trials if t.optimizer == "sgd"), key=lambda t: t.record.value)
    assert cheapest.number in numbers
    for entry in data["pareto"]:
        for trial in result.trials:
            better = (trial.record.value < entry["values"][0], memory[trial.optimizer] <= entry["values"][2])
            reached = trial.record.steps_to(0.5) <= (entry["values"][1] or math.inf)
            assert not (all(better) and reached)


def test_the_range_test_centres_the_learning_rate(kept: Any):
    train = Counted()
    result = run(kept, replace(PLAN, range_test=True), train=train)
    assert result.runs == 40 + 15 + 3 * study.LADDER
    for trial in result.trials:
        # The bowl is best at 0.01: the ladder's nearest rung, moved down.
        factor = 0.3 if trial.optimizer == "adamw" else 0.6
        assert 0.01 * factor / 30 <= trial.record.config.hyperparameters["lr"] <= 0.01 * factor * 30
    assert trials(run(kept, replace(PLAN, range_test=True), jobs=4)) == trials(result)


def test_the_range_test_on_a_real_task():
    result = tune(trials=14, steps=200, range_test=True, optimizers=["adamw", "sgd"])
    assert result.runs == 14 + 15 + 2 * study.LADDER
    assert result.value < 0.6


RANGE_TEST = replace(PLAN, range_test=True, back_off={"adamw": {"lr": 0.5}, "sgd": {"lr": 0.02}})


def first_lr(result: Result, optimizer: str) -> float:
    trial = next(trial for trial in result.trials if trial.optimizer == optimizer)
    return float(trial.record.config.hyperparameters["lr"])


def test_the_range_test_backs_off_by_the_factors_of_the_plan(kept: Any):
    starts = {name: {"lr": 0.09} for name in PLAN.optimizers}
    result = run(kept, replace(RANGE_TEST, starts=starts))
    assert result.runs == 3 * study.LADDER + 55
    assert first_lr(result, "adamw") == pytest.approx(0.01 * 0.5, rel=0.3)
    assert first_lr(result, "sgd") == pytest.approx(0.01 * 0.02, rel=0.3)
    rates = [t.record.config.hyperparameters["lr"] for t in result.trials if t.optimizer == "sgd"]
    assert max(rates) < 0.01 * 0.02 * 10 * 1.3, "a decade around it is searched"
    axis = next(axis for name, _, _, axis in PLAN.spaces()["nag"].axes() if name == "lr")
    ladder = np.geomspace(axis.low, axis.high, study.LADDER)
    nearest = ladder[np.abs(np.log10(ladder) + 2).argmin()]
    assert first_lr(result, "nag") == pytest.approx(nearest * study.BACK_OFF[False]), "no factor: the fixed one"


def test_a_plan_with_factors_is_kept_and_resumed(kept: Any):
    undisturbed = run(kept, RANGE_TEST)
    name, first = study.create(kept, RANGE_TEST), Counted(3 * study.LADDER + 9)
    with pytest.raises(Stop):
        run(kept, RANGE_TEST, first, name)
    again = storage.open_storage(None, "bowl")
    assert study.latest(again, "bowl") == (name, RANGE_TEST)
    assert trials(run(again, RANGE_TEST, name=name)) == trials(undisturbed)


def test_a_plan_of_before_the_factors_is_read():
    data = PLAN.to_dict()
    del data["back_off"]
    assert Plan.from_dict(data) == PLAN


def test_where_every_rate_of_the_range_test_diverges_the_space_stays(kept: Any):
    def brittle(config: OptimizerConfig, seed: int, steps: int) -> TrialRecord:
        record = bowl(config, seed, steps)
        return replace(record, value=math.inf) if seed == seeds.derive(7, seeds.RANGE) else record

    plan = replace(RANGE_TEST, optimizers=("adamw",), trials=8)
    assert trials(run(kept, plan, brittle)) == trials(run(kept, replace(plan, range_test=False)))
