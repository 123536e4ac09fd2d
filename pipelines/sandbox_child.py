"""The child side of the sandbox: limits, the job loop, and how values cross the pipe.

Knows no file format. Started by `sandbox.py`; nothing else calls `main`. A message is 8 bytes of
length, a JSON header of that length, then the raw bytes of the arrays that the header lists.
No pickle: a child that a document has taken over can only send numbers and text.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from model_onnx.errors import InputError

ARRAY = "$array"  # {"$array": 2} in the header stands for the third array behind it
GRACE_SECONDS = 5  # the kernel's own timers fire this much after the parent's


def pack(value: Any, arrays: list[np.ndarray]) -> Any:
    """Plain data with the arrays taken out. Raises TypeError for anything but plain data."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value))
        return {ARRAY: len(arrays) - 1}
    if isinstance(value, dict):
        return {str(key): pack(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [pack(item, arrays) for item in value]
    raise TypeError(f"got {type(value).__name__}, expected plain data or arrays")


def unpack(value: Any, arrays: list[np.ndarray]) -> Any:
    """The inverse of `pack`; tuples come back as lists."""
    if isinstance(value, dict):
        if value.keys() == {ARRAY}:
            return arrays[value[ARRAY]]
        return {key: unpack(item, arrays) for key, item in value.items()}
    return [unpack(item, arrays) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Serve jobs from standard input until it closes. argv: memory, file bytes, open files."""
    memory, file_bytes, open_files = (int(text) for text in sys.argv[1:4])
    replies = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # parsers print; what they print may be the document's text
        os.dup2(silence, stream)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, open_files)
    _send(replies, {"ready": True}, [])
    for line in sys.stdin.buffer:
        _serve(json.loads(line), replies)


def _limit(kind: int, value: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # macOS refuses RLIMIT_AS; the clock still holds
        resource.setrlimit(kind, (value, value))


def _serve(request: dict[str, Any], replies: BinaryIO) -> None:
    _set_timers(request["seconds"])
    arrays: list[np.ndarray] = []
    try:
        value = _function(request["function"])(request["path"], **request["options"])
        header = {"value": pack(value, arrays)}
        size = sum(array.nbytes for array in arrays)
        if size > request["result_bytes"]:
            raise InputError(
                f"got a result of {size} bytes, expected at most {request['result_bytes']}; "
                "split the file or scale its pictures down",
                reason="too_large",
            )
    except Exception as error:
        reason, message = _explain(error)
        header, arrays = {"error": {"reason": reason, "message": message}}, []
    _set_timers(None)
    _send(replies, header | {"resident": _resident_bytes()}, arrays)


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def _set_timers(seconds: float | None) -> None:
    """The kernel ends a job that outlives its parent, whatever holds the interpreter's lock."""
    if seconds is None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE_SECONDS)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(usage.ru_utime + usage.ru_stime + seconds) + GRACE_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _explain(error: Exception) -> tuple[str, str]:
    """(reason, message). Never the text of a foreign error: it may quote the document."""
    if isinstance(error, InputError):
        return error.reason, str(error)
    if isinstance(error, MemoryError):
        return "memory", "the parser ran out of memory; split the file"
    if isinstance(error, FileNotFoundError):
        return "vanished", "the file went away; run again when it is back"
    if isinstance(error, PermissionError):
        return "unreadable", "the file may not be read; change its permissions"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "too_large", "the parser wrote more scratch data than it may; split the file"
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    where = ""
    if frame:
        where = f" at {os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}"
    return "parser_crashed", (
        f"the parser stopped with {type(error).__name__}{where}; save the file again in another "
        "program"
    )


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # macOS: the peak, in bytes there
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _send(replies: BinaryIO, header: dict[str, Any], arrays: list[np.ndarray]) -> None:
    listed = [[array.dtype.str, list(array.shape)] for array in arrays]
    text = json.dumps(header | {"arrays": listed}).encode()
    replies.write(len(text).to_bytes(8, "big"))
    replies.write(text)
    for array in arrays:
        replies.write(array.data)
    replies.flush()
