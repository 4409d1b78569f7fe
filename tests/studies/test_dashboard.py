"""optuna-dashboard opens our storages: it lists the studies and shows their trials."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

import optadvisor as oa
from optadvisor.studies import storage

dashboard = pytest.importorskip("optuna_dashboard")

TASK = "digits-mlp"


def get(app: Any, path: str, query: str = "") -> Any:
    """What the dashboard answers to a browser."""
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    status: list[str] = []
    body = b"".join(app(environ, lambda line, headers, error=None: status.append(line)))
    assert status[0].startswith("200"), (status, body)
    return json.loads(body)


def check(url: str | None) -> None:
    oa.tune(TASK, trials=3, steps=5, optimizers=["adamw", "nag"], storage=url)
    with storage.quiet_optuna():
        kept = storage.open_storage(url, TASK)
        app = dashboard.wsgi(kept)
        studies = {study["study_name"]: study for study in get(app, "/api/studies")["study_summaries"]}
        assert {f"{TASK}#1", f"{TASK}#1/adamw", f"{TASK}#1/nag"} <= set(studies)
        for name, count in (("adamw", 2), ("nag", 1)):
            shown = get(app, f"/api/studies/{studies[f'{TASK}#1/{name}']['study_id']}", "after=0")
            assert len(shown["trials"]) == count
            assert {param["name"] for param in shown["trials"][0]["params"]} >= {"lr"}
        storage.close(kept)


def test_a_journal():
    check(None)


def test_a_file_of_sqlite(tmp_path: Path):
    check(f"sqlite:///{tmp_path}/studies.db")


def test_postgresql(database: str):
    check(database)
