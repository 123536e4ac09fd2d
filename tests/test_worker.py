"""flows/worker.py: one run and one engine per process, which outlive a lost connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from flows import worker
from flows.discover import read_version, walk
from flows.run import Job
from flows.scale import Scale
from flows.start import Settings
from flows.store import Store
from model_onnx.errors import OutputError
from tests.postgres import server
from tests.tiny import tiny_bundle


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with server() as url:
        yield url


def test_a_process_opens_a_run_once_and_again_after_a_lost_connection(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    monkeypatch.setattr(worker, "_RUNS", {})
    inbox = tmp_path / "in"
    inbox.mkdir()
    for name in "abc":
        (inbox / f"{name}.txt").write_text(f"letter {name}")
    settings = worker.for_workers(
        replace(
            Settings("tag", inbox, output=tmp_path / "out", labels=("letter", "receipt")),
            model=tiny_bundle(tmp_path / "bundle"),
            scale=Scale(database, "dask"),
        )
    )
    assert "s3cret" not in repr(settings)
    jobs = [Job(each, read_version(each.path), f"key {each.shown}") for each in walk(inbox)]
    assert worker.compute_here(settings, jobs[0]).status in ("ok", "review")
    (run,) = worker._RUNS.values()
    assert worker.compute_here(settings, jobs[1]).status in ("ok", "review")
    assert list(worker._RUNS.values()) == [run]
    assert settings.scale.store
    with Store.join(tmp_path, settings.scale.store) as store:
        assert store.status("key a.txt") and store.status("key b.txt")
        with store.engine.begin() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle' "
                    "AND application_name = 'scanscribe' AND pid <> pg_backend_pid()"
                )
            )
    with pytest.raises(OutputError, match="run again"):
        worker.compute_here(settings, jobs[2])
    assert worker.compute_here(settings, jobs[2]).status in ("ok", "review")
    (opened,) = worker._RUNS.values()
    assert opened is not run and opened.engine is run.engine  # the model stays warm
    assert opened.procedure is run.procedure  # and so do its parsers
    opened.procedure.abandon()
    opened.engine.close()  # type: ignore[attr-defined]
    opened.store.close()
    worker._kept.cache_clear()
    worker._engine_of.cache_clear()
    assert not (tmp_path / "out").exists()  # a worker needs no output directory
