"""The judgement of the advice: nothing of a family is used to judge it, the figures by hand, the page, the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optadvisor.advisor import knowledge as keeping
from optadvisor.advisor import lists, recommend
from optadvisor.advisor.arrays import read_npz
from optadvisor.advisor.features import Scales
from optadvisor.advisor.learning import classifiers, dataset, evaluate, fit, page
from optadvisor.advisor.learning.dataset import Dataset
from optadvisor.advisor.learning.evaluate import KS, Line, Report
from optadvisor.advisor.learning.judge import Judge
from optadvisor.cli.main import main
from optadvisor.kernels.errors import InputError
from optadvisor.studies.outcomes import Table
from optadvisor.studies.tasks.builtin import BuiltinTask


@pytest.fixture(scope="module")
def changed(planted: Dataset) -> Dataset:
    """The first family does the opposite of what it did: what was best is worst."""
    regrets = planted.regrets.copy()
    regrets[:3] = 1.0 - regrets[:3]
    return replace(planted, regrets=regrets, values=regrets)


def test_the_list_for_a_family_does_not_see_its_outcomes(planted: Dataset, changed: Dataset):
    own, other = planted.profiles[0], planted.profiles[9]  # of the same domain, in another family
    before, after = (fit.rows_only(data, Scales()).without("family-0") for data in (planted, changed))
    assert before == replace(after, notes=before.notes)
    assert lists.ordered(before, own, 16) == lists.ordered(after, own, 16)
    assert recommend(own, 8, before).recommendations == recommend(own, 8, after).recommendations
    seen = [lists.ordered(fit.rows_only(data, Scales()).without("family-3"), other, 16) for data in (planted, changed)]
    assert seen[0] != seen[1], "another family's list does see them"


def test_chances_for_a_family_do_not_see_its_outcomes(planted: Dataset, changed: Dataset):
    found = [
        classifiers.compare(data, [classifiers.SHIPPED]).predictions[classifiers.SHIPPED] for data in (planted, changed)
    ]
    own, others = (
        [[e["chance"] for e in one if (e["family"] == "family-0") is mine] for one in found] for mine in (True, False)
    )
    assert own[0] == own[1]
    assert others[0] != others[1]


def test_the_best_constant_rule_is_that_of_the_other_families(planted: Dataset):
    means = {"sgd": np.full((18, 5), 0.3), "adam": np.full((18, 5), 0.35)}
    means["sgd"][:3] = 0.0
    means["adam"][3:6] = 0.0
    assert evaluate._best_constant(planted, means, 0) == "adam"
    assert evaluate._best_constant(planted, means, 4) == "sgd"


def test_trials_that_are_matched(planted: Dataset):
    report, ones = Report(planted), np.ones((18, 1))
    wide = np.array([0.9, 0.7, 0.5, 0.45, 0.4, 0.3, 0.25, 0.2, 0.15, 0.12, 0.1])
    report.lines["random search, wide"] = Line("", evaluate.RANDOM_KS, ones * wide)
    report.lines["recommend"] = Line("", KS, ones * np.array([0.5, 0.42, 0.2, 0.05, 0.0]))
    assert evaluate._matched(report, "recommend") == {1: 4, 2: 8, 4: 24, 8: None}


def test_a_ratio_is_of_means_over_families():
    above, below = np.array([1.0, 1.0, 1.0, 4.0]), np.array([2.0, 2.0, 2.0, 8.0])
    assert evaluate._ratio(above, below, ["a", "a", "a", "b"]) == pytest.approx((0.5, 0.5, 0.5))
    found = evaluate._ratio(np.array([1.0, 0.0]), np.array([1.0, 1.0]), ["a", "b"])
    assert found == pytest.approx((0.5, 0.0, 1.0))


def test_one_seed_leaves_nothing_to_score_on(planted: Dataset):
    one = replace(planted, sheet=replace(planted.sheet, seeds=1), regrets=planted.regrets[..., :1])
    with pytest.raises(InputError, match="--seeds 2"):
        evaluate.evaluate(one, Judge(planted))


def test_a_search_from_scratch_is_repeatable_and_ends_low(table: Table):
    data = dataset.read(table)
    i = data.names.index("wine-softmax:steps=100")
    first, again = (evaluate.tpe(Judge(data), i, (1, 4, 16)) for _ in range(2))
    assert first == again
    assert len(first) == 3
    assert all(-1 <= regret <= 1 for regret in first)


# The page --------------------------------------------------------------------------------------------------------------

PAGE = "# Advice\n<!-- one -->\nold\nold\n<!-- end of one -->\nbetween\n<!-- two --><!-- end of two -->\nend\n"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[Report], str]]:
    made: dict[str, Callable[[Report], str]] = {"one": lambda report: "| 1 |", "two": lambda report: "| 2 |"}
    monkeypatch.setattr(page, "TABLES", made)
    return made


def test_tables_go_between_their_marks(planted: Dataset, tables, tmp_path: Path):
    path = tmp_path / "advice.md"
    path.write_text(PAGE, encoding="utf-8")
    page.fill(Report(planted), path)
    filled = (
        "# Advice\n<!-- one -->\n| 1 |\n<!-- end of one -->\nbetween\n<!-- two -->\n| 2 |\n<!-- end of two -->\nend\n"
    )
    assert path.read_text(encoding="utf-8") == filled
    page.fill(Report(planted), path)
    assert path.read_text(encoding="utf-8") == filled, "filling again changes nothing"
    tables["two"] = lambda report: "| 3 |"
    page.fill(Report(planted), path)
    assert path.read_text(encoding="utf-8") == filled.replace("| 2 |", "| 3 |")


@pytest.mark.parametrize("mark", ["<!-- one -->", "<!-- end of one -->", "<!-- two -->", "<!-- end of two -->"])
def test_a_page_without_a_mark_is_refused_and_left_as_it_is(planted: Dataset, tables, tmp_path: Path, mark: str):
    path = tmp_path / "advice.md"
    path.write_text(PAGE.replace(mark, ""), encoding="utf-8")
    with pytest.raises(
        InputError, match=rf"{mark.removeprefix('<!-- end of ').removeprefix('<!-- ')[:3]}.*it takes the lines"
    ):
        page.fill(Report(planted), path)
    assert path.read_text(encoding="utf-8") == PAGE.replace(mark, "")


def test_a_table_that_fails_leaves_the_page_as_it_is(planted: Dataset, tables, tmp_path: Path):
    def fails(report: Report) -> str:
        raise KeyError("two")

    tables["two"] = fails
    path = tmp_path / "advice.md"
    path.write_text(PAGE, encoding="utf-8")
    with pytest.raises(KeyError):
        page.fill(Report(planted), path)
    assert path.read_text(encoding="utf-8") == PAGE


def test_bins_of_confidence(planted: Dataset):
    report = Report(planted)
    report.confidence = [("a", "sgd", 0.25, True), ("b", "sgd", 0.29, False), ("c", "sgd", 0.99, True)]
    assert page.calibration(report) == [(pytest.approx(0.27), 0.5, 2), (0.99, 1.0, 1)]


# The commands ----------------------------------------------------------------------------------------------------------


def test_from_a_table_to_knowledge_and_a_page(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    out, advice = tmp_path / "knowledge.npz", tmp_path / "advice.md"
    assert main(["learn", "fit", "--folder", str(table.folder), "--out", str(out)]) == 0
    # 4 tasks of ours and the 8 of DeepOBS
    assert f"{out}: 12 tasks, 280 configs" in capsys.readouterr().out
    with out.open("rb") as file:
        learned = keeping.from_arrays(read_npz(file))
    assert learned.rows == fit.knowledge(dataset.read(table)).rows

    marks = [f"<!-- {name} -->\n<!-- end of {name} -->" for name in page.TABLES]
    advice.write_text("\n\n".join(marks), encoding="utf-8")
    asked = ["learn", "evaluate", "--folder", str(table.folder), "--page", str(advice), "--format", "json"]
    assert main([*asked, "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    figures = json.loads(printed.out)
    assert (figures["tasks"], figures["families"]) == (4, 3)
    assert set(figures["lists"]) == set(page.ORDER)
    for line in figures["lists"].values():
        for found in line.values():
            assert -1 <= found["low"] <= found["mean"] <= found["high"] <= 1
    wide = figures["lists"]["random search, wide"]
    assert wide["64"]["mean"] < wide["1"]["mean"]
    assert [len(found) for found in figures["deepobs"].values()] == [3, 3]
    text = advice.read_text(encoding="utf-8")
    for name in page.TABLES:
        between = text.split(f"<!-- {name} -->")[1].split(f"<!-- end of {name} -->")[0]
        assert between.count("\n|") >= 3, name
        assert "nan" not in between, name

    # What was trained is kept beside the table: the second time only the search from scratch trains.
    kept = json.loads((table.folder / "trained.json").read_text(encoding="utf-8"))
    assert kept
    monkeypatch.setattr(evaluate, "tpe", lambda judge, i, ks: [0.5] * len(ks))
    monkeypatch.setattr(BuiltinTask, "train", lambda *more: pytest.fail("trained again"))
    assert main(asked) == 0
    again = capsys.readouterr()
    assert "DeepOBS" in again.err
    same = json.loads(again.out)["lists"]
    assert {name: line for name, line in same.items() if name != "TPE from scratch"} == {
        name: line for name, line in figures["lists"].items() if name != "TPE from scratch"
    }


def test_what_cannot_be_learned_from_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for arguments in (["fit", "--out", str(tmp_path / "k.npz")], ["evaluate"]):
        assert main(["learn", *arguments, "--folder", str(tmp_path / "none")]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "optadvisor learn build" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "k.npz").exists()
