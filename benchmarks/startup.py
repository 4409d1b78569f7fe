"""`optadvisor recommend` from a cold process against `python -c "import click, numpy"`: at most 1.5 times as long.

Runs the installed console script, so that it times what a person types. The processes alternate, so that a change of
the machine's speed meets all of them; the medians are compared.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 1.5
HEAVY = ("numba", "optuna", "sklearn", "scipy", "torch")
SCRIPT = Path(sys.executable).with_name("optadvisor.exe" if os.name == "nt" else "optadvisor")
PROFILE = ["recommend", "--domain", "language", "--architecture", "transformer", "--parameters", "124M"]
COMMANDS = {
    "import click, numpy": [sys.executable, "-c", "import click, numpy"],
    "recommend, text": [str(SCRIPT), *PROFILE],
    "recommend, json": [str(SCRIPT), *PROFILE, "--format", "json"],
}
BASE = "import click, numpy"
# An installed package has its bytecode; where this is set, a checkout would be compiled anew by every process.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def milliseconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=ENVIRONMENT)
    return 1000 * (time.perf_counter() - began)


def heavy_imports(arguments: list[str]) -> list[str]:
    """Which of the heavy packages the command imports."""
    code = (
        "import sys, json; from optadvisor.cli.main import main; main(sys.argv[1:]); "
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(ran.stderr.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=25, help="of each command (25)")
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for command in COMMANDS.values():  # bytecode and the page cache
        milliseconds(command)
    for _ in range(runs):
        for name, command in COMMANDS.items():
            times[name].append(milliseconds(command))
    medians = {name: statistics.median(found) for name, found in times.items()}
    passed = True
    for name, median in medians.items():
        quarter, _, three = statistics.quantiles(times[name], n=4)
        line = f"{name:<20} {median:6.0f} ms  (middle half {quarter:.0f} to {three:.0f}, {runs} runs)"
        if name != BASE:
            ratio = median / medians[BASE]
            good = ratio <= LIMIT
            passed &= good
            line += f"  {ratio:.2f}x, at most {LIMIT}: {'PASS' if good else 'FAIL'}"
        print(line)
    for output in ("text", "json"):
        found = heavy_imports([*PROFILE, "--format", output])
        passed &= not found
        print(f"recommend --format {output} imports none of {', '.join(HEAVY)}: {found or 'PASS'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
