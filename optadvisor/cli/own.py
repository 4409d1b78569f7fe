"""optadvisor learn add, show, forget: a person's own studies as knowledge."""

from __future__ import annotations

from typing import Any

import click

from optadvisor.advisor import knowledge, own
from optadvisor.cli.options import output_format
from optadvisor.cli.printing import Page, number, print_json
from optadvisor.kernels.rules import RULES
from optadvisor.profile import TaskProfile
from optadvisor.studies.tasks.function import task_name
from optadvisor.studies.tasks.task import shown


@click.command("add", epilog="Example: optadvisor learn add digits-mlp#1")
@click.argument("study")
@click.option("--storage", help="Optuna storage URL, or a journal file.  [default: all of the data folder]")
@click.option(
    "--profile",
    "profile_file",
    type=click.Path(),
    help="JSON file that says what kind of task it is.  [default: the built-in task's, or PROFILE of the function's file]",
)
def add(study: str, storage: str | None, profile_file: str | None) -> None:
    """Take a study into your own knowledge, which recommend reads and which stays on this machine.

    STUDY is a name that `optadvisor studies` lists; one that is not finished counts as far as it is. Adding it again
    replaces what was kept of it.
    """
    from optadvisor.advisor.learning import adding
    from optadvisor.studies import browsing
    from optadvisor.studies.storage import quiet_optuna

    profile = TaskProfile.from_json(profile_file) if profile_file else None
    with quiet_optuna():
        found = adding.study(browsing.find(study, storage), profile)
    candidates = knowledge.shipped().candidates
    again = own.add(found, candidates)
    page = Page()
    optimizers = dict.fromkeys(trial.config.optimizer for trial in found.trials)
    verb = "replaces what was kept of it" if again else "is added to your own knowledge"
    page.line(f"{found.name} {verb}: {_count(len(found.trials), 'trial')} of {_count(len(optimizers), 'rule')}", "bold")
    page.line(f"For tasks like it: {profile_text(found.profile)}")
    if candidates:
        reached = sum(value != knowledge.MISSING for value in found.row(candidates).regrets)
        page.line(f"It says something of {reached} of the {len(candidates)} configs that recommend weighs.")
    else:
        page.line("This version ships no configs to weigh: the trials are kept for one that does.")


@click.command("show", epilog="Example: optadvisor learn show --format json")
@output_format
def show(output: str) -> None:
    """Show what recommend knows: what is shipped, and your own studies."""
    studies, shipped = own.studies(), knowledge.shipped()
    if output == "json":
        print_json({"shipped": _shipped(shipped), "own": [_study(study) for study in studies]})
        return
    page = Page()
    page.line("Shipped", "bold")
    counts = _shipped(shipped)
    if shipped.rows:
        tasks = ", ".join(f"{count} {source}" for source, count in counts["rows"].items())
        families = _count(counts["families"], "family", "families")
        page.line(f"tasks by source: {tasks}; {families}, {counts['candidates']} configs", indent=2)
        told = ("tasks", "families")  # in the line above
        plain = [(k, v) for k, v in shipped.notes.items() if isinstance(v, (str, int, float)) and k not in told]
        page.rows([(key, value if isinstance(value, str) else _figure(value)) for key, value in plain])
    else:
        page.line("nothing: the advice is the guide's", indent=2)
    page.heading("Your own studies")
    if not studies:
        page.line("none yet: optadvisor learn add STUDY adds one that optadvisor studies lists", indent=2)
    for study in studies:
        page.line(f"{study.name}: {_count(len(study.trials), 'trial')}, added {study.added[:10]}", indent=2, hang=2)
        page.line(profile_text(study.profile), "dim", indent=4, hang=2)
        page.rows([(optimizer, _best(study, trial)) for optimizer, trial in study.best.items()], indent=4)


@click.command("forget", epilog="Example: optadvisor learn forget digits-mlp#1")
@click.argument("study", required=False)
@click.option("--all", "everything", is_flag=True, help="All studies, and a file that cannot be read.")
def forget(study: str | None, everything: bool) -> None:
    """Drop a study from your own knowledge. The study itself stays."""
    if everything == (study is not None):
        raise click.UsageError("name a STUDY that optadvisor learn show lists, or give --all")
    if study is None:
        click.echo("Your own knowledge is removed." if own.forget_all() else "Your own knowledge was empty.")
        return
    name = task_name(study)
    own.forget(name, knowledge.shipped().candidates)
    click.echo(f"{name} is forgotten.")


def profile_text(profile: TaskProfile) -> str:
    """The fields of a profile that are known, in one line."""
    known = [(name.replace("_", " "), value) for name, value in profile.to_dict().items() if value is not None]
    return ", ".join(f"{name} {value if isinstance(value, str) else _figure(value)}" for name, value in known)


def _figure(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else number(_short(value))


def _short(value: Any) -> Any:
    """Numbers to three digits."""
    if isinstance(value, (list, tuple)):
        return [_short(v) for v in value]
    return value if isinstance(value, bool) else float(f"{value:.3g}")


def _shipped(known: knowledge.Knowledge) -> dict[str, Any]:
    sources = [row.source for row in known.rows]
    return {
        "rows": {source: sources.count(source) for source in dict.fromkeys(sources)},
        "families": len({row.family for row in known.rows}),
        "candidates": len(known.candidates),
        "notes": dict(known.notes),
    }


def _study(study: own.Study) -> dict[str, Any]:
    return {
        "study": study.name,
        "task": study.task,
        "storage": study.storage,
        "added": study.added,
        "trials": len(study.trials),
        "worth": own.WORTH,
        "profile": study.profile.to_dict(),
        "best": {
            optimizer: {
                "value": shown(trial.value, study.direction),
                **{key: value for key, value in trial.to_dict().items() if key not in ("value", "optimizer")},
            }
            for optimizer, trial in study.best.items()
        },
    }


def _best(study: own.Study, best: own.Trial) -> str:
    """The value of a rule's best trial, its settings that are not the rule's default, after how many trials."""
    config = best.config
    parts = config.parts or {"": (config.optimizer, config.hyperparameters)}
    settings = [
        f"{f'{role}.' if role else ''}{name} {number(_short(value))}"
        for role, (rule, values) in parts.items()
        for name, value in values.items()
        if name == "lr" or value != RULES[rule].defaults[name]
    ]
    count = sum(trial.config.optimizer == config.optimizer for trial in study.trials)
    return f"best {shown(best.value, study.direction):.4g} of {_count(count, 'trial')}: {', '.join(settings)}"


def _count(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
