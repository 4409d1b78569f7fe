"""optadvisor probe"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from optadvisor.cli import probe as command
from optadvisor.probing import measure
from optadvisor.probing.noise import Noise
from optadvisor.profile import TaskProfile
from tests.probing.analytic import Quadratic, rotated

FAST = ("quadratic", "--no-range-test", "--batches", "4", "--steps", "3")


def test_text(run):
    ran = run("probe", "quadratic", "--steps", "3")
    assert ran.code == 0, ran.err
    for words in (
        "32 parameters; 32 mini-batches at each place",
        "at the start    after 3 steps",
        "noise scale, mini-batches",
        "tail index of the noise (2: Gaussian)",
        "curvature, spread over directions",
        "sharpness along its sign",
        "for a whole training (four cases in five:",
        "architecture other",
        "gradients of a mini-batch, up to 800 steps of range tests",
        "optadvisor recommend --profile",
    ):
        assert words in ran.out, words
    assert ran.err.splitlines() == [
        "quadratic: at the start",
        "quadratic: range test of adamw",
        "quadratic: range test of momentum",
        "quadratic: warm-up of 3 steps",
        "quadratic: after the warm-up",
    ]


def test_json(run):
    ran = run("probe", *FAST, "--format", "json", "--quiet")
    assert ran.err == ""
    data = ran.json
    assert data["task"] == "quadratic"
    assert data["mini_batches"] == 4
    assert data["warm_up"]["steps"] == 3
    assert data["ranges"] == {}
    assert data["start"]["curvature"]["largest"] == pytest.approx(1.0, rel=0.01)
    again = run("probe", *FAST, "--format", "json", "--quiet").json
    other = run("probe", *FAST, "--format", "json", "--quiet", "--seed", "5").json
    for each in (data, again, other):
        del each["cost"]["seconds"]
    assert data == again != other


def test_recommend_reads_what_it_saves(run, tmp_path: Path):
    file = tmp_path / "profile.json"
    ran = run("probe", "cancer-logistic", "--no-range-test", "--save", str(file), "--quiet")
    assert f"recommend --profile {file}" in " ".join(ran.out.split())
    assert TaskProfile.from_json(file).ill_conditioned is True
    advice = run("recommend", "--profile", str(file), "--format", "json").json
    assert advice["profile"]["architecture"] == "linear"
    assert advice["profile"]["ill_conditioned"] is True


def test_a_profile_of_one_s_own_wins(run, tmp_path: Path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"convex": True, "steps": 123}))
    ran = run("probe", "digits-mlp", "--no-range-test", "--batches", "8", "--profile", str(file), "--format", "json")
    assert ran.json["profile"]["convex"] is True
    assert ran.json["profile"]["steps"] == 123
    text = run("probe", "digits-mlp", "--no-range-test", "--batches", "8", "--profile", str(file)).out
    assert "declared; measured no: a curvature of" in " ".join(text.split())


def test_errors_are_one_line(run, tmp_path: Path):
    run("probe", "digits-cn").refused("unknown task 'digits-cn'", "did you mean 'digits-cnn'")
    run("probe", *FAST, "--batches", "1").refused("--batches")
    run("probe", *FAST, "--steps", "0").refused("--steps")
    run("probe", *FAST, "--profile", str(tmp_path / "none.json")).refused("cannot read the profile")
    run("probe", *FAST, "--save", "/proc/none/profile.json").refused("cannot write", "choose another --save")
    run("probe").refused("TARGET")


def test_what_could_not_be_measured_is_shown_as_such(capsys: pytest.CaptureFixture[str]):
    command.show(measure(Quadratic(-rotated([1.0, 0.5, 0.5, 0.5]), breaks_at=1.2), range_test=False, mini_batches=3))
    out = capsys.readouterr().out
    assert "diverged at step" in out
    assert "unstable yes" in out
    assert "noise scale" in out


@pytest.mark.parametrize(
    ("noise", "text"),
    [
        (Noise(1.0, 40.0, 40.0, 30.0, 60.0, "examples"), "40"),
        (Noise(-0.1, 40.0, None, 200.0, None, "examples"), "over 200"),
        (Noise(-0.9, 40.0, None, None, None, "examples"), "not told"),
    ],
)
def test_noise_scales_in_words(noise: Noise, text: str):
    assert command._noise(noise) == text


def test_a_built_in_task_needs_no_framework():
    script = (
        "import optadvisor as oa, sys; oa.probe('quadratic', mini_batches=3, steps=2, range_test=False); "
        "print(' '.join(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert not {name.split(".")[0] for name in loaded.split()} & {"torch", "jax", "keras", "optax"}
