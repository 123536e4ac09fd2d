"""flows/model_server.py: limits, health, the end, and everything that must not get in."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows import model_server, model_start
from flows.cli import app
from flows.model_client import ModelClient
from flows.model_protocol import Status, encode_request
from model_onnx.bundle import Bundle
from model_onnx.constrain import Regex
from tests.model_serving import Serving, serving, text_request, until
from tests.model_serving import bundle as bundle
from tests.model_serving import runtime as runtime

ROOT = Path(__file__).parents[1]
LONG = Regex("[a-z]{200}")


@pytest.fixture
def shared(bundle: Bundle, runtime: Path) -> Iterator[Serving]:
    with serving(bundle) as s:
        yield s


def call(s: Serving, method: str, path: str, **more: Any) -> httpx.Response:
    transport = httpx.HTTPTransport(uds=str(s.place.address), verify=False)
    with httpx.Client(transport=transport, base_url="http://model", timeout=60) as http:
        return http.request(method, path, **more)


def test_status_and_metrics_say_the_same(bundle: Bundle) -> None:
    with serving(bundle, queue=7, slots=2) as s, ModelClient.open(bundle) as client:
        result = client.generate(text_request(bundle, "secret", max_new_tokens=8))
        status = Status.from_json(call(s, "GET", "/status").json())
        assert (status.bundle, status.pid) == (bundle.sha256, os.getpid())
        assert (status.queue, status.slots, status.waiting, status.active) == (7, 2, 0, 0)
        assert status.requests == {result.finish: 1} and not status.stopping
        assert status.tokens_per_second == pytest.approx(len(result.ids) / 60, abs=0.01)
        assert status.peak_memory >= status.memory > 1 << 20
        text = call(s, "GET", "/metrics").text
    assert f'scanscribe_requests_total{{outcome="{result.finish}"}} 1.0' in text
    assert f'scanscribe_tokens_total{{kind="new"}} {float(len(result.ids))}' in text
    assert "scanscribe_requests_waiting 0.0" in text and "scanscribe_queue_limit 7.0" in text
    assert "process_resident_memory_bytes" in text and "secret" not in text


def test_the_directory_and_the_socket_are_the_owners(shared: Serving) -> None:
    assert stat.S_IMODE(shared.place.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(shared.place.address.stat().st_mode) == 0o600
    assert stat.S_IMODE(shared.place.lock_file.stat().st_mode) == 0o600


def test_another_user_is_hung_up_on(shared: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_server, "is_same_user", lambda peer: False)
    with pytest.raises(httpx.TransportError):
        call(shared, "GET", "/status")
    monkeypatch.undo()
    assert call(shared, "GET", "/status").is_success


def test_no_second_server_of_the_bundle(shared: Serving, bundle: Bundle) -> None:
    done = run_flows("model", "serve", "--model", str(bundle.directory))
    assert done.returncode == 2 and "runs already" in done.stderr


def test_a_full_queue_refuses_and_goes_on(bundle: Bundle) -> None:
    body = encode_request(text_request(bundle, "x", max_new_tokens=3), bundle.sha256)
    with serving(bundle, queue=1) as s, ModelClient.open(bundle) as client:
        s.decoder.gate.clear()
        first = client.submit(text_request(bundle, "x", max_new_tokens=3))
        until(lambda: s.engine.load.active == 1)
        refused = call(s, "POST", "/generate", content=body)
        assert refused.status_code == 429 and "1 requests wait" in refused.json()["message"]
        s.decoder.gate.set()
        assert first.result().ids
        assert call(s, "POST", "/generate", content=body).status_code == 200


def test_memory_of_what_waits_is_limited(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    body = encode_request(text_request(bundle, "x", max_new_tokens=3), bundle.sha256)
    monkeypatch.setattr(model_server, "_WAITING_BYTES", len(body) + 9)
    with serving(bundle) as s, ModelClient.open(bundle) as client:
        s.decoder.gate.clear()
        first = client.submit(text_request(bundle, "x", max_new_tokens=3))
        until(lambda: s.engine.load.active == 1)
        assert call(s, "POST", "/generate", content=body).status_code == 429
        s.decoder.gate.set()
        assert first.result().ids


def test_requests_that_are_none(shared: Serving, bundle: Bundle) -> None:
    body = encode_request(text_request(bundle, "x"), "0" * 64)
    other = call(shared, "POST", "/generate", content=body)
    assert other.status_code == 422 and "bundle is not the server's" in other.json()["message"]
    assert call(shared, "POST", "/generate", content=b"").status_code == 422
    assert b" 413 " in raw_call(shared, b"", size=1 << 40)
    chunked = call(shared, "POST", "/generate", content=iter([b"x"]))
    assert chunked.status_code == 413  # its size must be known before it is read
    assert call(shared, "GET", "/generate").status_code == 405
    assert call(shared, "GET", "/elsewhere").status_code == 404


def raw_call(s: Serving, body: bytes, *, size: int) -> bytes:
    """The beginning of the answer to a call that says how long its body is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(60)
        peer.connect(str(s.place.address))
        head = f"POST /generate HTTP/1.1\r\nhost: m\r\ncontent-length: {size}\r\n\r\n"
        peer.sendall(head.encode() + body)
        return peer.recv(4096)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.booleans())
def test_garbage_on_the_socket(shared: Serving, raw: bytes, as_body: bool) -> None:
    if as_body:
        head = f"POST /generate HTTP/1.1\r\nhost: m\r\ncontent-length: {len(raw)}\r\n\r\n"
        raw = head.encode() + raw
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(60)
        peer.connect(str(shared.place.address))
        peer.sendall(raw)
        peer.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: peer.recv(4096), b""))
    assert not answer.startswith(b"HTTP/1.1 2") and b" 500 " not in answer[:20]
    assert call(shared, "GET", "/status").is_success


def test_a_request_that_never_arrives_gives_its_place_back(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_server, "_UPLOAD_SECONDS", 0.2)
    with serving(bundle, queue=1) as s, ModelClient.open(bundle) as client:
        assert b" 408 " in raw_call(s, b"abc", size=99)
        assert client.generate(text_request(bundle, "x", max_new_tokens=3)).ids


CLIENT = """
import sys
from flows.model_client import ModelClient
from model_onnx.bundle import Bundle
from model_onnx.constrain import Regex
from tests.model_serving import text_request
bundle = Bundle.open(sys.argv[1])
client = ModelClient.find(bundle)
requests = [text_request(bundle, "x", Regex("[a-z]{200}"), max_new_tokens=300) for _ in range(3)]
futures = [client.submit(request) for request in requests]
print("sent", flush=True)
futures[0].result()
"""


def test_a_client_that_is_killed_takes_only_its_requests_with_it(bundle: Bundle) -> None:
    with serving(bundle, slots=2) as s, ModelClient.open(bundle) as other:
        s.decoder.gate.clear()
        kept = other.submit(text_request(bundle, "kept", Regex("[a-z]{30}"), max_new_tokens=50))
        with subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(bundle.directory)], cwd=ROOT, stdout=subprocess.PIPE
        ) as client:
            until(lambda: s.engine.load.active + s.engine.load.waiting == 4, 100)
            client.kill()
        until(lambda: s.server.metrics.outcomes["abandoned"] == 3)
        s.decoder.gate.set()
        assert len(kept.result().text) == 30
        until(lambda: s.engine.load.active + s.engine.load.waiting == 0)
        assert s.engine.load.steps < 100 and s.server.metrics.outcomes["stop"] == 1


def test_it_ends_when_idle_and_not_before(bundle: Bundle) -> None:
    now = [0.0]
    with serving(bundle, clock=lambda: now[0], idle_minutes=10) as s:
        with ModelClient.open(bundle) as client:
            s.decoder.gate.clear()
            future = client.submit(text_request(bundle, "x", max_new_tokens=3))
            until(lambda: s.engine.load.active == 1)
            now[0] = 3600.0
            time.sleep(2.5)  # two looks at the clock: it is busy, so it stays
            assert s.thread.is_alive()
            s.decoder.gate.set()
            future.result()
            now[0] += 599
            assert not s.server.status.stopping
            now[0] += 2
            s.thread.join(60)
        assert not s.thread.is_alive() and not s.place.address.exists()


def test_it_finishes_what_it_has_and_takes_nothing_new(bundle: Bundle) -> None:
    with serving(bundle) as s, ModelClient.open(bundle) as client:
        s.decoder.gate.clear()
        future = client.submit(text_request(bundle, "x", max_new_tokens=3))
        until(lambda: s.engine.load.active == 1)
        assert call(s, "POST", "/stop").json() == {"stopping": True}
        until(lambda: not listens(s))
        assert s.thread.is_alive() and not future.done()
        s.decoder.gate.set()
        assert future.result().ids
        s.thread.join(60)
        assert not s.thread.is_alive()


def listens(s: Serving) -> bool:
    try:
        return not call(s, "GET", "/status").json()["stopping"]
    except httpx.TransportError:
        return False


def test_it_gives_up_what_takes_too_long(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_server, "_FINISH_SECONDS", 1)
    body = encode_request(text_request(bundle, "x", LONG, max_new_tokens=300), bundle.sha256)
    with serving(bundle) as s, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        s.decoder.gate.clear()
        peer.connect(str(s.place.address))
        head = f"POST /generate HTTP/1.1\r\nhost: m\r\ncontent-length: {len(body)}\r\n\r\n"
        peer.sendall(head.encode() + body)
        until(lambda: s.engine.load.active == 1)
        s.server.stop()
        s.thread.join(60)
        assert not s.thread.is_alive()
        s.decoder.gate.set()
        until(lambda: s.engine.load.active == 0)
        assert s.engine.load.steps < 50


def run_flows(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_commands(bundle: Bundle) -> None:
    """serve in the background, status, stop."""

    def flows(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["model", *arguments])

    directory = str(bundle.directory)
    none = flows("status")
    assert none.exit_code == 5 and "no model server runs" in none.stderr
    try:
        done = flows("serve", "--model", directory, "--background", "--slots", "3")
        assert done.exit_code == 0 and "0 active in 3 slots" in done.stdout, done.output
        status = Status.from_json(json.loads(flows("status", "--json").stdout))
        assert status.slots == 3 and status.directory == directory
    finally:
        ended = flows("stop", "--model", directory)
    assert ended.exit_code == 0 and "ended" in ended.stdout
    assert "no model server runs" in flows("stop").stderr
    for child in model_start._children:
        child.wait(60)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it_in_good_order(bundle: Bundle, number: int, code: int) -> None:
    command = [sys.executable, "-m", "flows.cli", "model", "serve", "--model"]
    with subprocess.Popen(
        [*command, str(bundle.directory)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr and "ready" in server.stderr.readline()
        with ModelClient.open(bundle) as client:
            future = client.submit(text_request(bundle, "x", LONG, max_new_tokens=300))
            until(lambda: client._tasks)
            time.sleep(0.3)
            server.send_signal(number)
            assert len(future.result().text) == 200
        assert server.wait(60) == code
        assert server.stderr.read() == ""
