"""A real Prefect server with SQLite in a temporary PREFECT_HOME, started once for all tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_START_SECONDS = 500  # 20 on a quiet machine


@dataclass(frozen=True)
class Server:
    """environment: of a process that is to use the server; home: its PREFECT_HOME."""

    url: str
    home: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        """`prefect ...`"""
        return [sys.executable, "-m", "prefect", *arguments]

    def flows(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`flows ...`, run to its end."""
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=400,
        )

    @contextmanager
    def process(self, command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A process of its own group, which is killed in the end."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                cwd=log.parent,
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """Ends a process and what it started, which is what the end of a machine does."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, number)
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT")}
    environment = {
        **kept,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "30",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    server = Server(environment["PREFECT_API_URL"], home, environment)
    start = server.command("server", "start", "--host", "127.0.0.1", "--port", str(port))
    with server.process(start, home / "server.log") as process:
        _wait_for(server, process)
        yield server


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    last = time.monotonic() + _START_SECONDS
    while time.monotonic() < last and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=10):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"no Prefect server: {(server.home / 'server.log').read_text()[-2000:]}")


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
