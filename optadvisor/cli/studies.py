"""optadvisor studies"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from optadvisor.cli.options import output_format
from optadvisor.cli.printing import Page, print_json
from optadvisor.files import write_whole
from optadvisor.kernels.errors import InputError
from optadvisor.studies import browsing
from optadvisor.studies.storage import quiet_optuna
from optadvisor.studies.tasks.task import shown

_storage = click.option("--storage", help="Optuna storage URL, or a journal file.  [default: all of the data folder]")


@click.group("studies", invoke_without_command=True, epilog="Example: optadvisor studies show digits-mlp#1")
@click.pass_context
def command(context: click.Context) -> None:
    """List, show, export or delete the studies that tune and compare have kept."""
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@command.command("list", epilog="Example: optadvisor studies list --format json")
@_storage
@output_format
def list_command(storage: str | None = None, output: str = "text") -> None:
    """List the studies: how far they are, and their best."""
    with quiet_optuna():
        found = browsing.studies(storage)
    if output == "json":
        print_json([_summary(kept) for kept in found])
        return
    page = Page()
    if not found:
        page.line("No studies yet: optadvisor tune TASK makes one.")
    wide = max((len(kept.name) for kept in found), default=0)
    for kept in found:
        line = f"{kept.name:<{wide}}  {len(kept.trials)} of {kept.plan.trials} trials"
        if kept.best:
            line += f", best {kept.value(kept.best[1]):.4g} ({kept.best[0]})"
        if kept.last:
            line += f", {kept.last:%Y-%m-%d %H:%M}"
        page.line(line, hang=wide + 2)


@command.command("show", epilog="Example: optadvisor studies show digits-mlp#1")
@click.argument("name")
@_storage
@output_format
def show(name: str, storage: str | None, output: str) -> None:
    """Show one study: its plan, how each rule did, its best trials."""
    with quiet_optuna():
        kept = browsing.find(name, storage)
    if output == "json":
        print_json({**_summary(kept), "plan": kept.plan.to_dict(), "trials_log": kept.rows()})
        return
    page = Page()
    page.line(f"{kept.name}: {len(kept.trials)} of {kept.plan.trials} trials, seed {kept.plan.seed}", "bold")
    page.line(kept.place, "dim")
    page.heading("Rules")
    page.rows([(optimizer, _rule(kept, optimizer)) for optimizer in kept.plan.optimizers])
    page.heading("Best trials")
    done = [item for item in kept.trials if item[1].user_attrs["state"] == "complete"]
    for optimizer, trial in sorted(done, key=lambda item: item[1].user_attrs["value"])[:5]:
        searched = ", ".join(f"{key} {value:.3g}" for key, value in trial.params.items())
        page.line(
            f"{kept.value(trial):.4g}  trial {trial.user_attrs['number']}, {optimizer}: {searched}",
            indent=2,
            hang=8,
        )


@command.command("export", epilog="Example: optadvisor studies export digits-mlp#1 --format csv --output trials.csv")
@click.argument("name")
@_storage
@click.option(
    "--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True, help="Of the table."
)
@click.option("--output", type=click.Path(path_type=Path), help="Write here.  [default: standard output]")
def export(name: str, storage: str | None, form: str, output: Path | None) -> None:
    """Export the trials of a study, one row each."""
    with quiet_optuna():
        text = browsing.table(browsing.find(name, storage).rows(), form)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        write_whole(output, text)
    except OSError as error:
        raise InputError(f"cannot write {str(output)!r} ({error.strerror}): choose another --output") from None
    click.echo(f"{output}: {len(text.splitlines()) - 1} lines", err=True)


@command.command("delete", epilog="Example: optadvisor studies delete digits-mlp#1 --yes")
@click.argument("name")
@_storage
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, storage: str | None, yes: bool) -> None:
    """Delete a study and its trials. The task's tuned config stays."""
    with quiet_optuna():
        kept = browsing.find(name, storage)
        if not yes:
            click.confirm(f"Delete {name} with {len(kept.trials)} trials from {kept.place}?", abort=True, err=True)
        browsing.delete(kept, storage)
    click.echo(f"{name} is deleted", err=True)


def _summary(kept: browsing.Kept) -> dict[str, Any]:
    best = kept.best
    return {
        "study": kept.name,
        "task": kept.plan.task,
        "trials": len(kept.trials),
        "planned": kept.plan.trials,
        "best": None
        if best is None
        else {"optimizer": best[0], "value": kept.value(best[1]), "params": best[1].params},
        "seed": kept.plan.seed,
        "last": kept.last.isoformat(timespec="seconds") if kept.last else None,
        "storage": kept.place,
    }


def _rule(kept: browsing.Kept, optimizer: str) -> str:
    own = [trial.user_attrs for name, trial in kept.trials if name == optimizer]
    values = [attrs["value"] for attrs in own if attrs["state"] == "complete"]
    states = {state: sum(attrs["state"] == state for attrs in own) for state in ("diverged", "pruned", "failed")}
    rest = "".join(f", {count} {state}" for state, count in states.items() if count)
    best = shown(min(values), kept.plan.direction) if values else None
    return (f"best {best:.4g} of " if values else "") + f"{len(own)} trials{rest}"
