"""NumPy's .npz files read without NumPy: `recommend` starts in less time than NumPy's import takes."""

from __future__ import annotations

import array
import ast
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

from optadvisor.kernels.errors import InputError

_CODES = {"|u1": "B", "<i4": "i", "<i8": "q", "<f4": "f", "<f8": "d"}


class Array(NamedTuple):
    """The numbers of an array, flat in C order, and its shape."""

    shape: tuple[int, ...]
    flat: Sequence[float]

    def text(self) -> str:
        """Text that was stored as its UTF-8 bytes."""
        return (
            bytes(int(value) for value in self.flat).decode()
            if not isinstance(self.flat, bytes)
            else self.flat.decode()
        )


def read_npz(file: str | Path | IO[bytes]) -> dict[str, Array]:
    """Every array of an .npz file of integers or floats; InputError for any other kind of data."""
    try:
        with zipfile.ZipFile(file) as kept:
            return {name.removesuffix(".npy"): _array(kept.read(name), name) for name in kept.namelist()}
    except zipfile.BadZipFile as error:
        raise InputError(f"{file} is no whole .npz file: {error}") from None


def _array(data: bytes, name: str) -> Array:
    if data[:6] != b"\x93NUMPY":
        raise InputError(f"{name} is no array of NumPy's format")
    wide = data[6] > 1
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    header = ast.literal_eval(data[start : start + length].decode("latin1"))
    code = _CODES.get(str(header["descr"]))  # a list where the array has fields
    if code is None or header["fortran_order"]:
        raise InputError(f"{name} has the type {header['descr']!r}; only plain numbers in C order are read")
    body = data[start + length :]
    if code == "B":
        return Array(header["shape"], body)
    numbers = array.array(code, body)
    if sys.byteorder == "big":
        numbers.byteswap()
    return Array(header["shape"], numbers)
