"""optadvisor tasks"""

from __future__ import annotations

import pytest

import optadvisor as oa
from optadvisor.studies.tasks.registry import TASKS


def test_text_names_every_task(run):
    done = run("tasks")
    assert (done.code, done.err) == (0, "")
    begins = [line.split()[0] for line in done.out.splitlines() if not line.startswith(" ")]
    assert begins == list(TASKS)
    assert "handwritten digits" in done.out
    assert "500 steps" in done.out


def test_json(run):
    task = next(task for task in run("tasks", "--format", "json").json if task["task"] == "digits-mlp")
    assert list(task) == ["task", "title", "metric", "steps", "profile"]
    assert (task["steps"], task["metric"]) == (500, "validation cross-entropy")
    assert oa.TaskProfile(**{key: value for key, value in task["profile"].items() if value is not None}) == (
        TASKS["digits-mlp"].profile
    )


@pytest.mark.parametrize(("arguments", "word"), [(("--format", "xml"), "'xml'"), (("digits-mlp",), "digits-mlp")])
def test_bad_input(run, arguments: tuple[str, ...], word: str):
    run("tasks", *arguments).refused(word)
