"""The session of docs/quickstart.md, run anew: an empty environment, the wheel, before.py, the advice, after.py.

python examples/quickstart/session.py dist/optadvisor-0.1.0-py3-none-any.whl docs/quickstart.md
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
ASK = "optadvisor recommend --torch before.py:make_model --domain vision --batch-size 32 --samples 1400 --epochs 10"


def ran(folder, *words):
    """What a command printed in the folder, and its seconds."""
    began = time.perf_counter()
    env = {**os.environ, "OPTADVISOR_HOME": str(folder / "home"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    env["PATH"] = f"{folder / 'venv' / 'bin'}{os.pathsep}{env['PATH']}"
    done = subprocess.run(words, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout, time.perf_counter() - began


def session(wheel):
    """What stands in each place of the page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("before.py", "after.py"):
            shutil.copy(HERE / file, folder)
        _, made = ran(folder, sys.executable, "-m", "venv", "venv")
        _, peers = ran(folder, "pip", "install", "--quiet", "torch==2.13.0", "scikit-learn")
        _, ours = ran(folder, "pip", "install", "--quiet", str(wheel))
        before, trained = ran(folder, "python", "before.py")
        advice, asked = ran(folder, *ASK.split())
        after, tuned = ran(folder, "python", "after.py")
    lines = [(HERE / file).read_text(encoding="utf-8").splitlines() for file in ("before.py", "after.py")]
    diff = list(difflib.unified_diff(*lines, "before.py", "after.py", n=0, lineterm=""))
    changed = sum(line.startswith("+") for line in diff[2:])
    total = made + peers + ours + trained + asked + tuned
    shown = advice[advice.index("Start with") : advice.index("\nWhat it does")].rstrip() + "\n..."
    return {
        "result": f"{changed} lines new or changed, {total:.0f} s from an empty environment to the end of the tuned run; on the "
        f"test images, in this one run, {last(before)} before and {last(after)} after.",
        "install": console(
            "python3 -m venv venv && . venv/bin/activate",
            "pip install torch==2.13.0 scikit-learn",
            f"pip install {wheel.name}",
        ).replace("\n```", f"\n\n{made + peers:.0f} s for the script's own packages, {ours:.0f} s for ours\n```"),
        "before": shell("python before.py", before, trained),
        "ask": shell(ASK, shown, asked),
        "diff": "```diff\n" + "\n".join(diff) + "\n```",
        "after": shell("python after.py", after, tuned),
    }


def last(output):
    return output.strip().splitlines()[-1].partition(": ")[2]


def console(*commands):
    return "```console\n" + "\n".join(f"$ {command}" for command in commands) + "\n```"


def shell(command, output, seconds):
    return f"```console\n$ {command}\n{output.strip()}\n```\n\nTook {seconds:.0f} s."


def main():
    wheel, page = (Path(word).resolve() for word in sys.argv[1:3])
    texts = session(wheel)
    text = page.read_text(encoding="utf-8")
    page.write_text(PLACE.sub(lambda m: f"{m[1]}\n{texts[m[2]]}\n\n{m[3]}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
