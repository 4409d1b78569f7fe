"""Runs the commands that a page names in its markers, <!-- python examples/X.py ... --> ... <!-- end -->, and fills them.

python examples/all.py docs/examples.md                 # all of them
python examples/all.py docs/examples.md --only cartpole # those with this word in the command
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(
    r"(?P<head><!-- (?P<command>python \S+\.py.*?|machine|summary) -->\n)(?P<text>.*?)(?P<end><!-- end -->)", re.DOTALL
)


def ran(command):
    """What a command printed, below the command itself, and how long it took."""
    print(command, file=sys.stderr)
    began, busy = time.perf_counter(), os.times().children_user
    words = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    seconds, busy = time.perf_counter() - began, os.times().children_user - busy
    took = f"The whole run: {seconds:.0f} s, of which the processor worked {busy:.0f} s."
    return f"    {command}\n\n{done.stdout.strip()} {took}"


def machine():
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy", "optuna"))
    cores = f"{os.cpu_count()} cores ({platform.machine()}), one used"
    return f"{cores}, load {os.getloadavg()[0]:.1f} before; Python {platform.python_version()}, {versions}."


def summary(page):
    """What the tables of a page say of the advised and the tuned row, a line a command."""
    lines = ["| command | difference of the advised config | of the tuned one |", "|---|---|---|"]
    for match in PLACE.finditer(page):
        rows = [
            row.strip("| ").split("|") for row in match["text"].splitlines() if row.startswith(("| advised", "| tuned"))
        ]
        if rows:
            lines.append(f"| `{match['command']}` | {' | '.join(row[-1].strip() for row in rows)} |")
    return "\n".join(lines)


def filled(page, text_of):
    """The page with text_of(command) in each place; None leaves a place as it is."""

    def place(match):
        text = text_of(match["command"])
        return match[0] if text is None else f"{match['head']}\n{text}\n\n{match['end']}"

    return PLACE.sub(place, page)


def main():
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("page", type=Path, help="the page to fill")
    parser.add_argument("--only", default="", help="run the commands with this text in them only")
    asked = parser.parse_args()
    if not asked.page.is_file():
        sys.exit(f"there is no page {asked.page}")
    commands = [match["command"] for match in PLACE.finditer(asked.page.read_text(encoding="utf-8"))]
    wanted = [command for command in commands if asked.only in command and command != "summary"]
    if not wanted:
        sys.exit(f"{asked.page} has no place <!-- python ...{asked.only}... --> ... <!-- end -->")
    texts = {command: machine() if command == "machine" else ran(command) for command in wanted}
    page = asked.page.read_text(encoding="utf-8")  # read again: somebody may have edited it meanwhile
    page = filled(page, texts.get)
    asked.page.write_text(filled(page, {"summary": summary(page)}.get), encoding="utf-8")


if __name__ == "__main__":
    main()
