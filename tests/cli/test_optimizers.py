"""optadvisor optimizers"""

from __future__ import annotations

from optadvisor.config import HYBRID
from optadvisor.kernels.rules import RULES

CONTRACT = ["sgd", "momentum", "nag", "adagrad", "rmsprop", "adam", "adamw", "ftrl", "hybrid"]
STATES = [0, 1, 1, 1, 1, 2, 2, 2, None]


def test_json_lists_every_optimizer_in_the_order_of_their_lineage(run):
    rows = run("optimizers", "--format", "json").json
    assert [row["optimizer"] for row in rows] == [*RULES, HYBRID]
    assert [row["optimizer"] for row in rows if row["optimizer"] in CONTRACT] == CONTRACT
    assert [row["states"] for row in rows if row["optimizer"] in CONTRACT] == STATES
    assert sorted((row for entry in rows for row in entry["rows"]), key=lambda row: int(row[1:])) == [
        f"G{i}" for i in range(1, 12)
    ]
    assert all(row["title"] and row["use_for"] for row in rows)


def test_text_has_one_entry_an_optimizer(run):
    ran = run("optimizers")
    assert ran.code == 0
    assert ran.err == ""
    starts = [line.split()[0] for line in ran.out.splitlines() if not line.startswith(" ")]
    assert starts == [*RULES, HYBRID]
    assert "\x1b" not in ran.out


def test_wrong_usage(run):
    run("optimizers", "adam").refused("adam")
    run("optimizers", "--format", "yaml").refused("--format", "'yaml'")
