"""Finding, starting and ending the model server of a bundle, from any process of its user.

Knows no engine and no request: a place (flows/model_place.py), a status and a command line.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx

from flows.model_place import LOCK_VARIABLE, Place
from flows.model_protocol import Status
from model_onnx.errors import ModelError

_T = TypeVar("_T")

_START_SECONDS = 900.0  # until it listens; the 12B's weights are repacked the first time
_STATUS_SECONDS = 30.0  # where nobody listens it is known at once; a busy machine is slow
_LOG_BYTES = 1 << 20

_children: list[subprocess.Popen[bytes]] = []  # servers that this process started


def http_client(place: Place) -> httpx.AsyncClient:
    """Knows no proxy and no certificate, and keeps no connection that a dead server leaves."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    transport = httpx.AsyncHTTPTransport(uds=str(place.address), verify=False, limits=limits)
    return httpx.AsyncClient(
        transport=transport, base_url="http://model", timeout=None, trust_env=False
    )


def apart(work: Coroutine[Any, Any, _T]) -> _T:
    """Runs a coroutine in a loop of its own, also for a caller who has one running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def ask_status(place: Place) -> Status | None:
    """None when no server answers there. Raises ModelError for one of another version."""
    try:
        async with http_client(place) as http:
            answer = await http.get("/status", timeout=_STATUS_SECONDS)
    except httpx.HTTPError:
        return None
    try:
        return Status.from_json(answer.json())
    except (ValueError, TypeError):
        raise ModelError(
            f"the model server at {place.address} is of another version; end it with the `flows "
            "model stop` of that version, or kill it"
        ) from None


async def ask_stop(place: Place) -> bool:
    """Whether a server was there to be told."""
    try:
        async with http_client(place) as http:
            return (await http.post("/stop", timeout=_STATUS_SECONDS)).is_success
    except httpx.HTTPError:
        return False


async def ensure(place: Place, command: list[str]) -> Status:
    """The status of the place's server, which is started by `command` when there is none.

    Many may call this at once: the one who gets the lock starts the server and hands it on to it.
    Raises ModelError.
    """
    started = False
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        status = await ask_status(place)
        if status and not status.stopping:
            return status
        lock = place.lock()
        if lock is not None:
            try:
                if started:
                    raise ModelError(f"the model server did not start{_last_words(place)}")
                _start(command, place, lock)
            finally:
                os.close(lock)
            started = True
        await asyncio.sleep(0.1)
    raise ModelError(f"got no model server within {_START_SECONDS:g} seconds; see {place.log}")


def _start(command: list[str], place: Place, lock: int) -> None:
    _children[:] = [child for child in _children if child.poll() is None]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(place.log, flags, 0o600)
    try:
        if os.fstat(log).st_size > _LOG_BYTES:
            os.ftruncate(log, 0)
        _children.append(
            subprocess.Popen(
                command,
                # Where this very package is, so that it need not be installed.
                cwd=Path(__file__).parents[1],
                env={**os.environ, LOCK_VARIABLE: str(lock)},
                pass_fds=(lock,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the client
            )
        )
    finally:
        os.close(log)


def _last_words(place: Place) -> str:
    """Of its log, which says why: `: the last line; see FILE`."""
    try:
        lines = place.log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    said = [line.strip() for line in lines if line.strip()]
    return f": {said[-1][:500]}; see {place.log}" if said else f"; see {place.log}"


def command(bundle: Path, like: Status | None = None) -> list[str]:
    """That starts a server. like: the one whose place it takes."""
    words = [sys.executable, "-m", "flows.cli", "model", "serve"]
    words += ["--model", os.path.abspath(bundle)]
    if like:
        words += ["--slots", str(like.slots), "--queue", str(like.queue)]
        words += ["--idle-minutes", str(like.idle_minutes)]
    return words
