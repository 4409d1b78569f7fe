"""Option types and decorators that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import click

from optadvisor.kernels.errors import InputError, unknown
from optadvisor.quantities import parse_bytes, parse_count


class Name(click.ParamType[str]):
    """One of a set of names; another one is refused with the nearest."""

    name = "name"

    def __init__(self, known: Iterable[str]) -> None:
        self.known = list(known)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.known:
            raise unknown(_option(param), value, self.known)
        return str(value)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "[" + "|".join(self.known) + "]"


class Count(click.ParamType[int]):
    """A whole number with k, M or B."""

    name = "N"

    def __init__(self, lowest: int = 1) -> None:
        self.lowest = lowest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return parse_count(value, _option(param), self.lowest)


class Bytes(click.ParamType[int]):
    """Bytes with k, M, G or Ki, Mi, Gi."""

    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return parse_bytes(value, _option(param))


class Share(click.ParamType[float]):
    """A number from 0 to 1."""

    name = "X"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0.0 <= number <= 1.0:
            raise InputError(f"{_option(param)} is {value!r}; it takes a share from 0 to 1, 0.99 for 99% zeros")
        return number


class Range(click.ParamType[tuple[str, tuple[float, float]]]):
    """NAME=LOW..HIGH."""

    name = "NAME=LOW..HIGH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[float, float]]:
        name, _, text = value.partition("=")
        low, _, high = text.partition("..")
        ends = [_number(low), _number(high)]
        if not name.strip() or None in ends:
            raise InputError(f"{_option(param)} is {value!r}; it takes NAME=LOW..HIGH, such as lr=1e-4..1e-1")
        return name.strip(), (ends[0], ends[1])  # type: ignore[return-value]  # neither is None


class Fixed(click.ParamType[tuple[str, Any]]):
    """NAME=VALUE: a number, true or false, or a pair of numbers."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, bool | float | list[float]]:
        name, _, text = value.partition("=")
        parts = [_value(part) for part in text.split(",")]
        if not name.strip() or None in parts or len(parts) > 2:
            raise InputError(
                f"{_option(param)} is {value!r}; it takes NAME=VALUE: weight_decay=0.1, amsgrad=true or betas=0.9,0.95"
            )
        return name.strip(), parts if len(parts) == 2 else parts[0]  # type: ignore[return-value]  # none is None


class Seconds(click.ParamType[float]):
    """A length of time."""

    name = "SECONDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = _number(value)
        if number is None or number <= 0:
            raise InputError(f"{_option(param)} is {value!r}; it takes seconds, more than 0, such as 90 or 0.5")
        return number


class Number(click.ParamType[float]):
    """A number that is finite."""

    name = "X"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = _number(value)
        if number is None:
            raise InputError(f"{_option(param)} is {value!r}; it takes a number")
        return number


def once(given: Iterable[tuple[str, Any]], option: str) -> dict[str, Any]:
    """NAME=... given several times as one mapping; InputError for a name that is there twice."""
    found: dict[str, Any] = {}
    for name, value in given:
        if name in found:
            raise InputError(f"{option} names {name} twice: give it once")
        found[name] = value
    return found


def _number(text: Any) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _value(text: str) -> bool | float | None:
    flag = {"true": True, "false": False}.get(text.strip().lower())
    return _number(text) if flag is None else flag


def _option(param: click.Parameter | None) -> str:
    return param.opts[0] if param else "value"


def output_format(command: Callable[..., Any]) -> Callable[..., Any]:
    """--format text|json."""
    return click.option(
        "--format",
        "output",
        type=Name(["text", "json"]),
        default="text",
        help="Text for people, json for programs.  [default: text]",
    )(command)
