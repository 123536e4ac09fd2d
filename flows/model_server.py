"""One engine for every process of a user: requests of all clients enter it and are batched there.

Flow runs, `flows run` and Python code reach it through flows/model_client.py; what is said is in
flows/model_protocol.py. A client that goes away takes its requests with it. A queue that is full
refuses, so memory has a limit; the client comes again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as Call
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from flows.journal import encode_result
from flows.metrics import RequestMetrics, counter, gauge, memory, peak_memory, render
from flows.model_place import Place, is_same_user
from flows.model_protocol import PROTOCOL, Status, body_limit, decode_request
from flows.run import log_unexpected
from model_onnx.engine import Load
from model_onnx.errors import ScanscribeError
from model_onnx.sequence import Result
from pipelines.subtask import Model

_UPLOAD_SECONDS = 60.0  # for one request to arrive: a client that hangs must not hold a place
_FINISH_SECONDS = 120  # for what is active when the server is told to stop
_WAITING_BYTES = 2 << 30  # of requests that were taken: pages wait here as patches, 8 MB each

_log = logging.getLogger(__name__)


class Served(Model, Protocol):
    """An engine that says how busy it is."""

    @property
    def load(self) -> Load: ...


@dataclass(frozen=True)
class Limits:
    """slots: of the engine; queue: requests taken at once; idle_minutes: without a request until
    the server ends (0: never)."""

    slots: int = 8
    queue: int = 256
    idle_minutes: float = 30.0


class _Refused(Exception):
    """status: of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class OwnerProtocol(H11Protocol):
    """Hangs up on processes of other users before they have said a word."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if is_same_user(transport.get_extra_info("socket")):
            super().connection_made(transport)
        else:
            self.transport = transport
            transport.abort()


class ModelServer:
    """Serves an engine until it is stopped or idle. `run` blocks; `stop` works from any thread."""

    def __init__(
        self, engine: Served, limits: Limits, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine, self._limits, self._clock = engine, limits, clock
        self.metrics = RequestMetrics(clock)
        self._taken = self._taken_bytes = 0
        self._began = self._last = clock()
        self._largest = body_limit(engine.bundle.config)
        routes = [
            Route("/generate", self._generate, methods=["POST"]),
            Route("/status", self._show_status),
            Route("/metrics", self._show_metrics),
            Route("/stop", self._take_stop, methods=["POST"]),
        ]
        self._server = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=routes),
                http=OwnerProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                callback_notify=self._tick,
                timeout_notify=1,
                timeout_graceful_shutdown=_FINISH_SECONDS,
            )
        )

    def run(self, place: Place) -> None:
        """The caller holds the place's lock."""
        listener = place.listen()
        try:
            self._server.run(sockets=[listener])
        finally:
            listener.close()
            place.address.unlink(missing_ok=True)

    def stop(self) -> None:
        """Takes nothing new, finishes what it has, returns from `run`."""
        self._server.should_exit = True

    @property
    def status(self) -> Status:
        load, bundle, now = self._engine.load, self._engine.bundle, memory()
        return Status(
            protocol=PROTOCOL,
            stopping=self._server.should_exit,
            bundle=bundle.sha256,
            directory=str(bundle.directory),
            provider=self._engine.provider,
            pid=os.getpid(),
            slots=self._limits.slots,
            queue=self._limits.queue,
            idle_minutes=self._limits.idle_minutes,
            uptime_seconds=round(self._clock() - self._began, 1),
            waiting=max(self._taken - load.active, 0),
            active=load.active,
            mean_batch=round(load.fed / max(load.steps, 1), 2),
            tokens_per_second=round(self.metrics.tokens_per_second(), 2),
            requests=dict(self.metrics.outcomes),
            memory=now,
            peak_memory=max(peak_memory(), now),
        )

    def collect(self) -> Any:
        """For Prometheus."""
        yield from self.metrics.collect()
        status, load = self.status, self._engine.load
        yield gauge("requests_waiting", "Requests that wait for a slot", status.waiting)
        yield gauge("requests_active", "Requests in a slot", status.active)
        yield gauge("queue_limit", "Requests that the server takes at once", status.queue)
        yield counter("steps", "Decode steps of the engine", load.steps)
        yield counter("step_sequences", "Sequences summed over the decode steps", load.fed)
        yield gauge("peak_memory_bytes", "Largest resident size so far", status.peak_memory)

    async def _tick(self) -> None:
        limit = self._limits.idle_minutes * 60
        if limit and not self._taken and self._clock() - self._last > limit:
            _log.warning("no request for %g minutes, ending", self._limits.idle_minutes)
            self.stop()

    async def _show_status(self, call: Call) -> Response:
        return JSONResponse(self.status.to_json())

    async def _show_metrics(self, call: Call) -> Response:
        text = await asyncio.to_thread(render, self)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _take_stop(self, call: Call) -> Response:
        self.stop()
        return JSONResponse({"stopping": True})

    async def _generate(self, call: Call) -> Response:
        began = self._clock()
        try:
            async with self._place_for(call) as body:
                future = await asyncio.to_thread(self._submit, body)
                result = await self._await(call, future)
        except _Refused as refusal:
            self.metrics.ended("refused")
            return _failure(refusal.status, refusal)
        except (CancelledError, ClientDisconnect):
            self.metrics.ended("abandoned")
            return Response(status_code=503)  # to nobody
        except ScanscribeError as error:
            self.metrics.ended("failed")
            return _failure(422, error)
        except Exception as error:
            self.metrics.ended("failed")
            return _failure(500, ScanscribeError(f"model server: {log_unexpected(error)}"))
        self.metrics.answered(result, self._clock() - began)
        return Response(encode_result(result), media_type="application/json")

    @asynccontextmanager
    async def _place_for(self, call: Call) -> AsyncIterator[bytearray]:
        """The body of a call that has a place in the queue while the block runs."""
        size = call.headers.get("content-length", "")
        if not size.isascii() or not size.isdigit() or int(size) > self._largest:
            raise _Refused(413, f"expected a request of at most {self._largest} bytes")
        full = self._taken >= self._limits.queue or (
            self._taken and self._taken_bytes + int(size) > _WAITING_BYTES
        )
        if full or self._server.should_exit:
            await self._read(call, keep=False)  # who still writes would not read the answer
            if full:
                raise _Refused(429, f"{self._taken} requests wait already")
            raise _Refused(503, "the server is shutting down")
        self._taken += 1
        self._taken_bytes += int(size)
        try:
            yield await self._read(call)
        finally:
            self._taken -= 1
            self._taken_bytes -= int(size)
            self._last = self._clock()

    async def _read(self, call: Call, *, keep: bool = True) -> bytearray:
        body = bytearray()
        try:
            async with asyncio.timeout(_UPLOAD_SECONDS):
                async for part in call.stream():
                    if keep:
                        body += part
        except TimeoutError:
            raise _Refused(408, f"no whole request in {_UPLOAD_SECONDS:g} seconds") from None
        return body

    def _submit(self, body: bytearray) -> Future[Result]:
        return self._engine.submit(decode_request(body, self._engine.bundle))

    async def _await(self, call: Call, future: Future[Result]) -> Result:
        """The result; cancels the request when its client goes away or the server must end."""
        answer = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(_disconnected(call))
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise CancelledError
            return answer.result()
        finally:
            gone.cancel()
            answer.cancel()
            future.cancel()


async def _disconnected(call: Call) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass


def _failure(status: int, error: Exception) -> Response:
    content = {"error": type(error).__name__, "message": str(error)}
    # Surrogates of a schema that cannot be enforced are in its error's message.
    return Response(json.dumps(content), status, media_type="application/json")
