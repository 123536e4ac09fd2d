"""An engine that remembers: a request that was answered before a run was killed is not run again.

Knows no subtask and no file. It stands between a subtask and the engine, so every page or clip that
a subtask asks for on its own is a place from which a killed run resumes. A request is known by its
content: token ids, patches and frames, constraint, sampling and budget, not its time limit.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import threading
import time
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np

from flows.store import Store
from model_onnx.bundle import Bundle
from model_onnx.prompt import PromptRenderer
from model_onnx.sequence import Request, Result
from pipelines.subtask import Model

_NOT_CONTENT = {"time_limit"}


class Interrupted(Exception):
    """The run was told to stop; the document is left for the next run."""


class Requests:
    """The requests of a run that wait for the engine, so that a stop can cancel them.

    answered: how many the engine has answered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: set[Future[Result]] = set()
        self.stopped = False
        self.answered = 0

    def add(self, future: Future[Result]) -> None:
        with self._lock:
            self._live.add(future)
            stopped = self.stopped
        future.add_done_callback(self._discard)
        if stopped:
            future.cancel()

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
            live = list(self._live)
        for future in live:
            future.cancel()

    def _discard(self, future: Future[Result]) -> None:
        with self._lock:
            self._live.discard(future)
            self.answered += not future.cancelled() and future.exception() is None


class JournalEngine:
    """One document's view of the engine.

    interrupted: a request was not answered because the run stops, so the document is not done;
    waited: seconds in which the engine had a request of it.
    """

    def __init__(self, engine: Model, store: Store, key: str, requests: Requests) -> None:
        self._engine, self._store, self._key, self._requests = engine, store, key, requests
        self.interrupted = False
        self.waited = 0.0
        self._lock, self._asked, self._since = threading.Lock(), 0, 0.0

    @property
    def bundle(self) -> Bundle:
        return self._engine.bundle

    @property
    def renderer(self) -> PromptRenderer:
        return self._engine.renderer

    @property
    def provider(self) -> str:
        return self._engine.provider

    def submit(self, request: Request) -> Future[Result]:
        """The remembered answer, or the engine's, which is remembered before it is handed out."""
        if self._requests.stopped:
            raise self._interrupt()
        name = fingerprint(request)
        answer: Future[Result] = Future()
        if known := self._store.recall(self._key, name):
            answer.set_result(decode_result(known))
            return answer
        self._wait(1)
        try:
            asked = self._engine.submit(request)
        except BaseException:
            self._wait(-1)
            raise
        self._requests.add(asked)
        asked.add_done_callback(lambda done: self._settle(name, done, answer))
        answer.add_done_callback(lambda mine: asked.cancel() if mine.cancelled() else None)
        return answer

    def _settle(self, name: str, asked: Future[Result], answer: Future[Result]) -> None:
        """Runs in the engine's thread: it must hand on every error and raise none."""
        self._wait(-1)
        if not answer.set_running_or_notify_cancel():
            return
        try:
            result = asked.result()
            if result.finish == "cancelled" and self._requests.stopped:
                raise self._interrupt()
            if result.finish != "cancelled":
                self._store.remember(self._key, name, encode_result(result))
        except CancelledError:
            answer.set_exception(self._interrupt())
        except Exception as error:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def _wait(self, more: int) -> None:
        """Counts the requests that the engine has, and the time in which it has any."""
        now = time.monotonic()
        with self._lock:
            if self._asked == 0:
                self._since = now
            self._asked += more
            if self._asked == 0:
                self.waited += now - self._since

    def _interrupt(self) -> Interrupted:
        self.interrupted = True
        return Interrupted("the run is stopping")


def fingerprint(request: Request) -> str:
    """sha256 of what decides the answer."""
    digest = hashlib.sha256()
    _feed(digest, request)
    return digest.hexdigest()


def _feed(digest: Any, value: object) -> None:
    """Writes a value so that no two different values write the same bytes."""
    if isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype.str} {value.shape};".encode())
        digest.update(np.ascontiguousarray(value).data)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        digest.update(f"{type(value).__name__} {len(fields)};".encode())
        for name in fields:
            digest.update(f"{name}=".encode())
            _feed(digest, None if name in _NOT_CONTENT else getattr(value, name))
    elif isinstance(value, tuple | list):
        digest.update(f"list {len(value)};".encode())
        for item in value:
            _feed(digest, item)
    elif value is None or isinstance(value, str | bytes | int | float):
        raw = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{type(value).__name__} {len(raw)};".encode())
        digest.update(raw)
    else:
        raise TypeError(f"a request holds a {type(value).__name__}, expected plain data")


def encode_result(result: Result) -> str:
    """JSON text; bytes and arrays as base64."""
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    fields["pieces"] = [_base64(piece) for piece in result.pieces]
    fields["logprobs"] = _base64(np.asarray(result.logprobs, np.float32).tobytes())
    return json.dumps(fields)


def decode_result(text: str) -> Result:
    fields = json.loads(text)
    fields["ids"] = tuple(fields["ids"])
    fields["pieces"] = tuple(base64.b64decode(piece) for piece in fields["pieces"])
    fields["logprobs"] = np.frombuffer(base64.b64decode(fields["logprobs"]), np.float32)
    return Result(**fields)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
