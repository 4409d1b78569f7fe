"""optadvisor probe"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from optadvisor.cli.options import Count, output_format
from optadvisor.cli.printing import Page, aside, number, print_json
from optadvisor.files import check_writable, write_whole
from optadvisor.probing.noise import Noise
from optadvisor.probing.probe import BATCHES, STEPS, Point, Probe
from optadvisor.probing.ranging import RangeTest
from optadvisor.profile import TaskProfile

LABEL, WIDE = 44, 16  # of the columns of measures


@click.command("probe", epilog="Example: optadvisor probe digits-cnn --save profile.json")
@click.argument("target")
@click.option(
    "--steps",
    type=Count(),
    default=STEPS,
    help=f"Steps of the warm-up, after which all is measured again.  [default: {STEPS}]",
)
@click.option(
    "--batches",
    type=Count(2),
    default=BATCHES,
    help=f"Mini-batches whose gradients are compared.  [default: {BATCHES}]",
)
@click.option("--seed", type=Count(0), default=0, help="Of mini-batches and random directions.  [default: 0]")
@click.option("--range-test/--no-range-test", default=True, help="Try learning rates too.  [default: --range-test]")
@click.option(
    "--profile", "profile_file", type=click.Path(), help="JSON file of what you know; it wins over what is measured."
)
@click.option(
    "--save", type=click.Path(), help="Write the completed profile there, for optadvisor recommend --profile."
)
@click.option("--quiet", is_flag=True, help="Say nothing on the way.")
@output_format
def command(
    target: str,
    steps: int,
    batches: int,
    seed: int,
    range_test: bool,
    profile_file: str | None,
    save: str | None,
    quiet: bool,
    output: str,
) -> None:
    """Measure a task at its start and after a short warm-up, and complete its profile with what is found.

    TARGET: a built-in task (optadvisor tasks), or FILE.py:FUNCTION, which returns (model, batches, loss_fn) of PyTorch. The
    model is left as it was. docs/probe.md has formula, cost and meaning of each measure.
    """
    from optadvisor.frameworks.probing import probe

    declared = TaskProfile.from_json(profile_file) if profile_file else None
    if save:
        check_writable(Path(save).absolute().parent, "choose another --save")
    with aside():
        found = probe(
            target,
            profile=declared,
            mini_batches=batches,
            steps=steps,
            seed=seed,
            range_test=range_test,
            progress=None if quiet else lambda text: click.echo(f"{target}: {text}", err=True),
        )
    if save:
        known = {name: value for name, value in found.profile.to_dict().items() if value is not None}
        write_whole(Path(save), json.dumps(known, indent=2) + "\n")
    if output == "json":
        print_json(found.to_dict())
    else:
        show(found, save)


def show(found: Probe, saved: str | None = None) -> None:
    """The measures for reading: at the start, after the warm-up, and what they mean."""
    page = Page()
    page.line(found.name, "bold green")
    batch = f" of {found.batch_size:,} examples" if found.batch_size else ""
    page.line(f"{found.parameters:,} parameters; {found.mini_batches} mini-batches{batch} at each place")
    page.heading("Measured")
    for label, *values in _table(found):
        page.line(f"{label:<{LABEL}}" + "".join(f"{value:<{WIDE}}" for value in values), indent=2)
    page.line(f"The warm-up: adamw at lr {number(_two(found.warm_up.lr))}.", "dim", indent=2)
    if found.ranges:
        page.heading("Learning rate")
        page.rows([(rule, _range(test)) for rule, test in found.ranges.items()])
    page.heading("Profile")
    page.rows(_profile(found))
    page.heading("Cost")
    range_steps = f", up to {found.range_steps:,} steps of range tests" if found.range_steps else ""
    page.line(f"{found.gradients:,} gradients of a mini-batch{range_steps}; {found.seconds:.1f} s", indent=2)
    page.heading("Next")
    file = saved or "profile.json"
    again = [] if saved else [(f"optadvisor probe ... --save {file}", "keeps the profile")]
    page.rows([*again, (f"optadvisor recommend --profile {file}", "what to train with")])


def _table(found: Probe) -> list[tuple[str, str, str]]:
    warm_up = found.warm_up
    after = f"after {warm_up.steps} steps" if found.warm else f"diverged at step {warm_up.diverged_at}"
    rows = [("mini-batch gradients", "at the start", after)]
    first, last = _measures(found.start), _measures(found.warm) if found.warm else {}
    rows += [(label, value, last.get(label, "-")) for label, value in first.items()]
    agreement = "-" if warm_up.agreement is None else f"{warm_up.agreement:.2f}"
    rows.append(("agreement of gradients along the warm-up", "", agreement))
    if found.zeros:
        rows.append(("zeros among the inputs of an example", f"{found.zeros.share:.2%}", ""))
    return rows


def _measures(point: Point) -> dict[str, str]:
    rows = {"mean loss": f"{point.loss:.4g}"}
    for line in point.sparsity:
        rows[f"entries of exactly 0, {line.role}"] = f"{line.zeros:.1%}"
        if line.rows_untouched is not None:
            rows[f"rows without a gradient, {line.role}"] = f"{line.rows_untouched:.1%}"
    if point.noise:
        rows[f"noise scale, {point.noise.unit}"] = _noise(point.noise)
    if point.tail:
        rows["tail index of the noise (2: Gaussian)"] = _plain(point.tail.alpha)
    rows["agreement of gradients at one place"] = _plain(point.agreement)
    curvature = point.curvature
    rows["curvature, largest"] = _plain(curvature.largest)
    rows["curvature, smallest"] = _plain(curvature.smallest)
    rows["curvature, spread over directions"] = _plain(curvature.spread)
    rows["curvature, spread between blocks"] = _plain(curvature.between)
    if point.sharpness:
        rows["sharpness along the gradient"] = _plain(point.sharpness.gradient)
        rows["sharpness along its sign"] = _plain(point.sharpness.sign)
        rows["gain of a sign step over a gradient step"] = _plain(point.sharpness.gain)
    return rows


def _noise(noise: Noise) -> str:
    if noise.scale is not None:
        return _plain(noise.scale)
    return f"over {_plain(noise.low)}" if noise.low is not None else "not told"


def _range(test: RangeTest) -> str:
    text = f"lr {number(_two(test.lr))} for a whole training (four cases in five: {_two(test.low):g} to {_two(test.high):g})"
    if test.lowest is None:
        return f"{text}; every rate of the test diverged"
    return f"{text}; best of {len(test.rates)} short ones of {test.steps} steps: {_two(test.lowest):g}"


def _profile(found: Probe) -> list[tuple[str, str]]:
    reasons = {fed.field: fed for fed in found.fed}
    rows = []
    for name, value in found.profile.to_dict().items():
        fed = reasons.get(name)
        if value is None:
            continue
        if fed is None or (not fed.taken and _agree(fed.value, value)):
            source = "declared"
        elif fed.taken:
            source = fed.why
        else:
            source = f"declared; measured {_field(fed.value)}: {fed.why}"
        rows.append((f"{name.replace('_', ' ')} {_field(value)}", source))
    return rows


def _agree(measured: Any, declared: Any) -> bool:
    """A share counts as the same within what a few examples tell."""
    return bool(measured == declared) or (isinstance(declared, float) and abs(measured - declared) < 0.02)


def _field(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1e4 else f"{value:.1e}"


def _two(value: float) -> float:
    return float(f"{value:.2g}")
