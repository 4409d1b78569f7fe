"""A plain function of numbers, such as a rule's update or a schedule's factor, on the arrays of another library.

The function stays the only definition of its maths: it runs here with `math`, `max` and `min` of the library, and once for
each outcome of its comparisons, of which `where` then picks element by element.
"""

from __future__ import annotations

import math
import operator
import types
from collections.abc import Callable
from typing import Any


def on_arrays(function: Callable[..., Any], library: Any) -> Callable[..., Any]:
    """`function` for arrays of a library with NumPy's names (where, sqrt, maximum, ...): jax.numpy or keras.ops.

    Arguments that have a dtype are its arrays; numbers and objects reach the function as they are. Functions of its module
    that it calls come along. Returns what it returns, with arrays in place of numbers.
    """
    bound = _bind(function, library)  # type: ignore[arg-type]

    def run(*arguments: Any) -> Any:
        def explore(path: list[bool]) -> Any:
            trace = _Trace(library, list(path))
            found = _values(bound(*[_Traced(a, trace) if hasattr(a, "dtype") else a for a in arguments]))
            for i in reversed(range(len(path), len(trace.path))):
                found = _where(library, trace.conditions[i], found, explore([*trace.path[:i], False]))
            return found

        return explore([])

    return run


class _Trace:
    """One way through a function: the outcomes of its comparisons, and what was compared."""

    def __init__(self, library: Any, path: list[bool]) -> None:
        self.library = library
        self.path = path  # outcomes; beyond those given a comparison is true
        self.conditions: list[Any] = []

    def decide(self, condition: Any) -> bool:
        self.conditions.append(condition)
        if len(self.conditions) > len(self.path):
            self.path.append(True)
        return self.path[len(self.conditions) - 1]


class _Traced:
    """An array in place of a number."""

    def __init__(self, value: Any, trace: _Trace) -> None:
        self.value = value
        self.trace = trace

    def __bool__(self) -> bool:
        return self.trace.decide(self.value)

    def __neg__(self) -> _Traced:
        return _Traced(-self.value, self.trace)

    __hash__ = None  # type: ignore[assignment]


def _forward(apply: Callable[[Any, Any], Any]) -> Callable[[_Traced, Any], _Traced]:
    return lambda self, other: _Traced(apply(self.value, _value(other)), self.trace)


def _backward(apply: Callable[[Any, Any], Any]) -> Callable[[_Traced, Any], _Traced]:
    return lambda self, other: _Traced(apply(_value(other), self.value), self.trace)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "pow"):
    setattr(_Traced, f"__{_name}__", _forward(getattr(operator, _name)))
    setattr(_Traced, f"__r{_name}__", _backward(getattr(operator, _name)))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(_Traced, f"__{_name}__", _forward(getattr(operator, _name)))


class _Math:
    """`math` that takes arrays too."""

    pi = math.pi

    def __init__(self, library: Any) -> None:
        self.library = library

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        def call(x: Any) -> Any:
            return _Traced(getattr(self.library, name)(x.value), x.trace) if isinstance(x, _Traced) else own(x)

        own = getattr(math, name)
        return call


def _bind(function: types.FunctionType, library: Any) -> Callable[..., Any]:
    """The function with the library's arithmetic in the place of Python's, and the functions that it calls too."""

    def pair(plain: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
        def call(a: Any, b: Any) -> Any:
            trace = next((x.trace for x in (a, b) if isinstance(x, _Traced)), None)
            return plain(a, b) if trace is None else _Traced(theirs(_value(a), _value(b)), trace)

        return call

    names: dict[str, Any] = {
        "math": _Math(library),
        "max": pair(max, library.maximum),
        "min": pair(min, library.minimum),
        "float": lambda x: x if isinstance(x, _Traced) else float(x),
    }
    made: dict[int, Callable[..., Any]] = {}

    def rebound(one: types.FunctionType) -> Callable[..., Any]:
        if id(one) not in made:
            globals_: dict[str, Any] = {**one.__globals__, **names}
            made[id(one)] = types.FunctionType(one.__code__, globals_, one.__name__, one.__defaults__, one.__closure__)
            for name in one.__code__.co_names:
                if isinstance(value := one.__globals__.get(name), types.FunctionType):
                    globals_[name] = rebound(value)
        return made[id(one)]

    return rebound(function)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, _Traced) else x


def _values(found: Any) -> Any:
    return tuple(_value(x) for x in found) if isinstance(found, tuple) else _value(found)


def _where(library: Any, condition: Any, yes: Any, no: Any) -> Any:
    if isinstance(yes, tuple):
        return tuple(_where(library, condition, a, b) for a, b in zip(yes, no, strict=True))
    return yes if yes is no else library.where(condition, yes, no)
