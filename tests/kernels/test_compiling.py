"""Compiled kernels: kept on disk, never stale, in SIMD, and in the arrays' own precision."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from optadvisor.kernels import RULES
from optadvisor.kernels.compiling import fingerprint

from .cases import CASES, Case

HELPER = """
SHIFT = 0.0

def scaled(g, lr):
    return lr * g * 1.0
"""
RULE = """
from helper import SHIFT, scaled

def update(p, g, lr):
    return (p - scaled(g, lr) - SHIFT,)

def coefficients(t, lr):
    return (lr,)
"""
# Prints the new parameter, and whether the kernel came from the disk.
STEP = """
import sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import numpy as np
import rule
from optadvisor.kernels.loops import sweep
from optadvisor.kernels.rules import Form

kernel = sweep(Form("trial", rule.update, rule.coefficients), np.float64).function
p, g = np.array([1.0]), np.array([0.5])
kernel(p, g, np.zeros((0, 16)), 0, 1, 0.5, ())
print(p[0], sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""


def python(code: str, *arguments: str, cache: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Trial:
    """A rule and its helper in two files, run in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.sources, self.cache = folder / "sources", folder / "cache"
        self.sources.mkdir()
        self.write("helper", HELPER)
        self.write("rule", RULE)

    def write(self, module: str, text: str) -> None:
        (self.sources / f"{module}.py").write_text(text, encoding="utf-8")

    def step(self) -> tuple[float, str]:
        value, hits, misses = python(STEP, str(self.sources), cache=self.cache).split()
        return float(value), {("1", "0"): "cached", ("0", "1"): "compiled"}[hits, misses]


def test_second_process_hits_and_edits_recompile(tmp_path: Path):
    trial = Trial(tmp_path)
    assert trial.step() == (0.75, "compiled")
    assert trial.step() == (0.75, "cached")

    trial.write("rule", RULE.replace("p - scaled", "p + scaled"))
    assert trial.step() == (1.25, "compiled")
    assert trial.step() == (1.25, "cached")

    trial.write("helper", HELPER.replace("1.0", "2.0"))  # a function that the rule calls
    assert trial.step() == (1.5, "compiled")

    trial.write("helper", HELPER.replace("SHIFT = 0.0", "SHIFT = 4.0"))  # a constant that it reads
    assert trial.step() == (-2.75, "compiled")

    trial.write("rule", RULE)
    trial.write("helper", HELPER)
    assert trial.step() == (0.75, "cached")  # the first one is still there


def test_a_comment_recompiles_nothing(tmp_path: Path):
    trial = Trial(tmp_path)
    trial.step()
    trial.write("rule", "# A word more.\n" + RULE)
    assert trial.step() == (0.75, "cached")


def test_unwritable_cache_folder_compiles_in_memory(tmp_path: Path):
    trial = Trial(tmp_path)
    trial.cache.write_text("a file, not a folder", encoding="utf-8")
    value = python(STEP, str(trial.sources), cache=trial.cache).split()[0]
    assert float(value) == 0.75
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "sources"]


GLOBAL = """
import numba.core.config as config
config.CACHE_DIR = before = "/the/caller/chose/this"
import numpy as np
from optadvisor.kernels import Optimizer
Optimizer("sgd", [np.zeros(3)]).step([np.ones(3)])
assert config.CACHE_DIR == before, config.CACHE_DIR
"""


def test_numbas_own_setting_is_left_alone(tmp_path: Path):
    python(GLOBAL, cache=tmp_path / "cache")
    assert any((tmp_path / "cache").rglob("*.nbi"))


def test_nothing_is_cached_beside_the_source():
    import optadvisor.kernels

    assert not list(Path(optadvisor.kernels.__file__).parent.rglob("*.nb[ic]"))


# Prints the optimised LLVM of the float32 kernels of all forms, compiled here: a cached kernel has none.
LLVM = """
import numpy as np
from optadvisor.kernels.loops import COLUMNS, sweep, table
from optadvisor.kernels.rules import RULES, Form
from tests.kernels.cases import CASES

def promoting(p, g, lr):
    return (p - 0.5 * g,)

def coefficients(t, lr):
    return (lr,)

def show(name, kernel, *arguments):
    kernel(*arguments)
    (text,) = kernel.inspect_llvm().values()
    print("\\f" + name + "\\n" + text)

forms = {form.name: form for form in (RULES[c.rule].form(c.complete, c.convention) for c in CASES)}
forms["promoting"] = Form("promoting", promoting, coefficients)
for form in forms.values():
    one = np.zeros(16, np.float32)
    states = np.zeros((len(form.states), 16), np.float32)
    show(form.name, sweep(form, np.float32).function, one, one, states, 0, 1, 0.1, (0.5,) * len(form.arguments))
none = np.zeros((0, COLUMNS), np.int64), np.zeros((0, 16), np.float32), np.ones(16), 0
show("table", table(forms["sgd"], np.float32).function, *none)
"""


@pytest.fixture(scope="module")
def llvm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    no_cache = tmp_path_factory.mktemp("llvm") / "file"
    no_cache.touch()
    pages = python(LLVM, cache=no_cache).split("\f")[1:]
    return dict(page.split("\n", 1) for page in pages)


def form_name(case: Case) -> str:
    return RULES[case.rule].form(case.complete, case.convention).name


FORMS = sorted({form_name(case) for case in CASES})


@pytest.mark.parametrize("form", FORMS)
def test_float32_is_never_promoted(llvm: dict[str, str], form: str):
    assert "fpext" not in llvm[form]


def test_promotion_would_be_seen(llvm: dict[str, str]):
    assert "fpext" in llvm["promoting"]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the vector width is checked on x86 only")
@pytest.mark.parametrize("form", FORMS)
def test_loop_over_elements_is_vectorised(llvm: dict[str, str], form: str):
    assert re.search(r"fmul <\d+ x float>", llvm[form])
    assert re.search(r"store <\d+ x float>", llvm[form])


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the vector width is checked on x86 only")
def test_search_for_nan_and_inf_is_vectorised(llvm: dict[str, str]):
    assert re.search(r"icmp (eq|ne) <\d+ x i32>", llvm["table"])


# Fingerprints


def constant(x):
    return x * 2.0


def other_constant(x):
    return x * 3.0


def calls(x):
    return constant(x)


def with_default(x, y=1.0):
    return x + y


def test_fingerprint_follows_code_calls_and_defaults():
    before = fingerprint(calls)
    assert fingerprint(calls) == before
    assert fingerprint(constant) != fingerprint(other_constant)
    defaults = fingerprint(with_default)
    globals()["constant"], kept = other_constant, constant
    try:
        assert fingerprint(calls) != before
    finally:
        globals()["constant"] = kept
    with_default.__defaults__, kept_defaults = (2.0,), with_default.__defaults__
    try:
        assert fingerprint(with_default) != defaults
    finally:
        with_default.__defaults__ = kept_defaults
