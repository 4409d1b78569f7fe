"""docs/advice.md and its pictures, from what `learn evaluate` found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optadvisor.advisor.learning.evaluate import KS, Report
from optadvisor.advisor.learning.judge import Estimate
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


def summary_rows(report: Report) -> list[tuple[str, str]]:
    """The measures of the list in words, with their figures."""
    families = report.families()
    answer, learned = report.lines["recommend"], report.lines["learned list"]

    def at(line: str, ks: Sequence[int]) -> str:
        return " / ".join(f"{report.lines[line].at(k, families).mean:.3f}" for k in ks)

    share = report.share_closed
    return [
        ("regret of the first config: recommend", str(answer.at(1, families))),
        ("regret of the first config: learned list", str(learned.at(1, families))),
        ("adamw's default", str(report.lines["always adamw"].at(1, families))),
        ("best of the first 2 / 4 / 8: recommend", at("recommend", (2, 4, 8))),
        ("best of the first 2 / 4 / 8: learned list", at("learned list", (2, 4, 8))),
        ("share of the default-config gap closed by choosing the rule", str(share)),
        (
            "wide random trials matched by 1 / 2 / 4 / 8 of ours",
            " / ".join(str(n or "more than 64") for n in report.matched.values()),
        ),
        (
            "DeepOBS left out: regret of 1 / 3 trials",
            f"{report.deepobs['recommend, DeepOBS left out'][0]:.3f} / {report.deepobs['recommend, DeepOBS left out'][2]:.3f}",
        ),
    ]
