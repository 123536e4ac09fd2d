"""flows/model_client.py: an engine elsewhere gives the same answers, whatever happens to it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import httpx
import pytest

from flows import model_client, model_start
from flows.model_client import ModelClient
from flows.model_place import Place
from flows.model_server import Limits
from flows.model_start import apart, ask_status, ask_stop
from model_onnx.bundle import Bundle
from model_onnx.constrain import Regex
from model_onnx.engine import Engine
from model_onnx.errors import (
    ConstraintError,
    EngineClosedError,
    InputError,
    ModelError,
    RequestError,
    ScanscribeError,
)
from model_onnx.prompt import Turn
from tests.model_serving import all_kinds, same, served, serving, text_request, until
from tests.model_serving import bundle as bundle
from tests.model_serving import runtime as runtime

LONG = Regex("[a-z]{200}")  # an answer that takes a while and cannot end early


def test_the_answers_are_those_of_an_engine_in_this_process(bundle: Bundle) -> None:
    with Engine.open(bundle, slots=4, threads=1) as engine, served(engine, Limits(slots=4)):
        client = ModelClient.find(bundle)
        assert client is not None
        with client:
            requests = all_kinds(bundle)
            for request in requests:
                engine.generate(request)  # from here on its shared prefix is known to the engine
                assert same(client.generate(request), engine.generate(request), tolerance=0)
            theirs = [future.result() for future in map(client.submit, requests)]
            ours = [future.result() for future in map(engine.submit, requests)]
            assert all(map(same, theirs, ours))
            assert client.provider == engine.provider
            prompt = client.renderer.render([model_turn()])
            assert (prompt.ids == engine.renderer.render([model_turn()]).ids).all()


def model_turn() -> Turn:
    return Turn("user", ("one <|turn> two",))


def test_requests_of_two_clients_are_decoded_together(bundle: Bundle) -> None:
    with serving(bundle, slots=4) as s, ModelClient.open(bundle) as one:
        with ModelClient.open(bundle) as other:
            s.decoder.gate.clear()
            request = text_request(bundle, "x", Regex("[a-z]{40}"), max_new_tokens=60)
            futures = [client.submit(request) for client in (one, other)]
            until(lambda: s.engine.load.active + s.engine.load.waiting == 2)
            s.decoder.gate.set()
            first, second = [future.result() for future in futures]
        assert same(first, second)
        assert max(slots for slots, _ in s.decoder.fed) == 2
        status = apart(ask_status(s.place))
        assert status and status.mean_batch > 1


def test_errors_of_the_engine_arrive_as_themselves(bundle: Bundle) -> None:
    with serving(bundle), ModelClient.open(bundle) as client:
        with pytest.raises(ConstraintError, match="the pattern"):
            client.generate(text_request(bundle, "x", Regex("(")))
        with pytest.raises(RequestError, match="the model holds 4096"):
            client.generate(text_request(bundle, "x", max_new_tokens=4096))
        with pytest.raises(ScanscribeError, match="unexpected UnicodeEncodeError") as error:
            client.generate(text_request(bundle, "x", draft="a\ud800b"))
        assert type(error.value) is ScanscribeError and "ud800" not in str(error.value)


def test_cancelling_frees_the_slot(bundle: Bundle) -> None:
    with serving(bundle) as s, ModelClient.open(bundle) as client:
        s.decoder.gate.clear()
        futures = [client.submit(text_request(bundle, "x", LONG, max_new_tokens=300))]
        futures.append(client.submit(text_request(bundle, "y", max_new_tokens=5)))
        until(lambda: s.engine.load.active + s.engine.load.waiting == 2)
        assert futures[0].cancel()
        until(lambda: s.server.metrics.outcomes["abandoned"] == 1)
        s.decoder.gate.set()
        assert futures[1].result().finish in ("stop", "truncated", "loop")
        with pytest.raises(CancelledError):
            futures[0].result()
        until(lambda: s.engine.load.active == 0)
        assert s.engine.load.steps < 50  # not the 200 of the cancelled one


def test_a_full_queue_is_waited_for(bundle: Bundle) -> None:
    with (
        serving(bundle, queue=2, slots=1) as s,
        ModelClient.open(bundle) as one,
        ModelClient.open(bundle) as other,
        ModelClient.open(bundle) as third,
    ):
        s.decoder.gate.clear()
        first = [one.submit(text_request(bundle, "x", max_new_tokens=9)) for _ in range(5)]
        until(lambda: s.engine.load.active + s.engine.load.waiting == 2)
        second = [other.submit(text_request(bundle, "y", max_new_tokens=9)) for _ in range(3)]
        until(lambda: s.server.metrics.outcomes["refused"] >= 3)
        late = third.submit(text_request(bundle, "z", time_limit=0.1))
        with pytest.raises(InputError, match=r"full for 0\.1 seconds") as error:
            late.result(25)
        assert error.value.reason == "model_busy"
        s.decoder.gate.set()
        assert len([future.result() for future in first + second]) == 8


def test_a_closed_client_answers_nobody_and_hurts_nobody(bundle: Bundle) -> None:
    with serving(bundle) as s, ModelClient.open(bundle) as other:
        client = ModelClient.open(bundle)
        s.decoder.gate.clear()
        left = client.submit(text_request(bundle, "x", LONG, max_new_tokens=300))
        kept = other.submit(text_request(bundle, "y", max_new_tokens=5))
        until(lambda: s.engine.load.active + s.engine.load.waiting == 2)
        client.close()
        client.close()
        with pytest.raises(EngineClosedError, match="before this request was done"):
            left.result()
        with pytest.raises(EngineClosedError, match="open a new one"):
            client.submit(text_request(bundle, "x"))
        s.decoder.gate.set()
        assert kept.result().ids


def test_a_callback_may_close_the_client(bundle: Bundle) -> None:
    with serving(bundle):
        client = ModelClient.open(bundle)
        closed = threading.Event()
        future = client.submit(text_request(bundle, "x", max_new_tokens=3))

        def close(_: object) -> None:
            client.close()
            closed.set()

        future.add_done_callback(close)
        assert closed.wait(60)
        client.close()


def test_no_server_is_no_client(bundle: Bundle, runtime: Path) -> None:
    assert ModelClient.find(bundle) is None
    place = Place.of(bundle.sha256)
    place.listen().close()  # what a killed server leaves
    assert place.address.exists() and ModelClient.find(bundle) is None
    assert apart(ask_stop(place)) is False


def test_a_server_of_another_version_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(bundle):
        monkeypatch.setattr("flows.model_protocol.PROTOCOL", 0)
        with pytest.raises(ModelError, match="of another version"):
            ModelClient.find(bundle)


@pytest.fixture
def process(bundle: Bundle) -> Iterator[ModelClient]:
    """The client of a server in a process of its own, which the client has started."""
    client = ModelClient.open(bundle)
    try:
        yield client
    finally:
        client.close()
        apart(ask_stop(Place.of(bundle.sha256)))
        for child in model_start._children:
            child.wait(60)


def pid(bundle: Bundle) -> int:
    status = apart(ask_status(Place.of(bundle.sha256)))
    assert status
    return status.pid


def test_a_server_killed_in_the_middle_of_a_batch_costs_no_request(
    bundle: Bundle, process: ModelClient
) -> None:
    request = text_request(bundle, "x", LONG, max_new_tokens=300)
    first = pid(bundle)
    futures = [process.submit(request) for _ in range(3)]
    place = Place.of(bundle.sha256)
    until(lambda: (status := apart(ask_status(place))) and status.active > 1)
    os.kill(first, signal.SIGKILL)
    results = [future.result(timeout=300) for future in futures]
    with Engine.open(bundle, threads=1) as engine:
        expected = engine.generate(request)
    assert all(same(result, expected) for result in results)
    assert pid(bundle) != first
    with ModelClient.open(bundle) as another:  # finds the new one
        assert another.generate(text_request(bundle, "x", max_new_tokens=3)).ids
    assert sum(child.poll() is None for child in model_start._children) == 1


def test_a_request_that_sees_two_crashes_fails_alone(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies of one request; those that were in its company are answered."""
    with serving(bundle), ModelClient.open(bundle) as client:
        poison, send = text_request(bundle, "poison"), client._http.post
        bad = f'"ids": {len(poison.prompt.ids)},'.encode()
        under_way: list[bytes] = []
        company: list[int] = []
        together = asyncio.Event()

        async def post(url: str, *, content: bytes) -> httpx.Response:
            under_way.append(content)
            try:
                if not together.is_set():
                    if len(under_way) == 4:
                        together.set()
                    await together.wait()
                    raise httpx.ReadError("gone")
                if bad in content:
                    company.append(len(under_way))
                    raise httpx.ReadError("gone")
                return await send(url, content=content)
            finally:
                under_way.remove(content)

        monkeypatch.setattr(client._http, "post", post)
        good = [client.submit(text_request(bundle, "y" * n, max_new_tokens=3)) for n in (1, 2, 3)]
        failing = client.submit(poison)
        with pytest.raises(InputError, match="ended 2 times while it had this request") as error:
            failing.result()
        assert error.value.reason == "model_crashed"
        assert all(future.result().ids for future in good)
        assert company == [1]


def test_a_server_that_never_answers_is_given_up(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(bundle) as s, ModelClient.open(bundle) as client:
        pids = iter(range(1000, 2000))

        async def unreachable(url: str, *, content: bytes) -> httpx.Response:
            raise httpx.ConnectError("no")

        async def restarted(place: Place, command: list[str]) -> object:
            return dataclasses.replace(s.server.status, pid=next(pids))

        monkeypatch.setattr(client._http, "post", unreachable)
        monkeypatch.setattr(model_client, "ensure", restarted)
        with pytest.raises(ModelError, match="ended 3 times without an answer"):
            client.generate(text_request(bundle, "x"))
