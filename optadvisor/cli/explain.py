"""optadvisor explain"""

from __future__ import annotations

from typing import Any

import click

from optadvisor.advisor.guide import described, family, load, memory, states
from optadvisor.cli.options import Name, output_format
from optadvisor.cli.printing import Page, number, print_json
from optadvisor.config import HYBRID
from optadvisor.kernels.rules import RULES
from optadvisor.kernels.rules.record import OUTSIDE


@click.command("explain", epilog="Example: optadvisor explain adamw")
@click.argument("optimizer", type=Name([*RULES, HYBRID]))
@output_format
def command(optimizer: str, output: str) -> None:
    """Explain an optimizer: formula, direction, step size, what it fixed, strengths, weaknesses, defaults."""
    data = explanation(optimizer)
    if output == "json":
        print_json(data)
    else:
        show(data)


def explanation(optimizer: str) -> dict[str, Any]:
    """Everything known of an optimizer, as data."""
    families = [vars(row) for row in family(optimizer)]
    beyond = [] if families else [vars(row) for row in described(optimizer)]
    guide = [
        {"rule": rule.id, "title": rule.title}
        for rule in load().rules.values()
        if optimizer in (*rule.favours, *rule.reasons, *rule.concerns)
    ]
    data: dict[str, Any] = {"optimizer": optimizer, "families": families, "beyond": beyond, "guide": guide}
    if optimizer == HYBRID:
        return {**data, "title": families[0]["name"]}
    rule = RULES[optimizer]
    form = rule.form(rule.defaults, rule.conventions[0])
    return {
        **data,
        "title": rule.title,
        "formula": rule.formula,
        "hyperparameters": [
            {
                "name": h.name,
                "default": list(h.default) if isinstance(h.default, tuple) else h.default,
                "range": h.range_text,
                "text": h.text,
                "searched": [{"axis": d.name, "low": d.low, "high": d.high, "log": d.log} for d in h.search],
            }
            for h in rule.hyperparameters
        ],
        "states": [{"name": s.name, "text": s.text} for s in (*form.states, *form.row_states)],
        "memory_bytes_per_parameter": memory(optimizer, 1),
        "conventions": list(rule.conventions),
        "meanings": dict(rule.meanings),
        "sparse": rule.sparse,
        "paper": rule.paper,
        "notes": rule.notes,
    }


def show(data: dict[str, Any]) -> None:
    """The explanation for reading."""
    page = Page()
    page.line(f"{data['optimizer']}: {data['title']}", "bold green")
    if "formula" in data:
        page.heading("Update, for every parameter p with gradient g at step t")
        for part in data["formula"].split(";  "):
            page.line(part.strip(), indent=2, hang=4)
    for row in (*data["families"], *data["beyond"]):
        page.heading(f"Outside the guide  {row['name']}" if row["row"] == OUTSIDE else f"{row['row']}  {row['name']}")
        labels = ("direction", "step size", "fixes", "strengths", "weaknesses", "use for")
        page.rows([(label, row[label.replace(" ", "_")]) for label in labels])
    if "hyperparameters" in data:
        page.heading("Settings")
        page.rows(
            [(f"{h['name']} = {number(h['default'])}", f"{h['text']}; {h['range']}") for h in data["hyperparameters"]]
        )
        kept = states(data["optimizer"]) or 0
        page.heading("Memory")
        page.line(f"{kept} state{'' if kept == 1 else 's'} a parameter, {4 * kept} bytes in float32", indent=2)
        for state in data["states"]:
            page.line(f"{state['name']}: {state['text']}", indent=2, hang=2)
    if data.get("meanings"):
        page.heading("Conventions")
        page.rows(list(data["meanings"].items()))
    if data["guide"]:
        page.heading("In the guide")
        page.rows([(entry["rule"], entry["title"]) for entry in data["guide"]])
    for label in ("notes", "paper"):
        if data.get(label):
            page.heading(label.capitalize())
            page.line(data[label], indent=2)
