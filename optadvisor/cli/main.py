"""The command line: finds the command, turns every error into one line, and knows the exit codes.

0 done, 1 the work failed, 2 wrong usage. Results on stdout, everything else on stderr. A command's module is imported
only when it runs, so that `recommend` does not pay for the others.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from optadvisor import __version__
from optadvisor.kernels.errors import InputError, nearest

COMMANDS = {
    "recommend": "Recommend an optimizer with settings, schedule and reasons.",
    "probe": "Measure a task: gradient noise, curvature, learning-rate range; completes its profile.",
    "tune": "Search the best settings for a task in a real study.",
    "compare": "Race the rules on a task under the same budget, or the advised configs.",
    "learn": "What the advisor learns from: sampled tasks, and studies of your own.",
    "studies": "List, show, export or delete the studies that were kept.",
    "worker": "Train for a study on another machine, over their common database.",
    "config": "Print the tuned config of a task, or the code that builds it.",
    "explain": "Explain an optimizer: formula, direction, step size, what it fixed.",
    "optimizers": "List the optimizers.",
    "tasks": "List the built-in tasks.",
    "bench": "Time the kernels on this machine, beside PyTorch and optax.",
}


class Commands(click.Group):
    """The commands, each in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"optadvisor.cli.{name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader went away (a pipe into head): not an error. What is still buffered goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            guess = nearest(args[0], COMMANDS)
            hint = f"did you mean {guess!r}? " if guess else ""
            raise click.UsageError(f"unknown command {args[0]!r}: {hint}known: {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="optadvisor")
def cli() -> None:
    """Which optimizer, with which settings, and why.

    Every command has --help with an example. --debug, anywhere, shows the traceback of an error.
    """


def main(args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; the entry point of `optadvisor`."""
    arguments = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        if not arguments:
            raise click.UsageError(f"no command: optadvisor --help explains {', '.join(COMMANDS)}")
        result = cli.main(arguments, prog_name="optadvisor", standalone_mode=False)
    except (InputError, click.UsageError, click.BadParameter) as error:
        return _report(_message(error), 2, debug)
    except (KeyboardInterrupt, click.Abort):
        return _report("interrupted", 1, debug)
    except click.ClickException as error:
        return _report(_message(error), 1, debug)
    except Exception as error:  # noqa: BLE001  # the one place where an error of any kind becomes a line
        return _report(f"{type(error).__name__}: {_message(error)}", 1, debug)
    return result if isinstance(result, int) else 0


def _message(error: BaseException) -> str:
    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    return " ".join(text.split()) or type(error).__name__


def _report(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"Error: {message}", err=True)
    return code
