"""The sharing of a budget among rules."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from optadvisor.studies.plan import WAVE, waves

RULES = ["adamw", "momentum", "nag", "sgd", "adam", "rmsprop", "adagrad", "ftrl"]
budgets = st.integers(1, 400)
orders = st.integers(1, len(RULES)).map(lambda n: RULES[:n])
scores = st.lists(st.floats(0, 10), min_size=len(RULES), max_size=len(RULES)).map(
    lambda values: dict(zip(RULES, values, strict=True))
)


def shares(trials: int, rules: list[str], score: dict[str, float]) -> Counter[str]:
    found: Counter[str] = Counter()
    for wave in waves(trials, rules, score.__getitem__):
        found.update(dict(wave))
    return found


@given(budgets, orders, scores)
def test_waves_add_up_to_the_budget(trials: int, rules: list[str], score: dict[str, float]):
    assert shares(trials, rules, score).total() == trials


@given(budgets, orders, scores)
def test_every_rule_has_trials_where_the_budget_allows(trials: int, rules: list[str], score: dict[str, float]):
    assert set(shares(trials, rules, score)) == set(rules[:trials])


@given(budgets, orders, scores)
def test_a_better_rule_never_has_fewer_trials(trials: int, rules: list[str], score: dict[str, float]):
    """But for one: what does not divide evenly goes to the first in the order of the advice."""
    found = shares(trials, rules, score)
    ranked = sorted(found, key=score.__getitem__)
    assert all(found[better] >= found[worse] - 1 for better, worse in itertools.pairwise(ranked))


@given(budgets, orders, scores)
def test_no_wave_asks_blindly_for_many_trials_of_a_rule(trials: int, rules: list[str], score: dict[str, float]):
    for wave in waves(trials, rules, score.__getitem__):
        names = [name for name, _ in wave]
        assert len(names) == len(set(names))
        assert all(1 <= count <= WAVE for _, count in wave)


@given(budgets, orders, scores)
def test_the_same_values_give_the_same_waves(trials: int, rules: list[str], score: dict[str, float]):
    once, again = (list(waves(trials, rules, score.__getitem__)) for _ in range(2))
    assert once == again


def test_halving_keeps_the_best():
    score = dict(zip(RULES, [8, 7, 6, 5, 4, 3, 2, 1], strict=True))
    found = shares(160, RULES, score)
    assert list(found.values()) == [5, 5, 5, 5, 15, 15, 35, 75]
    assert list(found) == RULES


def test_ties_go_to_the_order_of_the_advice():
    found = shares(80, RULES, dict.fromkeys(RULES, 1.0))
    assert max(found, key=found.__getitem__) == RULES[0]


def test_nothing_to_do():
    assert list(waves(0, RULES, lambda rule: 0.0)) == []
    assert list(waves(10, [], lambda rule: 0.0)) == []
