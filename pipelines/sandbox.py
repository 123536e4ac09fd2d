"""Run parsers in child processes that can be killed.

Knows no file format. A parser is a function named `module:function` that takes a path and keyword
options and returns plain data (None, bool, numbers, text, lists, dicts) and numpy arrays. What a
document can do to it stays in the child: a hang, a crash, an eaten memory or an oversized result
becomes an InputError here, and a fresh child takes the next job.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_onnx.errors import InputError, RuntimeUnavailableError
from pipelines.sandbox_child import unpack

START_SECONDS = 60.0  # 0.3 s on a quiet machine, many on one that swaps
REQUEST_BYTES = 60_000  # fits the pipe's buffer, so writing a request never blocks
HEADER_BYTES = 32 << 20  # text; a page of 5,000 words is 0.5 MB
_MAY_BE_INHERITED = ("memory", "parser_crashed")  # from what an earlier file left in the child
_START = "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); \
from pipelines.sandbox_child import main; main()"


@dataclass(frozen=True)
class Limits:
    """What one child may use. A child is replaced after `jobs` or above `resident_bytes`."""

    memory_bytes: int = 2 << 30
    file_bytes: int = 1 << 30
    open_files: int = 64
    result_bytes: int = 512 << 20
    jobs: int = 200
    resident_bytes: int = 384 << 20


class _Died(Exception):
    """The child is gone. reason: `timeout`, `memory`, `parser_crashed` or `too_large`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Child:
    """One child process with a scratch directory as its working directory."""

    def __init__(self, limits: Limits, scratch: Path | None) -> None:
        self.limits = limits
        self.jobs = 0
        self.busy = False  # between a request and the end of its reply
        self._killed = False
        self.resident = 0
        self.directory = tempfile.mkdtemp(prefix="scanscribe-", dir=scratch)
        sizes = (limits.memory_bytes, limits.file_bytes, limits.open_files)
        paths = "\n".join(os.path.abspath(path) for path in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", "-c", _START, paths, *map(str, sizes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.directory,
            start_new_session=True,  # so that the kill reaches what a parser has started
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"},
        )
        try:
            self._receive(time.monotonic() + START_SECONDS)
        except _Died as died:
            self.kill()
            raise RuntimeUnavailableError(
                f"got no answer from a parser process ({died}), expected one within "
                f"{START_SECONDS:.0f} s; check the memory that is free and the Python environment"
            ) from None

    def call(self, request: dict[str, Any], seconds: float) -> Any:
        text = json.dumps(request).encode() + b"\n"
        if len(text) > REQUEST_BYTES:
            raise ValueError(f"got a request of {len(text)} bytes, expected {REQUEST_BYTES}")
        self.jobs += 1
        self.busy = True
        deadline = time.monotonic() + seconds
        try:
            assert self.process.stdin is not None
            self.process.stdin.write(text)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._cause_of_death() from None
        header, arrays = self._receive(deadline)
        self.busy = False
        self.resident = int(header["resident"])
        if error := header.get("error"):
            raise InputError(str(error["message"]), reason=str(error["reason"]))
        return unpack(header["value"], arrays)

    @property
    def worn(self) -> bool:
        return self.jobs >= self.limits.jobs or self.resident > self.limits.resident_bytes

    def kill(self) -> None:
        if self._killed:  # its number may be another process by now
            return
        self._killed = True
        _kill_group(self.process)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if stream:
                    stream.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _receive(self, deadline: float) -> tuple[dict[str, Any], list[np.ndarray]]:
        length = int.from_bytes(self._read(8, deadline), "big")
        if length > HEADER_BYTES:
            raise _Died("too_large", f"got a header of {length} bytes")
        header = json.loads(bytes(self._read(length, deadline)))
        arrays = []
        room = self.limits.result_bytes
        for code, shape in header["arrays"]:
            dtype = np.dtype(str(code))
            size = math.prod(shape) * dtype.itemsize
            room -= size
            if dtype.kind not in "biuf" or min(shape, default=0) < 0 or room < 0:
                raise _Died("too_large", f"got an array of {size} bytes of kind {dtype.kind}")
            arrays.append(np.frombuffer(self._read(size, deadline), dtype).reshape(shape))
        return header, arrays

    def _read(self, size: int, deadline: float) -> bytearray:
        assert self.process.stdout is not None
        stream = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        buffer = bytearray(size)
        view, filled = memoryview(buffer), 0
        while filled < size:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise _Died("timeout", "the parser was still busy")
            count = os.readv(stream, [view[filled:]])
            if count == 0:
                raise self._cause_of_death()
            filled += count
        return buffer

    def _cause_of_death(self) -> _Died:
        try:
            code = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return _Died("parser_crashed", "the parser process closed its pipe")
        if code in (-signal.SIGXCPU, -signal.SIGALRM):
            return _Died("timeout", "the parser used up its processor time")
        if code == -signal.SIGKILL:
            return _Died("memory", "the system killed the parser, most likely for its memory")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _Died("parser_crashed", f"the parser process ended with {name}")


class ParserPool:
    """At most `workers` children; `run` may be called from any number of threads.

    scratch: the directory for the children's working directories (None: the system's).
    """

    def __init__(
        self, workers: int = 1, *, limits: Limits | None = None, scratch: Path | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._scratch = scratch
        self._closed = False
        self._lock = threading.Lock()
        self._live: set[_Child] = set()
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()  # the warmest child first
        for _ in range(workers):
            self._idle.put(None)

    def run(
        self, function: str, path: str | os.PathLike[str], *, seconds: float, **options: Any
    ) -> Any:
        """What `function` (`module:name`) returns for `path`; tuples come back as lists.

        seconds: wall-clock limit. Raises InputError with the parser's own reason, or `timeout`,
        `memory`, `parser_crashed`, `too_large`; `cancelled` when the pool is closed meanwhile.
        """
        request = {
            "function": function,
            "path": os.fspath(path),
            "options": options,
            "seconds": seconds,
            "result_bytes": self.limits.result_bytes,
        }
        child = self._idle.get()
        try:
            while True:
                child = child or self._start()
                fresh = child.jobs == 0
                try:
                    return child.call(request, seconds)
                except (_Died, InputError) as error:
                    if isinstance(error, _Died) or error.reason == "memory":
                        self._end(child)
                        child = None
                    inherited = child is None and error.reason in _MAY_BE_INHERITED
                    if fresh or not inherited or self._closed:
                        raise self._failure(error, seconds) from None
        finally:
            if child and (child.busy or child.worn or self._closed):
                self._end(child)
                child = None
            self._idle.put(child)

    def close(self) -> None:
        """Kill all children; jobs that run end with InputError(reason="cancelled")."""
        with self._lock:
            self._closed = True
            for child in self._live:
                _kill_group(child.process)
        while True:  # busy children are ended by the threads that wait for them
            try:
                child_or_none = self._idle.get_nowait()
            except queue.Empty:
                break
            if child_or_none:
                self._end(child_or_none)
        self._idle.put(None)  # wakes a waiting thread, which finds the pool closed and passes it on

    def __enter__(self) -> ParserPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> _Child:
        if self._closed:
            raise InputError(
                "the run was stopped while this file was read; run again", reason="cancelled"
            )
        child = _Child(self.limits, self._scratch)
        with self._lock:
            self._live.add(child)
        return child

    def _end(self, child: _Child) -> None:
        with self._lock:
            self._live.discard(child)
        child.kill()

    def _failure(self, died: _Died | InputError, seconds: float) -> InputError:
        if self._closed:
            return InputError(
                "the run was stopped while this file was read; run again", reason="cancelled"
            )
        if isinstance(died, InputError):
            return died
        if died.reason == "timeout":
            return InputError(
                f"{died} after {seconds:g} s, expected less; split the file",
                reason="timeout",
            )
        return InputError(
            f"{died}; the file is likely damaged or hostile, save it again in another program",
            reason=died.reason,
        )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: macOS, a zombie
        os.killpg(process.pid, signal.SIGKILL)
