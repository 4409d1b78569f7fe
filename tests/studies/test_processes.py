"""Worker processes: what the person's code prints, kills, waits for or breaks stays in them; none outlives the study."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

import optadvisor as oa
from optadvisor.config import OptimizerConfig
from optadvisor.kernels import InputError
from optadvisor.studies import storage
from optadvisor.studies.executors import Job, TrialError, processes
from optadvisor.studies.executors.processes import Processes
from optadvisor.studies.study import StudyError
from optadvisor.studies.tasks.task import TrialRecord

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")

HEAD = "import os, subprocess, sys, time\n"
DEFINITION = "def objective(config, report, seed):\n"
Train = Callable[..., TrialRecord]


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], str]:
    """own("return 1.0"): a file with a function of these lines; what tune is given for it."""

    def write(body: str, before: str = "") -> str:
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        path = tmp_path / "train.py"
        path.write_text(HEAD + before + "\n" + DEFINITION + lines)
        return f"{path}:objective"

    return write


def job(number: int = 0, lr: float = 0.01, report: Any = None) -> Job:
    return Job(f"trial {number}", OptimizerConfig.of("sgd", {"lr": lr}), number, None, report)


@contextlib.contextmanager
def started(target: str, jobs: int = 1, timeout: float | None = None) -> Iterator[Processes]:
    executor = Processes(processes.find(target), jobs, timeout)
    try:
        yield executor
    finally:
        executor.close()


def train(executor: Processes, *jobs: Job) -> list[TrialRecord]:
    return [future.result(timeout=60) for future in [executor.submit(one) for one in jobs]]


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.parent.parent.is_dir() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids: list[int], within: float = 10.0) -> bool:
    end = time.monotonic() + within
    while any(map(alive, pids)):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def numbers(path: Path, count: int) -> list[int]:
    """The process ids that the person's code writes into a file, as soon as there are so many."""
    end = time.monotonic() + 60
    while not path.exists() or len(path.read_text().split()) < count:
        assert time.monotonic() < end, "the trainings do not begin"
        time.sleep(0.02)
    return [int(text) for text in path.read_text().split()]


# what passes between the processes ----------------------------------------------------------------------------------


def test_records_come_back_whole(own: Any):
    body = "report(1, 2.5)\nreport(2, float('nan'))\n"
    body += "if seed == 1: raise OverflowError('too large')\nreturn config.hyperparameters['lr'] * 10"
    with started(own(body)) as executor:
        good, bad = train(executor, job(0, 0.03), job(1))
    assert (good.value, good.state, good.curve, good.seed) == (0.3, "complete", [(1, 2.5), (2, math.inf)], 0)
    assert good.config == job(0, 0.03).config
    assert (bad.value, bad.state) == (math.inf, "diverged")
    assert bad.message.startswith("OverflowError: too large, at ")
    assert 0 <= good.seconds < 5


def test_what_it_prints_goes_to_stderr_and_what_it_reads_is_empty(own: Any, capfd: pytest.CaptureFixture[str]):
    body = "print('one')\nos.write(1, b'two\\n')\nsubprocess.run(['echo', 'three'])\nprint('four', file=sys.stderr)\n"
    body += "assert sys.stdin.read() == '' and os.read(0, 9) == b''\nsys.stdout.write('five')\nreturn 1.0"
    with started(own(body, "print('zero')")) as executor:
        assert [record.value for record in train(executor, job(0), job(1))] == [1.0, 1.0]
    out, err = capfd.readouterr()
    assert out == ""
    for word in ("zero", "one", "two", "three", "four", "five"):
        assert word in err


def test_no_file_of_the_worker_is_left_to_what_it_starts(own: Any):
    body = "script = 'import os; print(len(os.listdir(\"/proc/self/fd\")))'\n"
    body += "found = subprocess.run([sys.executable, '-c', script], close_fds=False, capture_output=True, check=True)\n"
    body += "return float(found.stdout)"
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    with started(own(body)) as executor:
        assert train(executor, job())[0].value == 4, "three standard ones, and the folder that is listed"


def test_the_verdict_goes_back(own: Any):
    told = []

    def judge(step: int, value: float) -> None:
        told.append((step, value))
        if step == 3:
            raise optuna.TrialPruned

    body = "for step in range(1, 10): report(step, 1 / step)\nreturn 0.0"
    with started(own(body)) as executor:
        pruned, whole = train(executor, job(0, report=judge), job(1))
    assert told == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert (pruned.state, pruned.value, [step for step, _ in pruned.curve]) == ("pruned", 1 / 3, [1, 2, 3])
    assert (whole.state, len(whole.curve)) == ("complete", 9)


def test_an_error_of_the_judge_is_the_studys(own: Any):
    def judge(step: int, value: float) -> None:
        raise OSError("disk full")

    with started(own("report(1, 1.0)\nreturn 1.0")) as executor:
        with pytest.raises(OSError, match="disk full"):
            train(executor, job(0, report=judge))
        assert train(executor, job(1))[0].value == 1.0, "by another process"


def test_workers_are_used_again_and_so_many_run_at_once(own: Any, tmp_path: Path):
    text = f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}} ')\n"
    both = f"while len(open({str(tmp_path / 'pids')!r}).read().split()) < 2: time.sleep(0.01)\n"
    with started(own(text + both + "return 1.0"), jobs=2) as executor:
        train(executor, *(job(i) for i in range(8)))
    pids = numbers(tmp_path / "pids", 8)
    assert len(set(pids)) == 2
    assert gone(pids)


def test_cores_are_shared_out(own: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    body = "return float(os.environ.get('OMP_NUM_THREADS', 0))"
    values = []
    for jobs in (1, 2, 8):
        with started(own(body), jobs=jobs) as executor:
            values.append(train(executor, job())[0].value)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with started(own(body), jobs=2) as executor:
        values.append(train(executor, job())[0].value)
    assert values == [0, 3, 1, 5], "one alone has all; what the person has set stays"


def test_a_worker_imports_what_the_persons_code_imports(own: Any):
    heavy = ("numpy", "numba", "optuna", "sklearn", "scipy", "sqlalchemy", "click", "rich")
    with started(own(f"return float(len([name for name in {heavy!r} if name in sys.modules]))")) as executor:
        assert train(executor, job())[0].value == 0


# loading -------------------------------------------------------------------------------------------------------------


def test_the_file_is_looked_at_in_another_process(own: Any):
    task = processes.find(own("return 1.0", "STEPS = 20\nassert os.environ.pop('OPTADVISOR_HOME')"))
    assert (task.steps, task.here) == (20, False)
    assert "train" not in sys.modules
    assert "OPTADVISOR_HOME" in os.environ


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("x = y", r"train.py cannot be loaded: NameError: .*, at .*train.py:2"),
        ("PROFILE = 3", "PROFILE is 3; it takes a dict"),
        ("os._exit(3)", r"train.py:objective cannot be loaded: its process ended with exit status 3"),
        (
            "os.kill(os.getpid(), 9)",
            r"cannot be loaded: its process died of signal 9 \(Killed, perhaps because memory ran",
        ),
    ],
)
def test_what_cannot_be_loaded(own: Any, before: str, words: str, data_folder: Path):
    with pytest.raises(InputError, match=words):
        oa.tune(own("return 1.0", before))
    assert not data_folder.exists()


def test_a_file_that_is_broken_later(own: Any):
    with started(own("os._exit(0)")) as executor:
        assert train(executor, job(0))[0].failed
        own("return 1.0", "x = y")
        with pytest.raises(TrialError, match=r"trial 1 \(sgd, lr 0.01\): no worker process for it: .*NameError"):
            train(executor, job(1))


# what goes wrong -----------------------------------------------------------------------------------------------------

DEATHS = {
    "os._exit(3)": "its process ended with exit status 3",
    "import ctypes; ctypes.string_at(0)": "its process died of signal 11 (Segmentation fault)",
    "os.kill(os.getpid(), 9)": "its process died of signal 9 (Killed, perhaps because memory ran out)",
    "os.abort()": "its process died of signal 6 (Aborted)",
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_worker_that_dies_is_a_failed_trial_and_another_one_goes_on(own: Any, death: str):
    body = f"report(1, 0.5)\nif seed == 0:\n    {death}\nreturn 1.0"
    with started(own(body)) as executor:
        dead, next_one = train(executor, job(0), job(1))
    assert (dead.state, dead.value, dead.message) == ("failed", math.inf, DEATHS[death])
    assert dead.curve == [(1, 0.5)]
    assert (next_one.state, next_one.value) == ("complete", 1.0)


def test_a_worker_that_dies_between_two_trials(own: Any):
    body = "import threading\n"
    body += "if seed == 0: threading.Timer(0.1, lambda: os._exit(1)).start()\nreturn 1.0"
    with started(own(body)) as executor:
        assert train(executor, job(0))[0].value == 1.0
        time.sleep(0.5)
        assert train(executor, job(1))[0].value == 1.0


def test_a_training_that_takes_too_long_is_stopped_with_its_children(own: Any, tmp_path: Path):
    body = "if seed == 0:\n    child = subprocess.Popen(['sleep', '600'])\n"
    body += f"    open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
    body += "    report(1, 0.5)\n    child.wait()\nreturn 1.0"
    began = time.monotonic()
    with started(own(body), timeout=1.5) as executor:
        slow, quick = train(executor, job(0), job(1))
    assert (slow.state, slow.message, slow.curve) == ("failed", "stopped after 1.5 seconds", [(1, 0.5)])
    assert 1.5 <= slow.seconds < 20
    assert (quick.state, quick.value) == ("complete", 1.0)
    assert time.monotonic() - began < 60
    assert gone(numbers(tmp_path / "pids", 2))


def test_a_timeout_does_not_count_loading(own: Any):
    with started(own("return 1.0", "time.sleep(1.0)"), timeout=0.5) as executor:
        assert train(executor, job(0), job(1))[1].value == 1.0


def test_a_child_that_holds_the_pipe_of_the_dead_is_not_waited_for(own: Any, tmp_path: Path):
    body = "if seed == 0:\n    pid = os.fork()\n    if pid == 0: time.sleep(600)\n"
    body += f"    open({str(tmp_path / 'pids')!r}, 'w').write(str(pid))\n    os._exit(3)\nreturn 1.0"
    with started(own(body)) as executor:
        dead, quick = train(executor, job(0), job(1))
    assert dead.message == "its process ended with exit status 3"
    assert quick.value == 1.0
    assert gone(numbers(tmp_path / "pids", 1))


def test_an_error_is_told_with_its_traceback(own: Any):
    with started(
        own("if seed == 0: raise KeyError('weights')\nif seed == 1: sys.exit('enough')\nreturn 1.0")
    ) as executor:
        with pytest.raises(
            TrialError, match=r"trial 0 \(sgd, lr 0.01\): KeyError: 'weights', at .*train.py:4"
        ) as caught:
            train(executor, job(0))
        assert "line 4, in objective" in str(caught.value.__cause__)
        with pytest.raises(TrialError, match=r"trial 1 \(sgd, lr 0.01\): SystemExit: enough"):
            train(executor, job(1))
        assert train(executor, job(2))[0].value == 1.0


def test_closing_stops_what_runs(own: Any, tmp_path: Path):
    body = f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}} ')\n"
    body += "if seed == 0: return 1.0\nchild = subprocess.Popen(['sleep', '600'])\n"
    body += f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{child.pid}} ')\ntime.sleep(600)"
    executor = Processes(processes.find(own(body)), 2)
    train(executor, job(0))
    futures = [executor.submit(job(i)) for i in range(1, 5)]
    pids = numbers(tmp_path / "pids", 5)
    began = time.monotonic()
    executor.close()
    assert time.monotonic() - began < 10
    assert gone(pids)
    assert all(future.done() for future in futures)


def test_what_is_registered_for_the_end_runs(own: Any, tmp_path: Path):
    end = f"import atexit\natexit.register(lambda: open({str(tmp_path / 'end')!r}, 'a').write('x'))"
    with started(own("return 1.0", end)) as executor:
        train(executor, job(0))
    assert (tmp_path / "end").read_text() == "xx", "of the process that looked, and of the one that trained"


def test_one_that_does_not_end_is_ended(own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "GRACE", 0.5)
    body = f"import threading\nopen({str(tmp_path / 'pids')!r}, 'w').write(str(os.getpid()))\n"
    body += "threading.Thread(target=time.sleep, args=(600,)).start()\nreturn 1.0"
    with started(own(body)) as executor:
        train(executor, job(0))
    assert gone(numbers(tmp_path / "pids", 1))


# whole studies -------------------------------------------------------------------------------------------------------


def test_failed_trials_are_results_and_kept(own: Any):
    body = "lr = config.hyperparameters['lr']\nif lr > 0.05: os._exit(3)\nreturn lr"
    result = oa.tune(own(body), trials=12, optimizers=["sgd"], jobs=2)
    states = [trial.record.state for trial in result.trials]
    assert set(states) == {"complete", "failed"}
    for trial in result.to_dict()["trials_log"]:
        failed = trial["config"]["hyperparameters"]["lr"] > 0.05
        assert trial["state"] == ("failed" if failed else "complete")
        assert (trial["value"] is None) == failed
        assert trial.get("message") == ("its process ended with exit status 3" if failed else None)
    kept = optuna.load_study(storage=storage.open_storage(None, result.task), study_name=f"{result.study}/sgd")
    assert sum(trial.user_attrs.get("message") == "its process ended with exit status 3" for trial in kept.trials)
    again = oa.tune(own(body), resume=True)
    assert [trial.record.state for trial in again.trials] == states
    alone = oa.tune(own(body), trials=12, optimizers=["sgd"])
    assert [trial.record.config.hyperparameters for trial in alone.trials] == [
        trial.record.config.hyperparameters for trial in result.trials
    ]


def test_a_study_in_which_all_take_too_long_says_so(own: Any):
    with pytest.raises(StudyError, match=r"each of its 2 configs diverged or failed .*stopped after 0.2 s"):
        oa.tune(own("time.sleep(60)"), trials=2, optimizers=["sgd"], timeout=0.2)


# The command: what is left when it ends, however it ends. A test run in the background may itself ignore Ctrl-C.
COMMAND = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND += "from optadvisor.cli.main import main; sys.exit(main(sys.argv[1:]))"


def begin(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COMMAND, "tune", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SLOW = "open({0!r}, 'a').write(f'{{os.getpid()}} ')\nif seed % 2: return 1.0\n"
SLOW += "child = subprocess.Popen(['sleep', '600'])\nopen({0!r}, 'a').write(f'{{child.pid}} ')\nchild.wait()"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-c", "terminate", "kill -9"])
def test_no_process_outlives_the_command(own: Any, tmp_path: Path, end: signal.Signals):
    target = own(SLOW.format(str(tmp_path / "pids")))
    process = begin(target, "--optimizer", "sgd", "--jobs", "2", "--trials", "8", "--quiet")
    numbers(tmp_path / "pids", 4)
    time.sleep(0.3)
    process.send_signal(end)
    out, err = process.communicate(timeout=60)
    pids = [int(text) for text in (tmp_path / "pids").read_text().split()]
    assert gone(pids), "workers and what they have started"
    if end == signal.SIGINT:
        assert (process.returncode, out) == (1, "")
        assert err == f"Interrupted: finished trials are kept. Go on with: optadvisor tune {target} --resume\n"


def test_an_error_ends_the_command_and_all_processes(own: Any, tmp_path: Path, data_folder: Path):
    pids = str(tmp_path / "pids")
    body = f"open({pids!r}, 'a').write(f'{{os.getpid()}} ')\n"
    body += f"if len(open({pids!r}).read().split()) == 4: raise ValueError('bad\\nshape')\n"
    body += f"if len(open({pids!r}).read().split()) == 3: time.sleep(600)\nreturn 1.0"
    target = own(body)
    process = begin(target, "--optimizer", "sgd", "--jobs", "2", "--trials", "6", "--quiet")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("Error: trial ")
    assert err.count("\n") == 1
    for words in (
        "(sgd, lr ",
        "ValueError: bad shape, at ",
        "train.py:5",
        f"optadvisor tune {target} --resume goes on",
    ):
        assert words in err
    assert gone([int(text) for text in (tmp_path / "pids").read_text().split()])
    kept = [path.read_text() for path in (data_folder / "studies").glob("*.journal")]
    noted = [json.loads(line).get("user_attrs", {}).get("number") for line in kept[0].splitlines()]
    assert len([number for number in noted if number is not None]) == 2, "the two that had finished"
    done = begin(target, "--resume", "--format", "json", "--quiet")
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, "")
    assert json.loads(out)["trials"] == 6
