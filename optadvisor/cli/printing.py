"""Printing for people, with rich, and for programs, as JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any, TextIO

import click


def aside() -> contextlib.redirect_stdout[TextIO]:
    """While a person's own file runs in this process: what it prints is no result, and goes to stderr."""
    return contextlib.redirect_stdout(sys.stderr)


def print_json(data: Any) -> None:
    """Indented JSON on stdout. Only valid JSON: a NaN or Inf in the data is an error."""
    click.echo(json.dumps(data, indent=2, allow_nan=False))


class Page:
    """Text for people: headings, wrapped paragraphs and aligned rows; colour on a terminal only.

    rich costs 50 ms at start, a third of a whole `recommend`, so a pipe gets the same text without it.
    """

    WIDTH = 100

    def __init__(self) -> None:
        self._console: Any = None
        if sys.stdout.isatty():
            from rich.console import Console

            self._console = Console(highlight=False, soft_wrap=False)

    @property
    def width(self) -> int:
        return min(self.WIDTH, self._console.width) if self._console else self.WIDTH

    def line(self, text: str = "", style: str = "", indent: int = 0, hang: int = 0) -> None:
        """A paragraph wrapped to the width; `hang` indents the lines after the first further."""
        import textwrap

        lead = " " * indent
        wrapped = textwrap.fill(
            text, self.width, initial_indent=lead, subsequent_indent=lead + " " * hang, break_on_hyphens=False
        )
        if self._console:
            self._console.print(wrapped, style=style or None, markup=False)
        else:
            click.echo(wrapped)

    def heading(self, text: str) -> None:
        self.line()
        self.line(text, "bold")

    def rows(self, rows: list[tuple[str, str]], indent: int = 2) -> None:
        """Two columns, the second one wrapped; where the first is wide, the second goes below it."""
        first = max((len(left) for left, _ in rows), default=0)
        for left, right in rows:
            if first > self.width // 2:
                self.line(left, indent=indent)
                self.line(right, indent=indent + 4)
            else:
                self.line(f"{left:<{first}}  {right}", indent=indent, hang=first + 2)


def number(value: Any) -> str:
    """A hyperparameter as a person writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(number(v) for v in value) + ")"
    return f"{value:g}"
