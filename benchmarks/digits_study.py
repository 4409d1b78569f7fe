"""A study of 200 AdamW trainings on the digits: `oa.tune` against PyTorch eager with Optuna on sqlite; at least 40x.

Both sides: the 64-32-10 network, PyTorch's initial weights, 500 steps of batch 32, the search space of the rule
record, TPE, a storage on disk. PyTorch gets the fused AdamW and the faster of one or all threads, and evaluates once a
training; ours evaluates six times and trains 15 confirmation runs on top. PyTorch's study runs once and pauses five
times, and ours runs once in each pause, so that a change of the machine's speed meets both.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMIT = 40.0
STEPS = 500
PARTS = 5
SCRIPT = Path(sys.executable).with_name("optadvisor.exe" if os.name == "nt" else "optadvisor")


# ours ----------------------------------------------------------------------------------------------------------------


@contextmanager
def watched(spent: dict[str, float], *places: tuple[Any, str, str]) -> Iterator[None]:
    """Add up the seconds in some functions, by label."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]

    def timed(function: Callable[..., Any], label: str) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **keywords)
            finally:
                spent[label] += time.perf_counter() - began

        return call

    for (owner, name, label), (_, _, function) in zip(places, before, strict=True):
        setattr(owner, name, timed(function, label))
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def our_study(trials: int, seed: int) -> tuple[float, Any]:
    import optadvisor as oa

    began = time.perf_counter()
    result = oa.tune("digits-mlp", trials=trials, seed=seed, optimizers=["adamw"], steps=STEPS, warm=False)
    return time.perf_counter() - began, result


def split(trials: int) -> None:
    """Where a study of ours spends its time, as the main thread sees it; trainings run beside it."""
    import optuna

    from optadvisor.studies import storage, study

    spent: dict[str, float] = defaultdict(float)
    with watched(
        spent,
        (optuna.Study, "ask", "sampler (asking)"),
        (optuna.Study, "tell", "sampler (telling)"),
        (optuna.Study, "add_trial", "storage (a trial)"),
        (storage, "open_storage", "storage (opening)"),
        (study._Loop, "confirm", "confirmation"),
    ):
        seconds, result = our_study(trials, 99)
    spent["waiting for trainings, the rest"] = seconds - sum(spent.values())
    print(f"where ours spends {seconds:.2f} s:")
    for label, share in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {label:<32} {share:6.2f} s  {share / seconds:4.0%}")
    training = sum(trial.record.seconds for trial in result.trials)
    print(f"  the {trials} trainings in their threads: {training:.2f} s, {1000 * training / trials:.1f} ms each")


def our_process(trials: int) -> float:
    began = time.perf_counter()
    counts = ["--trials", str(trials), "--steps", str(STEPS)]
    command = [str(SCRIPT), "tune", "digits-mlp", "--optimizer", "adamw", *counts, "--quiet"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


# the peer ------------------------------------------------------------------------------------------------------------


def peer(trials: int, folder: Path) -> None:
    """The same study with PyTorch and Optuna alone, in parts, each begun by a line on stdin; prints figures as JSON."""
    began = time.perf_counter()
    import optuna
    import torch

    from optadvisor.kernels import RULES
    from optadvisor.studies.tasks import datasets
    from optadvisor.studies.tasks.vision.mlp import DIGITS_MLP, TRAINING, VALIDATION

    imports = time.perf_counter() - began
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    x, labels = map(torch.from_numpy, datasets.digits())
    batch, held = DIGITS_MLP.axes["batch"].default, slice(TRAINING, TRAINING + VALIDATION)
    train_x, train_y = x[:TRAINING], labels[:TRAINING]
    held_x, held_y = x[held], labels[held]
    loss_of = torch.nn.functional.cross_entropy
    axes = [axis for _, axis in RULES["adamw"].search()]

    def train(seed: int, point: dict[str, float], steps: int) -> float:
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
        matrices, rest = ([p for p in model.parameters() if (p.ndim == 2) == wanted] for wanted in (True, False))
        optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": point["weight_decay"]}, {"params": rest, "weight_decay": 0.0}],
            lr=point["lr"],
            betas=(1 - point["one_minus_beta1"], 1 - point["one_minus_beta2"]),
            eps=point["eps"],
            fused=True,
        )
        epoch = TRAINING // batch
        orders = [torch.randperm(TRAINING)[: epoch * batch] for _ in range(-(-steps // epoch))]
        for rows in torch.cat(orders).view(-1, batch)[:steps]:
            optimizer.zero_grad()
            loss_of(model(train_x[rows]), train_y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            return loss_of(model(held_x), held_y).item()

    def objective(trial: optuna.Trial) -> float:
        point = {axis.name: trial.suggest_float(axis.name, axis.low, axis.high, log=axis.log) for axis in axes}
        return train(trial.number, point, STEPS)

    middle = {"lr": 1e-3, "weight_decay": 0.01, "one_minus_beta1": 0.1, "one_minus_beta2": 0.001, "eps": 1e-8}
    speed = {}
    for threads in {1, torch.get_num_threads()}:
        torch.set_num_threads(threads)
        train(0, middle, 50)
        times = []
        for seed in range(3):
            began = time.perf_counter()
            train(seed, middle, STEPS)
            times.append(time.perf_counter() - began)
        speed[threads] = statistics.median(times)
    threads = min(speed, key=speed.__getitem__)
    torch.set_num_threads(threads)
    began = time.perf_counter()
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/peer.db", sampler=optuna.samplers.TPESampler(seed=0), direction="minimize"
    )
    seconds = time.perf_counter() - began
    for part in range(PARTS):
        print("paused", flush=True)
        sys.stdin.readline()
        began = time.perf_counter()
        study.optimize(objective, n_trials=trials // PARTS + (part < trials % PARTS))
        seconds += time.perf_counter() - began
    found = {"seconds": seconds, "imports": imports, "best": study.best_value, "speed": speed, "threads": threads}
    print(json.dumps(found))


def run_peer(trials: int, folder: Path, pause: Callable[[int], None]) -> dict[str, Any]:
    """The peer's figures; pause(number) is called between its parts."""
    command = [sys.executable, __file__, "--peer", str(folder), "--trials", str(trials)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for part in range(PARTS):
            if process.stdout.readline() != "paused\n":
                raise RuntimeError("the PyTorch study ended early: its error is above")
            pause(part)
            process.stdin.write("go on\n")
            process.stdin.flush()
        found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


# both ----------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="of each study (200)")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    trials = arguments.trials
    if arguments.peer:
        peer(trials, arguments.peer)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OPTADVISOR_HOME"] = folder
        our_study(min(trials, 16), 0)  # fills the kernel cache
        ours: list[tuple[float, Any]] = []
        theirs = run_peer(trials, Path(folder), lambda part: ours.append(our_study(trials, part)))
        whole = statistics.median(our_process(trials) for _ in range(3))
        split(trials)
    seconds = statistics.median(took for took, _ in ours)
    best = statistics.median(min(trial.record.value for trial in result.trials) for _, result in ours)
    confirmed = statistics.median(result.value for _, result in ours)
    speed = ", ".join(f"{int(1000 * took)} ms with {n} threads" for n, took in theirs["speed"].items())
    print(f"PyTorch: a training takes {speed}; used: {theirs['threads']}")
    print(f"PyTorch eager, Optuna on sqlite: {trials} trials in {theirs['seconds']:.2f} s, best {theirs['best']:.4f}")
    spread = ", ".join(f"{took:.2f}" for took, _ in ours)
    print(
        f"optadvisor: {trials} trials in {seconds:.2f} s (median of {spread}), best {best:.4f}, "
        f"{confirmed:.4f} confirmed on 5 fresh seeds"
    )
    their_whole = theirs["seconds"] + theirs["imports"]
    print(f"whole process, imports included: {their_whole:.2f} s and {whole:.2f} s, {their_whole / whole:.1f}x")
    ratio = theirs["seconds"] / seconds
    print(f"{ratio:.1f}x, at least {LIMIT:.0f}: {'PASS' if ratio >= LIMIT else 'FAIL'}")
    return 0 if ratio >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
