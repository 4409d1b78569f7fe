"""optadvisor optimizers"""

from __future__ import annotations

import click

from optadvisor.advisor.guide import described, family, states
from optadvisor.cli.options import output_format
from optadvisor.cli.printing import Page, print_json
from optadvisor.config import HYBRID
from optadvisor.kernels.rules import RULES


@click.command("optimizers", epilog="Example: optadvisor optimizers --format json")
@output_format
def command(output: str) -> None:
    """List the optimizers in the order of their lineage, with what they keep and what they are for."""
    rows = [
        {
            "optimizer": name,
            "title": RULES[name].title if name in RULES else family(name)[0].name,
            "rows": [row.row for row in family(name)],
            "states": states(name),
            "sparse": RULES[name].sparse if name in RULES else True,
            "use_for": described(name)[-1].use_for,
        }
        for name in (*RULES, HYBRID)
    ]
    if output == "json":
        print_json(rows)
        return
    page = Page()
    wide = max(map(len, (*RULES, HYBRID)))
    for row in rows:
        kept = "by group" if row["states"] is None else f"{row['states']} states" if row["states"] != 1 else "1 state"
        page.line(f"{row['optimizer']:<{wide}} {kept:<9} {row['title']}: {row['use_for']}", hang=wide + 11)
