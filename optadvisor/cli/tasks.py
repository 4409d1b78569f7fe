"""optadvisor tasks"""

from __future__ import annotations

import itertools
from typing import Any

import click

from optadvisor.cli.options import output_format
from optadvisor.cli.printing import Page, print_json
from optadvisor.profile import DOMAINS
from optadvisor.studies.tasks.builtin import BuiltinTask
from optadvisor.studies.tasks.registry import TASKS, get


@click.command("tasks", epilog="Example: optadvisor tasks digits-mlp")
@click.argument("task", required=False)
@output_format
def command(task: str | None, output: str) -> None:
    """List the built-in tasks that tune can study; with TASK, show it and what may be varied about it.

    A variant is named by what differs: digits-mlp:batch=64,width=16.
    """
    found = list(TASKS.values()) if task is None else [get(task)]
    if output == "json":
        print_json([_data(each) for each in found])
    elif task is None:
        _list(found)
    else:
        _show(found[0])


def _data(task: BuiltinTask) -> dict[str, Any]:
    return {
        "task": task.name,
        "title": task.title,
        "metric": task.metric,
        "steps": task.steps,
        "profile": task.profile.to_dict(),
        "axes": {
            name: {"value": task.values[name], "choices": [*axis.choices, *axis.beyond], "meaning": axis.meaning}
            for name, axis in task.family.axes.items()
        },
    }


def _list(tasks: list[BuiltinTask]) -> None:
    page = Page()
    wide = max(len(task.name) for task in tasks) + 1
    tasks = sorted(tasks, key=lambda task: DOMAINS.index(task.profile.domain or "other"))
    for domain, group in itertools.groupby(tasks, key=lambda task: task.profile.domain or "other"):
        page.line(domain, "bold")
        for task in group:
            page.line(
                f"{task.name:<{wide}} {task.title}; {task.steps} steps, by {task.metric}", indent=2, hang=wide + 1
            )
    page.line()
    page.line(f"{len(tasks)} tasks; optadvisor tasks NAME shows what may be varied about one", "dim")


def _show(task: BuiltinTask) -> None:
    page = Page()
    page.line(task.name, "bold green")
    page.line(f"{task.title}; {task.steps} steps, by {task.metric}")
    page.heading("Profile")
    known = {name: value for name, value in task.profile.to_dict().items() if value is not None}
    page.rows([(name.replace("_", " "), str(value)) for name, value in known.items()])
    page.heading("May be varied")
    page.rows(
        [
            (
                f"{name}={_text(task.values[name])}",
                f"{axis.meaning}: {', '.join(map(_text, (*axis.choices, *axis.beyond)))}",
            )
            for name, axis in task.family.axes.items()
        ]
    )
    page.heading("Next")
    page.rows([(f"optadvisor tune {task.name}", "its best settings"), (f"optadvisor compare {task.name}", "a race")])


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
