"""optadvisor bench"""

from __future__ import annotations

import click

from optadvisor.cli.options import output_format
from optadvisor.cli.printing import print_json


@click.command("bench", epilog="Example: optadvisor bench --quick")
@click.option("--quick", is_flag=True, help="Leave out what needs gigabytes of memory.")
@output_format
def command(quick: bool, output: str) -> None:
    """Time the kernels on this machine, one thread, side by side with PyTorch and optax where they are installed."""
    from optadvisor import bench

    if not bench.installed("torch"):
        click.echo(
            "PyTorch is not installed: the kernels are compared with this machine's memory limit alone", err=True
        )
    found = []
    if output == "text":
        click.echo(f"{'work':<38} {'peer':<36} {'ours us':>10} {'peer us':>10} {'ratio':>7} {'GB/s':>6}")
    for row in bench.rows(quick):
        found.append(row)
        if output == "text":
            speed = "" if row.gb_per_s is None else f"{row.gb_per_s:.1f}"
            click.echo(
                f"{row.work:<38} {row.peer:<36} {row.ours_us:>10.2f} {row.peer_us:>10.2f} {row.ratio:>6.2f}x {speed:>6}"
            )
    if output == "json":
        print_json(
            [
                {
                    "work": row.work,
                    "peer": row.peer,
                    "ours_us": row.ours_us,
                    "peer_us": row.peer_us,
                    "ratio": row.ratio,
                    "gb_per_s": row.gb_per_s,
                }
                for row in found
            ]
        )
