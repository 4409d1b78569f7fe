"""A person's own training function as a task: `def objective(config, report, seed) -> float`.

It is found in a file (FILE.py:FUNCTION) or given as it is. Values are turned so that lower is better inside; `shown`
in task.py turns them back. Imports neither numba nor optuna: a worker process imports what the person's code imports.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import math
import numbers
import os
import reprlib
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from optadvisor.config import HYBRID, OptimizerConfig
from optadvisor.kernels.errors import InputError, nearest, unknown
from optadvisor.kernels.rules import RULES
from optadvisor.profile import TaskProfile
from optadvisor.quantities import parse_count
from optadvisor.studies.tasks.task import MAXIMIZE, MINIMIZE, Report, TrialRecord, shown

if TYPE_CHECKING:
    from optadvisor.studies.space import Range, Space

ARGUMENTS = ("config", "report", "seed")
_FORM = "def objective(config, report, seed)"
_PACKAGE = str(Path(__file__).parents[2]) + os.sep

# Hyperparameters that are a pair of numbers: two numbers for one of them are its value, not a range.
_PAIRS = {h.name for rule in RULES.values() for h in rule.hyperparameters if isinstance(h.default, tuple)}


class FunctionError(RuntimeError):
    """A person's function raised what is no divergence, or returned what is no number. Says what, and where."""


@dataclass(frozen=True)
class Facts:
    """What is known of a function without calling it: what it says itself, and PROFILE, SPACE and STEPS of its module.

    takes_steps, needs_steps: it has a parameter `steps`; one without a default. ranges, fixed: SPACE, as `tune` takes
    it. origin: what errors name, the file or the function's module. scheduled: it trains with the schedule of its config.
    refused: optimizers that it cannot train, and why.
    """

    origin: str
    title: str
    direction: str = MINIMIZE
    takes_steps: bool = False
    needs_steps: bool = False
    steps: int | None = None
    profile: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, list[float]] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    scheduled: bool = False
    refused: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, for another process."""
        return asdict(self)


class FunctionTask:
    """A task around a function. Without `function` it is loaded from the file in `name` at the first training."""

    def __init__(self, name: str, facts: Facts, function: Callable[..., Any] | None = None) -> None:
        self.name, self.facts = name, facts
        self.title, self.direction, self.steps = facts.title, facts.direction, facts.steps
        self.metric = name.rpartition(":")[2]
        self._function = function

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    @functools.cached_property
    def profile(self) -> TaskProfile:
        return TaskProfile(**{"steps": self.steps, **self.facts.profile})

    @property
    def here(self) -> bool:
        """Whether the function is in this process; else it is in a file that has not been loaded here."""
        return self._function is not None

    def refuses(self, optimizer: str, batch: str = "mini") -> str | None:
        return self.facts.refused.get(optimizer)

    def space(self, spaces: Iterable[Space], given: Collection[str]) -> tuple[dict[str, Range], dict[str, Any]]:
        """Ranges and fixed values of SPACE that these spaces have, but for names that were given otherwise.

        Errors: InputError for what no optimizer has, and for values that it does not take.
        """
        from optadvisor.studies import space

        ranges = {name: (low, high) for name, (low, high) in self.facts.ranges.items()}
        fixed = self.facts.fixed
        try:
            space.narrowed([space.Space.of(name) for name in (*RULES, HYBRID)], ranges, fixed)
        except InputError as error:
            raise InputError(f"{self.facts.origin}: SPACE: {error}") from None
        wanted = {name for one in spaces for name in space.names(one)} - set(given)
        return (
            {name: ends for name, ends in ranges.items() if name in wanted},
            {name: value for name, value in fixed.items() if name in wanted},
        )

    def train(
        self, config: OptimizerConfig, seed: int, steps: int | None = None, report: Report | None = None
    ) -> TrialRecord:
        """One call of the function.

        inf, nan, FloatingPointError and OverflowError are a diverged training, optuna.TrialPruned is a pruned one.
        Errors: FunctionError for every other exception, and for a result that is no number.
        """
        if self._function is None:
            self._function = load(self.name)._function
        function = self._function
        assert function is not None
        curve: dict[int, float] = {}

        def reported(step: int, value: float) -> None:
            at, inside = _whole(step), self._inside(_number(value, "report(step, value): the value is"))
            if at in curve:  # a step is judged once
                return
            curve[at] = inside
            if report is not None and math.isfinite(inside):
                report(at, inside)

        def record(value: float, message: str = "", pruned: bool = False) -> TrialRecord:
            seconds = time.perf_counter() - began
            return TrialRecord(config, seed, value, seconds, list(curve.items()), {}, pruned, message)

        began = time.perf_counter()
        try:
            found = _call(function, config, reported, seed, steps or self.steps)
        except (FloatingPointError, OverflowError) as error:
            return record(math.inf, explained(error, function))
        except Exception as error:
            if is_pruning(error):
                return record(next(reversed(curve.values()), math.inf), pruned=True)
            raise FunctionError(explained(error, function)) from error
        try:
            value = _number(found, f"{self.metric} returned")
        except TypeError as error:
            raise FunctionError(f"{error}{_at(*_home(function))}") from None
        inside = self._inside(value)
        return record(inside, "" if math.isfinite(inside) else f"{self.metric} returned {value}")

    def _inside(self, value: float) -> float:
        return shown(value, self.direction) if math.isfinite(value) else math.inf


def is_target(text: str) -> bool:
    """Whether a task's name means a function in a file: FILE.py:FUNCTION."""
    return text.endswith(".py") or text.rpartition(":")[0].endswith(".py")


def task_name(text: str) -> str:
    """The name of the task that `text` means: of FILE.py:FUNCTION the same, whatever folder it is seen from."""
    if not is_target(text):
        return text
    path, function = _parse(text)
    return f"{path}:{function}"


def load(target: str) -> FunctionTask:
    """The task of FILE.py:FUNCTION, with the file loaded in this process and its folder importable from now on.

    Errors: InputError, one line, for what is not there, cannot be loaded or has not the form it must have.
    """
    path, name, module = loaded(target)
    function = getattr(module, name)
    return FunctionTask(f"{path}:{name}", _facts(function, vars(module), str(path), name), function)


def loaded(target: str) -> tuple[Path, str, ModuleType]:
    """The file of FILE.py:NAME, NAME, and the file's module, which has that name. Errors: as `load`."""
    path, name = _parse(target)
    if not path.is_file():
        guess = nearest(path.name, [other.name for other in path.parent.glob("*.py")])
        hint = f"did you mean {guess!r}? " if guess else ""
        raise InputError(f"there is no file {str(path)!r}: {hint}TASK is a built-in task or FILE.py:FUNCTION")
    module = _module(path)
    if getattr(module, name, None) is None:
        own = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        raise unknown(f"function of {path}", name, own) if own else InputError(f"{path} has no function {name!r}")
    return path, name, module


def of(function: Callable[..., Any]) -> FunctionTask:
    """The task of a function that is here already. PROFILE, SPACE and STEPS are those of its module, and its own."""
    plain = _plain(function)
    name = getattr(plain, "__qualname__", type(plain).__qualname__).replace("<locals>.", "")
    module = sys.modules.get(getattr(plain, "__module__", None) or type(plain).__module__)
    if not inspect.isfunction(function):  # an object may stand in the module that it names as its own
        home = sys.modules.get(getattr(function, "__module__", None) or "")
        own = next((key for key, value in vars(home).items() if value is function), None) if home else None
        if home and own:
            name, module, plain = own, home, home
    try:
        file = inspect.getsourcefile(plain if hasattr(plain, "__code__") or plain is module else type(plain))
    except (TypeError, OSError):
        file = None
    # A notebook's cell or a line typed in has no file that is the same tomorrow.
    found = Path(file).resolve() if file and Path(file).is_file() else None
    origin = str(found) if found else getattr(module, "__name__", "__main__")
    return FunctionTask(f"{origin}:{name}", _facts(function, vars(module) if module else {}, origin, name), function)


def is_pruning(error: BaseException) -> bool:
    """Whether it is optuna.TrialPruned; who raises that has imported optuna."""
    optuna = sys.modules.get("optuna")
    return optuna is not None and isinstance(error, optuna.TrialPruned)


def explained(error: BaseException, function: Callable[..., Any] | None = None, file: str = "") -> str:
    """An exception in one line: type, text, and where in the person's code it came from."""
    text = " ".join(str(error).split())[:300]
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg}{_at(error.filename, error.lineno or 0)}"
    own = file or (_home(function)[0] if function else "")
    folder = str(Path(own).parent) + os.sep if own and Path(own).is_absolute() else None
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        inside = folder and frame.filename.startswith(folder) and "site-packages" not in frame.filename
        if (frame.filename == own or inside) and not frame.filename.startswith(_PACKAGE):
            place = _at(frame.filename, frame.lineno or 0)
    return what + place


def _at(file: str, line: int) -> str:
    if not file:
        return ""
    here = str(Path.cwd()) + os.sep
    return f", at {file.removeprefix(here)}:{line}"


def _plain(function: Any) -> Any:
    """What a decorator, a partial or a method is about."""
    while isinstance(function, functools.partial) or hasattr(function, "__wrapped__") or inspect.ismethod(function):
        if isinstance(function, functools.partial):
            function = function.func
        else:
            function = function.__func__ if inspect.ismethod(function) else function.__wrapped__
    return function


def _home(function: Callable[..., Any]) -> tuple[str, int]:
    """File and line of a function; of a callable object, of its __call__."""
    plain = _plain(function)
    code = getattr(plain, "__code__", None) or getattr(type(plain).__call__, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("", 0)


def _parse(target: str) -> tuple[Path, str]:
    file, _, name = target.rpartition(":")
    if target.endswith(".py"):
        file, name = target, ""
    if not name:
        raise InputError(f"{target!r} names no function: write {file}:NAME, of a function {_FORM} in that file")
    return Path(file).expanduser().resolve(), name


def _module(path: Path) -> ModuleType:
    """The file as a module that its own code, and pickle, can import by name."""
    name = path.stem
    taken = sys.modules.get(name)
    if (taken is not None or name in sys.stdlib_module_names) and getattr(taken, "__file__", None) != str(path):
        name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        remedy = f": install it for {sys.executable}" if isinstance(error, ModuleNotFoundError) else ""
        raise InputError(f"{path} cannot be loaded: {explained(error, file=str(path))}{remedy}") from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _facts(function: Any, attributes: Mapping[str, Any], origin: str, name: str) -> Facts:
    if not callable(function):
        raise InputError(f"{origin}: {name} is {reprlib.repr(function)}; it must be a function, {_FORM}")
    direction = getattr(function, "direction", MINIMIZE)
    if direction not in (MINIMIZE, MAXIMIZE):
        raise InputError(f"{origin}: {name}.direction is {direction!r}; it takes {MINIMIZE!r} or {MAXIMIZE!r}")
    scheduled = getattr(function, "scheduled", False)
    if not isinstance(scheduled, bool):
        raise InputError(
            f"{origin}: {name}.scheduled is {scheduled!r}; it takes True, where it follows config.schedule"
        )
    steps = getattr(function, "STEPS", None) or attributes.get("STEPS")
    ranges, fixed = _space(attributes.get("SPACE"), origin)
    of_its_own, fixed_by_it = _space(getattr(function, "SPACE", None), f"{origin}: {name}")
    return Facts(
        origin,
        (inspect.getdoc(function) or name).splitlines()[0],
        direction,
        *_steps(function, f"{origin}: {name}"),
        None if steps is None else parse_count(steps, f"{origin}: STEPS"),
        {
            **declared_profile(getattr(function, "PROFILE", None), f"{origin}: {name}"),
            **declared_profile(attributes.get("PROFILE"), origin),
        },
        {**{key: ends for key, ends in of_its_own.items() if key not in fixed}, **ranges},
        {**{key: value for key, value in fixed_by_it.items() if key not in ranges}, **fixed},
        scheduled,
        dict(getattr(function, "refused", {})),
    )


def declared_profile(given: object, origin: str) -> dict[str, Any]:
    """The fields of a file's PROFILE, a dict or a TaskProfile. InputError that names the file."""
    if isinstance(given, TaskProfile):
        given = given.to_dict()
    if not isinstance(given, Mapping | None):
        raise InputError(f"{origin}: PROFILE is {given!r}; it takes a dict, such as {{'domain': 'vision'}}")
    try:
        profile = TaskProfile.from_dict(given or {}).to_dict()
    except InputError as error:
        raise InputError(f"{origin}: PROFILE: {error}") from None
    return {name: value for name, value in profile.items() if value is not None}


def _space(given: object, origin: str) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """SPACE as ranges and fixed values; whether there are such hyperparameters is looked at later."""
    if not isinstance(given, Mapping | None):
        raise InputError(f"{origin}: SPACE is {given!r}; it takes a dict, such as {{'lr': [1e-4, 1e-1]}}")
    ranges: dict[str, list[float]] = {}
    fixed: dict[str, Any] = {}
    for name, value in (given or {}).items():
        pair = list(value) if isinstance(value, (list, tuple)) else None
        if not all(isinstance(v, numbers.Real) for v in pair or [value]) or (pair is not None and len(pair) != 2):
            raise InputError(
                f"{origin}: SPACE[{name!r}] is {value!r}; it takes [low, high] to search, or one value to fix"
            )
        if pair is None:
            fixed[str(name)] = value if isinstance(value, bool) else float(value)
        elif str(name).rpartition(".")[2] in _PAIRS:
            fixed[str(name)] = [float(v) for v in pair]
        else:
            ranges[str(name)] = [float(v) for v in pair]
    return ranges, fixed


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # compiled code does not say
        return None


def _by_name(parameter: inspect.Parameter | None) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return parameter is not None and parameter.kind in kinds


def _arguments(function: Callable[..., Any], given: tuple[Any, ...], steps: Any) -> tuple[tuple[Any, ...], Any]:
    """How to call it: the three arguments by name where it has these names, in any order, else in this order."""
    parameters = _parameters(function) or {}
    more = {"steps": steps} if _by_name(parameters.get("steps")) and steps is not None else {}
    if all(_by_name(parameters.get(name)) for name in ARGUMENTS):
        return (), {**dict(zip(ARGUMENTS, given, strict=True)), **more}
    return given, more


def _call(function: Callable[..., Any], config: OptimizerConfig, report: Report, seed: int, steps: int | None) -> Any:
    positional, named = _arguments(function, (config, report, seed), steps)
    return function(*positional, **named)


def _steps(function: Callable[..., Any], what: str) -> tuple[bool, bool]:
    """Whether it has a parameter `steps`, and one without a default.

    InputError where it cannot be called with the three arguments.
    """
    parameters = _parameters(function)
    if parameters is None:
        return False, False
    positional, named = _arguments(function, ARGUMENTS, 1)
    try:
        inspect.signature(function).bind(*positional, **named)
    except TypeError as error:
        has = ", ".join(map(str, parameters.values()))
        raise InputError(f"{what} takes ({has}); it must take (config, report, seed): {error}") from None
    steps = parameters.get("steps")
    return _by_name(steps), steps is not None and _by_name(steps) and steps.default is steps.empty


def _number(value: Any, what: str) -> float:
    """A Python or NumPy number, or an array or tensor without dimensions, as a float."""
    plain = value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
    if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
        raise TypeError(f"{what} {reprlib.repr(value)}; it must be one number")
    try:
        return float(plain)
    except OverflowError:  # a whole number beyond all floats
        return math.inf


def _whole(step: Any) -> int:
    number = _number(step, "report(step, value): the step is")
    if not number.is_integer() or number < 0:
        raise ValueError(f"report(step, value): the step is {step!r}; it must be a whole number from 0")
    return int(number)
