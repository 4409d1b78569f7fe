"""A person's own studies as knowledge: a file in the data folder that nothing sends anywhere.

The file keeps the trials, configs with values, so that a release with other candidates reads them too; the regrets
that follow from them are beside them, for the candidates that they were computed over. Pure Python: `recommend` reads it.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import datetime
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optadvisor.advisor.knowledge import DRAWN, MISSING, OWN, STEPS, Candidate, Row, own_file
from optadvisor.files import locked, writable_folder, write_whole
from optadvisor.kernels.errors import InputError, unknown
from optadvisor.kernels.rules import RULES
from optadvisor.kernels.schedules import NAMES as SCHEDULES
from optadvisor.profile import TaskProfile

FORMAT = 1
REMEDY = "optadvisor learn forget --all"

# How many studied tasks one study of the person's own counts for. A profile has a dozen fields: two tasks that are
# alike in all of them still differ in their data and their code, and what was measured on the person's own has both.
# Three, not thirty: it is one seed a config, and a list must hold on the next task of the kind as well. Outcomes do not
# decide it: on eight studies, beside 66 shipped tasks without those of the family, the regret of the first config was
# 0.23 without the study, and 0.20, 0.20 and 0.15 at a worth of 1, 3 and 10; of the better of two 0.06, and 0.08, 0.08
# and 0.06: within noise.
WORTH = 3.0

# The kernel regression, chosen on six studies of 60 to 200 trials beside the table of outcomes of the same tasks: mean
# error of a regret 0.14, rank correlation 0.77; on two further studies 0.15 and 0.75. The error is flat around these.
# In decades of the learning rate; in whole ranges of any other axis; in lengths.
LR_LENGTH, LENGTH, REACH = 0.15, 0.5, 3.0
# An annealed learning rate counts as its mean, half its peak: taken for its peak, the error was 0.19 in place of 0.14.
MEAN_OF_ANNEALED = 0.5


@dataclass(frozen=True)
class Trial:
    """One training of a study that ran to its end. value: lower is better, inf where it diverged."""

    config: Candidate
    value: float

    def to_dict(self) -> dict[str, Any]:
        config = self.config
        parts = {role: [rule, dict(values)] for role, (rule, values) in config.parts.items()}
        return {
            "optimizer": config.optimizer,
            "schedule": config.schedule,
            "value": self.value if math.isfinite(self.value) else None,
            **({"parts": parts} if parts else {"hyperparameters": dict(config.hyperparameters)}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trial:
        parts = {str(role): (rule, _checked(rule, values)) for role, (rule, values) in data.get("parts", {}).items()}
        values = {} if parts else _checked(data["optimizer"], data["hyperparameters"])
        if data["schedule"] not in SCHEDULES:
            raise unknown("schedule", data["schedule"], SCHEDULES)
        value = math.inf if data["value"] is None else float(data["value"])
        return cls(Candidate(data["optimizer"], values, data["schedule"], 0.0, DRAWN, parts), value)


@dataclass(frozen=True)
class Study:
    """A study that was added: its name and where it is, the profile of its task, and its trials in order.

    direction: the person's; the trials' values are lower for the better. added: when, as ISO 8601.
    """

    name: str
    storage: str
    task: str
    family: str
    profile: TaskProfile
    direction: str
    trials: Sequence[Trial]
    added: str = ""

    @property
    def best(self) -> dict[str, Trial]:
        """Optimizer -> its trial with the lowest value, the best optimizer first."""
        found: dict[str, Trial] = {}
        for trial in sorted((t for t in self.trials if math.isfinite(t.value)), key=lambda t: t.value):
            found.setdefault(trial.config.optimizer, trial)
        return found

    def row(self, candidates: Sequence[Candidate]) -> Row:
        """The study over the candidates."""
        return Row(
            self.name,
            self.family,
            OWN,
            self.profile,
            regrets(candidates, self.trials),
            _best(self.trials),
            worth=WORTH,
            citation=f"your study {self.name}, {len(self.trials)} trials",
        )

    def to_dict(self) -> dict[str, Any]:
        profile = {name: value for name, value in self.profile.to_dict().items() if value is not None}
        return {**vars(self), "profile": profile, "trials": [trial.to_dict() for trial in self.trials]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Study:
        texts = {name: str(data[name]) for name in ("name", "storage", "task", "family", "direction", "added")}
        profile, trials = TaskProfile.from_dict(data["profile"]), [Trial.from_dict(trial) for trial in data["trials"]]
        if not any(math.isfinite(trial.value) for trial in trials):
            raise InputError(f"study {data['name']} has no trial that trained")
        return cls(**texts, profile=profile, trials=trials)


_last: tuple[Any, Sequence[Candidate], list[Row]] | None = None


def rows(candidates: Sequence[Candidate]) -> list[Row]:
    """A row for each study that was added, over the candidates; InputError with the remedy where the file is broken."""
    global _last
    path = own_file()
    with _explained(path):
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return []
    key = (path, stat.st_mtime_ns, stat.st_size, stat.st_ino)
    if _last is None or _last[0] != key or _last[1] is not candidates:
        _last = key, candidates, _rows(path, candidates)
    return list(_last[2])


def studies() -> list[Study]:
    """The studies that were added, in that order; InputError with the remedy where the file is broken."""
    path = own_file()
    if not path.exists():
        return []
    with _explained(path):
        return [Study.from_dict(data) for data in _read(path)["studies"]]


def add(study: Study, candidates: Sequence[Candidate]) -> bool:
    """Keep a study, with its regrets over the candidates; whether it takes the place of an earlier state of itself."""
    path = own_file()
    study = replace(study, added=datetime.datetime.now().astimezone().isoformat(timespec="seconds"))
    Study.from_dict(study.to_dict())  # nothing is written that could not be read
    writable_folder(path.parent)
    with locked(path):
        before = studies()
        others = [kept for kept in before if (kept.name, kept.storage) != (study.name, study.storage)]
        _write(path, [*others, study], candidates)
    return len(others) < len(before)


def forget(name: str, candidates: Sequence[Candidate]) -> int:
    """Drop the studies of a name, of whatever storage; how many. InputError with the nearest name where there is none."""
    path = own_file()
    before = studies()
    if not before:
        raise InputError(f"no study {name!r} in your own knowledge: it is empty; optadvisor learn add STUDY fills it")
    if all(kept.name != name for kept in before):
        raise unknown("study of your own knowledge", name, dict.fromkeys(kept.name for kept in before))
    with locked(path):
        before = studies()
        others = [kept for kept in before if kept.name != name]
        if others:
            _write(path, others, candidates)
        else:
            path.unlink(missing_ok=True)
    return len(before) - len(others)


def forget_all() -> bool:
    """Remove the file, whatever is in it; whether there was one."""
    try:
        own_file().unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def scale(trials: Sequence[Trial]) -> tuple[float, float]:
    """The values that are regret 0 and 1: the best that was seen, and that of the median config of the searched space.

    A sampler spends most trials near what is good, so the plain median of the trials is a good config: by it nearly all
    candidates had regret 1, 0.9 on average where the table of outcomes says 0.6. So each rule counts the same, and
    within a rule a trial counts the less the more trials have nearly its learning rate: that median is within a
    quarter of the table's. Where half diverged, the worst that trained takes its place. Level trials: both are the same.
    """
    rates: dict[str, list[float]] = {}
    for trial in trials:
        rates.setdefault(trial.config.optimizer, []).append(math.log10(trial.config.lr))
    near = {optimizer: _neighbours(logs) for optimizer, logs in rates.items()}
    totals = {optimizer: sum(1.0 / count for count in counts.values()) for optimizer, counts in near.items()}
    weighed = []
    for trial in trials:
        optimizer = trial.config.optimizer
        # `near` has one entry for a learning rate: trials that share it exactly share its weight.
        weighed.append((trial.value, 1.0 / near[optimizer][math.log10(trial.config.lr)] / totals[optimizer]))
    weighed.sort()
    finite = [value for value, _ in weighed if math.isfinite(value)]
    half, seen = sum(w for _, w in weighed) / 2, 0.0
    for value, weight in weighed:
        seen += weight
        if seen >= half:
            return finite[0], value if math.isfinite(value) else finite[-1]
    return finite[0], finite[-1]


def _neighbours(logs: Sequence[float]) -> dict[float, int]:
    """log10 of a learning rate -> how many of them are within a length of it, itself counted."""
    ordered = sorted(logs)
    return {
        at: bisect.bisect_right(ordered, at + LR_LENGTH) - bisect.bisect_left(ordered, at - LR_LENGTH) for at in ordered
    }


def regrets(candidates: Sequence[Candidate], trials: Sequence[Trial]) -> bytes:
    """What the trials say of each candidate, as the bytes of a row.

    A candidate's regret is the mean over the trials of its rule (of a hybrid: of the same rules), each weighed by
    exp(-d^2 / 2), where d is its distance in the axes that a study searches: a length is LR_LENGTH decades of the
    learning rate, or half of another axis's range. It is MISSING where no trial is within REACH lengths, so where the
    rule was not searched. A trial that diverged is 1; pruned and failed ones are no trials.
    """
    known: dict[Any, list[tuple[list[float], float]]] = {}
    for trial, regret in zip(trials, _own_regrets(trials), strict=True):
        known.setdefault(_kind(trial.config), []).append((_point(trial.config), regret))
    found = bytearray()
    for candidate in candidates:
        near = known.get(_kind(candidate))
        smooth = _smooth(_point(candidate), near) if near else None
        found.append(MISSING if smooth is None else round(smooth * STEPS))
    return bytes(found)


def _own_regrets(trials: Sequence[Trial]) -> list[float]:
    """0 the best trial, 1 the median config or worse, or diverged."""
    best, middle = scale(trials)
    width = middle - best or 1.0
    return [min((trial.value - best) / width, 1.0) if math.isfinite(trial.value) else 1.0 for trial in trials]


def _best(trials: Sequence[Trial]) -> dict[str, list[float]]:
    """Rule -> [regret, learning rate] of its best trial; the regret is that of its surroundings, for the lowest value
    of many is luck in part."""
    found = {}
    own = list(zip(trials, _own_regrets(trials), strict=True))
    for optimizer in dict.fromkeys(trial.config.optimizer for trial in trials):
        mine = [(trial, regret) for trial, regret in own if trial.config.optimizer == optimizer]
        best = min(mine, key=lambda pair: pair[0].value)[0].config
        around = _smooth(_point(best), [(_point(t.config), r) for t, r in mine if _kind(t.config) == _kind(best)])
        assert around is not None
        found[optimizer] = [round(around, 3), float(f"{best.lr:.3g}")]
    return found


def _smooth(point: Sequence[float], near: Sequence[tuple[Sequence[float], float]]) -> float | None:
    distances = [math.dist(point, other) for other, _ in near]
    closest = min(distances)
    if closest > REACH:
        return None
    weights = [math.exp((closest * closest - d * d) / 2.0) for d in distances]
    return sum(w * regret for w, (_, regret) in zip(weights, near, strict=True)) / sum(weights)


def _kind(config: Candidate) -> Any:
    """What two configs must share to be compared: the rule; of a hybrid the rules of its groups."""
    return config.optimizer, tuple(sorted((role, rule) for role, (rule, _) in config.parts.items()))


def _point(config: Candidate) -> list[float]:
    """Where a config is on the axes that a study of its rule searches, in lengths; beyond an axis's end is at its end."""
    annealed = config.schedule not in ("constant", "warmup")
    found = []
    for role in sorted(config.parts) or [""]:
        rule, values = config.parts[role] if role else (config.optimizer, config.hyperparameters)
        complete: dict[str, Any] = {**RULES[rule].defaults, **values}
        for hyperparameter, axis in RULES[rule].search():
            value = complete[hyperparameter.name]
            number = float(value if axis.index is None else value[axis.index])
            if hyperparameter.name == "lr":
                found.append(math.log10(number * (MEAN_OF_ANNEALED if annealed else 1.0)) / LR_LENGTH)
                continue
            number = min(max(1.0 - number if axis.complement else number, axis.low), axis.high)
            share = (
                math.log(number / axis.low) / math.log(axis.high / axis.low)
                if axis.log
                else (number - axis.low) / (axis.high - axis.low)
            )
            found.append(share / LENGTH)
    return found


def _checked(rule: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that the rule still has, checked; InputError for a rule that is not there."""
    if rule not in RULES:
        raise unknown("optimizer", rule, RULES)
    found: dict[str, Any] = {
        h.name: h.check(values[h.name], rule) for h in RULES[rule].hyperparameters if h.name in values
    }
    if not found["lr"] > 0:
        raise InputError(f"{rule}: lr is {found['lr']!r}; it takes more than 0")
    return found


def _digest(candidates: Sequence[Candidate]) -> str:
    """What regrets follow from beside the trials: the candidates and the regression."""
    method = [LR_LENGTH, LENGTH, REACH, MEAN_OF_ANNEALED]
    text = json.dumps([method, [candidate.to_list() for candidate in candidates]], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write(path: Path, kept: Sequence[Study], candidates: Sequence[Candidate]) -> None:
    entries = []
    for study in kept:
        row = study.row(candidates)
        cached = {"regrets": base64.b64encode(row.regrets).decode(), "best": row.best}
        entries.append({**study.to_dict(), "row": cached})
    data = {"format": FORMAT, "candidates": _digest(candidates), "studies": entries}
    write_whole(path, json.dumps(data, separators=(",", ":"), allow_nan=False) + "\n")


def _rows(path: Path, candidates: Sequence[Candidate]) -> list[Row]:
    with _explained(path):
        data = _read(path)
        if data["candidates"] != _digest(candidates):
            return [Study.from_dict(entry).row(candidates) for entry in data["studies"]]
        return [_cached(entry, len(candidates)) for entry in data["studies"]]


def _cached(entry: Mapping[str, Any], width: int) -> Row:
    """The row that was computed when the study was added: its trials are not looked at."""
    found = base64.b64decode(entry["row"]["regrets"], validate=True)
    if len(found) != width or any(STEPS < value < MISSING for value in set(found)):
        raise InputError(f"the regrets of {entry['name']} are damaged")
    best = {str(rule): [float(regret), float(lr)] for rule, (regret, lr) in entry["row"]["best"].items()}
    citation = f"your study {entry['name']}, {len(entry['trials'])} trials"
    profile = TaskProfile.from_dict(entry["profile"])
    return Row(str(entry["name"]), str(entry["family"]), OWN, profile, found, best, worth=WORTH, citation=citation)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"it holds {type(data).__name__}, not an object")
    if data.get("format") != FORMAT:
        raise InputError(f"it has format {data.get('format')!r}; this version reads format {FORMAT}")
    return data


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """One line with the remedy for whatever is wrong with the file."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read your own knowledge {str(path)!r} ({error.strerror or error})") from None
    except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
        what = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"your own knowledge {str(path)!r} cannot be used ({what}): {REMEDY} removes it; "
            "optadvisor learn add STUDY adds a study anew"
        ) from error
