"""A parameter group in the memory of a GPU, and what the groups of one optimizer share there."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optadvisor.kernels import loops
from optadvisor.kernels.arrays import Array, Leaf, address
from optadvisor.kernels.compiling import Compiled, specialise
from optadvisor.kernels.cuda import loops as kernels
from optadvisor.kernels.cuda import rows as row_kernels
from optadvisor.kernels.cuda import target
from optadvisor.kernels.cuda.arrays import DeviceArray, dtype_name, widened
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.group import AVERAGE, Group
from optadvisor.kernels.rules import Form

MASTER = "master"  # float32 weights behind parameters in half precision


class Session:
    """The stream of an optimizer, and the buffers of the check and of clipping: one of each for all its groups."""

    def __init__(self, leaves: Sequence[Leaf], stream: int, owner: Any, clips: bool) -> None:
        target.require(next((address(leaf.array) for leaf in leaves if leaf.array.size), 0))
        self.stream = stream
        self.clips = clips
        self._owner = owner  # a stream object of the caller's must outlive the work on it
        self._blocks = target.blocks()
        self._found = target.zeros(8, stream)
        self.result = target.zeros(kernels.RESULT_BYTES, stream)
        self._sums: target.Memory | None = None
        self._places = 0

    def grid(self, parts: int) -> int:
        """Blocks of a launch over so many parts."""
        return max(1, min(parts, self._blocks))

    def look(self, groups: Sequence[DeviceGroup], mode: int) -> bool:
        """Check the gradients of all groups, sum their squares; True where one holds nan or inf.

        Only the check waits for the device, once for all groups.
        """
        if mode & loops.NORM:
            self._add_squares(groups)
        if not mode & loops.CHECK:
            return False
        for group in groups:
            group.check(self._found.address)
        if not target.read(self._found.address, (1,), np.dtype(np.int64), self.stream)[0]:
            return False
        target.write(self._found.address, np.zeros(1, np.int64), self.stream)
        return True

    def _add_squares(self, groups: Sequence[DeviceGroup]) -> None:
        places = [group.sums for group in groups]
        self._count = sum(places)
        if self._sums is None or self._count > self._places:
            self._sums, self._places = target.zeros(8 * self._count, self.stream), self._count
        partial = self._sums.address
        for group, count in zip(groups, places, strict=True):
            group.add_squares(partial)
            partial += 8 * count

    def clip(self, max_norm: float, divisor: float) -> None:
        """Leave norm and clipping factor on the device, where the groups' kernels find the factor."""
        assert self._sums is not None
        kernels.clip().launch(1, self.stream, self._sums.address, self._count, max_norm, divisor, self.result.address)

    def norm(self) -> float | None:
        """The norm of the last `clip`, None before the first. Waits for the device."""
        if self._sums is None:
            return None
        return float(target.read(self.result.address, (1,), np.dtype(np.float64), self.stream)[0])


@functools.cache
def _coefficients(form: Form) -> Compiled:
    # Compiled, as the CPU's loops have them: numba's beta**t and Python's may differ in the last bit.
    return specialise(form.coefficients, form.name)


@dataclass(frozen=True)
class Touched:
    """The rows of a table that a step touches: sorted keys at an address, and the gradients beside them."""

    leaf: int
    keys: int
    count: int
    shift: int
    height: int
    width: int
    gradient: DeviceArray

    @property
    def lanes(self) -> int:
        """Threads that work on one row."""
        return min(self.width, target.THREADS)

    @property
    def place(self) -> tuple[int, int, int, int, int]:
        """What the kernels of `rows` take first."""
        return self.keys, self.count, self.shift, self.height, self.lanes


class DeviceGroup(Group):
    """`Group` with its state, its table of tensors and its work on a GPU. `numbers` stay on the host.

    A step is one launch: over the arena where the group has one parameter, else over the table, which is copied to
    the device again only after a gradient has moved. Gradients of rows are launches of their own.
    """

    session: Session  # set by `placed`

    def _allocate(self, rows: int, width: int) -> None:
        if not self.form.on_gpu:
            raise InputError(f"{self.rule.id} runs on the CPU only so far: pass NumPy arrays, or pick another rule")
        self._rows, self._width = rows, width

    @property
    def parameter_dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = self.leaves[0].array.dtype if self.leaves else self.dtype
        return found

    @property
    def copies(self) -> list[str]:
        return super().copies if self.parameter_dtype == self.dtype else [MASTER, *super().copies]

    def placed(self, session: Session) -> None:
        """Take memory on the device."""
        self.session = session
        size, stream = self.dtype.itemsize, session.stream
        self._memory = target.zeros(self._rows * self._width * size, stream)
        self._by_row = [target.zeros(len(self.form.row_states) * rows * size, stream) for rows in self.rows]
        self._table_memory = target.zeros(self.table.nbytes, stream)
        chunks = [
            (k, low) for k, size in enumerate(self.table[:, loops.SIZE]) for low in range(0, int(size), kernels.CHUNK)
        ]
        self.chunk_count = len(chunks)
        self._all_chunks = np.array(chunks, np.int64).reshape(-1, kernels.CHUNK_COLUMNS)
        self._chunks = target.zeros(self._all_chunks.nbytes, stream)
        target.write(self._chunks.address, self._all_chunks, stream)
        self._moved = True
        self._parts: dict[bytes, list[tuple[int, target.Memory, int]]] = {}
        self._absent: set[int] = set()
        self._count = len(self._coefficients(1, self.lr))
        self._last = (self._rows - 1) * self._width if self.ema_decay is not None else -1
        self._kinds = [self.parameter_dtype] * len(self.leaves)  # of the gradients
        self._scratch: dict[object, tuple[int, target.Memory]] = {}
        self._touched: list[Touched] = []

    def _coefficients(self, t: int, lr: float) -> tuple[float, ...]:
        found: tuple[float, ...] = _coefficients(self.form)(t, lr, *map(float, self.numbers[loops.VALUES :]))
        return found

    def _at_step(self, delay: int) -> tuple[Any, ...]:
        """The coefficients of a parameter that has missed so many steps."""
        numbers = self.numbers
        found = self._coefficients(int(numbers[loops.STEP]) - delay, float(numbers[loops.LR]))
        return tuple(map(self.scalar, found))

    def bind(self, i: int, gradient: Any) -> None:
        rows = isinstance(gradient, tuple)
        if rows:
            self.sparse.append((i, *gradient))
        (self._absent.add if gradient is None else self._absent.discard)(i)
        here = not rows and gradient is not None
        size, where = (gradient.size, gradient.address) if here else (0, 0)  # the kernels pass a size of 0 over
        if (self.table[i, loops.SIZE], self.table[i, loops.GRADIENT]) != (size, where):
            self.table[i, loops.SIZE], self.table[i, loops.GRADIENT] = size, where
            self._moved = True
        if gradient is not None:
            self._kinds[i] = gradient[1].dtype if rows else gradient.dtype

    def gradient(self, i: int) -> Any:
        rows = next((rows for j, _, rows in self.sparse if j == i), None)
        if rows is not None or self.table[i, loops.SIZE] == 0:
            return rows
        return self._whole_gradient(i)

    def _whole_gradient(self, i: int) -> DeviceArray:
        where = int(self.table[i, loops.GRADIENT])
        return DeviceArray(None, where, self.leaves[i].array.shape, self._kinds[i], self.session.stream)

    def prepare(self, t: int, lr: float | None) -> None:
        super().prepare(t, lr)
        sparse = {i for i, _, _ in self.sparse}
        self._dense = [i for i in range(len(self.leaves)) if i not in sparse and i not in self._absent]
        kinds = {dtype_name(self._kinds[i]): i for i in self._dense}
        if len(kinds) > 1:
            (one, i), (two, j) = list(kinds.items())[:2]
            raise InputError(
                f"the gradient of {self.leaves[i].name} is {one}, that of {self.leaves[j].name} {two}: those of a group have "
                "one dtype; convert them, or make two groups"
            )
        self._gradient = self._kinds[self._dense[0]] if self._dense else self.parameter_dtype
        # Sorted anew each step: the ids may have changed where they are.
        self._touched = [self._sorted(i, ids, rows) for i, ids, rows in self.sparse if rows.size]

    def _sorted(self, i: int, ids: DeviceArray, gradient: DeviceArray) -> Touched:
        (height, width), count, stream = self.leaves[i].array.shape, ids.size, self.session.stream
        grid = self.session.grid(-(-count // target.THREADS))
        keys = self._room(("keys", i), 16 * count)
        other, shift, run = keys + 8 * count, (count - 1).bit_length(), 1
        row_kernels.keys(ids.dtype).launch(grid, stream, ids.address, count, shift, height, keys)
        for _ in range(row_kernels.passes(count)):
            row_kernels.merge().launch(grid, stream, keys, count, run, other)
            keys, other, run = other, keys, run * row_kernels.WAYS
        return Touched(i, keys, count, shift, height, width, gradient)

    def _everyone(self, i: int) -> Touched:
        """A whole gradient as rows, for a form that works by row."""
        leaf, height = self.leaves[i].array, self.rows[i]
        shift = (height - 1).bit_length()
        known = ("everyone", i) in self._scratch
        keys = self._room(("everyone", i), 8 * height)
        if not known:
            everyone = np.arange(height, dtype=np.int64)
            target.write(keys, everyone << shift | everyone, self.session.stream)
        return Touched(i, keys, height, shift, height, leaf.size // height, self._whole_gradient(i))

    def _room(self, use: object, size: int) -> int:
        """Address of scratch memory that is kept from step to step. Freeing a smaller one waits for its kernels."""
        held, memory = self._scratch.get(use, (0, None))
        if memory is None or held < size:
            held = 1 << max(8, (size - 1).bit_length())
            memory = target.zeros(held, self.session.stream)
            self._scratch[use] = held, memory
        return memory.address

    def _place(self) -> tuple[int, int, int]:
        """Addresses of the tables on the device, up to date, and the number of chunks."""
        if self._moved:
            target.write(self._table_memory.address, self.table, self.session.stream)
            self._moved = False
        return self._table_memory.address, self._chunks.address, self.chunk_count

    def check(self, found: int) -> None:
        """Start the check; it writes 1 at the address `found`."""
        stream = self.session.stream
        if self._dense:
            grid = self.session.grid(self.chunk_count)
            kernels.check(self._gradient).launch(grid, stream, *self._place(), found)
        for rows in self._touched:
            grid = self.session.grid(-(-rows.gradient.size // target.THREADS))
            arguments = (*rows.place[:4], rows.gradient.address, rows.width, found)
            row_kernels.check(rows.gradient.dtype).launch(grid, stream, *arguments)

    @property
    def sums(self) -> int:
        """How many sums `add_squares` leaves: one a thread."""
        blocks = [self.session.grid(self.chunk_count)] if self._dense else []
        return target.THREADS * sum((*blocks, *map(self._row_grid, self._touched)))

    def add_squares(self, partial: int) -> None:
        """Start the sum of squares, into places from the address `partial` on."""
        stream = self.session.stream
        if self._dense:
            grid = self.session.grid(self.chunk_count)
            kernels.squares(self._gradient).launch(grid, stream, *self._place(), partial)
            partial += 8 * grid * target.THREADS
        for rows in self._touched:
            grid = self._row_grid(rows)
            arguments = (*rows.place, rows.gradient.address, rows.width, partial)
            row_kernels.squares(rows.gradient.dtype).launch(grid, stream, *arguments)
            partial += 8 * grid * target.THREADS

    def _row_grid(self, rows: Touched) -> int:
        return self.session.grid(-(-rows.count // (target.THREADS // rows.lanes)))

    def run(self, mode: int) -> int:
        """Start the update. Checks and norms are the session's: they concern all groups."""
        scale = self.scalar(self.numbers[loops.SCALE])
        coefficients = {delay: self._at_step(delay) for delay in set(self.delays.tolist())}
        at = [coefficients[delay] for delay in self.delays.tolist()]
        if self.form.stage is None:
            if self._dense:
                self._update_dense(scale, coefficients)
            for rows in self._touched:
                self._update_rows(rows, scale, at[rows.leaf])
            return -1
        everyone = [self._everyone(i) for i in self._dense if self.leaves[i].array.size]
        tables = [*everyone, *self._touched]
        # The stream runs one kernel after the other: all tables share the scratch, of the size of the largest.
        size = self.dtype.itemsize
        work = self._room("work", size * max((rows.count * rows.width for rows in tables), default=0))
        partial = self._room("partial", 8 * max((rows.count * rows.lanes for rows in tables), default=0))
        number = self._room("number", size * max((rows.count for rows in tables), default=0))
        for rows in tables:
            self._update_by_row(rows, (work, partial, number), scale, at[rows.leaf])
        return -1

    @property
    def _factor(self) -> int:
        """Address of the clipping factor in the group's arithmetic, or 0."""
        where = kernels.FACTOR_SINGLE if self.dtype.itemsize == 4 else kernels.FACTOR_DOUBLE
        return self.session.result.address + 8 * where if self.session.clips else 0

    def _update_dense(self, scale: Any, coefficients: dict[int, tuple[Any, ...]]) -> None:
        kind = (self.form, self.parameter_dtype, self._count, self._gradient)
        keep, take = (self.scalar(self.numbers[k]) for k in (loops.KEEP, loops.TAKE))
        arguments = (self._memory.address, self._width, self._last, self._factor, scale, keep, take)
        if len(self.leaves) == 1:
            size = self.leaves[0].array.size
            grid = self.session.grid(-(-size // target.THREADS))
            p, g = int(self.table[0, loops.PARAMETER]), int(self.table[0, loops.GRADIENT])
            (c,) = coefficients.values()
            kernels.flat(*kind).launch(grid, self.session.stream, p, g, size, *arguments, c)
            return
        table, chunks, count = self._place()
        whole = [(next(iter(coefficients)), chunks, count)]
        for delay, chunks, count in whole if len(coefficients) == 1 else self._by_delay():
            grid = self.session.grid(count)
            c = coefficients[delay]
            kernels.table(*kind).launch(grid, self.session.stream, table, chunks, count, *arguments, c)

    def _by_delay(self) -> list[tuple[int, int, int]]:
        """(delay, address of the chunks, their number) of the parameters that have missed as many steps."""
        known = self.delays.tobytes()
        if known not in self._parts:
            self._parts = {known: [self._chunks_at(int(delay)) for delay in np.unique(self.delays)]}
        return [(delay, memory.address, count) for delay, memory, count in self._parts[known]]

    def _chunks_at(self, delay: int) -> tuple[int, target.Memory, int]:
        chunks = self._all_chunks[self.delays[self._all_chunks[:, 0]] == delay]
        memory = target.zeros(chunks.nbytes, self.session.stream)
        target.write(memory.address, np.ascontiguousarray(chunks), self.session.stream)
        return delay, memory, len(chunks)

    def _update_rows(self, rows: Touched, scale: Any, c: tuple[Any, ...]) -> None:
        kernel = row_kernels.rows(self.form, self.parameter_dtype, self._count, rows.gradient.dtype)
        p, start = (int(self.table[rows.leaf, column]) for column in (loops.PARAMETER, loops.START))
        arguments = (p, rows.gradient.address, rows.width, self._memory.address, self._width, start, self._factor)
        kernel.launch(self._row_grid(rows), self.session.stream, *rows.place, *arguments, scale, c)

    def _update_by_row(self, rows: Touched, scratch: tuple[int, int, int], scale: Any, c: tuple[Any, ...]) -> None:
        kind = (self.form, self.parameter_dtype, self._count, rows.gradient.dtype)
        directions, numbers, move = row_kernels.staged(*kind)
        work, partial, number = scratch
        p, start = (int(self.table[rows.leaf, column]) for column in (loops.PARAMETER, loops.START))
        grid, stream, states = self._row_grid(rows), self.session.stream, self._memory.address
        where = (p, rows.gradient.address, rows.width, states, self._width, start, self._factor, work, partial)
        directions.launch(grid, stream, *rows.place, *where, scale, c)
        memory, each = self._by_row[rows.leaf].address, self.session.grid(-(-rows.count // target.THREADS))
        numbers.launch(each, stream, *rows.place, rows.width, partial, memory, number, c)
        move.launch(grid, stream, *rows.place, p, rows.width, states, start, work, number, c)

    def view(self, k: int, i: int) -> DeviceArray:
        first, by_row = len(self.form.states), len(self.form.row_states)
        shape, size = self.kept_shape(k, i), self.dtype.itemsize
        if first <= k < first + by_row:
            memory, place = self._by_row[i], (k - first) * self.rows[i]
        else:
            row = k if k < first else k - by_row
            memory, place = self._memory, row * self._width + int(self.table[i, loops.START])
        return DeviceArray(memory, memory.address + size * place, shape, self.dtype, self.session.stream)

    def average(self, i: int) -> Any:
        return self.view(self.kept_names.index(AVERAGE), i)

    def saved(self, k: int, i: int) -> Array:
        return self.view(k, i).copy_to_host()

    def load(self, k: int, i: int, value: Any) -> None:
        view = self.view(k, i)
        array: NDArray[Any] = np.ascontiguousarray(np.broadcast_to(value, view.shape), dtype=self.dtype)
        target.write(view.address, array, self.session.stream)

    def value(self, i: int) -> Array:
        leaf = self.leaves[i].array
        return widened(target.read(address(leaf), leaf.shape, leaf.dtype, self.session.stream))

    def exported(self, point: Array) -> Any:
        memory = target.zeros(point.nbytes, self.session.stream)
        target.write(memory.address, np.ascontiguousarray(point), self.session.stream)
        return DeviceArray(memory, memory.address, point.shape, self.dtype, self.session.stream)
