"""optadvisor recommend --torch FILE.py:FACTORY, and --epochs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
JSON = ("--format", "json")
FILE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PROFILE = {"domain": "tabular", "samples": 5000}


def model():
    return nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1))


def with_batch():
    return model(), (torch.randn(32, 20), torch.randn(32, 1))


def with_loader():
    data = TensorDataset(torch.randn(100, 20), torch.randn(100, 1))
    return model(), DataLoader(data, batch_size=10), nn.MSELoss()


def number():
    return 3


def fails():
    raise KeyError("weights")


built = model()
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / f"mine_{abs(hash(tmp_path))}.py"
    path.write_text(FILE)
    return str(path)


def test_epochs_need_samples_and_batch_size(run):
    known = ("--samples", "1000", "--batch-size", "30")
    assert run("recommend", "--epochs", "4", *known, *JSON).json["profile"]["steps"] == 4 * 34
    run("recommend", "--epochs", "4", *known, "--steps", "5").refused("steps is 5 and epochs is 4", "one of them")
    run("recommend", "--epochs", "4").refused("needs samples and batch_size too")
    run("recommend", "--epochs", "0").refused("--epochs")


def test_torch_that_is_not_installed(tmp_path):
    script = (
        "import sys; sys.modules['torch'] = None; from optadvisor.cli.main import main; "
        "sys.exit(main(['recommend', '--torch', 'mine.py:model']))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert "needs torch, which is not installed: pip install torch" in ran.stderr


# with PyTorch --------------------------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parity
def test_the_answer_shows_what_was_read_and_why(run, file, torch):
    ran = run("recommend", "--torch", f"{file}:with_loader", "--epochs", "2")
    assert ran.code == 0
    text, squeezed = " ".join(ran.out.split()), "".join(ran.out.split())  # long paths are broken over lines
    assert f"Readfrom{file}:with_loader" in squeezed
    assert f"optadvisorprobe{file}:with_loader" in squeezed
    for words in (
        "model Sequential",
        "trainable 1,537 parameters in 6 tensors",
        "- matrix 1,344",
        "normalisation 1 batch",
        "architecture mlp (2 linear layers one after the other",
        "domain tabular (declared)",
        "batch size 10 (of the loader)",
        "steps 1,000 (2 epochs of 500 steps)",
    ):
        assert words in text


@pytest.mark.parity
def test_the_json_has_it_too(run, file, torch):
    data = run("recommend", "--torch", f"{file}:with_batch", *JSON).json
    assert data["profile"]["architecture"] == "mlp"
    assert data["profile"]["parameters"] == 1537
    assert data["profile"]["batch_size"] == 32
    assert data["model"]["parameters"] == {"matrix": 1344, "norm": 128, "bias": 65}
    assert data["model"]["read"]["batch_size"]["why"] == "the length of the batch"
    assert "domain" not in data["model"]["read"]
    assert len(data["recommendations"]) == 5


@pytest.mark.parity
def test_options_win_over_the_profile_file_over_the_files_own_over_what_is_read(run, file, torch, tmp_path):
    stored = tmp_path / "profile.json"
    stored.write_text('{"domain": "other", "samples": 7000, "architecture": "linear"}')

    def profile(*args):
        return run("recommend", "--torch", f"{file}:with_loader", *args, *JSON).json["profile"]

    assert [profile()[name] for name in ("domain", "samples", "architecture")] == ["tabular", 5000, "mlp"]
    found = profile("--profile", str(stored))
    assert [found[name] for name in ("domain", "samples", "architecture")] == ["other", 7000, "linear"]
    found = profile("--profile", str(stored), "--samples", "9k", "--architecture", "policy")
    assert [found[name] for name in ("domain", "samples", "architecture")] == ["other", 9000, "policy"]


@pytest.mark.parity
@pytest.mark.parametrize("name", ["model", "built"])
def test_a_model_alone(run, file, torch, name):
    assert run("recommend", "--torch", f"{file}:{name}", *JSON).json["profile"]["architecture"] == "mlp"


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("number", ("number() returned int", "it must return a torch.nn.Module")),
        ("fails", ("fails() failed: KeyError: 'weights'",)),
        ("modle", ("'modle'", "did you mean 'model'?")),
    ],
)
def test_errors_are_one_line(run, file, torch, name, words):
    run("recommend", "--torch", f"{file}:{name}").refused(*words)


@pytest.mark.parity
def test_a_profile_of_the_file_that_is_wrong(run, file, torch, tmp_path):
    other = tmp_path / "other_profile.py"
    other.write_text(FILE.replace('"domain": "tabular"', '"domain": "visoin"'))
    run("recommend", "--torch", f"{other}:model").refused("PROFILE: unknown domain 'visoin'", "other_profile.py")


def test_without_a_model_nothing_of_frameworks_is_imported():
    script = (
        "import sys; from optadvisor.cli.main import main; main(['recommend', '--domain', 'rl']); print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not [name for name in ran.stdout.split() if name.startswith("optadvisor.frameworks")]


@pytest.mark.parity
def test_the_page_shows_what_is_read_of_its_model(run, torch, tmp_path, monkeypatch):
    page = PAGE.read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 40
    (tmp_path / "digits.py").write_text(code)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    command = page.split("    optadvisor ")[1].split("\n")[0].split()
    ran = run(*command)
    assert ran.code == 0, ran.err
    read = ran.out.split("Read from")[1].split("\n\n")[0]
    assert f"Read from{read}\n" in page
