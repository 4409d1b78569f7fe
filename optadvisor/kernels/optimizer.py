"""`Optimizer`: an update rule over the caller's NumPy arrays, in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.kernels import loops, rules
from optadvisor.kernels.errors import InputError, NonFiniteGradient, unknown
from optadvisor.kernels.rules import Form, Rule
from optadvisor.kernels.rules.record import Value, flatten
from optadvisor.kernels.schedules import Schedule

if TYPE_CHECKING:
    from optadvisor.config import OptimizerConfig

Array = NDArray[Any]
Parameters = Sequence[Any] | Mapping[str, Any]

FORMAT = 1
ON_NONFINITE = ("raise", "skip", "ignore")
_ALIGN = 16  # elements: every tensor's state starts on a cache line


@dataclass
class _Leaf:
    """One parameter array: where it stands in what the caller passed, and what its group calls it."""

    path: tuple[Any, ...]
    name: str
    array: Array


@dataclass
class Group:
    """Parameters of one dtype that one rule with one set of hyperparameters updates. Read-only for callers."""

    rule: Rule
    hyperparameters: dict[str, Value]
    convention: str
    schedule: Schedule
    role: str | None
    leaves: list[_Leaf]
    positions: list[int]  # of the leaves in the optimizer's flat order

    def __post_init__(self) -> None:
        where = f"{self.rule.id}" + (f" ({self.role} group)" if self.role else "")
        self.hyperparameters = self.rule.complete(self.hyperparameters, where)
        if self.convention not in self.rule.conventions:
            raise unknown(f"convention of {self.rule.id}", self.convention, self.rule.conventions)
        if self.rule.constant_lr and self.schedule.name != "constant":
            raise InputError(
                f"{where}: its state is in units of 1/lr, so the {self.schedule.name} schedule would rescale the weights: "
                "use schedule constant"
            )
        self.form: Form = self.rule.form(self.hyperparameters, self.convention)
        flat = flatten(self.hyperparameters)
        self.lr = flat["lr"]
        self.values = tuple(flat[name] for name in self.form.arguments)
        self.dtype = self.leaves[0].array.dtype if self.leaves else np.dtype(np.float32)
        self.sizes = np.array([leaf.array.size for leaf in self.leaves], dtype=np.int64)
        ends = np.cumsum(-(-self.sizes // _ALIGN) * _ALIGN) if self.leaves else np.zeros(0, dtype=np.int64)
        self.starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(self.leaves)]
        self.addresses = np.array([_address(leaf.array) for leaf in self.leaves], dtype=np.int64)
        width = int(ends[-1]) if self.leaves else 0
        self.states = np.zeros((len(self.form.states), width), dtype=self.dtype)
        scalar: Any = self.dtype.type
        self.kernel: Callable[..., int] = loops.table(self.form, scalar).function

    def initialise(self) -> None:
        """Set the states that do not start at 0, from the parameters as they are now."""
        flat = flatten(self.hyperparameters)
        for k, state in enumerate(self.form.states):
            if state.initial is not None:
                for i, leaf in enumerate(self.leaves):
                    self.state(k, i)[...] = state.start(leaf.array, flat)

    def state(self, k: int, i: int) -> Array:
        """State k of the i-th parameter, as a view of the parameter's shape."""
        start = int(self.starts[i])
        view: Array = self.states[k, start : start + int(self.sizes[i])]
        return view.reshape(self.leaves[i].array.shape)


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class Optimizer:
    """Update parameters in place by one of the rules of `optadvisor.kernels.RULES`.

    rule: id such as "adamw". params: a list or dict of float32 or float64 NumPy arrays, C-contiguous, of any shape
    including () and (0,); or groups, a list of dicts {"params": ..., "rule": ..., hyperparameters}. hyperparameters:
    the rule's keywords (`optadvisor explain RULE` lists them). on_nonfinite: what a NaN or Inf in a gradient does:
    "raise" NonFiniteGradient before anything changes, "skip" the step, or "ignore" (no check).

    Errors: InputError (a ValueError) that names the array or the keyword, its value and the remedy.
    Formulas and papers: the records in `optadvisor.kernels.rules`.
    """

    def __init__(
        self,
        rule: str,
        params: Parameters,
        *,
        convention: str | None = None,
        on_nonfinite: str = "raise",
        **hyperparameters: object,
    ) -> None:
        record = rules.get(rule)
        record.complete(hyperparameters)
        self._leaves, self._tree = list(_leaves(params)), params
        groups: list[Group] = []
        if _is_groups(params):
            for number, given in enumerate(params):
                keywords = {key: value for key, value in given.items() if key not in ("params", "rule", "convention")}
                own = rules.get(given.get("rule", rule))
                inherited = hyperparameters if own is record else {}
                groups += self._groups(
                    own,
                    {**inherited, **keywords},
                    given.get("convention", convention if own is record else None),
                    [i for i, leaf in enumerate(self._leaves) if leaf.path[0] == number],
                )
        else:
            groups = self._groups(record, hyperparameters, convention, list(range(len(self._leaves))))
        self._start(groups, on_nonfinite)

    @classmethod
    def from_config(
        cls,
        config: OptimizerConfig,
        params: Parameters,
        total_steps: int | None = None,
        roles: Mapping[Any, str] | None = None,
        *,
        on_nonfinite: str = "raise",
    ) -> Optimizer:
        """The optimizer of a config, with its schedule and groups.

        total_steps: length of the training, where the schedule needs it and the config does not carry it.
        roles: name or index of a parameter -> "embedding", "dense" or "no_decay". Others by shape: arrays of less than
        two dimensions (biases, normalisation) are no_decay where the config has that group, the rest is dense.
        """
        self = cls.__new__(cls)
        self._leaves, self._tree = list(_leaves(params)), params
        known = {leaf.path[-1] for leaf in self._leaves}
        for key in roles or {}:
            if key not in known:
                raise unknown("parameter in roles", key, [str(name) for name in known])
        schedule = Schedule.from_dict(config.schedule).resolve(total_steps)
        groups: list[Group] = []
        for role, (rule, hyperparameters) in config.roles().items():
            positions = [
                i
                for i, leaf in enumerate(self._leaves)
                if config.role_of(leaf.array.shape, (roles or {}).get(leaf.path[-1])) == role
            ]
            own = Schedule("constant", 0) if rules.get(rule).constant_lr else schedule
            convention = config.convention if rule == config.optimizer else None
            groups += self._groups(rules.get(rule), hyperparameters, convention, positions, own, role)
        placed = {i for group in groups for i in group.positions}
        for i, leaf in enumerate(self._leaves):
            if i not in placed:
                unplaced = (roles or {}).get(leaf.path[-1])
                raise unknown(f"role of {leaf.name}", unplaced, config.roles())
        self._start(groups, on_nonfinite)
        return self

    def _groups(
        self,
        rule: Rule,
        hyperparameters: Mapping[str, Any],
        convention: str | None,
        positions: list[int],
        schedule: Schedule | None = None,
        role: str | None = None,
    ) -> list[Group]:
        """The group of these leaves, or one for each dtype among them."""
        dtypes = sorted({str(self._leaves[i].array.dtype) for i in positions}) or ["float32"]
        return [
            Group(
                rule,
                dict(hyperparameters),
                convention or rule.conventions[0],
                schedule or Schedule("constant", 0),
                role,
                [self._leaves[i] for i in positions if self._leaves[i].array.dtype == dtype],
                [i for i in positions if self._leaves[i].array.dtype == dtype],
            )
            for dtype in dtypes
        ]

    def _start(self, groups: list[Group], on_nonfinite: str) -> None:
        if on_nonfinite not in ON_NONFINITE:
            raise unknown("on_nonfinite", on_nonfinite, ON_NONFINITE)
        _refuse_overlap(self._leaves)
        self.groups = groups
        self.on_nonfinite = on_nonfinite
        self.steps_done = 0
        self._initialised = False

    def step(self, grads: Parameters, lr: float | None = None) -> bool:
        """One update of every parameter; True, or False where on_nonfinite="skip" skipped it.

        grads: arrays in the structure of `params`, same shapes and dtypes; they are not written. lr: learning rate
        of this step alone, for all groups, in place of the groups' own and their schedules.
        """
        gradients = self._match(grads)
        if lr is not None:
            for group in self.groups:
                group.rule.complete({"lr": lr})
        self._initialise()
        tables = [
            (group, np.array([_address(gradients[i]) for i in group.positions], dtype=np.int64))
            for group in self.groups
            if group.leaves
        ]
        if self.on_nonfinite != "ignore":
            if len(tables) == 1:
                return self._run(*tables[0], lr, loops.CHECK_THEN_UPDATE, gradients) and self._count()
            for group, addresses in tables:
                if not self._run(group, addresses, lr, loops.CHECK_ONLY, gradients):
                    return False
        for group, addresses in tables:
            self._run(group, addresses, lr, loops.UPDATE_ONLY, gradients)
        return self._count()

    def _count(self) -> bool:
        self.steps_done += 1
        return True

    def _run(self, group: Group, addresses: Array, lr: float | None, mode: int, gradients: list[Array]) -> bool:
        rate = float(lr) if lr is not None else group.lr * group.schedule.factor(self.steps_done)
        bad = group.kernel(
            group.addresses,
            addresses,
            group.sizes,
            group.starts,
            group.states,
            self.steps_done + 1,
            rate,
            group.values,
            mode,
        )
        if bad < 0:
            return True
        if self.on_nonfinite == "skip":
            return False
        gradient = gradients[group.positions[bad]].ravel()
        first = int(np.flatnonzero(~np.isfinite(gradient))[0])
        raise NonFiniteGradient(
            f"gradient of {group.leaves[bad].name} is {gradient[first]} at flat index {first} (step {self.steps_done + 1}): "
            "nothing was changed; lower the learning rate or clip, or pass on_nonfinite='skip'"
        )

    def lookahead(self, lr: float | None = None) -> Any:
        """The points where nag with convention="paper" wants its gradient: p - lr*momentum*v, as new arrays.

        Returns arrays in the structure of `params`; for other rules they are copies of the parameters.
        """
        self._initialise()
        points: list[Array] = [leaf.array.copy() for leaf in self._leaves]
        for group in self.groups:
            if not group.form.lookahead:
                continue
            rate = float(lr) if lr is not None else group.lr * group.schedule.factor(self.steps_done)
            scale = group.dtype.type(rate * float(group.hyperparameters["momentum"]))  # type: ignore[arg-type]
            for i, position in enumerate(group.positions):
                points[position] -= scale * group.state(0, i)
        return _structure(self._tree, iter(points))

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on elsewhere: step count and, for each group, rule, hyperparameters and state arrays."""
        self._initialise()
        return {
            "format": FORMAT,
            "steps_done": self.steps_done,
            "groups": [
                {
                    "rule": group.rule.id,
                    "convention": group.convention,
                    "hyperparameters": dict(group.hyperparameters),
                    "params": [
                        {"name": leaf.name, "shape": leaf.array.shape, "dtype": str(leaf.array.dtype)}
                        for leaf in group.leaves
                    ],
                    "state": {
                        state.name: [group.state(k, i).copy() for i in range(len(group.leaves))]
                        for k, state in enumerate(group.form.states)
                    },
                }
                for group in self.groups
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state_dict. InputError, and nothing changed, where rule, names, shapes or dtypes differ.

        Hyperparameters stay those of this optimizer: they may be changed on purpose between runs.
        """
        groups = _checked_state(state, self.groups)
        for group, saved in zip(self.groups, groups, strict=True):
            for k, kind in enumerate(group.form.states):
                for i in range(len(group.leaves)):
                    group.state(k, i)[...] = saved["state"][kind.name][i]
        self.steps_done = int(state["steps_done"])
        self._initialised = True

    def _initialise(self) -> None:
        if not self._initialised:
            for group in self.groups:
                group.initialise()
            self._initialised = True

    def _match(self, grads: Parameters) -> list[Array]:
        """The gradients in the order of the leaves, checked and contiguous."""
        gradients: list[Array] = []
        found = _walk(grads, "grads")
        for leaf in self._leaves:
            path, name, gradient = next(found, ((), "", None))
            if path != leaf.path:
                raise InputError(
                    f"grads do not have the structure of params: expected the gradient of {leaf.name}, found {name or 'none'}"
                )
            if isinstance(gradient, np.generic):  # what NumPy's own arithmetic makes of arrays of shape ()
                gradient = np.asarray(gradient)
            if not isinstance(gradient, np.ndarray):
                raise InputError(f"{name} is {type(gradient).__name__}; the gradient of {leaf.name} is a NumPy array")
            if gradient.shape != leaf.array.shape or gradient.dtype != leaf.array.dtype:
                raise InputError(
                    f"{name} is {gradient.dtype}{list(gradient.shape)}, but {leaf.name} is "
                    f"{leaf.array.dtype}{list(leaf.array.shape)}: a gradient has the shape and dtype of its parameter"
                )
            gradients.append(gradient if gradient.flags.c_contiguous else np.ascontiguousarray(gradient))
        extra = next(found, None)
        if extra is not None:
            raise InputError(f"grads do not have the structure of params: {extra[1]} belongs to no parameter")
        return gradients


def _is_groups(params: object) -> bool:
    return isinstance(params, Sequence) and len(params) > 0 and all(isinstance(g, Mapping) for g in params)


def _walk(tree: Any, name: str) -> Iterator[tuple[tuple[Any, ...], str, Any]]:
    """(path, readable name, leaf) of every leaf, mappings in sorted order; a group's "params" is left out of the path."""
    if _is_groups(tree):
        for number, group in enumerate(tree):
            inner = group["params"] if "params" in group else group
            if isinstance(inner, np.ndarray):
                inner = [inner]
            for path, label, leaf in _walk(inner, f"{name}[{number}]"):
                yield (number, *path), label, leaf
        return
    if isinstance(tree, Mapping):
        items: list[tuple[Any, Any]] = sorted(tree.items(), key=lambda item: str(item[0]))
    elif isinstance(tree, Sequence) and not isinstance(tree, (str, bytes)):
        items = list(enumerate(tree))
    else:
        raise InputError(f"{name} is {type(tree).__name__}; it takes a list or dict of NumPy arrays")
    for key, leaf in items:
        yield (key,), f"{name}[{key!r}]", leaf


def _leaves(params: Parameters) -> Iterator[_Leaf]:
    for number, group in enumerate(params if _is_groups(params) else ()):
        if "params" not in group:
            raise InputError(f"params[{number}] is a dict without 'params': a list of dicts is a list of groups")
    for path, name, array in _walk(params, "params"):
        if not isinstance(array, np.ndarray):
            raise InputError(f"{name} is {type(array).__name__}; it takes a NumPy array")
        if array.dtype not in (np.float32, np.float64):
            raise InputError(f"{name} is {array.dtype}; parameters are float32 or float64: use .astype(numpy.float32)")
        if not array.flags.c_contiguous:
            raise InputError(f"{name} is not C-contiguous; pass numpy.ascontiguousarray(...) of it")
        if not array.flags.writeable:
            raise InputError(f"{name} is read-only, and a step writes it in place; pass a writeable copy")
        yield _Leaf(path, name, array)


def _refuse_overlap(leaves: Sequence[_Leaf]) -> None:
    spans = sorted((_address(leaf.array), leaf.array.nbytes, leaf.name) for leaf in leaves if leaf.array.size)
    for (start, size, name), (following, _, other) in zip(spans, spans[1:], strict=False):
        if following < start + size:
            raise InputError(f"{name} and {other} share memory: pass each parameter once")


def _structure(tree: Any, values: Iterator[Any]) -> Any:
    """`values`, in the order of `_walk`, in the structure of `tree`."""
    if _is_groups(tree):
        return [{"params": _structure(group["params"], values)} for group in tree]
    if isinstance(tree, np.ndarray):
        return next(values)
    if isinstance(tree, Mapping):
        return {key: next(values) for key in sorted(tree, key=str)}
    return [next(values) for _ in tree]


def _checked_state(state: Mapping[str, Any], groups: Sequence[Group]) -> list[Mapping[str, Any]]:
    if not isinstance(state, Mapping) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, Mapping) else type(state).__name__
        raise InputError(f"state_dict has format {found!r}; this version reads format {FORMAT}")
    steps, saved_groups = state.get("steps_done"), state.get("groups")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
        raise InputError(f"state_dict: steps_done is {steps!r}; it takes a whole number, 0 or more")
    if not isinstance(saved_groups, Sequence) or len(saved_groups) != len(groups):
        count = len(saved_groups) if isinstance(saved_groups, Sequence) else saved_groups
        raise InputError(f"state_dict has {count} groups, this optimizer has {len(groups)}")
    for number, (group, saved) in enumerate(zip(groups, saved_groups, strict=True)):
        where = f"state_dict group {number}"
        for field in ("rule", "convention", "params", "state"):
            if not isinstance(saved, Mapping) or field not in saved:
                raise InputError(f"{where} has no {field!r}; pass what state_dict() returned")
        for field, expected in (("rule", group.rule.id), ("convention", group.convention)):
            if saved[field] != expected:
                raise InputError(f"{where}: {field} is {saved[field]!r}, this optimizer has {expected!r}")
        names = [p["name"] for p in saved["params"]]
        if names != [leaf.name for leaf in group.leaves]:
            raise InputError(
                f"{where}: parameters are {names}, this optimizer has {[leaf.name for leaf in group.leaves]}"
            )
        for leaf, param in zip(group.leaves, saved["params"], strict=True):
            found_kind = f"{param['dtype']}{list(param['shape'])}"
            expected_kind = f"{leaf.array.dtype}{list(leaf.array.shape)}"
            if found_kind != expected_kind:
                raise InputError(f"{where}: {leaf.name} was {found_kind}, this optimizer has {expected_kind}")
        for kind in group.form.states:
            if kind.name not in saved["state"]:
                raise InputError(f"{where}: state {kind.name!r} is missing; found {sorted(saved['state'])}")
            arrays = saved["state"][kind.name]
            if len(arrays) != len(group.leaves):
                raise InputError(f"{where}: state {kind.name!r} has {len(arrays)} arrays for {len(names)} parameters")
            for leaf, array in zip(group.leaves, arrays, strict=True):
                found_kind = f"{np.asarray(array).dtype}{list(np.shape(array))}"
                expected_kind = f"{leaf.array.dtype}{list(leaf.array.shape)}"
                if found_kind != expected_kind:
                    raise InputError(
                        f"{where}: state {kind.name!r} of {leaf.name} is {found_kind}, the parameter is {expected_kind}"
                    )
        unexpected = set(saved["state"]) - {kind.name for kind in group.form.states}
        if unexpected:
            raise InputError(f"{where}: state {sorted(unexpected)[0]!r} is not one of {group.form.name}'s")
    return list(saved_groups)
