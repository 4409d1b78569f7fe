"""optadvisor tasks"""

from __future__ import annotations

import click

from optadvisor.cli.options import output_format
from optadvisor.cli.printing import Page, print_json
from optadvisor.studies.tasks.registry import TASKS


@click.command("tasks", epilog="Example: optadvisor tasks")
@output_format
def command(output: str) -> None:
    """List the built-in tasks that tune can study."""
    if output == "json":
        print_json(
            [
                {
                    "task": task.name,
                    "title": task.title,
                    "metric": task.metric,
                    "steps": task.steps,
                    "profile": task.profile.to_dict(),
                }
                for task in TASKS.values()
            ]
        )
        return
    page = Page()
    for task in TASKS.values():
        page.line(f"{task.name:<14} {task.title}; {task.steps} steps, by {task.metric}", hang=15)
