"""`Optimizer`: an update rule over the caller's arrays, NumPy's or a GPU's, in place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import is_
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from optadvisor.kernels import loops, rules, saving
from optadvisor.kernels.arrays import (
    Leaf,
    Parameters,
    address,
    is_groups,
    parameter_leaves,
    refuse_outside,
    refuse_overlap,
    structure,
    walk,
)
from optadvisor.kernels.cuda.arrays import DeviceArray, arithmetic, device_array, dtype_name, stream_handle
from optadvisor.kernels.errors import InputError, NonFiniteGradient, unknown
from optadvisor.kernels.group import Group
from optadvisor.kernels.rules import Rule
from optadvisor.kernels.schedules import Schedule

if TYPE_CHECKING:
    from optadvisor.config import OptimizerConfig
    from optadvisor.kernels.cuda.group import Session

ON_NONFINITE = ("raise", "skip", "ignore")
DEVICES = ("cpu", "cuda")
_GROUP_KEYS = ("params", "rule", "convention", "maximize", "schedule")


class Optimizer:
    """Update parameters in place by one of the rules of `optadvisor.kernels.RULES`.

    rule: id such as "adamw". params: a list or dict of float32 or float64 NumPy arrays, C-contiguous, of any shape
    including () and (0,), or arrays on a GPU with `__cuda_array_interface__` (CuPy, numba, torch), there also
    float16 or bfloat16 with float32 master weights in the state; or groups, a list of
    dicts {"params": ..., "rule": ..., "schedule": ..., hyperparameters}, where a schedule is a `kernels.Schedule` or its
    dict, with the step counts it needs, and lr its peak. hyperparameters: the rule's keywords (`optadvisor explain RULE`
    lists them). convention: whose form of the rule, "pytorch" where nothing is said; groups of other rules share it
    where their rule has it. on_nonfinite: what a NaN or Inf in a gradient does:
    "raise" NonFiniteGradient before anything changes, "skip" the step, or "ignore" (no check). maximize: go up
    instead of down. max_norm: clip the gradients of a step to this global norm, g*min(1, max_norm/(norm + 1e-6)).
    ema_decay: keep a moving average of the weights, `averages()`. device: "cpu" or "cuda", to be refused where the
    arrays lie elsewhere. stream: the CUDA stream to work on, of torch, CuPy or numba or its handle; by default the one
    that the arrays export, else CUDA's default stream. threads: of the CPU, for groups of 2.1e6 elements and more; the
    values do not depend on it.

    On a GPU, nothing waits for the device but the check of "raise" and "skip" (one read of 8 bytes a step), `grad_norm`,
    the first step (initial state) and state_dict: with on_nonfinite="ignore" a step only starts kernels.

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
        maximize: bool = False,
        max_norm: float | None = None,
        ema_decay: float | None = None,
        device: str | None = None,
        stream: Any = None,
        threads: int = 1,
        **hyperparameters: object,
    ) -> None:
        record = rules.get(rule)
        record.complete(hyperparameters)
        self._options(on_nonfinite, max_norm, ema_decay, threads)
        self._tree = params
        self._leaves = list(parameter_leaves(params))
        self._place(device, stream)
        groups: list[Group] = []
        if is_groups(params):
            for number, given in enumerate(params):
                keywords = {key: value for key, value in given.items() if key not in _GROUP_KEYS}
                own = rules.get(given.get("rule", rule))
                inherited = hyperparameters if own is record else {}
                shared = convention if own is record or convention in own.conventions else None
                groups += self._groups(
                    own,
                    {**inherited, **keywords},
                    given.get("convention", shared),
                    [i for i, leaf in enumerate(self._leaves) if leaf.path[0] == number],
                    _schedule(given["schedule"], f"params[{number}]") if "schedule" in given else None,
                    maximize=given.get("maximize", maximize),
                )
        else:
            positions = list(range(len(self._leaves)))
            groups = self._groups(record, hyperparameters, convention, positions, maximize=maximize)
        self._start(groups)

    @classmethod
    def from_config(
        cls,
        config: OptimizerConfig,
        params: Parameters,
        total_steps: int | None = None,
        roles: Mapping[Any, str] | None = None,
        *,
        on_nonfinite: str = "raise",
        maximize: bool = False,
        max_norm: float | None = None,
        ema_decay: float | None = None,
        device: str | None = None,
        stream: Any = None,
    ) -> Optimizer:
        """The optimizer of a config, with its schedule and groups.

        total_steps: length of the training, where the schedule needs it and the config does not carry it.
        roles: name or index of a parameter -> "embedding", "dense" or "no_decay". Others by shape: arrays of less than
        two dimensions (biases, normalisation) are no_decay where the config has that group, the rest is dense.
        """
        self = cls.__new__(cls)
        self._options(on_nonfinite, max_norm, ema_decay)
        self._tree = params
        self._leaves = list(parameter_leaves(params))
        self._place(device, stream)
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
            own = schedule if rules.get(rule).scheduled else Schedule("constant", 0)
            convention = config.convention_of(rule)
            groups += self._groups(
                rules.get(rule), hyperparameters, convention, positions, own, role, maximize=maximize
            )
        placed = {i for group in groups for i in group.positions}
        for i, leaf in enumerate(self._leaves):
            if i not in placed:
                unplaced = (roles or {}).get(leaf.path[-1])
                raise unknown(f"role of {leaf.name}", unplaced, config.roles())
        self._start(groups)
        return self

    def _options(self, on_nonfinite: str, max_norm: float | None, ema_decay: float | None, threads: int = 1) -> None:
        if on_nonfinite not in ON_NONFINITE:
            raise unknown("on_nonfinite", on_nonfinite, ON_NONFINITE)
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise InputError(f"threads is {threads!r}; it takes a whole number, 1 or more")
        self.on_nonfinite, self._threads = on_nonfinite, threads
        self.max_norm = _number("max_norm", max_norm, lambda x: x > 0.0, "above 0")
        self.ema_decay = _number("ema_decay", ema_decay, lambda x: 0.0 <= x < 1.0, "from 0 to 1 (1 excluded)")

    def _place(self, device: str | None, stream: Any) -> None:
        """Where the arrays are decides what runs: `Group`, or `DeviceGroup` with a session on a stream."""
        if device is not None and device not in DEVICES:
            raise unknown("device", device, DEVICES)
        self._session: Session | None = None
        self._group_type = Group
        there = [leaf for leaf in self._leaves if leaf.on_device]
        if device == "cuda" or there:
            from optadvisor.kernels.cuda.group import DeviceGroup, Session  # InputError where numba-cuda is missing

            self._group_type = DeviceGroup
        here = next((leaf.name for leaf in self._leaves if not leaf.on_device), None)
        if there and here is not None:
            raise InputError(f"{there[0].name} is on a GPU and {here} is not: one optimizer works in one place")
        if there and device == "cpu":
            raise InputError(
                f"device is 'cpu', but {there[0].name} is on a GPU: leave device out, or copy it to the host"
            )
        if device == "cuda" or there:
            self._stream = self._stream_of(there, stream)
            self._session = Session(self._leaves, self._stream, stream, self.max_norm is not None)
            if here is not None:
                raise InputError(
                    f"device is 'cuda', but {here} is a NumPy array: pass arrays of CuPy, numba or torch on the GPU"
                )
        elif stream is not None:
            raise InputError("stream is for arrays on a GPU, and these are NumPy arrays: leave it out")

    @staticmethod
    def _stream_of(leaves: Sequence[Leaf], stream: Any) -> int:
        if stream is not None:
            return stream_handle(stream)
        handles = {leaf.array.stream: leaf.name for leaf in leaves}
        if len(handles) > 1:
            names = " and ".join(list(handles.values())[:2])
            raise InputError(f"{names} are on different CUDA streams: pass stream=, the one that the step is to run on")
        return next(iter(handles), stream_handle(None))

    def _groups(
        self,
        rule: Rule,
        hyperparameters: Mapping[str, Any],
        convention: str | None,
        positions: list[int],
        schedule: Schedule | None = None,
        role: str | None = None,
        *,
        maximize: object = False,
    ) -> list[Group]:
        """The group of these leaves, or one for each dtype (and form, where matrices have their own) among them."""
        if not isinstance(maximize, bool):
            raise InputError(f"maximize is {maximize!r}; it takes True or False")

        def kind(i: int) -> tuple[str, bool]:
            array = self._leaves[i].array
            return dtype_name(array.dtype), rule.vector_form is not None and array.ndim != 2

        members = [[i for i in positions if kind(i) == one] for one in sorted({kind(i) for i in positions})] or [[]]
        return [
            self._group_type(
                rule,
                dict(hyperparameters),
                convention or rule.conventions[0],
                schedule or Schedule("constant", 0),
                role,
                maximize,
                [self._leaves[i] for i in own],
                own,
                self.ema_decay,
                self._threads,
            )
            for own in members
        ]

    def _start(self, groups: list[Group]) -> None:
        refuse_overlap(self._leaves)
        self.groups = groups
        self.steps_done = 0
        self._norm: float | None = None
        self._active = [group for group in groups if group.leaves]
        self._mode = loops.RUN if self.on_nonfinite == "ignore" else loops.RUN | loops.CHECK
        # One kernel call is a whole step where nothing must be known of all groups first and nothing is scheduled.
        one = self._active[0] if len(self._active) == 1 and self._session is None else None
        plain = self.max_norm is None and self.ema_decay is None
        self._only = one if one and plain and one.schedule.name == "constant" else None
        # So are several, where nothing is looked for first.
        constant = all(group.schedule.name == "constant" for group in self._active)
        unchecked = self.on_nonfinite == "ignore" and self._session is None
        self._plain = plain and constant and (self._only is not None or unchecked)
        self._named = isinstance(self._tree, Mapping)
        self._keys = [leaf.path[0] for leaf in self._leaves]
        self._held: list[Any] | None = None
        self._held_type: type = list
        self._initialised = False
        self._watched: list[tuple[Any, int]] = []
        for group in self._active if self._session is not None else ():
            group.placed(self._session)  # type: ignore[attr-defined]

    @property
    def grad_norm(self) -> float | None:
        """The global norm of the last step's gradients before clipping (max_norm). On a GPU this waits for it."""
        return self._norm if self._session is None else self._session.norm()

    def step(self, grads: Parameters, lr: float | None = None, *, grad_scale: float = 1.0) -> bool:
        """One update of every parameter; True, or False where on_nonfinite="skip" skipped it.

        grads: arrays in the structure of `params`, same shapes and dtypes (on a GPU float32, float16 and bfloat16 mix);
        they are not written. For an embedding table it may be (ids, rows): (m,) integers and (m, width) gradients of
        these rows; repeated ids are summed.
        lr: learning rate of this step alone, for all groups, in place of the groups' own and their schedules.
        grad_scale: what the gradients are divided by first: loss scale times accumulated mini-batches.
        """
        # The very arrays of the step before: their addresses are known. Written out: a call costs a tenth of a small step.
        held, given = self._held, cast(Any, grads)
        if (
            held is None
            or type(grads) is not self._held_type
            or len(grads) != len(held)
            or not all(map(is_, map(given.get, self._keys) if self._named else given, held))
            or (self._watched and self._have_moved())
        ):
            self._bind(grads)
        only = self._only
        if only is None or lr is not None or grad_scale != 1.0 or not self._initialised:
            return self.advance(lr, grad_scale)
        only.numbers[0] = self.steps_done + 1
        mode = self._mode
        bad = only.run(mode) if only.sparse else only.kernel(only.table, only.states, only.numbers, mode)
        if bad >= 0:
            return self._refuse(only, bad)
        self.steps_done += 1
        return True

    def advance(self, lr: float | None = None, grad_scale: float = 1.0) -> bool:
        """`step` with the gradients that the groups are bound to: for who hands them to `Group.bind` himself."""
        if self._plain and self._initialised and lr is None and grad_scale == 1.0:
            for group in self._active:
                group.numbers[loops.STEP] = self.steps_done + 1
                bad = group.run(self._mode)
                if bad >= 0:
                    return self._refuse(group, bad)
            self.steps_done += 1
            return True
        rate = None
        if lr is not None:
            for group in self.groups:
                rate = float(group.rule.complete({"lr": lr})["lr"])  # type: ignore[arg-type]
        scale = _number("grad_scale", grad_scale, lambda x: x > 0.0, "above 0") or 1.0
        self.initialise()
        t = self.steps_done + 1
        for group in self._active:
            group.prepare(t, rate)
        checks = self._mode & loops.CHECK
        several = len(self._active) > 1 or self._session is not None
        if self.max_norm is not None or (checks and several):
            norm = loops.NORM if self.max_norm is not None else 0
            found = self._look(checks | norm)
            if found is not None:
                return self._refuse(*found)
            checks = 0
        factor = self._factor(scale)
        for group in self._active:
            group.numbers[loops.SCALE] = group.sign * factor
            bad = group.run(checks | loops.RUN)
            if bad >= 0:
                return self._refuse(group, bad)
        for group in self._active:
            group.numbers[loops.LR], group.numbers[loops.SCALE] = group.lr, group.sign
        self.steps_done += 1
        return True

    def _look(self, mode: int) -> tuple[Group, int] | None:
        """Check and sum up the gradients of all groups: the group and number of the first non-finite one, or None."""
        if self._session is not None:
            active: Any = self._active
            return self._locate() if self._session.look(active, mode) else None
        for group in self._active:
            bad = group.run(mode)
            if bad >= 0:
                return group, bad
        return None

    def _locate(self) -> tuple[Group, int]:
        """Which gradient it was, for the message: the device says only that there is one."""
        for group in self._active:
            for i, ids, _ in group.sparse:
                leaf = group.leaves[i]
                refuse_outside(ids.copy_to_host(), "grads" + leaf.name.removeprefix("params"), leaf)
        if self.on_nonfinite == "skip":
            return self._active[0], 0
        for group in self._active:
            for i in range(len(group.leaves)):
                values = group.gradient(i)
                if values is not None and not np.isfinite(values.copy_to_host()).all():
                    return group, i
        raise NonFiniteGradient(
            "a gradient held NaN or Inf and was overwritten before it could be named: work of another stream? "
            "Nothing was changed"
        )

    def _factor(self, scale: float) -> float:
        """What the gradients are multiplied by: 1 / scale, and global-norm clipping of gradients divided by `scale`."""
        if self.max_norm is None:
            return 1.0 / scale
        if self._session is not None:  # stays on the device
            self._session.clip(self.max_norm, scale)
            return 1.0
        squares = sum(float(group.numbers[loops.SQUARED_NORM]) for group in self._active)
        self._norm = math.sqrt(squares) / scale
        return loops.clip_factor(self._norm, self.max_norm, scale)

    def _refuse(self, group: Group, bad: int) -> bool:
        group.numbers[loops.LR], group.numbers[loops.SCALE] = group.lr, group.sign
        if self.on_nonfinite == "skip":
            return False
        gradient = group.gradient(bad)
        if isinstance(gradient, DeviceArray):
            gradient = gradient.copy_to_host()
        first = int(np.flatnonzero(~np.isfinite(gradient.ravel()))[0])
        raise NonFiniteGradient(
            f"gradient of {group.leaves[bad].name} is {gradient.ravel()[first]} at flat index {first} "
            f"(step {self.steps_done + 1}): nothing was changed; lower the learning rate or clip, or pass "
            "on_nonfinite='skip'"
        )

    def averages(self) -> Any:
        """The moving averages of the parameters (ema_decay), as arrays in the structure of `params`; not copies."""
        if self.ema_decay is None:
            raise InputError("this optimizer keeps no averages: pass ema_decay, for example 0.999")
        self.initialise()
        found: list[Any] = [leaf.array for leaf in self._leaves]
        for group in self._active:
            for i, position in enumerate(group.positions):
                found[position] = group.average(i)
        return structure(self._tree, iter(found))

    def lookahead(self, lr: float | None = None) -> Any:
        """The points where nag with convention="paper" wants its gradient: p - lr*momentum*v, as new arrays.

        Returns arrays in the structure of `params`; for other rules they are copies of the parameters.
        """
        self.initialise()
        points: list[Any] = [None] * len(self._leaves)
        for group in self.groups:
            rate = float(lr) if lr is not None else group.lr * group.schedule.factor(self.steps_done)
            for i, position in enumerate(group.positions):
                points[position] = group.lookahead(i, rate)
        return structure(self._tree, iter(points))

    def evaluation(self) -> Any:
        """The weights to evaluate and to keep, as new arrays: for rules whose params are the point of the gradient.

        Returns arrays in the structure of `params`: the averaged weights x of schedule_free_adamw, whose params hold
        y; for other rules they are copies of the parameters.
        """
        self.initialise()
        found: list[Any] = [None] * len(self._leaves)
        for group in self.groups:
            for i, position in enumerate(group.positions):
                found[position] = group.evaluated(i)
        return structure(self._tree, iter(found))

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on elsewhere: step count and, by group, rule, hyperparameters and state arrays."""
        self.initialise()
        return saving.state_dict(self.groups, self.steps_done)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state_dict. InputError, and nothing changed, where rule, names, shapes or dtypes differ.

        Hyperparameters and schedules stay those of this optimizer: they may be changed on purpose between runs.
        """
        self.steps_done = saving.load_state_dict(state, self.groups)
        self._initialised = True

    def initialise(self) -> None:
        """Set the states to where they start, from the parameters as they are; the first step does, if nobody did."""
        if not self._initialised:
            for group in self.groups:
                group.initialise()
            self._initialised = True

    def _have_moved(self) -> bool:
        """Whether a torch tensor that was bound points to other memory than then."""
        return any(gradient.data_ptr() != where for gradient, where in self._watched)

    def _bind(self, grads: Parameters) -> None:
        """Check the gradients and write their addresses into the tables."""
        self._held = None  # a refusal half-way leaves addresses of gradients that may be gone by the next step
        gradients: list[Any] = []
        found = walk(grads, "grads")
        for leaf in self._leaves:
            path, name, gradient = next(found, ((), "", None))
            if path != leaf.path:
                raise InputError(
                    f"grads do not have the structure of params: expected the gradient of {leaf.name}, found {name or 'none'}"
                )
            if self._session is not None:
                gradients.append(_checked_on_device(gradient, name, leaf, self._stream))
            else:
                gradients.append(_checked(gradient, name, leaf))
        extra = next(found, None)
        if extra is not None:
            raise InputError(f"grads do not have the structure of params: {extra[1]} belongs to no parameter")
        for group in self.groups:
            group.sparse.clear()
            for i, position in enumerate(group.positions):
                if isinstance(gradients[position], tuple):
                    group.check_rows(i)
                group.bind(i, gradients[position])
        self._gradients = gradients  # copies among them must live as long as the tables hold their addresses
        # Held only where the caller's own arrays are used: a contiguous copy would be stale in the next step.
        given = [leaf for _, _, leaf in walk(grads, "grads")]
        flat = not self._leaves or len(self._leaves[0].path) == 1
        same = flat and (self._session is not None or all(map(is_, gradients, given)))
        self._held, self._held_type = (given if same else None), type(grads)
        # The same torch tensor may point to other memory than before; the rest keep theirs as long as they live.
        self._watched = [
            (tensor, address(array))
            for one, gradient in zip(given, gradients, strict=True)
            for tensor, array in (zip(one, gradient, strict=True) if isinstance(one, tuple) else [(one, gradient)])
            if self._session is not None and hasattr(tensor, "data_ptr")
        ]


def _schedule(given: Any, where: str) -> Schedule:
    try:
        return (given if isinstance(given, Schedule) else Schedule.from_dict(given)).resolve()
    except InputError as error:
        # Here nothing passes total_steps: the schedule itself carries it.
        raise InputError(f"{where}: {str(error).replace('pass total_steps', 'add total_steps to it')}") from None


def _number(name: str, value: Any, fits: Any, expected: str) -> float | None:
    if value is None:
        return None
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not fits(value):
        raise InputError(f"{name} is {value!r}; it takes a number {expected}")
    return float(value)


def _checked(gradient: Any, name: str, leaf: Leaf) -> Any:
    """A gradient that fits its parameter: a contiguous array, or (ids, rows)."""
    if isinstance(gradient, tuple):
        ids, rows = _checked_rows(gradient, name, leaf, "NumPy arrays")
        refuse_outside(ids, name, leaf)
        return np.ascontiguousarray(ids, dtype=np.int64), np.ascontiguousarray(rows)
    if isinstance(gradient, np.generic):  # what NumPy's own arithmetic makes of arrays of shape ()
        gradient = np.asarray(gradient)
    if not isinstance(gradient, np.ndarray):
        raise InputError(f"{name} is {type(gradient).__name__}; the gradient of {leaf.name} is a NumPy array")
    _refuse_other_shape(gradient, name, leaf)
    return gradient if gradient.flags.c_contiguous else np.ascontiguousarray(gradient)


def _checked_on_device(gradient: Any, name: str, leaf: Leaf, stream: int) -> Any:
    """`_checked` for a gradient on a GPU. Whether ids lie in the table, the device looks up later, if at all."""
    if isinstance(gradient, tuple):
        ids, rows = _checked_rows(tuple(map(device_array, gradient)), name, leaf, "arrays on the GPU")
        return _on_stream(ids, f"ids of {name}", stream), _on_stream(rows, f"rows of {name}", stream)
    array = device_array(gradient)
    if array is None:
        raise InputError(
            f"{name} is {type(gradient).__name__}; the gradient of {leaf.name} is an array on the GPU, as it is"
        )
    _refuse_other_shape(array, name, leaf)
    return _on_stream(array, name, stream)


def _on_stream(array: DeviceArray, name: str, stream: int) -> DeviceArray:
    if not array.contiguous:
        raise InputError(f"{name} is not C-contiguous; on a GPU pass a contiguous copy of it")
    if array.stream not in (stream, stream_handle(None)):
        raise InputError(
            f"{name} is on CUDA stream {array.stream:#x}, the optimizer on {stream:#x}: give the optimizer stream=, or compute "
            "the gradient on its stream"
        )
    return array


def _refuse_other_shape(gradient: Any, name: str, leaf: Leaf) -> None:
    if gradient.shape != leaf.array.shape or not _same_kind(gradient, leaf):
        raise InputError(
            f"{name} is {dtype_name(gradient.dtype)}{list(gradient.shape)}, but {leaf.name} is "
            f"{dtype_name(leaf.array.dtype)}{list(leaf.array.shape)}: a gradient has the shape and dtype of its parameter"
        )


def _same_kind(gradient: Any, leaf: Leaf) -> bool:
    """Whether dtypes go together: equal, or on a GPU both of those whose arithmetic is float32."""
    here, there = gradient.dtype, leaf.array.dtype
    return bool(here == there or (leaf.on_device and arithmetic(here) == arithmetic(there)))


def _checked_rows(gradient: tuple[Any, ...], name: str, leaf: Leaf, kind: str) -> tuple[Any, Any]:
    """(ids, rows) that fit their table; kind: what both are, in words."""
    if leaf.array.ndim != 2:
        raise InputError(f"{name} is (ids, rows), but {leaf.name} is {list(leaf.array.shape)}: only tables have rows")
    expected = DeviceArray if leaf.on_device else np.ndarray
    if len(gradient) != 2 or not all(isinstance(part, expected) for part in gradient):
        raise InputError(f"{name} is a tuple; a gradient of rows is (ids, rows), two {kind}")
    ids, rows = gradient
    width = leaf.array.shape[1]
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(f"ids of {name} are {ids.dtype}{list(ids.shape)}; they are a list of row numbers, integers")
    if rows.shape != (ids.size, width) or not _same_kind(rows, leaf):
        raise InputError(
            f"rows of {name} are {dtype_name(rows.dtype)}{list(rows.shape)}; {ids.size} rows of {leaf.name} are "
            f"{dtype_name(leaf.array.dtype)}{[ids.size, width]}"
        )
    return ids, rows
