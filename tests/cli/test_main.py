"""The command line as a whole: help, version, exit codes, streams, tracebacks, pipes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import optadvisor
from optadvisor.cli import main as module
from optadvisor.cli.main import COMMANDS, main

OPTADVISOR = [sys.executable, "-m", "optadvisor"]


def process(*args, **options):
    return subprocess.run([*OPTADVISOR, *args], capture_output=True, text=True, timeout=60, check=False, **options)


# help and version ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command(run, flag):
    ran = run(flag)
    assert ran.code == 0
    assert ran.err == ""
    for name in COMMANDS:
        assert f"\n  {name} " in ran.out
    assert "--debug" in ran.out


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_of_every_command_has_an_example_and_documents_every_option(run, name, flag):
    ran = run(name, flag)
    assert ran.code == 0
    assert ran.err == ""
    assert f"Example: optadvisor {name}" in " ".join(ran.out.split())
    command = module.cli.get_command(None, name)
    for param in command.params:
        if param.param_type_name == "option":
            assert param.help, f"{name} {param.opts[0]} has no help"
            assert param.opts[0] in ran.out


@pytest.mark.parametrize(
    "args",
    [
        ("recommend", "--domain", "language", "--architecture", "transformer", "--parameters", "124M"),
        ("explain", "adamw"),
        ("optimizers", "--format", "json"),
    ],
)
def test_the_examples_of_help_work(run, args):
    assert " ".join(args) in " ".join(run(args[0], "--help").out.split())
    assert run(*args).code == 0


def test_recommends_help_has_every_option_of_the_contract(run):
    out = run("recommend", "--help").out
    for option in (
        *("--domain", "--architecture", "--goal", "--parameters", "--samples", "--batch-size", "--steps", "--trials"),
        *("--sparse-fraction", "--convex", "--non-convex", "--unstable", "--non-stationary", "--ill-conditioned"),
        *("--memory-limit", "--profile", "--top", "--format"),
    ):
        assert option in out


def test_version(run):
    ran = run("--version")
    assert ran.code == 0
    assert optadvisor.__version__ in ran.out


# exit codes and errors -----------------------------------------------------------------------------------------------


def test_an_unknown_command_offers_the_nearest(run):
    run("recomend").refused("'recomend'", "did you mean 'recommend'?")
    run("Explain").refused("did you mean 'explain'?")
    run("zzz").refused("'zzz'", *COMMANDS)
    run("--zzz").refused("--zzz")


def test_no_command(run):
    run().refused("no command", "--help", "recommend")


@pytest.mark.parametrize("args", [("--debug", "explain", "adamv"), ("explain", "adamv", "--debug")])
def test_debug_shows_the_traceback_of_wrong_usage(run, args):
    ran = run(*args)
    assert ran.code == 2
    assert ran.out == ""
    assert "Traceback (most recent call last)" in ran.err
    assert ran.err.splitlines()[-1].startswith("Error: unknown ")
    assert "adamw" in ran.err.splitlines()[-1]


def test_debug_changes_nothing_where_all_is_well(run):
    assert run("explain", "adam", "--debug") == run("explain", "adam")


def broken(error):
    def invoke(*args, **options):
        raise error

    return invoke


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("the disk\nis full"), "Error: RuntimeError: the disk is full"),
        (ValueError("a bug"), "Error: ValueError: a bug"),
        (OSError(28, "No space left on device"), "Error: OSError: [Errno 28] No space left on device"),
        (MemoryError(), "Error: MemoryError: MemoryError"),
        (optadvisor.InputError("steps is 0"), "Error: steps is 0"),
    ],
)
def test_any_error_is_one_line(run, monkeypatch, error, line):
    monkeypatch.setattr("optadvisor.cli.optimizers.print_json", broken(error))
    ran = run("optimizers", "--format", "json")
    ran.refused(code=2 if isinstance(error, optadvisor.InputError) else 1)
    assert ran.err == line + "\n"
    debugged = run("optimizers", "--format", "json", "--debug")
    assert "Traceback" in debugged.err
    assert debugged.err.splitlines()[-1] == line


def test_an_interrupt_is_the_works_failure_and_no_traceback(run, monkeypatch):
    monkeypatch.setattr("optadvisor.cli.optimizers.print_json", broken(KeyboardInterrupt()))
    ran = run("optimizers", "--format", "json")
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.strip() == "Error: interrupted"


def test_main_takes_the_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["optadvisor", "optimizers"])
    assert main() == 0
    assert "adamw" in capsys.readouterr().out


# streams, in a process of its own ------------------------------------------------------------------------------------


def test_from_another_folder_results_on_stdout_errors_on_stderr(tmp_path):
    good = process("recommend", "--domain", "vision", cwd=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("Start with momentum")
    assert "\x1b" not in good.stdout
    bad = process("recommend", "--domain", "visoin", cwd=tmp_path)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "a recommendation writes nothing"


def test_no_colour_in_a_pipe_whatever_the_environment_wants():
    forced = {**os.environ, "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "xterm-256color"}
    for args in (("recommend",), ("explain", "sgd"), ("optimizers",), ("--help",)):
        assert "\x1b" not in process(*args, env=forced).stdout


@pytest.mark.parametrize("args", [("recommend",), ("recommend", "--format", "json"), ("recommend", "--help")])
def test_a_reader_that_goes_away_is_no_error(args):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            [*OPTADVISOR, *args], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_head_gets_its_line():
    ran = subprocess.run(
        f"set -o pipefail; '{sys.executable}' -m optadvisor recommend | head -1",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Start with adamw")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_is_one_line_and_exit_1():
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        ran = subprocess.run(
            [*OPTADVISOR, "recommend"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "No space left" in ran.stderr


def test_output_survives_a_terminal_that_knows_only_ascii():
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    for args in (("recommend", "--domain", "vision"), ("explain", "hybrid"), ("recommend", "--domain", "visión")):
        ran = process(*args, env=plain)
        assert ran.returncode in (0, 2)
        assert "Traceback" not in ran.stderr
        assert "UnicodeEncodeError" not in ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("args", [("recommend", "--domain", "recsys"), ("explain", "sgd"), ("optimizers",)])
def test_on_a_terminal_the_same_words_with_colour(args):
    import pty

    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [*OPTADVISOR, *args],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:  # Linux's word for the end of a pseudo-terminal
        pass
    os.close(leader)
    assert child.wait(60) == 0
    import re

    words = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")
    assert words.split() == process(*args).stdout.split()
    if args[0] != "optimizers":
        assert b"\x1b[" in shown


def test_a_narrow_terminal_is_no_error():
    import pty

    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [*OPTADVISOR, "optimizers"],
        stdin=follower,
        stdout=follower,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "10"},
    )
    os.close(follower)
    try:
        while os.read(leader, 65536):
            pass
    except OSError:
        pass
    os.close(leader)
    assert child.communicate(timeout=60)[1] == b""
    assert child.returncode == 0
