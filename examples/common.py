"""What the four examples share: their command line, mini-batches, and the table that compares optimizers."""

from __future__ import annotations

import argparse
import math
import statistics

import torch
from scipy.special import stdtrit

torch.set_num_threads(1)  # models this small have nothing to share out


def arguments(trials, steps):
    """The command line, with these defaults: how much to compare, to tune and to train."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each row of the table, 2 or more")
    parser.add_argument("--trials", type=int, default=trials, help="trials of the search")
    parser.add_argument("--steps", type=int, default=steps, help="length of every training")
    asked = parser.parse_args()
    if asked.seeds < 2 or asked.trials < 1 or asked.steps < 1:
        parser.error("an interval needs 2 seeds or more, a search 1 trial or more, a training 1 step or more")
    return asked


def shuffled(count, batch, seed):
    """Mini-batches of row numbers without end: all rows in a random order, then again in another."""
    draws = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=draws)[: count - count % batch].split(batch)


def plain(kind, **keywords):
    """What people write without advice: an optimizer over all parameters, no schedule."""
    return lambda model, total_steps: (kind(model.parameters(), **keywords), None)


def named(config):
    """A config in a few words: rules, learning rates, schedule."""
    rates = {rule: f"lr {values['lr']:.3g}" for role, (rule, values) in config.roles().items() if role != "no_decay"}
    words = [*(f"{rule} {rate}" for rule, rate in rates.items()), config.schedule["name"]]
    return ("hybrid of " if config.optimizer == "hybrid" else "") + ", ".join(words)


def compare(train, defaults, advice, result, asked):
    """Train every row from the same fresh seeds and print the table.

    train(build, seed, steps): the figures of one training, the one that is compared first. defaults: name -> build of what
    people write without advice; advice: of oa.recommend, whose first config is a row as it is; result: of oa.tune; asked:
    of the command line.
    """
    advised = advice.best.config
    print(f"Advice: {named(advised)}, because {advice.best.reasons[0]['text']}\n")
    rows = {
        **defaults,
        f"advised: {named(advised)}": advised.build_torch,
        f"tuned: {named(result.best)}": result.best.build_torch,
    }
    used = {trial.record.seed for trial in result.trials} | set(result.seeds)
    fresh = [seed for seed in range(asked.seeds + len(used)) if seed not in used][: asked.seeds]
    figures = {name: [train(build, seed, asked.steps) for seed in fresh] for name, build in rows.items()}
    metric, *others = figures[next(iter(rows))][0]
    better, worst = (max, -math.inf) if result.direction == "maximize" else (min, math.inf)
    # A training that diverged is worse than all others.
    values = {n: [run[metric] if math.isfinite(run[metric]) else worst for run in r] for n, r in figures.items()}
    reference = better(defaults, key=lambda name: statistics.mean(values[name]))
    lines = [[f"{len(fresh)} seeds", metric, "std", *others, f"difference to {reference}, 95% interval"]]
    for name, runs in figures.items():
        means = [f"{statistics.mean(run[other] for run in runs):.4g}" for other in others]
        mean = statistics.mean(values[name])
        std = statistics.stdev(values[name]) if math.isfinite(mean) else math.inf
        gain = "" if name == reference else against(values[name], values[reference], result.direction)
        lines.append([name, f"{mean:.4g}", f"{std:.2g}", *means, gain])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        print("|", " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)), "|")

    pruned = sum(trial.record.pruned for trial in result.trials)
    trials = f"{len(result.trials)} trials" + (f" ({pruned} ended early by the pruner)" if pruned else "")
    print(f"\nTuning: {result.runs} trainings, {trials} and {result.runs - len(result.trials)} to confirm the best.")


def against(ours, theirs, direction):
    """The difference of two lists of values of the same seeds: its mean and Student's 95% interval over the pairs."""
    diverged = sum(not math.isfinite(value) for value in ours)
    if diverged or not all(map(math.isfinite, theirs)):
        return f"diverged from {diverged} of {len(ours)} seeds"
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    mean, count = statistics.mean(differences), len(differences)
    half = stdtrit(count - 1, 0.975) * statistics.stdev(differences) / math.sqrt(count)
    verdict = "level" if abs(mean) <= half else "better" if (mean > 0) == (direction == "maximize") else "worse"
    return f"{mean:+.3g} ({mean - half:+.3g} to {mean + half:+.3g}): {verdict}"
