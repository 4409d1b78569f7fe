"""Signs from plain numbers: each kind shows where its numbers say so, and only then."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest

import optadvisor
from optadvisor.frameworks.signs import DIRECTION, KINDS, STEP_SIZE, Member, Reading, Sign
from optadvisor.frameworks.watching import Watch

HEALTHY = Reading(1.0, ratio=1e-3, agreement=0.1, second=1.0, lr=0.1)


def watched(looks: list[dict[str, Reading]], agreements: list[float | None] | None = None, *members: Member) -> Watch:
    """A watch after these looks, 50 steps apart; its signs are in `seen`."""
    watch = Watch()
    watch.members = {m.name: m for m in members}
    watch.seen = [  # type: ignore[attr-defined]
        sign
        for i, readings in enumerate(looks)
        for sign in watch.look(50 * (i + 1), readings, agreements[i] if agreements else 0.0)
    ]
    return watch


def names(watch: Watch) -> list[str]:
    return [sign.name for sign in watch.seen]  # type: ignore[attr-defined]


def test_every_kind_cites_a_rule_of_the_guide_and_a_source():
    guide = Path(optadvisor.__file__).parent / "advisor" / "data" / "guide.toml"
    rules = {rule["id"] for rule in tomllib.loads(guide.read_text(encoding="utf-8"))["rule"]}
    for kind in KINDS.values():
        assert kind.question in (DIRECTION, STEP_SIZE)
        assert kind.source
        assert {remedy.rule for remedy in kind.remedies} <= rules
        for history in (False, True):
            for adaptive in (False, True):
                member = Member("w", history=history, adaptive=adaptive)
                assert any(remedy.fits(member) for remedy in kind.remedies), (kind.name, member)


def test_the_page_has_every_kind_with_its_threshold_and_rule():
    page = (Path(__file__).parents[2] / "docs" / "pytorch.md").read_text(encoding="utf-8")
    rows = {cells[0]: cells for line in page.splitlines() if len(cells := line.strip("| ").split(" | ")) == 5}
    for kind in KINDS.values():
        _, question, measure, threshold, rule = rows[kind.name]
        assert (question, measure) == (kind.question, kind.measure)
        sign = Sign(1, kind.name, 0.0, kind.threshold, (), "", "")
        assert threshold.split()[0] == str(sign).partition("threshold ")[2].partition(";")[0]
        assert {rule} == {remedy.rule for remedy in kind.remedies}


def test_a_healthy_training_has_no_sign():
    assert names(watched([{"w": HEALTHY}] * 40)) == []


def test_oscillation_is_told_once_at_the_fourth_look_and_again_when_it_comes_back():
    bad, good = Reading(1.0, 1e-3, agreement=-0.9), Reading(1.0, 1e-3, agreement=0.5)
    run = [bad] * 6 + [good] * 12 + [bad] * 6
    watch = watched([{"w": r} for r in run], [r.agreement for r in run], Member("w"))
    assert [(s.name, s.step, s.rule) for s in watch.seen] == [("oscillation", 200, "R8"), ("oscillation", 1050, "R8")]
    assert watch.seen[0].value == pytest.approx(-0.9)
    assert "momentum or nag" in watch.seen[0].remedy
    assert watch.active == ["oscillation"]


def test_oscillation_in_spite_of_momentum_has_another_remedy():
    bad = Reading(1.0, 1e-3, agreement=-0.9)
    watch = watched([{"w": bad}] * 4, [-0.9] * 4, Member("w", history=True))
    assert "in spite of the momentum" in watch.seen[0].remedy


@pytest.mark.parametrize("agreements", [[-0.9, -0.9, None, -0.9], [-0.9, 0.3, -0.9, -0.2], [-0.9] * 3])
def test_no_oscillation_where_it_is_unknown_mixed_or_short(agreements: list[float | None]):
    assert names(watched([{"w": HEALTHY}] * len(agreements), agreements)) == []


def test_large_step_sustained_or_at_once():
    assert names(watched([{"w": Reading(1.0, 0.5)}] * 3)) == []
    assert names(watched([{"w": Reading(1.0, 0.5)}] * 4)) == ["large step"]
    assert names(watched([{"w": Reading(1.0, 5.0)}])) == ["large step"]


def test_a_tensor_that_starts_at_zero_takes_no_large_steps():
    # Adam's step is the lr, so the weights are its multiples: 1, 2, 4, 8, ... after as many steps.
    assert names(watched([{"w": Reading(1.0, ratio)} for ratio in (None, 1.0, 1 / 3, 1 / 7, 1 / 15)])) == []


def test_biases_are_not_judged_by_their_ratio():
    assert names(watched([{"b": Reading(1.0, 50.0)}] * 8, None, Member("b", weights=False))) == []


def test_small_step():
    small = Reading(1.0, 1e-7, lr=1e-5)
    watch = watched([{"w": small}] * 4)
    assert names(watch) == ["small step"]
    assert watch.seen[0].value == pytest.approx(1e-7)


def test_no_small_step_in_a_warm_up_an_annealed_end_or_a_finished_training():
    warming = [{"w": Reading(1.0, 1e-7, lr=1e-6 * i)} for i in range(1, 9)]
    annealed = [{"w": Reading(1.0, 1e-3, lr=1.0)}] * 4 + [{"w": Reading(1.0, 1e-7, lr=1e-4)}] * 8
    finished = [{"w": Reading(1.0, 1e-3, lr=1.0)}] * 4 + [{"w": Reading(1e-5, 1e-8, lr=1.0)}] * 8
    stopped = [{"w": Reading(1.0, 0.0, lr=0.0)}] * 8
    for looks in (warming, annealed, finished, stopped):
        assert names(watched(looks)) == []


def test_exhausted_rate():
    def adagrad(gradient: float, ratio: float) -> Watch:
        return watched([{"w": Reading(gradient if i > 3 else 1.0, ratio, rate=1.0 / i**1.5)} for i in range(1, 20)])

    watch = adagrad(0.9, 5e-4)
    assert names(watch) == ["exhausted rate"]
    assert watch.seen[0].rule == "R7"
    assert watch.seen[0].value <= watch.seen[0].threshold == 1 / 30
    assert names(adagrad(0.1, 5e-4)) == [], "small gradients: it converged"
    assert names(adagrad(0.9, 5e-3)) == [], "steps of a healthy size: nothing is exhausted"


def test_a_second_moment_is_stale_after_its_memory_where_gradients_have_settled():
    def after(looks: int, memory: float, falling: float = 1.0) -> Watch:
        first = [{"w": HEALTHY}] * 4
        late = [{"w": Reading(0.01 * falling**i, 1e-3, second=1e3)} for i in range(looks)]
        return watched(first + late, None, Member("w", adaptive=True, memory=memory))

    assert names(after(3, 100.0)) == ["stale second moment"]
    assert names(after(3, 1000.0)) == [], "not yet as long as beta2 remembers"
    assert names(after(21, 1000.0)) == ["stale second moment"]
    assert names(after(21, 1000.0, falling=0.8)) == [], "gradients that go on falling: it converges"


def test_a_second_moment_far_behind_is_stale_at_the_second_look():
    behind = {"w": Reading(100.0, 1e-3, second=0.02)}
    watch = watched([{"w": HEALTHY}] * 4 + [behind] * 2, None, Member("w", adaptive=True, memory=1000.0))
    assert names(watch) == ["stale second moment"]
    assert (watch.seen[0].value, watch.seen[0].threshold) == (0.02, 0.1)


def test_one_layer_of_many_with_a_stale_second_moment_is_no_sign():
    members = [Member(n, adaptive=True, memory=100.0) for n in "abc"]
    late = {"a": Reading(0.01, 1e-3, second=1e3), "b": HEALTHY, "c": HEALTHY}
    assert names(watched([late] * 8, None, *members)) == []


@pytest.mark.parametrize("bad", [Reading(math.nan, 1e-3), Reading(math.inf, 1e-3), Reading(1.0, math.inf)])
def test_what_is_not_finite_explodes(bad: Reading):
    watch = watched([{"v": HEALTHY, "w": HEALTHY}, {"v": HEALTHY, "w": bad}])
    assert names(watch) == ["exploding gradient"]
    assert watch.seen[0].parameters == ("w",)
    assert watch.seen[0].to_dict()["value"] is None, "JSON has no inf"


def test_exploding_by_orders_of_magnitude():
    assert names(watched([{"w": HEALTHY}] * 3 + [{"w": Reading(900.0, 1e-3)}])) == []
    assert names(watched([{"w": HEALTHY}] * 3 + [{"w": Reading(1100.0, 1e-3)}])) == ["exploding gradient"]


def test_vanishing_by_layer_and_everywhere():
    below = {"first": Reading(1e-7, 1e-3), "last": HEALTHY}
    watch = watched([below] * 6)
    assert names(watch) == ["vanishing gradient"]
    assert watch.seen[0].parameters == ("first",)
    assert names(watched([below] * 5)) == []
    assert names(watched([{"first": Reading(0.0), "last": Reading(0.0)}] * 6)) == ["vanishing gradient"]
    assert names(watched([{"first": Reading(1e-9, 1e-3), "last": Reading(1e-9, 1e-3)}] * 9)) == [], (
        "all small: converged"
    )


def test_a_sign_in_words():
    sign = Sign(1250, "large step", 0.7, 0.3, ("a", "b", "c", "d"), "R4", "lower the lr")
    text = str(sign)
    assert text.startswith("step 1,250: large step (update over weights, norms 0.7, threshold 0.3; a, b, c and 1 more)")
    assert text.endswith("R4: lower the lr")
