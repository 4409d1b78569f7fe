"""Tests of one family run on one worker: compiling it takes longer than all of its tests."""

from __future__ import annotations

import pytest

from optadvisor.studies.tasks.registry import FAMILIES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("name")  # type: ignore[attr-defined]
        if name in FAMILIES:
            item.add_marker(pytest.mark.xdist_group(name))
