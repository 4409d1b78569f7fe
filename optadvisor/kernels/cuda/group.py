"""A parameter group in the memory of a GPU, and what the groups of one optimizer share there."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from optadvisor.kernels import loops
from optadvisor.kernels.arrays import Array, Leaf, address
from optadvisor.kernels.compiling import Compiled, specialise
from optadvisor.kernels.cuda import loops as kernels
from optadvisor.kernels.cuda import target
from optadvisor.kernels.cuda.arrays import DeviceArray
from optadvisor.kernels.errors import InputError
from optadvisor.kernels.group import Group
from optadvisor.kernels.rules import Form


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
        places = [self.grid(group.chunk_count) * target.THREADS for group in groups]
        self._count = sum(places)
        if self._sums is None:
            self._sums = target.zeros(8 * self._count, self.stream)
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


class DeviceGroup(Group):
    """`Group` with its state, its table of tensors and its work on a GPU. `numbers` stay on the host.

    A step is one launch: over the arena where the group has one parameter, else over the table, which is copied to
    the device again only after a gradient has moved.
    """

    session: Session  # set by `placed`

    def _allocate(self, rows: int, width: int) -> None:
        if not self.form.plain:
            raise InputError(f"{self.rule.id} runs on the CPU only so far: pass NumPy arrays, or pick another rule")
        self._rows, self._width = rows, width

    def placed(self, session: Session) -> None:
        """Take memory on the device."""
        self.session = session
        self._memory = target.zeros(self._rows * self._width * self.dtype.itemsize, session.stream)
        self._table_memory = target.zeros(self.table.nbytes, session.stream)
        chunks = [
            (k, low) for k, size in enumerate(self.table[:, loops.SIZE]) for low in range(0, int(size), kernels.CHUNK)
        ]
        self.chunk_count = len(chunks)
        self._chunks = target.zeros(16 * len(chunks), session.stream)
        target.write(self._chunks.address, np.array(chunks, np.int64).reshape(-1, 2), session.stream)
        self._moved = True
        self._values = tuple(float(v) for v in self.numbers[loops.VALUES :])
        count = len(self._coefficients(1, self.lr))
        form, dtype = self.form, cast(Any, self.dtype.type)
        self._flat, self._table = kernels.flat(form, dtype, count), kernels.table(form, dtype, count)
        self._check, self._squares = kernels.check(dtype), kernels.squares(dtype)
        self._last = (self._rows - 1) * self._width if self.ema_decay is not None else -1

    def _coefficients(self, t: int, lr: float) -> tuple[float, ...]:
        found: tuple[float, ...] = _coefficients(self.form)(t, lr, *self._values)
        return found

    def bind(self, i: int, gradient: Any) -> None:
        if self.table[i, loops.GRADIENT] != gradient.address:
            self.table[i, loops.GRADIENT] = gradient.address
            self._moved = True

    def _place(self) -> tuple[int, int, int]:
        """Addresses of the tables on the device, up to date, and the number of chunks."""
        if self._moved:
            target.write(self._table_memory.address, self.table, self.session.stream)
            self._moved = False
        return self._table_memory.address, self._chunks.address, self.chunk_count

    def check(self, found: int) -> None:
        """Start the check; it writes 1 at the address `found`."""
        self._check.launch(self.session.grid(self.chunk_count), self.session.stream, *self._place(), found)

    def add_squares(self, partial: int) -> None:
        """Start the sum of squares, into places from the address `partial` on."""
        self._squares.launch(self.session.grid(self.chunk_count), self.session.stream, *self._place(), partial)

    def run(self, mode: int) -> int:
        """Start the update. Checks and norms are the session's: they concern all groups."""
        numbers, scalar = self.numbers, self.scalar
        c = tuple(map(scalar, self._coefficients(int(numbers[loops.STEP]), float(numbers[loops.LR]))))
        factor = self.session.result.address + 8 * (
            kernels.FACTOR_SINGLE if self.dtype.itemsize == 4 else kernels.FACTOR_DOUBLE
        )
        arguments = (
            self._memory.address,
            self._width,
            self._last,
            factor if self.session.clips else 0,
            scalar(numbers[loops.SCALE]),
            scalar(numbers[loops.KEEP]),
            scalar(numbers[loops.TAKE]),
            c,
        )
        if len(self.leaves) == 1:
            size = self.leaves[0].array.size
            grid = self.session.grid(-(-size // target.THREADS))
            p, g = int(self.table[0, loops.PARAMETER]), int(self.table[0, loops.GRADIENT])
            self._flat.launch(grid, self.session.stream, p, g, size, *arguments)
        else:
            self._table.launch(self.session.grid(self.chunk_count), self.session.stream, *self._place(), *arguments)
        return -1

    def _view(self, k: int, i: int) -> DeviceArray:
        shape = self.leaves[i].array.shape
        at = self._memory.address + self.dtype.itemsize * (k * self._width + int(self.table[i, loops.START]))
        return DeviceArray(self._memory, at, shape, self.dtype, self.session.stream)

    def state(self, k: int, i: int) -> Any:
        return self._view(k, i)

    def saved(self, k: int, i: int) -> Array:
        return self._view(k, i).copy_to_host()

    def load(self, k: int, i: int, value: Any) -> None:
        shape = self.leaves[i].array.shape
        array: NDArray[Any] = np.ascontiguousarray(np.broadcast_to(value, shape), dtype=self.dtype)
        target.write(self._view(k, i).address, array, self.session.stream)

    def value(self, i: int) -> Array:
        leaf = self.leaves[i].array
        return target.read(address(leaf), leaf.shape, self.dtype, self.session.stream)

    def lookahead(self, i: int, lr: float) -> Any:
        point, stream = super().lookahead(i, lr), self.session.stream  # computed on the host
        memory = target.zeros(point.nbytes, stream)
        target.write(memory.address, point, stream)
        return DeviceArray(memory, memory.address, point.shape, self.dtype, stream)
