"""`flows review RUN --serve`: the page on this machine's loopback, corrections saved at once.

Only who has the address with its random token gets in: the token becomes a cookie that no script
and no other site can read. Requests that name another host (a name that was made to point here) or
come from another origin are refused. Nothing of a request ever becomes a path.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import secrets
import threading
from collections import OrderedDict
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flows.corrections import Correction, Corrections
from flows.review import entries, entry_id
from flows.review_files import input_folder, refresh_views
from flows.review_html import Page, policy, render
from flows.review_media import File, Media
from flows.review_summary import expected_of, summary
from flows.run import log_unexpected
from flows.show import find_run
from flows.store import Row, Store
from flows.videos import video_options
from model_onnx.errors import InputError, OutputError, UsageError

MOST_BODY = 2 << 20  # bytes of one request
_KEPT_SOUNDS = 4
_MEDIA = re.compile(r"/media/([0-9a-f]{16})(?:\.(json|mp3)|-(\d{1,5})\.webp)")


class Refused(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Review:
    """What the server serves: one run. Safe for threads."""

    def __init__(self, directory: Path, root: Path | None = None) -> None:
        self.directory = directory
        self.corrections = Corrections.of_run(directory)
        self._store = Store.read(directory)
        self._inputs = input_folder(self._store, root)
        videos = video_options(self._store.about().get("video", ""))
        self._media = Media(self._inputs, videos=videos, ahead=False)
        self._sounds: OrderedDict[str, File] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        self._media.close()
        self._store.close()
        self.corrections.close()

    def page(self) -> bytes:
        """Made anew each time: the run may be going on."""
        title = self.directory.resolve().name
        rows = list(entries(self._store, self.corrections.all()))
        data = {
            "title": title,
            "subtask": self._store.about().get("subtask", ""),
            "summary": summary(rows, expected_of(self._inputs)),
            "entries": rows,
            "served": True,
        }
        return "".join(render(Page(title=title, data=data, served=True))).encode("utf-8")

    def media(self, name: str, kind: str | None, number: str | None) -> File:
        """`kind` json, mp3, or a page's number. Raises InputError, Refused."""
        row, record = self._find(name)
        if number is not None:
            return self._media.page(name, row, record, int(number))
        if kind == "mp3" and (kept := self._sounds.get(name)):
            return kept
        shown = self._media.shown(name, row, record)
        with self._lock:
            for file in shown.files:
                if file.kind == "audio/mpeg":
                    self._sounds[name] = file
            while len(self._sounds) > _KEPT_SOUNDS:
                self._sounds.popitem(last=False)
        if kind == "json":
            return File("", "application/json", json.dumps(_addressed(shown.plain)).encode())
        found = next((file for file in shown.files if file.kind == "audio/mpeg"), None)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "no sound here")
        return found

    def _find(self, name: str) -> tuple[Row, dict[str, Any]]:
        for row in self._store.rows():
            if row.key and entry_id(row) == name:
                record, _ = self._store.result(row.key)
                if record is not None:
                    return row, record
        raise Refused(HTTPStatus.NOT_FOUND, "no such record")

    def save(self, body: bytes) -> int:
        """Raises UsageError, OutputError."""
        try:
            rows = json.loads(body)
        except (ValueError, RecursionError):
            raise UsageError("got a body that is not JSON, expected a list") from None
        if not isinstance(rows, list):
            raise UsageError("got no list, expected corrections")
        made = [Correction.of(row) for row in rows]
        return self.corrections.save(made)


def _addressed(plain: dict[str, Any]) -> dict[str, Any]:
    """Pictures by their address on this server; the sound is fetched by its name."""
    if "pages" not in plain:
        return plain
    pages = [page | {"src": f"media/{page['src']}"} for page in plain["pages"]]
    return plain | {"pages": pages}


class ReviewServer(ThreadingHTTPServer):
    """Bound to 127.0.0.1. port: 0 for any that is free."""

    daemon_threads = True

    def __init__(self, review: Review, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.review = review
        self.token = secrets.token_urlsafe(32)
        number = self.server_address[1]
        self.hosts = {f"127.0.0.1:{number}", f"localhost:{number}"}
        self.cookie = f"scanscribe-{number}"  # cookies are shared by all ports of a host

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/?token={self.token}"


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    server_version = "scanscribe"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *_: object) -> None:
        """Nothing: the address holds the token."""

    def _answer(self, work: Any) -> None:
        try:
            self._check_host()
            work()
        except Refused as refused:
            self._fail(refused.status, str(refused))
        except InputError as error:
            self._fail(HTTPStatus.NOT_FOUND, str(error))
        except UsageError as error:
            self._fail(HTTPStatus.BAD_REQUEST, str(error))
        except OutputError as error:
            self._fail(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
        except ConnectionError:
            self.close_connection = True
        except Exception as error:
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, log_unexpected(error))

    def _get(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/" and (given := parse_qs(url.query).get("token")):
            self._let_in(given[0])
            return
        self._check_cookie()
        if url.path == "/":
            self._send(File("", "text/html; charset=utf-8", self.server.review.page()))
        elif found := _MEDIA.fullmatch(url.path):
            self._send(self.server.review.media(*found.groups()))
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "nothing here")

    def _post(self) -> None:
        self._check_cookie()
        if self.headers.get("Origin", "").removeprefix("http://") not in self.server.hosts:
            raise Refused(
                HTTPStatus.FORBIDDEN, "this request comes from another origin; use the page itself"
            )
        if self.path != "/corrections":
            raise Refused(HTTPStatus.NOT_FOUND, "nothing here")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        saved = self.server.review.save(self._body())
        self._send(File("", "application/json", json.dumps({"saved": saved}).encode()))

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "expected a length")
        if int(length) > MOST_BODY:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MOST_BODY} bytes"
            )
        return self.rfile.read(int(length))

    def _check_host(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            raise Refused(HTTPStatus.FORBIDDEN, "this server answers on the loopback only")

    def _check_cookie(self) -> None:
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        given = cookies.get(self.server.cookie)
        if given is None or not _same(given.value, self.server.token):
            raise Refused(
                HTTPStatus.FORBIDDEN, "open the address that `flows review --serve` printed"
            )

    def _let_in(self, token: str) -> None:
        if not _same(token, self.server.token):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "this token is not the server's; open the address that it printed last",
            )
        self.send_response(HTTPStatus.SEE_OTHER)
        keep = f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
        self.send_header("Set-Cookie", keep)
        self.send_header("Location", "/")
        self._end_headers(0)

    def _fail(self, status: HTTPStatus, message: str) -> None:
        """The connection ends: what is left of a body must not be read as a request."""
        self.close_connection = True
        self._send(File("", "text/plain; charset=utf-8", message.encode()), status)

    def _send(self, file: File, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", file.kind)
        self._end_headers(len(file.content))
        self.wfile.write(file.content)

    def _end_headers(self, length: int) -> None:
        framed = f"{policy(served=True)}; frame-ancestors 'none'"
        for name, value in {
            "Content-Length": str(length),
            "Content-Security-Policy": framed,
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _same(one: str, two: str) -> bool:
    return hmac.compare_digest(one.encode(), two.encode())


def serve_review(run: Path, root: Path | None = None) -> None:
    """Serves until Ctrl-C, then writes records.jsonl with the corrections. Raises UsageError."""
    directory = find_run(run)
    with contextlib.closing(Review(directory, root)) as review, ReviewServer(review) as server:
        print(f"{server.address}\nCorrections are saved at once. Ctrl-C ends.", flush=True)
        try:
            server.serve_forever()
        except (KeyboardInterrupt, SystemExit):
            print()
    refresh_views(directory)
