"""optadvisor tasks"""

from __future__ import annotations

import pytest

import optadvisor as oa
from optadvisor.studies.tasks.registry import TASKS


def test_text_names_every_task(run):
    done = run("tasks")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    begins = [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]
    assert sorted(begins) == sorted(TASKS)
    domains = [line for line in lines if line and not line.startswith(" ")][:-1]
    assert domains == list(dict.fromkeys(domains)), "every domain once"
    assert set(domains) == {task.profile.domain for task in TASKS.values()}
    assert "handwritten digits" in done.out
    assert "500 steps" in done.out


def test_json(run):
    task = next(task for task in run("tasks", "--format", "json").json if task["task"] == "digits-mlp")
    assert list(task) == ["task", "title", "metric", "steps", "profile", "axes"]
    assert (task["steps"], task["metric"]) == (500, "validation cross-entropy")
    assert oa.TaskProfile(**{key: value for key, value in task["profile"].items() if value is not None}) == (
        TASKS["digits-mlp"].profile
    )


def test_one_task(run):
    out = run("tasks", "digits-mlp:width=8,batch=64").out
    assert out.startswith("digits-mlp:width=8,batch=64\n")
    assert "width=8 " in out
    assert "batch=64 " in out
    assert "images a step: 8, 16, 32, 64, 128" in out
    assert "optadvisor tune digits-mlp:width=8,batch=64" in out
    (data,) = run("tasks", "digits-mlp:width=8", "--format", "json").json
    assert data["axes"]["width"] == {"value": 8, "choices": [8, 16, 32, 64, 128], "meaning": "hidden units"}
    assert data["profile"]["parameters"] == 64 * 8 + 8 * 10 + 8 + 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "xml"), ["'xml'"]),
        (("digit-mlp",), ["did you mean 'digits-mlp'"]),
        (("digits-mlp:widht=8",), ["axis of task digits-mlp", "did you mean 'width'"]),
        (("digits-mlp:width=9",), ["width is '9'; it takes one of 8, 16, 32, 64, 128"]),
        (("digits-mlp:width",), ["width is ''"]),
        (("digits-mlp", "digits-mlp"), ["unexpected extra argument"]),
    ],
)
def test_bad_input(run, arguments: tuple[str, ...], words: list[str]):
    run("tasks", *arguments).refused(*words)
