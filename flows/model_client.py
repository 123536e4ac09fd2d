"""A model in another process that looks like an engine: submit, and a future has the result.

    with ModelClient.open("bundles/gemma-4-12b") as engine:    # starts the server when none runs
        record = extract("scan.pdf", "receipt", engine=engine)

One thread with an event loop speaks for all threads of the process; what is said is in
flows/model_protocol.py. A request is one HTTP exchange on a connection of its own, which costs a
tenth of a millisecond and cannot be mistaken for the end of the server.

Answers are a function of the request, so one without an answer is sent again when the server has
crashed, to the server that the client starts in its place. As the request itself may be why, those
that were under way go one by one from then on, and one that sees a second crash fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from types import TracebackType

import httpx

from flows.journal import decode_result
from flows.model_place import Place
from flows.model_protocol import Status, body_limit, encode_request
from flows.model_start import apart, ask_status, command, ensure, http_client
from model_onnx import errors
from model_onnx.bundle import Bundle
from model_onnx.errors import (
    EngineClosedError,
    InputError,
    ModelError,
    RequestError,
    ScanscribeError,
)
from model_onnx.prompt import PromptRenderer
from model_onnx.sequence import Request, Result

_CRASHES = 2  # that one request may see
_STARTS = 3  # of a server, without an answer in between
_BACKOFF = (0.05, 2.0)  # seconds: the first and the longest wait when the queue is full
_ENGINE_ERRORS = {"RequestError", "ConstraintError", "ModelError"}


class ModelClient:
    """The methods and properties of `model_onnx.Engine`, for a server of the same bundle."""

    def __init__(self, bundle: Bundle, place: Place, status: Status) -> None:
        """Use `find` or `open`."""
        self.bundle = bundle
        self._place, self._status = place, status
        self._generation = self._starts = 0
        self._closed = False
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._http = http_client(place)
        self._alone, self._reviving, self._queued = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self._room = asyncio.Semaphore(status.queue)
        self._answered = 0.0  # when the server last answered, in the loop's time
        self._tasks: set[asyncio.Task[Result]] = set()
        self._thread = threading.Thread(
            target=self._speak, name="scanscribe-model-client", daemon=True
        )
        self._thread.start()

    @classmethod
    def find(cls, bundle: Bundle | Path | str) -> ModelClient | None:
        """Of the server that runs with this very bundle; None when there is none."""
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        place = Place.of(bundle.sha256)
        status = apart(ask_status(place)) if place.address.exists() else None
        return cls(bundle, place, status) if status and not status.stopping else None

    @classmethod
    def open(cls, bundle: Bundle | Path | str) -> ModelClient:
        """As `find`; starts a server in the background when there is none.

        Raises BundleError, ModelError.
        """
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        place = Place.of(bundle.sha256)
        return cls(bundle, place, apart(ensure(place, command(bundle.directory))))

    @cached_property
    def renderer(self) -> PromptRenderer:
        return PromptRenderer(self.bundle)

    @property
    def provider(self) -> str:
        return self._status.provider

    def submit(self, request: Request) -> Future[Result]:
        """As `Engine.submit`. The future fails also with InputError: `model_busy` when the queue
        stayed full for the request's time limit, `model_crashed` when the server crashed on it
        twice; and with ModelError when no server can be started."""
        try:
            body = encode_request(request, self.bundle.sha256)
            if len(body) > body_limit(self.bundle.config):
                raise RequestError(
                    f"got a request of {len(body)} bytes, more than the server takes; split "
                    "the document"
                )
        except Exception as error:
            future: Future[Result] = Future()
            future.set_exception(error)
            return future
        with self._lock:
            if self._closed:
                raise EngineClosedError("the model client was closed; open a new one")
            return asyncio.run_coroutine_threadsafe(self._run(body, request.time_limit), self._loop)

    def generate(self, request: Request) -> Result:
        """`submit` and wait."""
        return self.submit(request).result()

    def close(self) -> None:
        """Requests that are not done fail with EngineClosedError; the server goes on."""
        with self._lock:
            if not self._closed:
                self._closed = True
                ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
                ended.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        if threading.current_thread() is not self._thread:  # a callback of a future runs there
            self._thread.join()

    def __enter__(self) -> ModelClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Everything below runs in the loop's thread.

    def _speak(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    async def _run(self, body: bytes, limit: float | None) -> Result:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with self._room:
                return await self._persist(body, limit)
        except asyncio.CancelledError:
            if self._closed:
                raise EngineClosedError(
                    "the model client was closed before this request was done"
                ) from None
            raise
        finally:
            self._tasks.discard(task)

    async def _persist(self, body: bytes, limit: float | None) -> Result:
        """Sends a request until there is an answer."""
        crashes = 0
        while True:
            generation = self._generation
            try:
                async with self._alone if crashes else contextlib.nullcontext():
                    response = await self._send_when_there_is_room(body, limit)
            except httpx.ConnectError:
                await self._revive(generation)
            except httpx.TransportError:
                crashes += 1
                if crashes == _CRASHES:
                    raise InputError(
                        f"the model server ended {crashes} times while it had this request; see "
                        f"{self._place.log}",
                        reason="model_crashed",
                    ) from None
                await self._revive(generation)
            else:
                if response.status_code != 503:
                    self._starts = 0
                    return _result(response)
                await self._revive(generation)

    async def _send_when_there_is_room(self, body: bytes, limit: float | None) -> httpx.Response:
        """Of those that found the queue full one knocks at a time; the others wait behind it."""
        response = await self._send(body)
        if response.status_code != 429:
            return response
        began = self._loop.time()
        async with self._queued:
            pause = _BACKOFF[0]
            while True:
                waited = self._loop.time() - max(began, self._answered)
                if limit is not None and waited > limit:
                    raise InputError(
                        f"the model server's queue was full for {limit:g} seconds; start it with "
                        "a longer --queue, or run less at once",
                        reason="model_busy",
                    )
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, _BACKOFF[1])
                response = await self._send(body)
                if response.status_code != 429:
                    return response

    async def _send(self, body: bytes) -> httpx.Response:
        response = await self._http.post("/generate", content=body)
        if response.status_code == 200:
            self._answered = self._loop.time()
        return response

    async def _revive(self, generation: int) -> None:
        """Finds or starts a server, once for all requests that lost theirs."""
        async with self._reviving:
            if self._generation != generation:
                return
            if self._starts == _STARTS:
                raise ModelError(
                    f"the model server ended {_STARTS} times without an answer; see "
                    f"{self._place.log}"
                )
            before = self._status
            self._status = await ensure(self._place, command(self.bundle.directory, before))
            self._starts += self._status.pid != before.pid
            self._generation += 1


def _result(response: httpx.Response) -> Result:
    """Raises what the engine raised."""
    try:
        if response.status_code == 200:
            return decode_result(response.text)
        content = response.json()
        name, message = str(content["error"]), str(content["message"])
    except (ValueError, KeyError, TypeError):
        name, message = "", f"the model server's answer {response.status_code} cannot be read"
    if response.status_code == 422 and name in _ENGINE_ERRORS:
        raise getattr(errors, name)(message)
    raise ScanscribeError(message)
