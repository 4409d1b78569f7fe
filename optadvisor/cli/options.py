"""Option types and decorators that several commands share."""

from __future__ import annotations

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
