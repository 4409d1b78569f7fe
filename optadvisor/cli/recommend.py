"""optadvisor recommend"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from optadvisor.advisor import Advice, Recommendation, recommend
from optadvisor.advisor.guide import family
from optadvisor.advisor.recommend import TOP
from optadvisor.cli.options import Bytes, Count, Name, Share, output_format
from optadvisor.cli.printing import Page, aside, number, print_json
from optadvisor.config import OptimizerConfig
from optadvisor.profile import ARCHITECTURES, DOMAINS, GOALS, TaskProfile, steps_of
from optadvisor.quantities import show_bytes

if TYPE_CHECKING:
    from optadvisor.frameworks.looking import Look


@click.command(
    "recommend",
    epilog="Example: optadvisor recommend --domain language --architecture transformer --parameters 124M --steps 100k",
)
@click.option("--domain", type=Name(DOMAINS), help="The kind of data.")
@click.option("--architecture", type=Name(ARCHITECTURES), help="The kind of model.")
@click.option("--goal", type=Name(GOALS), help="What matters most.  [unset counts as generalization]")
@click.option("--parameters", type=Count(), help="Trainable parameters, for example 124M.")
@click.option("--samples", type=Count(), help="Training examples.")
@click.option("--batch-size", type=Count(), help="Examples a step.")
@click.option("--steps", type=Count(), help="Updates in the whole training.")
@click.option("--epochs", type=Count(), help="Passes over the data, instead of --steps; needs samples and batch size.")
@click.option("--trials", type=Count(), help="Full training runs you can afford; 1 is no tuning.")
@click.option("--sparse-fraction", type=Share(), help="Share of zeros in the input features, 0.99 for 99% zeros.")
@click.option("--convex/--non-convex", default=None, help="Whether the loss is convex in the parameters.")
@click.option("--unstable", is_flag=True, default=None, help="Early training is unstable.")
@click.option("--non-stationary", is_flag=True, default=None, help="The objective drifts during training.")
@click.option("--ill-conditioned", is_flag=True, default=None, help="Curvature differs widely between directions.")
@click.option(
    "--memory-limit",
    type=Bytes(),
    help="Bytes for optimizer state alone (float32), for example 600M or 2Gi. A hard limit.",
)
@click.option("--profile", "profile_file", type=click.Path(), help="JSON file with these fields; options win over it.")
@click.option(
    "--torch",
    "target",
    metavar="FILE.py:FACTORY",
    help="Read a PyTorch model: a function that returns model, (model, batch) or (model, batches, loss_fn). "
    "What it cannot tell, options and the file's PROFILE say; they win over what is read.",
)
@click.option("--top", type=Count(), default=TOP, help=f"How many configs to name, best first.  [default: {TOP}]")
@click.option("--explain", is_flag=True, help="Also print what moved each config to its place, term by term.")
@output_format
def command(
    profile_file: str | None,
    epochs: int | None,
    target: str | None,
    top: int,
    explain: bool,
    output: str,
    **given: Any,
) -> None:
    """Recommend an optimizer with settings, schedule and reasons.

    Say what you know; every option may be left out, and the answer names what would help most.
    """
    stored = TaskProfile.from_json(profile_file).to_dict() if profile_file else {}
    known = {name: value for name, value in given.items() if value is not None}
    look = None
    if target:
        look = _look(target, {**stored, **known, "epochs": epochs})
        profile = look.profile
    else:
        told = {**stored, **known}
        profile = TaskProfile(**told if epochs is None else {**told, "steps": steps_of(epochs, told)[0]})
    advice = recommend(profile, top)
    if output == "json":
        print_json(advice.to_dict() if look is None else {**advice.to_dict(), "model": look.to_dict()})
    else:
        show(advice, explain, look, target or "")


def _look(target: str, declared: dict[str, Any]) -> Look:
    """What a model in a file is; imports PyTorch."""
    from optadvisor.frameworks import torch

    with aside():
        return torch.profile(torch.load(target), **declared)


def show(advice: Advice, explain: bool = False, look: Look | None = None, target: str = "") -> None:
    """The advice as something a person wants to read. look: what was read from the model of `target`."""
    page, best = Page(), advice.best
    page.line(f"Start with {title(best)}   (confidence {best.confidence:.0%})", "bold green")
    page.line(f"For: {_profile(advice.profile)}", "dim")
    if look is not None:
        page.heading(f"Read from {target}")
        page.rows(look.rows())
    page.heading("Settings")
    state = [] if best.memory_bytes is None else [("optimizer state", show_bytes(best.memory_bytes))]
    page.rows(settings(best.config) + _likely(best) + state)
    page.heading("Why")
    for reason in best.reasons:
        page.line(f"{reason['rule']:<4} {reason['text']}", indent=2, hang=5)
    row = family(best.optimizer)[-1]
    page.heading(f"What it does ({row.row})")
    labels = ("direction", "step size", "strengths", "weaknesses")
    page.rows([(label, getattr(row, label.replace(" ", "_"))) for label in labels])
    _evidence(page, best)
    if len(advice) > 1:
        page.heading("If that disappoints, try in this order")
        everything = advice.recommendations
        page.rows([(f"{r.rank}. {title(r)}", _alternative(r, everything[:i])) for i, r in enumerate(everything[1:], 1)])
    if explain:
        _explain(page, advice)
    for heading, lines in (
        ("Where guide and outcomes disagree", [entry["text"] for entry in advice.disagreements]),
        ("Where rules disagreed", [f"{' / '.join(c['rules'])}: {c['text']}" for c in advice.conflicts]),
        ("Ruled out", [f"{e['optimizer']} ({e['rule']}): {e['text']}" for e in advice.excluded]),
        ("Mind", advice.warnings),
        (
            "What would sharpen this answer",
            [f"--{q['field'].replace('_', '-')}: {q['why']}" for q in advice.questions],
        ),
    ):
        if lines:
            page.heading(heading)
            for text in lines:
                page.line(f"- {text}", indent=2, hang=2)
    page.heading("Next")
    page.rows(
        [
            (f"optadvisor explain {best.optimizer}", "what it does, and its settings one by one"),
            (f"optadvisor probe {target}", "measures the task: noise, sparsity, curvature, learning rates")
            if target
            else ("optadvisor tune digits-mlp", "a real study on a built-in task; optadvisor tasks lists them"),
        ]
    )


def _explain(page: Page, advice: Advice) -> None:
    """Which terms moved which config: the sum of ranking.py, config by config."""
    page.heading("How the order came about")
    basis = advice.basis
    page.line(
        f"outcomes on tasks like yours weigh {basis['outcomes']:.0%} (as much as {basis['tasks']:.1f} tasks just like it), "
        f"the guide {basis['guide']:.0%}. Regret: 0 is the best config known, 1 a random one.",
        indent=2,
    )
    rows = []
    for r in advice:
        regret = "no outcome" if r.expected_regret is None else f"expected regret {r.expected_regret:.2f}"
        moved = r.moved_by
        parts = f"outcomes {moved['outcomes']:+.3f}, guide {moved['guide']:+.3f}"
        rows.append((f"{r.rank}. {title(r)}", f"{regret}; improves the best so far by {moved['gain']:.3f} ({parts})"))
    page.rows(rows)


def title(recommendation: Recommendation) -> str:
    """The optimizer with its learning rate."""
    config = recommendation.config
    if config.groups and not config.hyperparameters:
        parts = [
            f"{group['optimizer']} lr {number(group['hyperparameters']['lr'])} on the {group['role']} part"
            for group in config.groups
            if group["role"] != "no_decay"
        ]
        return f"{config.optimizer}: {', '.join(parts)}"
    batch = ", full batch" if config.batch == "full" else ""
    return f"{config.optimizer}, lr {number(config.hyperparameters['lr'])}{batch}"


def settings(config: OptimizerConfig) -> list[tuple[str, str]]:
    """The config in rows for reading."""
    rows = [(name, number(value)) for name, value in config.hyperparameters.items()]
    for group in config.groups:
        values = ", ".join(f"{name} {number(value)}" for name, value in group["hyperparameters"].items())
        who = {
            "no_decay": "normalisation and biases",
            "embedding": "embeddings",
            "dense": "all other weights",
        }
        rows.append((who[group["role"]], f"{group['optimizer']}: {values}"))
    rows.append(("schedule", _schedule(config.schedule)))
    if config.batch == "full":
        rows.append(("batch", "full: every step uses all samples"))
    return rows


def _likely(best: Recommendation) -> list[tuple[str, str]]:
    """Where the best learning rate is likely to be."""
    if not best.lr_interval:
        return []
    low, high = (number(best.lr_interval[end]) for end in ("low", "high"))
    return [("best lr, 4 in 5 cases", f"{low} to {high} ({best.lr_interval['source']})")]


def _schedule(schedule: dict[str, Any]) -> str:
    words = {"warmup_cosine": "warm-up, then cosine decay to 0", "cosine": "cosine decay to 0"}
    name: str = words.get(schedule["name"], schedule["name"])
    if schedule["warmup_steps"]:
        return f"{name}: {schedule['warmup_steps']:,} of {schedule['total_steps']:,} steps warm up"
    if schedule.get("warmup_fraction"):
        return f"{name}: {schedule['warmup_fraction']:.0%} of the steps warm up"
    return name


def _profile(profile: TaskProfile) -> str:
    known = [(f.name, getattr(profile, f.name)) for f in fields(profile) if getattr(profile, f.name) is not None]
    words = [
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {_plain(value)}"
        for name, value in known
    ]
    return ", ".join(words) or "nothing said yet"


def _plain(value: Any) -> str:
    if value is False:
        return "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _alternative(recommendation: Recommendation, before: Sequence[Recommendation]) -> str:
    """What sets a config apart from those before it."""
    same = [r for r in before if r.optimizer == recommendation.optimizer]
    if not same:
        return f"if {recommendation.take_it_when}"
    words = []
    ours, theirs = recommendation.config.lr, same[0].config.lr
    if ours != theirs:
        words.append(f"a {'larger' if ours > theirs else 'smaller'} learning rate")
    if recommendation.config.schedule["name"] != same[0].config.schedule["name"]:
        words.append(f"schedule {recommendation.config.schedule['name']}")
    others = {n: v for n, v in recommendation.config.hyperparameters.items() if n != "lr"}
    changed = [n for n, v in others.items() if v != same[0].config.hyperparameters[n]]
    words += [f"{name} {number(others[name])}" for name in changed]
    return f"the same with {', '.join(words)}"


def _evidence(page: Page, best: Recommendation) -> None:
    if best.evidence:
        page.heading("Evidence")
        for entry in best.evidence:
            page.line(f"- {entry['text']} ({entry['source']})", indent=2, hang=2)
