"""What a probe puts into a profile, against what is known of the built-in tasks: how often it is right.

    python benchmarks/probing.py [TASKS]

Every family's default first, then variants (156 tasks by default, those of the table of outcomes). The declared flags
are hidden from the probe. Range tests are left out: they feed no field.
"""

# ruff: noqa: T201
from __future__ import annotations

import sys
import time
from collections import Counter

from optadvisor.probing import BuiltinSubject, Probe, measure
from optadvisor.profile import TaskProfile
from optadvisor.studies.outcomes import chosen
from optadvisor.studies.tasks.builtin import BuiltinTask

HIDDEN = ("convex", "unstable", "ill_conditioned", "sparse_fraction")


def probed(task: BuiltinTask) -> Probe:
    subject = BuiltinSubject(task)
    subject.declared = TaskProfile(**{**task.profile.to_dict(), **dict.fromkeys(HIDDEN)})
    return measure(subject, range_test=False)


def main() -> None:
    tasks = chosen(int(sys.argv[1]) if len(sys.argv) > 1 else 156)
    counts: dict[str, Counter[tuple[object, object]]] = {field: Counter() for field in HIDDEN}
    worst, wrong, began = 0.0, [], time.perf_counter()
    for task in tasks:
        found = probed(task)
        for field in HIDDEN:
            true, said = getattr(task.profile, field), getattr(found.profile, field)
            if field == "sparse_fraction":
                if true is not None and said is not None:
                    worst = max(worst, abs(true - said))
                true, said = true is not None, said is not None
            elif None not in (true, said) and true != said:
                wrong.append(f"{task.name}: {field} is {true}, found {said}")
            counts[field][true, said] += 1
    print("| field | the task's profile says | the probe: true | false | nothing |")
    print("|---|---|---|---|---|")
    for field in HIDDEN[:-1]:
        for true in (True, False, None):
            row = [counts[field][true, said] for said in (True, False, None)]
            if sum(row):
                print(
                    f"| {field} | {str(true).lower() if true is not None else 'nothing'} | {' | '.join(map(str, row))} |"
                )
    both = counts["sparse_fraction"]
    print(
        f"\nsparse_fraction: found on {both[True, True]} of {both[True, True] + both[True, False]} tasks that say one, ",
        end="",
    )
    print(f"off by {worst:.3f} at most; on {both[False, True]} of those that say none.")
    print(f"{len(tasks)} tasks, {time.perf_counter() - began:.0f} s. Wrong:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
