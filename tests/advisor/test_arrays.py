"""NumPy's files read without NumPy: the same numbers as NumPy reads, and one line for what is not read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from optadvisor.advisor.arrays import read_npz
from optadvisor.kernels.errors import InputError

TYPES = ("u1", "i4", "i8", "f4", "f8")
SHAPES = ((), (0,), (1,), (7,), (3, 5), (2, 0, 3), (2, 3, 4))


def kept(save=np.savez, **arrays) -> io.BytesIO:
    file = io.BytesIO()
    save(file, **arrays)
    file.seek(0)
    return file


def refused(file: io.BytesIO | Path, *words: str) -> None:
    with pytest.raises(InputError) as raised:
        read_npz(file)
    message = str(raised.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", TYPES)
def test_the_numbers_are_numpys(dtype: str, save):
    rng = np.random.default_rng(0)
    written = {}
    for n, shape in enumerate(SHAPES):
        bits = rng.integers(0, 256, size=(*shape, np.dtype(dtype).itemsize), dtype=np.uint8)
        numbers = np.ascontiguousarray(bits).reshape(-1).view(dtype).reshape(shape)
        written[f"array {n}"] = np.where(np.isfinite(numbers), numbers, 0).astype(dtype)
    written["ends"] = np.array([0, 1, 255], dtype=dtype)
    file = kept(save, **written)
    with np.load(file, allow_pickle=False) as expected:
        assert set(expected) == set(written)
        found = read_npz(file)
        assert list(found) == list(written)
        for name, array in expected.items():
            assert found[name].shape == array.shape
            assert list(found[name].flat) == array.ravel().tolist()


def test_what_is_not_finite_is_read_too():
    found = read_npz(kept(a=np.array([np.inf, -np.inf, np.nan, -0.0])))["a"].flat
    np.testing.assert_array_equal(list(found), [np.inf, -np.inf, np.nan, -0.0])


def test_a_path_is_read_like_a_file(tmp_path: Path):
    np.savez(tmp_path / "a.npz", a=np.arange(3))
    assert list(read_npz(tmp_path / "a.npz")["a"].flat) == [0, 1, 2]
    assert read_npz(str(tmp_path / "a.npz")) == read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("text", ["", "plain", "1 − β, naïve, 学習率\n", "\x00"])
def test_text_comes_back(text: str):
    found = read_npz(kept(a=np.frombuffer(text.encode(), dtype=np.uint8)))["a"]
    assert found.text() == text
    assert found._replace(flat=list(found.flat)).text() == text


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros(3, dtype=np.float16), "f2"),
        (np.zeros(3, dtype=">f8"), ">f8"),
        (np.zeros(3, dtype=bool), "b1"),
        (np.zeros(3, dtype=complex), "c16"),
        (np.array(["adam"]), "U4"),
        (np.array([{"a": 1}], dtype=object), "O"),
        (np.zeros(3, dtype=[("lr", "f8"), ("eps", "f8")]), "lr"),
        (np.asfortranarray(np.zeros((2, 3))), "C order"),
    ],
)
def test_other_types_are_refused_in_one_line(array: np.ndarray, word: str):
    refused(kept(good=np.arange(3), bad=array), "bad.npy", word)


def test_what_is_no_array_is_refused_in_one_line(tmp_path: Path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "lr 0.1")
    refused(file, "notes.txt", "no array")
    path = tmp_path / "a.npz"
    path.write_bytes(b"lr 0.1")
    refused(path, str(path), ".npz")
    whole = kept(a=np.arange(1000.0)).getvalue()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, str(path))
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 1
    path.write_bytes(spoilt)
    refused(path, str(path))
