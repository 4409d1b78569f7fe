"""Learned lists: the greedy choice against a naive one, whose rows count, missing outcomes, learned ranges."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from optadvisor.advisor import lists
from optadvisor.advisor.features import Scales
from optadvisor.advisor.knowledge import CONSTANT, DRAWN, MISSING, STEPS, STUDIED, Candidate, Knowledge, Row
from optadvisor.profile import TaskProfile

VISION = TaskProfile(domain="vision", architecture="cnn", parameters=10_000, steps=1000)
LANGUAGE = TaskProfile(domain="language", architecture="rnn", parameters=10_000, steps=1000)


def drawn(optimizer: str, lr: float, kind: str = DRAWN, **more: float) -> Candidate:
    return Candidate(optimizer, {"lr": lr, **more}, "constant", 0.0, kind)


def row(profile: TaskProfile, regrets: list[float], name: str = "task", **more) -> Row:
    kept = bytes(MISSING if math.isnan(value) else round(value * STEPS) for value in regrets)
    return Row(name, name, STUDIED, profile, kept, **more)


# The greedy choice -----------------------------------------------------------------------------------------------------


def naive(columns: np.ndarray, shares: np.ndarray, k: int, allowed) -> list[int]:
    """Every key is tried at every place: keys x lines of regrets."""
    found: list[int] = []
    while len(found) < k:
        best = columns[found].min(axis=0, initial=1.0)
        totals = {key: shares @ np.minimum(best, columns[key]) for key in range(len(columns)) if allowed(key, found)}
        totals = {key: total for key, total in totals.items() if key not in found}
        if not totals:
            break
        found.append(min(totals, key=totals.__getitem__))
    return found


def everything(key: int, found: list[int]) -> bool:
    return True


def of_another_kind(key: int, found: list[int]) -> bool:
    """A law whose answer changes as the list grows, in both directions."""
    return key % 3 == len(found) % 3 and (len(found) > 2 or key > 5)


@pytest.mark.parametrize("allowed", [everything, of_another_kind])
@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_the_naive_one(seed: int, allowed):
    rng = np.random.default_rng(seed)
    keys, lines = int(rng.integers(1, 60)), int(rng.integers(1, 30))
    columns, shares = rng.random((keys, lines)), rng.random(lines) ** 3
    found = lists.greedy(dict(enumerate(columns.tolist())), shares.tolist(), 12, allowed)
    wanted = naive(columns, shares, 12, allowed)
    assert len(found) == len(wanted)
    # A key that lowers nothing any more may be any: regrets of 0 leave none here, as random ones are above it.
    best = columns[found].min(axis=0)
    assert shares @ best == pytest.approx(shares @ columns[wanted].min(axis=0), abs=1e-12)
    lowering = [n for n in range(len(found)) if n == 0 or (columns[found[n]] < columns[found[:n]].min(axis=0)).any()]
    assert [found[n] for n in lowering] == [wanted[n] for n in lowering]


def test_a_shorter_list_is_the_beginning_of_a_longer_one():
    columns = dict(enumerate(np.random.default_rng(0).random((40, 9)).tolist()))
    whole = lists.greedy(columns, [1.0] * 9, 8, everything)
    for k in range(8):
        assert lists.greedy(columns, [1.0] * 9, k, everything) == whole[:k]


def test_no_key_twice_and_an_end_where_none_is_left():
    columns = {"a": [0.5], "b": [0.5], "c": [0.1]}
    assert lists.greedy(columns, [1.0], 10, everything) == ["c", "a", "b"]
    assert lists.greedy(columns, [1.0], 10, lambda key, found: key != "c" and len(found) < 1) == ["a"]
    assert lists.greedy({}, [1.0], 3, everything) == []


def test_ties_go_to_the_first_whatever_was_tried_before():
    """After d, either of b and c adds 0.2; alone, c would have added more than b."""
    columns = {"b": [0.8, 0.8, 1.0], "c": [0.6, 1.0, 0.8], "a": [0.6, 1.0, 1.0], "d": [0.0, 1.0, 1.0]}
    assert lists.greedy(columns, [1.0] * 3, 2, everything) == ["d", "b"]


def test_the_gains_add_up_to_the_fall_of_the_sum():
    rng = np.random.default_rng(3)
    columns, shares = rng.random((30, 11)), rng.random(11)
    chosen = lists.greedy(dict(enumerate(columns.tolist())), shares.tolist(), 6, everything)
    found = lists.gains(dict(enumerate(columns.tolist())), shares.tolist(), chosen)
    for k in range(1, 7):
        fall = 1.0 - shares @ columns[chosen[:k]].min(axis=0) / shares.sum()
        assert sum(found[:k]) == pytest.approx(fall)
    assert found == sorted(found, reverse=True)


# Rows ------------------------------------------------------------------------------------------------------------------


def test_a_pair_of_tasks_each_with_its_own_best():
    """The middle config is the best single one; each task's own best comes first where the task is known, then the other's."""
    candidates = [drawn("adam", 0.01), drawn("sgd", 0.1), drawn("momentum", 0.05), drawn("nag", 0.05)]
    rows = [row(VISION, [1.0, 0.0, 0.3, 0.9], "a"), row(LANGUAGE, [0.0, 1.0, 0.3, 0.9], "b")]
    known = Knowledge(candidates, rows, Scales(floor=0.0))
    assert lists.ordered(known, VISION, 2) == [1, 0]
    assert lists.ordered(known, LANGUAGE, 2) == [0, 1]
    both = TaskProfile(parameters=10_000, steps=1000)
    assert lists.ordered(known, both, 3) == [2, 0, 1]
    assert lists.ordered(known, VISION, 9, ["adam", "nag"]) == [3, 0]
    assert lists.ordered(known, VISION, 9, ["ftrl"]) == []


def test_a_row_counts_by_its_worth():
    candidates = [drawn("adam", 0.01), drawn("sgd", 0.1)]
    rows = [row(VISION, [0.0, 1.0], worth=1.0), row(VISION, [1.0, 0.0], worth=1.5)]
    assert lists.ordered(Knowledge(candidates, rows), VISION, 1) == [1]
    rows[1] = replace(rows[1], worth=0.5)
    assert lists.ordered(Knowledge(candidates, rows), VISION, 1) == [0]


def test_the_heaviest_rows_come_first_and_only_they_count():
    rows = [row(replace(VISION, steps=1000 + n), [n % 2]) for n in range(lists.ROWS)]
    far = [row(replace(LANGUAGE, parameters=10**6), [0.0]) for _ in range(5)]
    found = lists.weights(Knowledge([drawn("adam", 0.1)], [*far, *rows]), VISION)
    assert [i for i, _ in found] == list(range(5, 5 + lists.ROWS))
    weights = [w for _, w in found]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] == 1.0


def test_studied_rows_fade_beyond_the_largest_and_others_do_not():
    rows = [row(VISION, [0.0]), replace(row(VISION, [0.0], worth=0.1), source="deepobs")]
    known = Knowledge([drawn("adam", 0.1)], rows)
    large = replace(VISION, steps=100_000)
    found = dict(lists.weights(known, large))
    near = math.exp(-2 * known.scales.size)
    assert found[1] == pytest.approx(0.1 * near)
    assert found[0] == pytest.approx(near * math.exp(-2 * known.scales.beyond))
    below = replace(VISION, steps=10)
    assert dict(lists.weights(known, below))[0] == pytest.approx(near)


def test_what_did_not_run_counts_as_its_mean_with_a_doubt():
    rows = [row(VISION, [0.2, 0.4]), row(VISION, [math.nan, 0.4]), row(VISION, [0.4, math.nan])]
    known = Knowledge([drawn("ftrl", 0.1), drawn("adam", 0.1), drawn("sgd", 0.1)], rows)
    weighed = [(0, 1.0), (1, 0.5), (2, 2.0)]
    mean = (1.0 * 0.2 + 2.0 * 0.4 + lists.DOUBT) / (3.0 + lists.DOUBT)
    assert lists.column(known, weighed, 0) == pytest.approx([0.2, mean, 0.4])
    assert lists.column(known, weighed[:2], 1) == [0.4, 0.4]
    nowhere = Knowledge(known.candidates, [row(VISION, [math.nan]), row(LANGUAGE, [math.nan])])
    assert lists.column(nowhere, [(0, 1.0), (1, 1.0)], 0) == [1.0, 1.0]


# Ranges ----------------------------------------------------------------------------------------------------------------


def tuned(best: float, profile: TaskProfile, candidates: list[Candidate]) -> Row:
    """A task whose regret is the distance from its best learning rate, in decades."""
    return row(profile, [min(1.0, abs(math.log10(c.lr / best)) / 2) for c in candidates])


@pytest.fixture(scope="module")
def ranged() -> Knowledge:
    rates = [10 ** (-5 + n / 20) for n in range(101)]
    candidates = [drawn("adam", lr) for lr in rates] + [drawn("adam", 1.0, CONSTANT), drawn("sgd", 1.0)]
    rows = [tuned(best, VISION, candidates) for best in (0.8e-3, 1e-3, 1.25e-3)]
    rows += [tuned(0.1, LANGUAGE, candidates)]
    return Knowledge(candidates, rows, Scales(floor=0.0, domain=9.0, architecture=9.0))


def test_a_range_holds_what_was_good_on_tasks_like_it(ranged: Knowledge):
    low, high = lists.ranges(ranged, VISION, "adam")["lr"]
    assert 1e-4 < low < 1e-3 / 3**0.5 * 1.01
    assert 1e-3 * 3**0.5 * 0.99 < high < 1e-2
    low, high = lists.ranges(ranged, LANGUAGE, "adam")["lr"]
    assert low < 0.1 < high
    assert low > 1e-2
    either = lists.ranges(ranged, TaskProfile(parameters=10_000, steps=1000), "adam")["lr"]
    assert either[0] < 1e-3
    assert either[1] > 0.05


def test_a_range_is_of_the_random_configs_alone(ranged: Knowledge):
    one = Knowledge([drawn("adam", 0.1, CONSTANT), drawn("adam", 1e-4)], [row(VISION, [0.0, 0.5])])
    low, high = lists.ranges(one, VISION, "adam")["lr"]
    assert (low * high) ** 0.5 == pytest.approx(1e-4)
    assert high / low == pytest.approx(3.0), "a range is never narrower than that"


def test_no_range_without_a_good_config(ranged: Knowledge):
    assert lists.ranges(ranged, VISION, "momentum") == {}
    bad = Knowledge([drawn("adam", 0.1)], [row(VISION, [1.0])])
    assert lists.ranges(bad, VISION, "adam") == {}
    assert lists.ranges(Knowledge([drawn("adam", 0.1)], [row(VISION, [math.nan])]), VISION, "adam") == {}


def test_the_axes_are_those_of_the_search_space():
    plain = drawn("adamw", 0.1, betas=[0.9, 0.95], weight_decay=0.02)
    parts = {"embedding": ("adagrad", {"lr": 0.5}), "dense": ("adamw", {"lr": 0.01, "betas": [0.9, 0.99]})}
    known = Knowledge([plain, Candidate("hybrid", {}, "constant", 0.0, DRAWN, parts)], [row(VISION, [0.0, 0.0])])
    found = lists.ranges(known, VISION, "adamw")
    middles = {name: (low * high) ** 0.5 for name, (low, high) in found.items()}
    assert middles["lr"] == pytest.approx(0.1)
    assert middles["weight_decay"] == pytest.approx(0.02)
    assert any(value == pytest.approx(0.05) for value in middles.values()), "1 - beta2 is the axis"
    hybrid = lists.ranges(known, VISION, "hybrid")
    assert {name.partition(".")[0] for name in hybrid} == {"embedding", "dense"}
    assert hybrid["embedding.lr"][0] < 0.5 < hybrid["embedding.lr"][1]
    assert hybrid["dense.lr"][0] < 0.01 < hybrid["dense.lr"][1]
