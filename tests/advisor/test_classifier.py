"""Chances of the rules: the target, models on outcomes with a planted signal and without one, inference in plain Python."""

import io
import math
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from optadvisor.advisor import classifier, features
from optadvisor.advisor.arrays import read_npz
from optadvisor.advisor.classifier import Classifier
from optadvisor.advisor.learning import classifiers, ties
from optadvisor.advisor.learning.dataset import Dataset
from optadvisor.kernels.errors import InputError
from optadvisor.profile import TaskProfile
from optadvisor.studies.outcomes import Sheet

RULES = ("sgd", "adam", "ftrl")
BEST = {"vision": "sgd", "language": "adam", "recsys": "ftrl"}


def outcomes(signal: float, families: int = 9, each: int = 3) -> Dataset:
    """Random regrets, lower by `signal` for the rule that suits a task's domain; ftrl does not fit every task."""
    rng, sheet = np.random.default_rng(0), Sheet(configs=40, rules=RULES)
    shape = (families * each, len(RULES), sheet.configs)
    of = np.repeat(np.arange(families), each)
    domains = [list(BEST)[family % len(BEST)] for family in of]
    regrets = rng.uniform(0.4, 0.6, shape)[..., None] + rng.normal(0, 0.02, (*shape, sheet.seeds))
    regrets += rng.uniform(0, 0.2, (*shape[:2], 1, 1))  # which rule wins without a signal
    for t, domain in enumerate(domains):
        regrets[t, RULES.index(BEST[domain])] -= signal
    regrets[::5, RULES.index("ftrl")] = np.nan
    profiles = [
        TaskProfile(domain=domain, parameters=int(10 ** rng.uniform(1, 5)), steps=int(10 ** rng.uniform(2, 4)))
        for domain in domains
    ]
    names = [f"task-{t}" for t in range(len(of))]
    return Dataset(sheet, names, [f"family-{f}" for f in of], profiles, regrets, regrets, np.zeros(shape))


@pytest.fixture(scope="module")
def planted() -> Dataset:
    return outcomes(0.25)


@pytest.fixture(scope="module")
def level() -> Dataset:
    return outcomes(0.0)


@pytest.fixture(scope="module")
def fitted(planted):
    return classifiers.fit(planted)


def plain(arrays):
    """The arrays as `recommend` reads them."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return {name: array.flat for name, array in read_npz(file).items()}


def test_a_good_list_starts_with_the_lowest_mean_and_goes_on_with_what_it_lacks():
    regrets = np.array([[0.4, 0.0, 0.3, 1.0], [0.4, 0.9, 0.5, 0.1]])[:, None, :, None]
    assert ties.good_lists(regrets).tolist() == [[0, 1, 3, 2]]


def test_a_pick_of_one_seed_is_scored_on_the_other():
    regrets = np.array([[0.1, 0.6], [0.5, 0.2]])[None, None]  # configs x seeds
    reached = ties.after(regrets, np.array([[1, 0]]))
    assert reached[0, 0, 0].tolist() == [0.5, 0.2]  # one trial: the list's first
    assert reached[0, 1, 0].tolist() == [0.5, 0.6]  # each seed takes what the other one likes


def test_ties_are_within_the_seeds_disagreement_and_the_floor():
    seeds = np.array([[0.1, 0.1], [0.12, 0.22], [0.2, 0.3], [0.6, 0.7], [np.nan, np.nan]])
    tied = ties.ties(seeds[None, None])[0, 0]
    np.testing.assert_array_equal(tied, [1, 1, 0, 0, np.nan])
    exact = np.array([[0.0, 0.0], [0.019, 0.019], [0.021, 0.021]])
    assert ties.ties(exact[None, None])[0, 0].tolist() == [1, 1, 0]


def test_base_rates_are_shares_with_two_tasks_more():
    tied = np.array([[1.0, 0.0], [1.0, np.nan], [1.0, 0.0]])[:, None]
    mean = 3 / 5
    np.testing.assert_allclose(ties.base_rates(tied), [[(3 + 2 * mean) / 5, 2 * mean / 4]])


@pytest.mark.parametrize("name", classifiers.MODELS)
def test_every_model_learns_what_a_domain_says(planted, name):
    learner, settings = classifiers.MODELS[name]
    tied = ties.ties(ties.after(planted.regrets, ties.good_lists(planted.regrets)))
    families = np.asarray(planted.families)
    lessons = classifiers.Lessons(classifiers.copies(planted.profiles, 0), tied, families)
    last = np.isin(families, ("family-6", "family-7", "family-8"))
    seen, unseen = np.flatnonzero(~last), np.flatnonzero(last)
    moved = lessons.take(seen).answer(learner, lessons.x[unseen], settings[0])
    truth = tied[unseen] - lessons.take(seen).base
    known = ~np.isnan(truth)
    assert np.corrcoef(moved[:, 0][known], truth[known])[0, 1] > 0.6


def test_a_planted_signal_is_found_on_families_left_out(planted):
    compared = classifiers.compare(planted, [classifiers.SHIPPED])
    for row in (row for row in compared.rows if row["model"] == classifiers.SHIPPED):
        value, low, high = row["skill"]
        assert 0 < low < value < high, row
        assert row["over base"].mean < 0, row
        if row["profile"] == "whole":
            assert value > 0.3, row
            assert 0.7 < row["slope"].mean < 1.8, row
    found = compared.predictions[classifiers.SHIPPED]
    assert len(found) == 4 * np.isfinite(planted.regrets[:, :, 0, 0]).sum()
    mean = {tie: np.mean([one["chance"] for one in found if one["tie"] is tie]) for tie in (True, False)}
    assert mean[True] > mean[False] + 0.3


def test_without_a_signal_the_base_rates_remain(level):
    arrays = classifiers.fit(level)
    assert not arrays["weights"].any()
    base = arrays["base"].reshape(len(ties.BUDGETS), -1)
    shipped = Classifier.from_arrays(plain(arrays))
    for budget, shares in zip(ties.BUDGETS, base, strict=True):
        assert list(shipped.probabilities(level.profiles[0], budget).values()) == shares.tolist()


def test_a_comparison_takes_three_families(planted):
    with pytest.raises(InputError, match="at least 3"):
        classifiers.compare(planted.take([0, 1, 3]))


def test_plain_python_gives_what_scikit_learn_gives(planted, monkeypatch):
    made = []

    class Recorded(Ridge):
        def fit(self, x, y):
            made.append(self)
            return super().fit(x, y)

    monkeypatch.setattr(classifiers, "Ridge", Recorded)
    worth = np.array([0.7, 0.0, 1.3, 1.0])
    monkeypatch.setattr(classifiers.Lessons, "tune", lambda *_: (1.0, worth))
    shipped = Classifier.from_arrays(plain(classifiers.fit(planted)))
    x = classifiers.copies(planted.profiles, 0).reshape(-1, len(features.NAMES))
    scaler = StandardScaler().fit(x)
    rng, base = np.random.default_rng(1), np.array(shipped.base)
    far = TaskProfile(domain="vision", architecture="unet", parameters=10**11, steps=10**7, unstable=True)
    asked = [far, TaskProfile(), *(classifiers.hidden(profile, rng) for profile in planted.profiles)]
    z = scaler.transform([features.vector(profile) for profile in asked])
    moved = made[-1].predict(np.clip(z, -classifier.REACH, classifier.REACH)).reshape(len(asked), *base.shape)
    expected = np.clip(base + worth[:, None] * moved, classifier.LEAST, 1 - classifier.LEAST)
    assert np.ptp(expected, axis=0).max() > 0.3
    for i, profile in enumerate(asked):
        for b, trials in enumerate(ties.BUDGETS):
            found = shipped.probabilities(profile, trials)
            assert list(found) == list(RULES)
            np.testing.assert_allclose(list(found.values()), expected[i, b], rtol=0, atol=1e-9)


def test_the_domain_decides_and_no_answer_leaves_less_to_say(fitted):
    shipped = Classifier.from_arrays(fitted)
    for domain, rule in BEST.items():
        chances = shipped.probabilities(TaskProfile(domain=domain), 4)
        assert max(chances, key=chances.__getitem__) == rule
        assert chances[rule] > 0.5
    nothing = shipped.probabilities(TaskProfile(), 4)
    assert max(nothing.values()) - min(nothing.values()) < 0.3


def test_trials_between_budgets_count_as_the_nearest_in_ratio_and_unknown_ones_as_few(fitted):
    shares = np.repeat([0.1, 0.2, 0.3, 0.4], len(RULES))
    shipped = Classifier.from_arrays({**fitted, "base": shares, "weights": np.zeros_like(fitted["weights"])})
    for trials, share in ((1, 0.1), (3, 0.2), (4, 0.2), (7, 0.2), (9, 0.3), (33, 0.4), (10**6, 0.4), (None, 0.2)):
        assert shipped.probabilities(TaskProfile(domain="vision"), trials) == dict.fromkeys(RULES, share)


def test_hidden_fields_are_only_left_out():
    rng = np.random.default_rng(0)
    whole = TaskProfile(domain="vision", parameters=1000, steps=10, convex=True, goal="speed", trials=3)
    shares = []
    for _ in range(200):
        one = classifiers.hidden(whole, rng).to_dict()
        left_out = [name for name, value in whole.to_dict().items() if value != one[name]]
        assert all(one[name] is None for name in left_out)
        assert not {"goal", "trials"} & set(left_out)
        shares.append(len(left_out) / 4)
    assert min(shares) == 0
    assert max(shares) == 1
    assert math.isclose(np.mean(shares), 0.5, abs_tol=0.1)


def test_the_arrays_are_small_repeatable_and_read_without_numpy(planted, fitted):
    again = classifiers.fit(planted)
    assert all(np.array_equal(fitted[name], again[name]) for name in fitted)
    assert all(array.ndim == 1 for array in fitted.values())
    file = io.BytesIO()
    np.savez_compressed(file, **fitted)
    assert file.tell() < 100_000
    assert Classifier.from_arrays(plain(fitted)) == Classifier.from_arrays(fitted)


def test_arrays_of_other_features_are_refused(fitted):
    with pytest.raises(InputError, match="fit it again"):
        Classifier.from_arrays({**fitted, "names": list(b'[["sgd"], ["depth"]]')})


def test_inference_imports_no_numpy():
    code = "import sys, optadvisor.advisor.classifier; sys.exit('numpy' in sys.modules or 'sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
