"""docs/advice.md and its pictures, from what `learn evaluate` found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.advisor.learning import classifiers
from optadvisor.advisor.learning.evaluate import KS, Report
from optadvisor.advisor.learning.judge import Estimate
from optadvisor.files import write_whole
from optadvisor.kernels.errors import InputError

# The order of the lines in tables and pictures; the first ones are ours.
ORDER = (
    "recommend",
    "recommend, 1 trial said",
    "learned list",
    "guide alone",
    "always adamw",
    "always adam",
    "best constant rule",
    "library defaults",
    "random search, wide",
    "random search, learned range",
    "TPE from scratch",
)
BINS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)


def lists_table(report: Report) -> str:
    """Regret of the best of the first k, for every way to choose configs."""
    lines = [f"| regret of the best of the first | {' | '.join(map(str, KS))} |", "|---" * (len(KS) + 1) + "|"]
    for name in ORDER:
        line = report.lines[name]
        cells = [_cell(line.at(k, report.families())) if k in line.ks else "-" for k in KS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def defaults_table(report: Report) -> str:
    """The libraries' default configs."""
    rows = sorted(report.defaults.items(), key=lambda item: item[1].mean)
    return "\n".join(
        ["| library default | regret |", "|---|---|", *(f"| {rule} | {_cell(found)} |" for rule, found in rows)]
    )


def families_table(report: Report) -> str:
    """Per family, held out: the answer, the list, and AdamW's default."""
    families = np.array(report.families())
    rows = [
        "| family held out | tasks | recommend, 1 / 4 | learned list, 1 / 4 | adamw default |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(set(families)):
        mine = families == name

        def mean(line: str, k: int, mine: NDArray[np.bool_] = mine) -> str:
            found = report.lines[line]
            return f"{found.regrets[mine, found.ks.index(k)].mean():.2f}"

        rows.append(
            f"| {name} | {mine.sum()} | {mean('recommend', 1)} / {mean('recommend', 4)} | "
            f"{mean('learned list', 1)} / {mean('learned list', 4)} | {mean('always adamw', 1)} |"
        )
    return "\n".join(rows)


def deepobs_table(report: Report) -> str:
    """Advice on DeepOBS that knows nothing of DeepOBS."""
    rows = ["| DeepOBS, mean of 8 tasks | 1 trial | 2 | 3 |", "|---|---|---|---|"]
    rows += [f"| {name} | {' | '.join(f'{v:.3f}' for v in found)} |" for name, found in report.deepobs.items()]
    rows += [f"| {name} | {' | '.join(f'{v:.3f}' for v in found)} |" for name, found in report.deepobs_tasks.items()]
    return "\n".join(rows)


def calibration(report: Report) -> list[tuple[float, float, int]]:
    """(mean confidence, share within noise of the best, how many) in bins of the confidence."""
    found = []
    values = np.array([p for _, _, p, _ in report.confidence])
    level = np.array([ok for _, _, _, ok in report.confidence])
    for low, high in zip(BINS, BINS[1:], strict=False):
        mine = (values >= low) & (values < high)
        if mine.any():
            found.append((float(values[mine].mean()), float(level[mine].mean()), int(mine.sum())))
    return found


def calibration_table(report: Report) -> str:
    rows = ["| confidence said | within noise of the best | answers |", "|---|---|---|"]
    rows += [f"| {said:.2f} | {true:.2f} | {n} |" for said, true, n in calibration(report)]
    return "\n".join(rows)


def pictures(report: Report, folder: Path) -> list[Path]:
    """Regret against trials, and confidence against what came true, as PNG files."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise InputError("pictures need matplotlib: pip install matplotlib, or leave out --pictures") from None
    mpl.use("Agg")
    from matplotlib import pyplot

    first, second = folder / "advice-regret.png", folder / "advice-calibration.png"
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name in ORDER:
        line = report.lines[name]
        means = [line.at(k, report.families()) for k in line.ks]
        ours = name in ORDER[:3]
        (drawn,) = axes.plot(line.ks, [m.mean for m in means], "o-" if ours else ".--", label=name)
        if ours:
            axes.fill_between(
                line.ks, [m.low for m in means], [m.high for m in means], alpha=0.15, color=drawn.get_color()
            )
    axes.set_xscale("log", base=2)
    axes.set_xlabel("trials")
    axes.set_ylabel("regret: 0 the best known, 1 a random config")
    axes.set_ylim(0, 1)
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(first, dpi=110)
    pyplot.close(figure)
    figure, axes = pyplot.subplots(figsize=(4.5, 4.5))
    points = calibration(report)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    axes.scatter([p[0] for p in points], [p[1] for p in points], s=[10 + p[2] / 2 for p in points])
    axes.set_xlabel("confidence said")
    axes.set_ylabel("share within noise of the best")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    figure.tight_layout()
    figure.savefig(second, dpi=110)
    pyplot.close(figure)
    return [first, second]


def _cell(found: Estimate) -> str:
    return f"{found.mean:.3f} ({found.low:.2f}-{found.high:.2f})"


def summary_table(report: Report) -> str:
    """What the issue of the learned advice asks for, with what came out."""
    families = report.families()

    def at(line: str, ks: Sequence[int]) -> str:
        return " / ".join(f"{report.lines[line].at(k, families).mean:.3f}" for k in ks)

    out = report.deepobs["recommend, DeepOBS left out"]
    rates = {row.rule: row.ladder.mean for row in report.rates}
    rows = [
        ("regret of the first config", at("recommend", (1,)), at("learned list", (1,)), ".35", ".27"),
        (
            "best of the first 2 / 4 / 8",
            at("recommend", (2, 4, 8)),
            at("learned list", (2, 4, 8)),
            ".24 / .22 / .18",
            ".18 / .15 / .13",
        ),
        (
            "share of the default-config gap closed at k=1",
            f"{report.closed['recommend'].mean:.2f}",
            f"{report.closed['learned list'].mean:.2f}",
            ".45",
            ".65",
        ),
        (
            "wide random trials matched by 4",
            str(report.matched[4] or "more than 64"),
            str(report.list_matched[4] or "more than 64"),
            "12",
            "32",
        ),
        (
            "excess regret of the lr after the range test, adamw / momentum",
            f"{rates['adamw']:.3f} / {rates['momentum']:.3f}",
            "",
            ".14 / .16",
            ".08",
        ),
        (
            "lowest Brier skill of the classifier over base rates at any budget",
            f"{_skills(report)[0]:+.3f}",
            "",
            "not negative",
            "positive",
        ),
        ("DeepOBS left out: regret of 1 / 3 trials", f"{out[0]:.3f} / {out[2]:.3f}", "", ".22 / .12", ".15 / .08"),
    ]
    head = ["| measure | recommend | learned list alone | required | aim |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def closed_table(report: Report) -> str:
    """How much of the gap between the best constant rule and the best rule, at the libraries' defaults, is closed."""
    rows = ["| of the default-config gap, closed by | share |", "|---|---|"]
    return "\n".join([*rows, *(f"| {name} | {_cell(found)} |" for name, found in report.closed.items())])


def _skills(report: Report) -> list[float]:
    """The Brier skill of the shipped classifier at each budget, the lowest first: 0 where it ships the base rates."""
    assert report.classifiers
    found = [
        row["skill"].mean if row["skill"].low > 0 else 0.0
        for row in report.classifiers.rows
        if row["model"] == classifiers.SHIPPED and row["profile"] == "whole" and row["budget"] != "all"
    ]
    return sorted(found)


def classifier_table(report: Report) -> str:
    """The models compared, every figure on families left out."""
    assert report.classifiers
    rows = [
        "| model | profile | trials | regret of its rule | less base rates' | Brier skill |",
        "|---|---|---|---|---|---|",
    ]
    for row in report.classifiers.rows:
        rows.append(
            f"| {row['model']} | {row['profile']} | {row['budget']} | {row['regret'].mean:.3f} | "
            f"{_signed(row['over base'])} | {_signed(row['skill'])} |"
        )
    return "\n".join(rows)


def rates_table(report: Report) -> str:
    """Excess regret of learning rates, and the coverage of their intervals."""
    rows = [
        "| rule | tasks | best constant | fixed back-off | profile alone | range test, 8 rates | 16 rates | 80% intervals hold |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report.rates:
        before = [f"{m.mean:.3f}" for m in (row.constant, row.back_off, row.profile)]
        covers = " / ".join(f"{share:.0%}" for share in row.covers)
        cells = [row.rule, str(row.tasks), *before, _cell(row.ladder), f"{row.ladder_16.mean:.3f}", covers]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def weights_table(report: Report) -> str:
    """Which settings of the weights were chosen, by how many families' held-out choice."""
    counted: dict[str, int] = {}
    for scales in report.chosen.values():
        words = ", ".join(f"{name} {value:g}" for name, value in vars(scales).items())
        counted[words] = counted.get(words, 0) + 1
    rows = ["| chosen without the family's own scores | families |", "|---|---|"]
    return "\n".join([*rows, *(f"| {words} | {n} |" for words, n in sorted(counted.items(), key=lambda c: -c[1]))])


def _signed(found: Estimate) -> str:
    return f"{found.mean:+.3f} ({found.low:+.2f} to {found.high:+.2f})"


TABLES = {
    "summary": summary_table,
    "lists": lists_table,
    "closed": closed_table,
    "defaults": defaults_table,
    "classifier": classifier_table,
    "rates": rates_table,
    "deepobs": deepobs_table,
    "calibration": calibration_table,
    "weights": weights_table,
    "families": families_table,
}


def text(report: Report) -> str:
    """Every table, one after the other."""
    return "\n\n".join(make(report) for make in TABLES.values())


def fill(report: Report, path: Path) -> None:
    """Put every table between its marks in a page: <!-- lists --> and <!-- end of lists -->."""
    page = path.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if first not in page or last not in page:
            raise InputError(f"{path} has no place for the table {name!r}: it takes the lines {first} and {last}")
        head, rest = page.split(first, 1)
        page = f"{head}{first}\n{make(report)}\n{last}{rest.split(last, 1)[1]}"
    write_whole(path, page)


def to_dict(report: Report) -> dict[str, Any]:
    """The figures as JSON data."""
    families = report.families()
    return {
        "tasks": len(report.data),
        "families": len(set(families)),
        "lists": {name: {k: line.at(k, families)._asdict() for k in line.ks} for name, line in report.lines.items()},
        "share_closed": {name: found._asdict() for name, found in report.closed.items()},
        "random_trials_matched": {"recommend": report.matched, "learned list": report.list_matched},
        "deepobs": report.deepobs,
        "deepobs_tasks": report.deepobs_tasks,
        "calibration": [{"confidence": a, "level": b, "answers": n} for a, b, n in calibration(report)],
        "rates": {row.rule: {"excess": list(row.ladder), "covers": list(row.covers)} for row in report.rates},
        "classifier_skill": _skills(report),
    }
