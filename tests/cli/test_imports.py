"""A recommendation is cheap: nothing heavy is imported on its way."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numba", "llvmlite", "numpy", "scipy", "optuna", "sklearn", "torch", "sqlalchemy"}
SCRIPT = """
import sys
from optadvisor.cli.main import main
code = main(sys.argv[1:])
print(" ".join({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "args",
    [
        ("recommend", "--domain", "recsys", "--parameters", "1M", "--memory-limit", "6M"),
        ("recommend", "--domain", "vision", "--top", "20", "--format", "json"),
        ("explain", "adamw"),
        ("optimizers",),
        ("--help",),
        ("recommend", "--domain", "visoin"),
    ],
)
def test_no_heavy_import(args):
    ran = subprocess.run([sys.executable, "-c", SCRIPT, *args], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == (2 if "visoin" in args else 0)
    loaded = set(ran.stderr.splitlines()[-1].split())
    assert "optadvisor" in loaded
    assert not loaded & HEAVY
    assert "rich" not in loaded, "a pipe gets its text without rich"


def test_importing_the_package_imports_next_to_nothing():
    script = "import optadvisor, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert not {name.split(".")[0] for name in loaded.split()} & (HEAVY | {"click", "rich"})
    assert "optadvisor.advisor" not in loaded.split()


def test_the_library_advises_without_heavy_imports():
    script = "import optadvisor as oa, sys; oa.recommend(oa.TaskProfile(domain='rl')); print(' '.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert not {name.split(".")[0] for name in loaded.split()} & HEAVY
