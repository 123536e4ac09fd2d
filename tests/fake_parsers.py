"""Parsers that misbehave, for the sandbox: each does to its child what a bad document can do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np

from model_onnx.errors import InputError

_LEAK: list[bytearray] = []


def echo(path: str, **options: Any) -> Any:
    return {"path": path, "options": options, "pid": os.getpid()}


def arrays(path: str, *, rows: int) -> Any:
    return [{"a": np.arange(rows, dtype=np.int16).reshape(rows, 1)}, np.zeros((0, 4), np.float32)]


def surroundings(path: str) -> Any:
    return {
        "environment": sorted(os.environ),
        "directory": os.getcwd(),
        "modules": sorted(sys.modules),
        "session": os.getsid(0) == os.getpid(),
    }


def hang(path: str) -> Any:
    time.sleep(3600)


def spin(path: str) -> Any:
    while True:
        pass


def hang_with_a_child(path: str) -> Any:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    with open(path, "w") as file:
        file.write(str(process.pid))
    process.wait()


def eat_memory(path: str) -> Any:
    while True:
        _LEAK.append(bytearray(64 << 20))


def leak(path: str, *, size: int) -> Any:
    _LEAK.append(bytearray(os.urandom(1)) * size)
    return os.getpid()


def segfault(path: str) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def segfault_when_used(path: str) -> Any:
    _LEAK.append(bytearray(1))
    if os.path.exists("used"):
        segfault(path)
    open("used", "w").close()
    return os.getpid()


def killed(path: str) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def close_pipes(path: str) -> Any:
    os.closerange(0, 64)
    time.sleep(3600)


def huge_result(path: str, *, size: int) -> Any:
    return np.zeros(size, np.uint8)


def huge_text(path: str, *, size: int) -> Any:
    return "x" * size


def huge_file(path: str, *, size: int) -> Any:
    with open("scratch", "wb") as file:
        file.truncate(size)


def chatter(path: str) -> Any:
    os.write(1, b"printed by a parser\n" * 10)
    os.write(2, b"warned by a parser\n")
    print("more")
    return "quiet"


def wrong(path: str) -> Any:
    raise KeyError("the document's secret")


def refuse(path: str) -> Any:
    raise InputError("got a lock, expected a door", reason="encrypted")


def bad_value(path: str) -> Any:
    return object()


def read(path: str) -> Any:
    with open(path, "rb") as file:
        return len(file.read())
