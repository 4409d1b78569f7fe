"""Where studies are kept: journals that survive a kill, databases, and clear words for what is neither."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import optuna
import pytest

from optadvisor.kernels import InputError
from optadvisor.studies import storage

TASK = "digits-mlp"


def add(kept: optuna.storages.BaseStorage, value: float) -> None:
    study = optuna.create_study(storage=kept, study_name="s", load_if_exists=True)
    study.add_trial(optuna.create_trial(value=value, params={}, distributions={}))


def values(kept: optuna.storages.BaseStorage) -> list[float | None]:
    return [trial.value for trial in optuna.load_study(storage=kept, study_name="s").trials]


@pytest.fixture(autouse=True)
def quiet():
    with storage.quiet_optuna():
        yield


def test_the_default_is_a_journal_in_the_data_folder(data_folder: Path):
    add(storage.open_storage(None, TASK), 1.0)
    assert (data_folder / "studies" / "digits-mlp.journal").stat().st_size > 0
    assert values(storage.open_storage(None, TASK)) == [1.0]


def test_a_path_is_a_journal_file(tmp_path: Path, data_folder: Path):
    path = str(tmp_path / "new" / "my.journal")
    add(storage.open_storage(path, TASK), 2.0)
    assert values(storage.open_storage(path, TASK)) == [2.0]
    assert not data_folder.exists()


def test_a_home_in_a_path_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    add(storage.open_storage("~/my.journal", TASK), 2.0)
    assert (tmp_path / "my.journal").exists()


def test_a_url_is_a_database(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/studies.db"
    add(storage.open_storage(url, TASK), 3.0)
    assert values(storage.open_storage(url, TASK)) == [3.0]
    assert (tmp_path / "studies.db").exists()


@pytest.mark.parametrize("keep", [1, 7, 60])
def test_a_torn_last_line_is_dropped_and_the_journal_goes_on(data_folder: Path, keep: int):
    kept = storage.open_storage(None, TASK)
    add(kept, 1.0)
    path = data_folder / "studies" / "digits-mlp.journal"
    whole = path.read_bytes()
    add(kept, 2.0)
    torn = path.read_bytes()[: len(whole) + keep]
    path.write_bytes(torn)
    again = storage.open_storage(None, TASK)
    assert path.read_bytes() == whole
    add(again, 3.0)
    assert values(storage.open_storage(None, TASK)) == [1.0, 3.0]


@pytest.mark.parametrize("text", [b"", b"{", b'{"op_code":0,"worker'])
def test_a_journal_torn_in_its_first_line_begins_anew(tmp_path: Path, text: bytes):
    path = tmp_path / "my.journal"
    path.write_bytes(text)
    add(storage.open_storage(str(path), TASK), 1.0)
    assert values(storage.open_storage(str(path), TASK)) == [1.0]


@pytest.mark.parametrize(
    "text", [b"a thesis\nwithout a last newline", b"\x89PNG\r\n\x1a\n\xff\xfe", b'{"a": 1}\n{"b": 2', b"1,2\n3,4\n"]
)
def test_a_file_that_is_not_a_journal_is_left_alone(tmp_path: Path, text: bytes):
    path = tmp_path / "thesis.txt"
    path.write_bytes(text)
    for _ in range(2):  # the first refusal leaves no lock behind that the second would wait for
        with pytest.raises(InputError, match=r"thesis\.txt is not a journal of studies .*choose another --storage"):
            storage.open_storage(str(path), TASK)
    assert path.read_bytes() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_line_in_the_middle_is_named(data_folder: Path):
    add(storage.open_storage(None, TASK), 1.0)
    path = data_folder / "studies" / "digits-mlp.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"garbage\n", *lines[1:]]))
    for _ in range(2):
        with pytest.raises(InputError, match=r"digits-mlp\.journal is not a journal of studies"):
            storage.open_storage(None, TASK)


def test_a_folder_is_not_a_journal(tmp_path: Path):
    with pytest.raises(InputError, match=r"cannot open the journal .* choose another --storage"):
        storage.open_storage(str(tmp_path), TASK)


def test_an_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OPTADVISOR_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(InputError, match=r"cannot write in .*: set OPTADVISOR_HOME to a folder you may write in"):
        storage.open_storage(None, TASK)


def test_an_unwritable_journal(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write in .*: choose another --storage"):
        storage.open_storage(str(tmp_path / "file" / "my.journal"), TASK)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense://host/x", "nonsense"),
        ("sqlite:////nowhere/at/all/x.db", "unable to open database file"),
        ("://", "Could not parse"),
        ("redis://localhost:1/0", "Can't load plugin"),
    ],
)
def test_a_bad_url(url: str, reason: str, data_folder: Path):
    with pytest.raises(InputError) as raised:
        storage.open_storage(url, TASK)
    assert f"cannot open the storage '{url}': " in str(raised.value)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not data_folder.exists()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nonsense://user:s3cret@host/db", "nonsense://user:...@host/db"),
        ("nonsense://user:s3c@ret@host/db", "nonsense://user:...@host/db"),
        ("nonsense://user@host/db?password=s3cret&sslmode=on", "nonsense://user@host/db?password=...&sslmode=on"),
        ("nonsense://user:s3cret@host:port/db", "nonsense://user:...@host:port/db"),
        ("nonsense://host/db", "nonsense://host/db"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str):
    assert storage.without_password(url) == shown
    with pytest.raises(InputError) as raised:
        storage.open_storage(url, TASK)
    assert shown in str(raised.value)
    assert "s3c" not in str(raised.value)
    assert "ret@" not in str(raised.value)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        InputError, match=r"'postgresql\+psycopg://u:\.\.\.@h/x' needs a database driver: .*psycopg"
    ) as raised:
        storage.open_storage("postgresql+psycopg://u:s3cret@h/x", TASK)
    assert "pip install 'optadvisor[postgresql]'" in str(raised.value)


def test_a_study_is_held_by_one_process(data_folder: Path):
    with storage.exclusive("digits-mlp#1", None, TASK):
        with (
            pytest.raises(InputError, match="digits-mlp#1 is being run by another process"),
            storage.exclusive("digits-mlp#1", None, TASK),
        ):
            pass
        with storage.exclusive("digits-mlp#2", None, TASK):
            pass
    with storage.exclusive("digits-mlp#1", None, TASK):
        pass


def test_studies_of_one_name_in_two_storages_do_not_hold_each_other(tmp_path: Path):
    urls = [None, str(tmp_path / "a"), str(tmp_path / "b"), "sqlite:///a.db", "sqlite:///b.db"]
    for url in urls:
        for other in urls:
            if url != other:
                with storage.exclusive("digits-mlp#1", url, TASK), storage.exclusive("digits-mlp#1", other, TASK):
                    pass


def test_a_journal_is_held_whatever_its_path_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with (
        storage.exclusive("digits-mlp#1", "my.journal", TASK),
        pytest.raises(InputError, match="another process"),
        storage.exclusive("digits-mlp#1", str(tmp_path / "my.journal"), TASK),
    ):
        pass


HOLDER = """
import sys
from pathlib import Path
from optadvisor.studies.storage import FileLock
assert FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_holds_no_lock(tmp_path: Path):
    path = tmp_path / "x.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lock = storage.FileLock(path)
        assert not lock.acquire(wait=False)
        holder.kill()
        holder.wait()
        assert lock.acquire(wait=False)
        lock.release()
        lock.release()


def test_the_callers_settings_of_optuna_are_put_back():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with storage.quiet_optuna():
            assert optuna.logging.get_verbosity() == optuna.logging.WARNING
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            warnings.warn("x", optuna.exceptions.ExperimentalWarning, stacklevel=1)
        assert len(found) == 1
    finally:
        optuna.logging.set_verbosity(before)
