"""flows/scale.py: what fits together, and no password in what is handed on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flows.scale import Scale, check_scale, with_run, without_secrets
from model_onnx.errors import RuntimeUnavailableError, UsageError

STORE = "postgresql://me:s3cret@host/db"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"runner": "cluster"}, "expected threads, dask or ray"),
        ({"runner": "dask"}, "only one process can write; say --store postgresql"),
        ({"runner": "ray", "workers": 2}, "only one process can write"),
        ({"workers": 2}, "say --runner dask or ray"),
        ({"store": STORE, "address": "tcp://host:8786"}, "say --runner dask or ray"),
    ],
)
def test_what_does_not_fit_together(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        check_scale(Scale(**wrong))
    assert "s3cret" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_scale(Scale())
    check_scale(Scale(STORE))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match=r"scanscribe\[dask\]"):
        check_scale(Scale(STORE, "dask"))


def test_workers_need_a_server_that_they_can_reach(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(UsageError, match="without a Prefect server"):
        check_scale(Scale(STORE, "ray"))
    monkeypatch.setenv("PREFECT_API_URL", "http://localhost:4200/api")
    check_scale(Scale(STORE, "ray", workers=4))


def test_a_password_moves_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "before")
    assert without_secrets(Scale()) == Scale()
    without_secrets(Scale("postgresql://me@host/db"))
    assert os.environ["PGPASSWORD"] == "before"
    assert "s3cret" not in repr(without_secrets(Scale(STORE, "ray")))
    assert os.environ["PGPASSWORD"] == "s3cret"
    query = without_secrets(Scale("postgresql://host/db?user=me&password=s4cret"))
    assert "s4cret" not in repr(query) and "user=me" in repr(query)
    assert os.environ["PGPASSWORD"] == "s4cret"


def test_other_processes_are_told_the_name_of_the_run() -> None:
    named = with_run(Scale("postgresql://me@host/db?run=mine", "dask"), Path("/out"))
    assert named.store and named.store.endswith("run=mine") and named.runner == "dask"
    default = with_run(Scale("postgresql://me:s3cret@host/db"), Path("/mnt/out"))
    assert default.store and "mnt" in default.store and "s3cret" not in default.store
    assert with_run(default, Path("/elsewhere")) == default
    assert with_run(Scale(), Path("/out")) == Scale()
