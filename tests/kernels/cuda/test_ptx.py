"""Every kernel compiled for real devices, without one: PTX for each generation, and machine code from it."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import numpy as np
import pytest

from optadvisor.kernels import RULES
from optadvisor.kernels.cuda.arrays import BFLOAT16, arithmetic
from optadvisor.kernels.rules import Form, flatten

from .places import GPU_CASES, INSTALLED, SIMULATED

pytestmark = [
    pytest.mark.skipif(not INSTALLED, reason="numba-cuda is not installed: make test-cuda"),
    pytest.mark.skipif(SIMULATED, reason="the simulator compiles nothing"),
]

CAPABILITIES = [(7, 5), (8, 0), (9, 0), (10, 0)]  # Turing, Ampere, Hopper, Blackwell


@functools.cache
def forms() -> dict[str, tuple[Form, int]]:
    """Every form of every rule, with the number of its coefficients."""
    found = {}
    for case in GPU_CASES:
        form = RULES[case.rule].form(case.complete, case.convention)
        values = flatten(case.complete)
        found[form.name] = form, len(form.coefficients(1, 0.1, *(values[name] for name in form.arguments)))
    return found


def elementwise(kind: str, form: str, dtype: Any, gradient: Any = None) -> Any:
    from optadvisor.kernels.cuda import loops

    make = {"flat": loops.flat, "table": loops.table}[kind]
    rule, coefficients = forms()[form]
    return make(rule, dtype, coefficients, gradient)


def doubles(ptx: str) -> list[str]:
    """Lines with an operation or a parameter in float64."""
    return [line.strip() for line in ptx.splitlines() if ".f64" in line]


def check_code(kernel: Any, capability: tuple[int, int]) -> None:
    ptx = kernel.ptx(capability)
    assert ".target sm_{}{}".format(*capability) in ptx
    assert not re.search(r"\.extern|call\s", ptx), "something was not inlined"
    assert not re.search(r"\.local", ptx), "something is kept in memory of the thread instead of registers"
    assert kernel.cubin(capability)[:4] == b"\x7fELF"
    assert kernel.entry(capability).encode() in kernel.cubin(capability)


NATIVE = [(np.float32, None), (np.float64, None)]
HALF = [(np.float16, None), (BFLOAT16, None), (np.float32, BFLOAT16), (BFLOAT16, np.float32)]
SPARSE = sorted({RULES[c.rule].form(c.complete, c.convention).name for c in GPU_CASES if RULES[c.rule].sparse})
BY_ROW = [name for name in sorted(forms()) if forms()[name][0].row_number]


def check_arithmetic(ptx: str, dtype: Any) -> None:
    """float32 stays float32, and float64 float64."""
    if arithmetic(dtype) == np.float32:
        assert doubles(ptx) == []
    else:
        assert not re.search(r"(mul|add|sub|div|fma|sqrt)\.(rn\.)?f32", ptx)


@pytest.mark.parametrize(
    ("form", "dtype", "gradient"),
    [
        (name, *kind)
        for name in SPARSE
        if name not in BY_ROW
        for kind in (NATIVE + HALF if name == "adagrad" else NATIVE)
    ],
    ids=str,
)
def test_rows_compile_for_every_generation(form: str, dtype: Any, gradient: Any):
    from optadvisor.kernels.cuda import rows

    kernel = rows.rows(*forms()[form][:1], np.dtype(dtype), forms()[form][1], gradient)
    for capability in CAPABILITIES:
        check_code(kernel, capability)
        check_arithmetic(kernel.ptx(capability), dtype)


@pytest.mark.parametrize(("dtype", "gradient"), [*NATIVE, (BFLOAT16, np.float16)], ids=str)
@pytest.mark.parametrize("form", BY_ROW)
def test_rules_by_row_compile_for_every_generation(form: str, dtype: Any, gradient: Any):
    """Their sum of squares is float64 on purpose, as for clipping; what is computed from it is not."""
    from optadvisor.kernels.cuda import rows

    directions, numbers, move = rows.staged(forms()[form][0], np.dtype(dtype), forms()[form][1], gradient)
    for capability in CAPABILITIES:
        for kernel in (directions, numbers, move):
            check_code(kernel, capability)
        check_arithmetic(move.ptx(capability), dtype)
        if arithmetic(dtype) == np.float32:
            sums = {line.split()[0].strip() for line in doubles(directions.ptx(capability))}
            assert sums <= {".reg", "cvt.f64.f32", "fma.rn.f64", "mov.f64", "st.global.f64", "add.f64", "mul.f64"}
            ptx = numbers.ptx(capability)
            assert "sqrt.rn.f32" in ptx
            assert not re.search(r"sqrt\.rn\.f64", ptx)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_keys_sort_and_sums_of_rows_compile(capability: tuple[int, int]):
    from optadvisor.kernels.cuda import rows

    kernels = [rows.keys(np.dtype(kind)) for kind in (np.int8, np.uint8, np.int32, np.int64, np.uint64)]
    kernels += [rows.merge(), *map(rows.check, (np.float16, BFLOAT16, np.float32, np.float64))]
    for kernel in kernels:
        check_code(kernel, capability)
        assert doubles(kernel.ptx(capability)) == []
    for dtype in (np.float16, BFLOAT16, np.float32, np.float64):
        check_code(rows.squares(dtype), capability)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["flat", "table"])
@pytest.mark.parametrize("form", [name for name in sorted(forms()) if name not in BY_ROW])
def test_every_rule_compiles_for_every_generation(form: str, kind: str, dtype: Any):
    kernel = elementwise(kind, form, dtype)
    for capability in CAPABILITIES:
        check_code(kernel, capability)
        check_arithmetic(kernel.ptx(capability), dtype)


@pytest.mark.parametrize(("dtype", "gradient"), HALF, ids=str)
@pytest.mark.parametrize("kind", ["flat", "table"])
@pytest.mark.parametrize("form", ["sgd", "adamw"])
def test_half_precision_compiles(form: str, kind: str, dtype: Any, gradient: Any):
    """Without a state and with some, for the oldest and the newest: the rule itself is the float32 kernel's."""
    kernel = elementwise(kind, form, dtype, gradient)
    for capability in (CAPABILITIES[0], CAPABILITIES[-1]):
        check_code(kernel, capability)
        ptx = kernel.ptx(capability)
        check_arithmetic(ptx, dtype)
        assert re.search(r"(ld|st)\.global\.[bu]16", ptx)
        # In half precision nothing is computed, only converted; bfloat16 by integers, which sm_75 has.
        assert not re.search(r"(mul|add|sub|div|fma|sqrt)\.(rn\.)?(b?f16)", ptx)
        assert ".bf16" not in ptx


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, BFLOAT16], ids=str)
@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_checks_and_sums_compile(capability: tuple[int, int], dtype: Any):
    from optadvisor.kernels.cuda import loops

    check_code(loops.check(dtype), capability)
    assert doubles(loops.check(dtype).ptx(capability)) == []  # it looks at bits
    # The sum of squares is float64 on purpose: the square of a float32 may be no float32.
    check_code(loops.squares(dtype), capability)
    assert doubles(loops.squares(dtype).ptx(capability))
    check_code(loops.clip(), capability)


def promoting(p, g, lr):
    return (p - 0.5 * g,)


def promoting_integer(p, g, lr):
    return (p - (1 - lr) * g,)


def promoting_power(p, g, lr):
    return (p - lr * (g * g) ** 0.5,)


def quiet(p, g, lr):
    return (p - lr * math.sqrt(g * g),)


@pytest.mark.parametrize(
    ("update", "promotes"), [(promoting, True), (promoting_integer, True), (promoting_power, True), (quiet, False)]
)
def test_a_promoting_rule_would_be_caught(update: Any, promotes: bool):
    from optadvisor.kernels.cuda import loops

    form = Form(update.__name__, update, lambda t, lr: (lr,))
    for kernel in (loops.flat(form, np.float32, 1), loops.table(form, np.float32, 1)):
        assert bool(doubles(kernel.ptx((8, 0)))) is promotes


def test_nothing_is_contracted_away_or_approximated():
    """Division and root are IEEE's, subnormals stay: only a*b + c may be rounded once instead of twice."""
    ptx = elementwise("flat", "adamw", np.float32).ptx((8, 0))
    assert "div.rn.f32" in ptx
    assert "sqrt.rn.f32" in ptx
    assert not re.search(r"\.approx|\.ftz|\.full", ptx)


def test_memory_is_read_as_global_memory_and_once():
    """Without averages AdamW reads 4 numbers and writes 3, the traffic that the memory limit counts."""
    ptx = elementwise("flat", "sgd", np.float32).ptx((8, 0))
    assert not re.search(r"(ld|st)\.f32", ptx)
    assert re.search(r"ld\.global\.f32", ptx)
    assert re.search(r"st\.global\.f32", ptx)


def test_parameters_of_the_entry_are_what_the_launch_passes():
    """cuda.core passes arguments by position and size alone: 8 bytes an integer, 4 a float32, the tuple flattened."""
    ptx = elementwise("flat", "adamw", np.float32).ptx((8, 0))
    kinds = re.findall(r"\.param \.([a-z0-9]+) ", ptx.split("{")[0])
    assert kinds == ["u64"] * 7 + ["f32"] * (3 + forms()["adamw"][1])
    ptx = elementwise("table", "sgd", np.float64).ptx((8, 0))
    assert re.findall(r"\.param \.([a-z0-9]+) ", ptx.split("{")[0]) == ["u64"] * 7 + ["f64"] * (3 + forms()["sgd"][1])
