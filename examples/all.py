"""Runs the four examples and writes their tables into a page, between its markers: <!-- NAME --> ... <!-- end -->.

python examples/all.py --markdown docs/examples.md
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES = ("digits_convnet", "character_transformer", "recommender", "cartpole")


def ran(name, more):
    """What an example printed, under the command and how long it took."""
    command = [f"examples/{name}.py", *more]
    began, busy = time.perf_counter(), os.times().children_user
    print("python", *command, file=sys.stderr)
    done = subprocess.run([sys.executable, *command], cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True)
    seconds, busy = time.perf_counter() - began, os.times().children_user - busy
    return (
        f"    python {' '.join(command)}\n\n{done.stdout.strip()} "
        f"The whole run: {seconds:.0f} s, of which the processor worked {busy:.0f} s."
    )


def machine():
    names = ("torch", "numpy", "optuna")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    cores = f"{os.cpu_count()} cores ({platform.machine()}), one used"
    return f"{cores}, load {os.getloadavg()[0]:.1f} before; Python {platform.python_version()}, {versions}."


def filled(page, name, text):
    """The page with the text between the markers of a name."""
    place = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    found, count = re.subn(place, lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page, flags=re.DOTALL)
    if count != 1:
        sys.exit(f"the page has {count} places <!-- {name} --> ... <!-- end -->; it needs one")
    return found


def main():
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="the page that is filled; without it the tables are printed")
    parser.add_argument("--only", choices=EXAMPLES, nargs="+", default=EXAMPLES)
    asked, more = parser.parse_known_args()  # --seeds and --trials go to the examples
    if asked.markdown and not asked.markdown.is_file():
        sys.exit(f"there is no page {asked.markdown}")
    texts = {"machine": machine()}
    for name in asked.only:
        texts[name] = ran(name, more)
    if not asked.markdown:
        print("\n\n".join(texts.values()))
        return
    page = asked.markdown.read_text(encoding="utf-8")  # not earlier: somebody may have edited it meanwhile
    for name, text in texts.items():
        page = filled(page, name, text)
    asked.markdown.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
