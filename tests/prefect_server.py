"""The Prefect server that all tests share, as fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.prefect_server import Server
from benchmarks.prefect_server import prefect_server as start_server


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_server(tmp_path_factory.mktemp("prefect")) as server:
        quick = {"PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_RUNNER_POLL_FREQUENCY": "2"}
        server.environment.update(quick, OMP_NUM_THREADS="1", SCANSCRIBE_MODEL_SERVER="never")
        yield server


@pytest.fixture
def connected(prefect_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Flows of this process run with the server."""
    monkeypatch.setenv("PREFECT_HOME", str(prefect_server.home))
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.url)
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    with temporary_settings(
        {PREFECT_API_URL: prefect_server.url, PREFECT_HOME: prefect_server.home}
    ):
        yield prefect_server
