"""One engine in a process of its own, asked by the benchmark one line at a time.

Knows no engine. Needs nothing but the standard library, so that a peer may live in another virtual
environment. A request is a line of JSON, {"call": name, ...arguments}; the answer is one too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Timed = dict[str, float]  # seconds, and the share of the head in head_seconds


def serve(peer: object) -> None:
    """Answers requests by calling the peer's methods until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": getattr(peer, request.pop("call"))(**request)}
        except Exception as error:  # one row fails, the others are measured
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        _answers.write(json.dumps(answer) + "\n")
        _answers.flush()


def claim_output() -> None:
    """Keeps standard output for answers: libraries that print there print to standard error."""
    global _answers
    _answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


_answers = sys.stdout


class PeerError(Exception):
    """What a peer could not do."""


class Remote:
    """A peer's process. Usable as a context manager."""

    def __init__(self, python: str, module: str, arguments: list[str], threads: int) -> None:
        """Starts it and waits until it has loaded its model. Raises PeerError."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": _paths()}
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.{module}", *arguments, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        try:
            self.call("ready")
        except PeerError:
            self.close()
            raise
        self.load_seconds = time.perf_counter() - started

    def call(self, name: str, **arguments: Any) -> Any:
        """Raises PeerError with the peer's own words."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"call": name, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"the process ended with {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer["result"]

    def memory(self) -> Mapping[str, int]:
        """Proportional and anonymous bytes."""
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()[1:]
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return {"pss_bytes": kib["Pss"] << 10, "anonymous_bytes": kib["Anonymous"] << 10}

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _paths() -> str:
    """The repository first; llama_cpp may lie in a source tree that the caller names."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def evict(directory: Path) -> None:
    """Drops a file, or those below a directory, from the page cache (what nobody maps)."""
    for path in [directory, *directory.rglob("*")]:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
