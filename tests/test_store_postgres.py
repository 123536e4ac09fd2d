"""flows/shared.py against a real PostgreSQL: several processes, one run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from flows.discover import RUN_POINTER, Entry, Version, walk
from flows.shared import keep_password, parse_store, schema_of
from flows.store import MANIFEST, RECORDS, Store
from flows.views import write_views
from model_onnx.errors import OutputError, UsageError
from tests.fake_run import PageModel, run
from tests.postgres import server

ROOT = Path(__file__).parents[1]
VERSION = Version("5" * 64, 3, (1, 2, 3, 4))


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def url(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run of its own for each test, and no password of another one's."""
    monkeypatch.delenv("PGPASSWORD", raising=False)
    return f"{database}&run={tmp_path.name}"


def entry(name: str) -> Entry:
    return Entry(Path(name), name.encode(), "document")


def finish(store: Store, key: str, status: str = "ok") -> None:
    store.finish(key, status=status, reason="", record='{"output":"\\u0000"}', timing="{}")


def test_a_run_is_kept_and_found_again(url: str, tmp_path: Path) -> None:
    raw = b"b\xff\n"
    with Store.open(tmp_path / "a", url) as store:
        assert store.shared
        store.begin([Entry(Path("b"), raw, "document"), entry("a")], {"subtask": "tag"})
        store.identify(raw, VERSION, "key", unchanged=False)
        store.remember("key", "page", "text")
        assert store.recall("key", "page") == "text" and store.recall("key", "other") is None
        finish(store, "key")
        store.settle(b"a", state="failed", reason="vanished", message="gone")
        assert store.recall("key", "page") is None
        assert store.counts() == {("ok", False): 1, ("failed", False): 1}
        assert store.reasons() == {"vanished": 1}
        store.fail("bad", "loop", "")
        store.fail("bad", "timeout", "slow", '{"output":null}')
        failure = store.failure("bad")
        assert failure and (failure.reason, failure.attempts) == ("timeout", 2)
        assert store.result("bad") == ({"output": None}, {})
    with Store.open(tmp_path / "b", url) as store:  # the run belongs to its name
        assert store.about()["subtask"] == "tag" and store.status("key") == "ok"
        assert [row.raw for row in store.rows()] == [b"a", raw]
        assert [record for _, record in store.records()] == [{"output": "\0"}]
    with Store.open(tmp_path / "a", f"{url}-other") as store:
        assert not store.about() and store.status("key") is None


def test_each_key_is_granted_once_and_done_once(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path / "a", url) as one, Store.open(tmp_path / "b", url) as two:
        one.begin([entry("a")], {})
        two.begin([entry("a"), entry("b")], {})  # joins: nothing that one knows is lost
        one.identify(b"a", VERSION, "key", unchanged=False)
        assert (one.claim("key"), two.claim("key"), one.claim("key")) == (
            "mine",
            "theirs",
            "theirs",
        )
        assert two.claim("other") == "mine"
        one.release("key")
        assert two.claim("key") == "mine"
        finish(two, "key")
        assert one.claim("key") == "theirs"
        two.release("key")
        assert (one.claim("key"), two.claim("key")) == ("done", "done")
        two.identify(b"a", VERSION, "key", unchanged=True)  # it was this run that computed it
        assert one.counts() == {("ok", False): 1, ("pending", False): 1}
        two.fail("other", "timeout", "")
        two.release("other")
        assert one.claim("other") == "done"  # failed in this run: for the next one
    with Store.open(tmp_path / "a", url) as one:
        one.begin([entry("a")], {})
        assert (one.claim("key"), one.claim("other")) == ("done", "mine")
        assert [row.path for row in one.rows()] == ["a"]


def test_who_lost_its_claims_cannot_write(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path / "a", url) as one, Store.open(tmp_path / "b", url) as two:
        assert one.claim("key") == "mine"
        with two.engine.begin() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                    "application_name = 'scanscribe' AND pid <> pg_backend_pid() AND pid IN "
                    "(SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
                )
            )
        wait_until(lambda: two.claim("key") == "mine")
        for _ in range(2):
            with pytest.raises(OutputError, match=r"run again"):
                finish(one, "key")
        one.release("key")
        finish(two, "key", "review")
        assert two.status("key") == "review"


def wait_until(true: Any) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_no_password_is_told(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(tmp_path, url):
        pass
    told = (tmp_path / RUN_POINTER).read_text()
    assert "tester" in told and "s3cret" not in told
    for wrong in (url.replace("s3cret", "wr0ng"), url.replace("/postgres", "/wr0ng")):
        with pytest.raises(OutputError, match="cannot write or read postgresql") as caught:
            Store.open(tmp_path, wrong)
        assert "s3cret" not in str(caught.value) and ":wr0ng" not in str(caught.value)
        assert caught.value.__cause__ is None
    for wrong in ("mysql://me:s3cret@host/db", "s3cret", "postgresql://me:s3cret@host"):
        with pytest.raises(UsageError, match="expected postgresql://") as usage:
            Store.open(tmp_path, wrong)
        assert "s3cret" not in str(usage.value)
    monkeypatch.setenv("PGPASSWORD", "")
    clean = keep_password(url)
    assert "s3cret" not in clean and os.environ["PGPASSWORD"] == "s3cret"
    with Store.open(tmp_path, clean), Store.read(tmp_path) as store:
        assert store.counts() == {}
        with pytest.raises(OutputError):
            finish(store, "key")


def test_a_directory_has_one_store(url: str, tmp_path: Path) -> None:
    Store.open(tmp_path / "own").close()
    with pytest.raises(OutputError, match=r"run\.sqlite; say another --output"):
        Store.open(tmp_path / "own", url)
    with Store.open(tmp_path / "in" / "out", url) as store:
        store.begin([entry("a")], {})
        write_views(store, tmp_path / "in" / "out")
    assert walk(tmp_path / "in") == []  # an output is no input
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / RUN_POINTER).write_text(f"{url}-nothing")
    with pytest.raises(OutputError, match="no run of that name"):
        Store.read(tmp_path / "away")


def test_names_of_runs() -> None:
    assert schema_of("/mnt/Out Put!") != schema_of("/mnt2/Out Put!")
    assert schema_of("/mnt/Out Put!").startswith("run_out_put_")
    assert len(schema_of("x" * 500)) < 63
    store = parse_store("postgresql://me@host/db", Path("/mnt/out"))
    assert store.query["run"] == "/mnt/out" and store.drivername == "postgresql+psycopg"


def start(inbox: Path, output: Path, calls: Path, store: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fake_run", inbox, output, calls, "0.02"]
    return subprocess.Popen(
        [*map(str, command), f"store={store}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_two_processes_write_one_run_and_one_is_killed(url: str, tmp_path: Path) -> None:
    """No page is asked for twice but those in flight at a kill, and the dataset is the same."""
    chance, inbox = random.Random(4), tmp_path / "in"
    inbox.mkdir()
    for number in range(60):
        pages = [f"document {number} page {page}" for page in range(chance.randint(1, 6))]
        (inbox / f"d{number:02}.txt").write_text("\n".join(pages))
    (inbox / "twin.txt").write_text((inbox / "d07.txt").read_text())
    (inbox / "bad.txt").write_text("fail damaged")
    (inbox / "slow.txt").write_text("fail timeout")
    run(inbox, tmp_path / "alone", PageModel(tmp_path / "calls alone"))

    outputs = [tmp_path / name for name in ("one", "two", "killed")]
    logs = [tmp_path / f"calls {output.name}" for output in outputs]
    processes = [start(inbox, *each, url) for each in zip(outputs, logs, strict=True)]
    wait_until(lambda: logs[2].exists() and len(logs[2].read_text().splitlines()) > 5)
    processes[2].send_signal(signal.SIGKILL)
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [3, 3, -signal.SIGKILL], errors
    assert errors[:2] == ["", ""]
    for name in (RECORDS, MANIFEST):
        expected = (tmp_path / "alone" / name).read_bytes()
        assert (outputs[0] / name).read_bytes() == expected
        assert (outputs[1] / name).read_bytes() == expected
    asked = [log.read_text().splitlines() for log in logs]
    together = [page for pages in asked for page in pages]
    assert all(asked[:2])  # both took part
    # Killed between an answer and its storing: at most the pages that were in flight.
    assert len(together) - len(set(together)) <= 3
    with Store.open(outputs[0], url) as store:
        failures = {row.path: row.key for row in store.rows() if row.status == "failed"}
        assert all(store.failure(str(key)).attempts == 1 for key in failures.values())  # type: ignore[union-attr]
        assert set(failures) == {"bad.txt", "slow.txt"} and json.dumps(store.about())


def test_runs_leave_as_a_schema(url: str, tmp_path: Path) -> None:
    with Store.open(tmp_path, url) as store:
        store.begin([entry("a")], {})
    engine = create_engine(parse_store(url, tmp_path).difference_update_query(["run"]))
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema_of(tmp_path.name)} CASCADE"))
    engine.dispose()
    with Store.open(tmp_path, url) as store:
        assert store.counts() == {}
