"""Numbers as people write them: 124M parameters, 600Mi bytes."""

from __future__ import annotations

import numbers
from decimal import Decimal, InvalidOperation

from optadvisor.kernels.errors import InputError

_COUNT_UNITS = {"k": 10**3, "m": 10**6, "b": 10**9}
_MOST_DIGITS = 18
_BYTE_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_count(value: object, what: str, lowest: int = 1) -> int:
    """A whole number: 1200, 1e6, 124M; k, M and B are 1e3, 1e6 and 1e9 in any case."""
    return _parse(value, what, _COUNT_UNITS, lowest, "a whole number such as 1200, 1e6 or 124M")


def parse_bytes(value: object, what: str) -> int:
    """Bytes: 4096, 2G, 600Mi; k, M, G are powers of 1000 and Ki, Mi, Gi powers of 1024."""
    return _parse(value, what, _BYTE_UNITS, 0, "bytes such as 4096, 2G or 600Mi")


def _parse(value: object, what: str, units: dict[str, int], lowest: int, expected: str) -> int:
    problem = InputError(f"{what} is {value!r}; it takes {expected}, from {lowest} to 1e{_MOST_DIGITS}")
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, str)):  # NumPy's numbers are Real as well
        raise problem
    text = str(value).strip().lower()
    if units is _BYTE_UNITS and text.endswith("b"):
        text = text[:-1].rstrip()
    factor = 1
    for unit in sorted(units, key=len, reverse=True):
        if text.endswith(unit):
            text, factor = text[: -len(unit)].rstrip(), units[unit]
            break
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise problem from None
    # The size is looked at before anything is computed: 1e999999 has a million digits.
    if not number.is_finite() or number.adjusted() > _MOST_DIGITS:
        raise problem
    number *= factor
    if number != int(number) or int(number) < lowest or number > 10**_MOST_DIGITS:
        raise problem
    return int(number)


def show_count(number: int) -> str:
    """124000000 as 124M, 2410 as 2,410."""
    for unit, factor in (("B", 10**9), ("M", 10**6)):
        if number >= factor:
            return f"{number / factor:.4g}{unit}"
    return f"{number:,}"


def show_bytes(number: int) -> str:
    """992000000 as 992 MB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{number / factor:.4g} {unit}"
    return f"{number} bytes"
