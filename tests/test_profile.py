"""`TaskProfile` and the numbers in it as people write them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from optadvisor import InputError, TaskProfile
from optadvisor.profile import ARCHITECTURES, DOMAINS, GOALS
from optadvisor.quantities import parse_bytes, parse_count, show_bytes, show_count

COUNTS: dict[Any, int] = {
    "1": 1,
    "1200": 1200,
    " 1200 ": 1200,
    "1k": 1000,
    "1K": 1000,
    "124M": 124_000_000,
    "124m": 124_000_000,
    "1.5m": 1_500_000,
    "7B": 7_000_000_000,
    "7b": 7_000_000_000,
    "1.234k": 1234,
    "1e6": 1_000_000,
    "1E6": 1_000_000,
    "2.5e3": 2500,
    "1e3k": 1_000_000,
    "124 M": 124_000_000,
    "0.5k": 500,
    "1e18": 10**18,
    32: 32,
    1e6: 1_000_000,
}


@pytest.mark.parametrize("text", COUNTS, ids=repr)
def test_counts(text: Any):
    found = parse_count(text, "samples")
    assert found == COUNTS[text]
    assert type(found) is int


NOT_COUNTS = [
    *["", "k", "many", "1.5", "1.2345k", "12x", "1kk", "1Ki", "0", "-1", "-1k", "0.0001k", "nan", "NaN", "snan", "inf"],
    *["-inf", "1e19", "1e999999", "1e999999k", "1e99999999999999999999", "1e-99999999999", "1,000", "0x10", "1e400B"],
    *[0, -5, 1.5, math.nan, math.inf, True, False, None, [1], 10**30],
]


@pytest.mark.parametrize("value", NOT_COUNTS, ids=repr)
def test_not_counts(value: Any):
    with pytest.raises(InputError) as caught:
        parse_count(value, "samples")
    assert str(caught.value).startswith(f"samples is {value!r}; it takes a whole number such as 1200, 1e6 or 124M")


BYTES: dict[Any, int] = {
    "0": 0,
    "4096": 4096,
    "2k": 2000,
    "2M": 2_000_000,
    "2G": 2_000_000_000,
    "2g": 2_000_000_000,
    "2Ki": 2048,
    "2ki": 2048,
    "600Mi": 600 * 2**20,
    "1Gi": 2**30,
    "1.5Ki": 1536,
    "600MB": 600_000_000,
    "600MiB": 600 * 2**20,
    "12B": 12,
    0: 0,
}


@pytest.mark.parametrize("text", BYTES, ids=repr)
def test_bytes(text: Any):
    assert parse_bytes(text, "memory_limit") == BYTES[text]


@pytest.mark.parametrize(
    "value", ["", "B", "1.5", "1.0001Ki", "-1", "2T", "nan", "inf", True, None, math.nan, -1], ids=repr
)
def test_not_bytes(value: Any):
    with pytest.raises(InputError, match=r"memory_limit is .*; it takes bytes such as 4096, 2G or 600Mi"):
        parse_bytes(value, "memory_limit")


def test_numbers_are_shown_for_people():
    assert [show_count(n) for n in (7, 2410, 124_000_000, 7_000_000_000)] == ["7", "2,410", "124M", "7B"]
    assert [show_bytes(n) for n in (7, 992_000_000, 2_500, 3 * 10**9)] == ["7 bytes", "992 MB", "2.5 kB", "3 GB"]


def test_everything_may_be_unknown():
    profile = TaskProfile()
    assert set(profile.to_dict().values()) == {None}
    assert TaskProfile.from_dict({}) == profile
    assert TaskProfile.from_dict(profile.to_dict()) == profile


def test_round_trip_and_expansion():
    profile = TaskProfile(
        domain="language",
        architecture="transformer",
        goal="speed",
        parameters="124M",  # type: ignore[arg-type]
        samples="1e9",  # type: ignore[arg-type]
        batch_size=512,
        steps=100_000,
        trials=1,
        sparse_fraction=1,
        convex=False,
        unstable=True,
        non_stationary=False,
        ill_conditioned=True,
        memory_limit="600Mi",  # type: ignore[arg-type]
    )
    data = profile.to_dict()
    assert (data["parameters"], data["samples"], data["memory_limit"]) == (124_000_000, 10**9, 600 * 2**20)
    assert isinstance(data["sparse_fraction"], float)
    assert None not in data.values()
    assert TaskProfile.from_dict(json.loads(json.dumps(data))) == profile


def test_epochs_where_they_can_be_known():
    assert TaskProfile(steps=1000, batch_size=32, samples=3200).epochs == 10.0
    assert TaskProfile(steps=1000, batch_size=32).epochs is None


def test_every_name_is_accepted():
    for field, names in (("domain", DOMAINS), ("architecture", ARCHITECTURES), ("goal", GOALS)):
        for name in names:
            assert TaskProfile(**{field: name}).to_dict()[field] == name


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "domain": ({"domain": "visoin"}, "unknown domain 'visoin': did you mean 'vision'"),
    "domain in capitals": ({"domain": "Vision"}, "did you mean 'vision'"),
    "domain of another type": ({"domain": ["vision"]}, "unknown domain"),
    "architecture": ({"architecture": "tranformer"}, "did you mean 'transformer'"),
    "architecture without likeness": ({"architecture": "zzz"}, "unknown architecture 'zzz': known: linear, mlp"),
    "goal": ({"goal": "fast"}, "unknown goal 'fast'"),
    "field": ({"parameter": 5}, "unknown profile field 'parameter': did you mean 'parameters'"),
    "bool as count": ({"steps": True}, "steps is True; it takes a whole number"),
    "no trials": ({"trials": 0}, "trials is 0; it takes a whole number"),
    "NaN count": ({"samples": math.nan}, "samples is nan"),
    "fraction above 1": (
        {"sparse_fraction": 99},
        "sparse_fraction is 99; it takes a share from 0 to 1, 0.99 for 99% zeros",
    ),
    "fraction below 0": ({"sparse_fraction": -0.1}, "sparse_fraction is -0.1"),
    "fraction NaN": ({"sparse_fraction": math.nan}, "sparse_fraction is nan"),
    "fraction bool": ({"sparse_fraction": True}, "sparse_fraction is True"),
    "fraction text": ({"sparse_fraction": "0.9"}, "sparse_fraction is '0.9'"),
    "number as flag": ({"convex": 1}, "convex is 1; it takes true or false"),
    "text as flag": ({"unstable": "yes"}, "unstable is 'yes'; it takes true or false"),
    "memory limit": ({"memory_limit": "lots"}, "memory_limit is 'lots'; it takes bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str):
    data, message = REFUSED[case]
    with pytest.raises(InputError) as caught:
        TaskProfile.from_dict(data)
    assert message in str(caught.value)


def test_file(tmp_path: Path):
    path = tmp_path / "profile.json"
    path.write_text('{"domain": "rl", "steps": "10k"}', encoding="utf-8")
    assert TaskProfile.from_json(path) == TaskProfile(domain="rl", steps=10_000)
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "holds list; it takes a JSON object"),
        ('{"domain": "x"}', "unknown domain 'x'"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            TaskProfile.from_json(path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="is not JSON"):
        TaskProfile.from_json(path)
    with pytest.raises(InputError, match="cannot read the profile"):
        TaskProfile.from_json(tmp_path / "absent.json")
    with pytest.raises(InputError, match="cannot read the profile"):
        TaskProfile.from_json(tmp_path)
