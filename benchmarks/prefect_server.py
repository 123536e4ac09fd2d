"""A real Prefect server with SQLite in a directory of its own, and processes that use it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_START_SECONDS = 500.0  # 20 on a quiet machine


@dataclass(frozen=True)
class Server:
    """environment: of a process that is to use the server; home: its PREFECT_HOME."""

    url: str
    home: Path
    environment: dict[str, str]

    def prefect(self, *arguments: str) -> list[str]:
        """The command `prefect ...`"""
        return [sys.executable, "-m", "prefect", *arguments]

    def flows(self, *arguments: str) -> list[str]:
        """The command `flows ...`"""
        return [sys.executable, "-m", "flows.cli", *arguments]

    def run(
        self, command: list[str], seconds: float = _START_SECONDS, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            command,
            cwd=self.home,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    @contextmanager
    def process(
        self, command: list[str], log: Path, **environment: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process of its own group, which is ended with all that it started."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                cwd=log.parent,
                env={**self.environment, **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def prefect_server(home: Path, **settings: str) -> Iterator[Server]:
    """home: an empty directory; settings: more of the server's environment.

    Raises RuntimeError when it does not start."""
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
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
        **settings,
    }
    server = Server(environment["PREFECT_API_URL"], home, environment)
    start = server.prefect("server", "start", "--host", "127.0.0.1", "--port", str(port))
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
    log = (server.home / "server.log").read_text(encoding="utf-8")
    raise RuntimeError(f"the Prefect server did not start: {log[-2000:]}")
