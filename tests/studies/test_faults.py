"""Studies in processes that are killed, interrupted, doubled or out of disk: what finished is kept, and once."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import optadvisor as oa
from optadvisor.studies import storage

from .commands import WITH_CTRL_C, WITH_LIMIT, begin, finish, log

TRIALS, STEPS, SEED = 32, 3000, 5
ARGUMENTS = ["tune", "digits-mlp", "--optimizer", "adamw", "--jobs", "2", "--format", "json"]
ASKED = [*ARGUMENTS, "--trials", str(TRIALS), "--steps", str(STEPS), "--seed", str(SEED)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The trials of the study, with the kernel compiled on the way so that no child has to write it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTADVISOR_HOME", str(tmp_path_factory.mktemp("undisturbed")))
        result = oa.tune("digits-mlp", trials=TRIALS, steps=STEPS, seed=SEED, optimizers=["adamw"])
    return log(json.loads(json.dumps(result.to_dict())))


def stored(folder: Path) -> list[int]:
    """The numbers of the trials in the journal, in the order in which they were written."""
    journal = folder / "studies" / "digits-mlp.journal"
    if not journal.exists():
        return []
    whole = journal.read_bytes().rpartition(b"\n")[0].splitlines()
    attrs = [json.loads(line).get("user_attrs", {}) for line in whole]
    return [found["number"] for found in attrs if "number" in found]


def wait_for(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while len(stored(folder)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no trials appear in the journal"
        time.sleep(0.002)


def test_kill_9_loses_at_most_the_running_trials(data_folder: Path, undisturbed: list[dict[str, Any]]):
    process = begin(*ASKED, "--quiet")
    wait_for(data_folder, 5, process)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    kept = stored(data_folder)
    assert 5 <= len(kept) < TRIALS
    assert not (data_folder / "tuned").exists(), "a study that has not ended has no tuned config"
    code, out, err = finish(begin(*ASKED, "--quiet", "--resume"))
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert log(data) == undisturbed
    assert (data["trials"], data["study"]) == (TRIALS, "digits-mlp#1")
    assert stored(data_folder)[: len(kept)] == kept, "what was kept is not run again"
    assert sorted(stored(data_folder)) == list(range(TRIALS))
    assert oa.load_config("digits-mlp").to_dict() == data["best"]["config"]


def test_kill_9_again_and_again(data_folder: Path, undisturbed: list[dict[str, Any]]):
    for count in (1, 12):
        process = begin(*ARGUMENTS, "--resume", *ASKED[len(ARGUMENTS) :])
        wait_for(data_folder, count, process)
        process.kill()
        finish(process)
    code, out, err = finish(begin("tune", "digits-mlp", "--resume", "--format", "json", "--quiet"))
    assert (code, err) == (0, "")
    assert log(json.loads(out)) == undisturbed
    assert sorted(stored(data_folder)) == list(range(TRIALS))


def test_ctrl_c_keeps_the_trials_and_says_how_to_go_on(data_folder: Path, undisturbed: list[dict[str, Any]]):
    process = begin(*ASKED, before=WITH_CTRL_C)
    wait_for(data_folder, 5, process)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (1, "")
    again = "optadvisor tune digits-mlp --resume"
    assert err == f"Interrupted: finished trials are kept. Go on with: {again}\n"
    assert 5 <= len(stored(data_folder)) < TRIALS
    code, out, _ = finish(begin(*again.split()[1:], "--format", "json"))
    assert code == 0
    assert log(json.loads(out)) == undisturbed


def test_a_full_disk_is_one_line_and_the_journal_can_be_resumed(data_folder: Path, undisturbed: list[dict[str, Any]]):
    pytest.importorskip("resource")
    code, out, err = finish(begin(*ASKED, "--quiet", before=WITH_LIMIT.format(20_000)))
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert "File too large" in err
    assert "optadvisor tune digits-mlp --resume" in err
    kept = stored(data_folder)
    assert 0 < len(kept) < TRIALS
    code, out, _ = finish(begin(*ASKED, "--quiet", "--resume"))
    assert code == 0
    assert log(json.loads(out)) == undisturbed
    assert sorted(stored(data_folder)) == list(range(TRIALS))


def test_a_study_is_run_by_one_process(data_folder: Path):
    before = oa.tune("digits-mlp", trials=2, steps=5, optimizers=["adamw"])
    journal = (data_folder / "studies" / "digits-mlp.journal").read_bytes()
    with storage.exclusive(before.study, None, "digits-mlp"):
        code, out, err = finish(begin(*ARGUMENTS, "--quiet", "--resume"))
    assert (code, out) == (2, "")
    assert err.startswith("Error: study digits-mlp#1 is being run by another process: wait for it")
    assert err.count("\n") == 1
    assert (data_folder / "studies" / "digits-mlp.journal").read_bytes() == journal


def test_two_processes_that_resume_at_once(data_folder: Path, undisturbed: list[dict[str, Any]]):
    first = begin(*ASKED, "--quiet")
    wait_for(data_folder, 5, first)
    first.kill()
    finish(first)
    ended = [finish(process) for process in [begin(*ASKED, "--quiet", "--resume") for _ in range(2)]]
    assert {code for code, _, _ in ended} <= {0, 2}
    done = [out for code, out, _ in ended if code == 0]
    assert done
    for out in done:
        assert log(json.loads(out)) == undisturbed
    assert sorted(stored(data_folder)) == list(range(TRIALS))
