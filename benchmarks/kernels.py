"""The kernels against PyTorch, optax and the machine's memory limit, judged: the rows of docs/performance.md.

    python benchmarks/kernels.py [--markdown FILE] [--picture FILE.png]

Everything is measured by optadvisor.bench, both sides of a row in one run; `optadvisor bench` prints the same rows
without judging. Takes about five minutes and 8 GB of memory.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numba
import numpy as np

from optadvisor import bench


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


def verdict(row: bench.Row) -> str:
    if row.passed is None:
        return ""
    return f"{'PASS' if row.passed else 'FAIL'} (at least {row.wanted:.2f}x)"


def markdown(rows: list[bench.Row], machine: str) -> str:
    lines = [f"One thread; {machine}. Medians of one run.", ""]
    lines += ["| work | against | ours, us | peer, us | ratio | GB/s | asked for |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        speed = "" if row.gb_per_s is None else f"{row.gb_per_s:.1f}"
        lines.append(
            f"| {row.work} | {row.peer} | {row.ours_us:.2f} | {row.peer_us:.2f} | {row.ratio:.2f}x | {speed} "
            f"| {verdict(row)} |"
        )
    return "\n".join(lines) + "\n"


def picture(rows: list[bench.Row], path: Path, machine: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), constrained_layout=True)
    for rule in bench.TORCH:
        of_rule = [
            r for r in rows if r.peer == "torch fused" and r.work.startswith(f"{rule}, ") and "float32" in r.work
        ]
        sizes = [float(r.work.split(", ")[1].split()[0]) for r in of_rule]
        axes.plot(sizes, [r.ratio for r in of_rule], marker="o", label=rule)
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="float32 elements", ylabel="times as fast as torch fused=True")
    axes.set_title(f"One step, one thread, {machine}", fontsize=9)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out what needs gigabytes")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--picture", type=Path, help="write a PNG here (needs matplotlib)")
    arguments = parser.parse_args()
    versions = [f"numba {numba.__version__}", f"numpy {np.__version__}"]
    if bench.installed("torch"):
        import torch

        versions.append(f"torch {torch.__version__}")
    machine = f"{processor()}, {', '.join(versions)}"
    rows = []
    for row in bench.rows(arguments.quick):
        rows.append(row)
        times = f"{row.ours_us:>10.2f} {row.peer_us:>10.2f} us {row.ratio:>7.2f}x"
        print(f"{row.work:<38} {row.peer:<36} {times}  {verdict(row)}")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(rows, machine), encoding="utf-8")
    if arguments.picture:
        picture(rows, arguments.picture, machine)
    judged = [row for row in rows if row.passed is not None]
    failed = [row for row in judged if not row.passed]
    print(f"{len(judged) - len(failed)} of {len(judged)} rows reach what was asked for")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
