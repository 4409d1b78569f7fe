"""optadvisor config"""

from __future__ import annotations

import click

from optadvisor.cli.options import Name
from optadvisor.cli.printing import print_json
from optadvisor.frameworks import FRAMEWORKS, code
from optadvisor.studies import load_config


@click.command("config", epilog="Example: optadvisor config digits-mlp --framework torch > optimizer.py")
@click.argument("task")
@click.option("--framework", type=Name(FRAMEWORKS), help="Print code that builds the config, instead of JSON.")
def command(task: str, framework: str | None) -> None:
    """Print the tuned config of a task, as JSON or as code that runs as it stands."""
    config = load_config(task)
    if framework:
        click.echo(code(config, framework), nl=False)
    else:
        print_json(config.to_dict())
