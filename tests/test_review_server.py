"""flows/review_server.py: who gets in, and what they may send."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows import review_server
from flows.review_html import policy
from flows.review_server import MOST_BODY, Review, ReviewServer
from tests.review_run import HOSTILE, Run, cleaned, make_run, receipt, recording


@dataclass
class Client:
    """Requests as a browser that has the cookie sends them, but for what a test changes."""

    server: ReviewServer
    run: Run

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, **changed: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        headers: dict[str, str | None] = {
            "Host": self.host,
            "Cookie": f"{self.server.cookie}={self.server.token}",
        }
        if method == "POST":
            headers |= {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        connection = http.client.HTTPConnection(self.host, timeout=60)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None and "Content-Length" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def correction(self, **changed: Any) -> bytes:
        made = {
            "record": self.run.ids["a.png"], "field": "total", "verdict": "corrected",
            "value": HOSTILE, "at": "2026-01-31T12:00:00.000Z",
        }  # fmt: skip
        return json.dumps([made | changed]).encode()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("served")
    run = make_run(folder, [receipt("a.png"), recording("b.wav"), cleaned("c.txt")])
    review = Review(run.directory)
    with ReviewServer(review) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Client(server, run)
        server.shutdown()
        thread.join()
    review.close()


def test_the_address_with_the_token_gives_a_cookie_that_lets_in(client: Client) -> None:
    path = client.server.address.partition(client.host)[2]
    status, headers, _ = client.ask("GET", path, Cookie=None)
    assert status == 303 and headers["Location"] == "/"
    assert headers["Set-Cookie"].endswith("; HttpOnly; SameSite=Strict; Path=/")
    status, headers, page = client.ask("GET", "/", Cookie=headers["Set-Cookie"].split(";")[0])
    assert status == 200 and b'"served":true' in page
    assert headers["Content-Security-Policy"] == f"{policy(served=True)}; frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("/", {"Cookie": None}),
        ("/", {"Cookie": "scanscribe-1=wrong"}),
        ("/", {"Cookie": "\xff\xfe; =;"}),
        ("/?token=wrong", {}),
        ("/?token=%C3%A4", {"Cookie": None}),
        ("/", {"Host": "evil.example"}),
        ("/", {"Host": None}),
        ("/corrections", {"Origin": "http://evil.example"}),
        ("/corrections", {"Origin": None}),
        ("/corrections", {"Origin": "null"}),
        ("/corrections", {"Cookie": None}),
    ],
)
def test_others_are_refused(client: Client, path: str, changed: dict[str, str | None]) -> None:
    method = "POST" if path == "/corrections" else "GET"
    body = client.correction() if method == "POST" else None
    status, _, text = client.ask(method, path, body, **changed)
    assert status == 403 and b"Scanscribe" not in text
    assert client.server.review.corrections.all() == {}


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/media/../../run.sqlite", "/run.sqlite", "/media/a.png", "//evil",
        "/media/0000000000000000.json", "/media/0123456789ABCDEF-1.webp", "/%2e%2e/%2e%2e/",
        "/media/0123456789abcdef-999999.webp",
    ],
)  # fmt: skip
def test_nothing_of_a_request_becomes_a_path(client: Client, path: str) -> None:
    assert client.ask("GET", path)[0] == 404


def test_pictures_sound_and_differences_are_made_when_asked_for(client: Client) -> None:
    one, two, three = (client.run.ids[name] for name in ("a.png", "b.wav", "c.txt"))
    status, headers, body = client.ask("GET", f"/media/{one}.json")
    assert status == 200 and headers["Content-Type"] == "application/json"
    (page,) = json.loads(body)["pages"]
    status, headers, body = client.ask("GET", f"/{page['src']}")
    assert status == 200 and headers["Content-Type"] == "image/webp" and body[8:12] == b"WEBP"
    assert client.ask("GET", f"/media/{one}-7.webp")[0] == 404
    sound = json.loads(client.ask("GET", f"/media/{two}.json")[2])["sound"]
    status, headers, body = client.ask("GET", f"/media/{sound['src']}")
    assert status == 200 and headers["Content-Type"] == "audio/mpeg" and len(body) > 1000
    assert json.loads(client.ask("GET", f"/media/{three}.json")[2])["pieces"]


@pytest.mark.parametrize(
    ("body", "changed", "status"),
    [
        (b"nonsense", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"{}", {}, 400),
        (b'[{"record": "x"}]', {}, 400),
        (b"[]", {"Content_Type": "text/plain"}, 415),
        (b"", {"Content-Length": str(MOST_BODY + 1)}, 413),
        (b"", {"Content-Length": "-1"}, 411),
        (b"", {"Content-Length": None}, 411),
    ],
)
def test_what_is_no_correction_is_answered_with_a_reason(
    client: Client, body: bytes, changed: dict[str, str | None], status: int
) -> None:
    got, _, text = client.ask("POST", "/corrections", body, **changed)
    assert got == status and text


def test_corrections_are_saved_and_shown_on_the_next_page(client: Client) -> None:
    status, _, body = client.ask("POST", "/corrections", client.correction())
    assert status == 200 and json.loads(body) == {"saved": 1}
    page = client.ask("GET", "/")[2]
    assert b"corrected" in page and b"<script>alert" not in page
    client.ask("POST", "/corrections", client.correction(verdict="open", at="2027-01-31T12:00:00Z"))


def test_a_fault_is_answered_without_the_text_of_the_error(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Review) -> bytes:
        raise ValueError("secret")

    monkeypatch.setattr(Review, "page", fail)
    status, _, text = client.ask("GET", "/")
    assert status == 500 and b"ValueError" in text and b"secret" not in text


def test_it_serves_until_interrupted_and_then_refreshes_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, [receipt("a.png")])

    def interrupted(self: ReviewServer) -> None:
        client = Client(self, run)
        self.review.save(client.correction(value="99"))
        raise KeyboardInterrupt

    monkeypatch.setattr(ReviewServer, "serve_forever", interrupted)
    review_server.serve_review(run.directory)
    assert "http://127.0.0.1:" in capsys.readouterr().out
    assert '"value":"99"' in (run.directory / "records.jsonl").read_text()
