"""flows/store.py: the truth of a run."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flows.discover import Entry, Version
from flows.store import LOCK, Store
from model_onnx.errors import OutputError, UsageError

VERSION = Version("5" * 64, 3, (1, 2, 3, 4))


def entry(name: str) -> Entry:
    return Entry(Path(name), name.encode(), "document")


def finish(store: Store, key: str, status: str = "ok") -> None:
    store.finish(key, status=status, reason="", record='{"output":1}', timing='{"new_tokens":2}')


def test_each_input_has_one_row_from_the_start(tmp_path: Path) -> None:
    with Store.open(tmp_path / "new" / "out") as store:
        store.begin([entry("b"), entry("a")], {"subtask": "tag"})
        assert [(row.path, row.status) for row in store.rows()] == [
            ("a", "pending"),
            ("b", "pending"),
        ]
        assert store.about()["subtask"] == "tag"


def test_results_outlive_the_run_and_belong_to_keys(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin([entry("a"), entry("twin"), entry("c")], {})
        for name in ("a", "twin"):
            store.identify(name.encode(), VERSION, "key", unchanged=False)
        store.settle(b"c", state="failed", reason="vanished", message="gone")
        finish(store, "key", "review")
        assert store.counts() == {("review", False): 2, ("failed", False): 1}
    with Store.open(tmp_path) as store:
        assert store.status("key") == "review"
        store.begin([entry("a")], {})
        store.identify(b"a", VERSION, "key", unchanged=True)
        assert store.counts() == {("review", True): 1}
        ((row, record),) = store.records()
        assert (row.sha256, record) == ("5" * 64, {"output": 1})
        assert store.result("key") == ({"output": 1}, {"new_tokens": 2})


def test_failures_count_attempts_and_end_with_success(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin([entry("a")], {})
        store.identify(b"a", VERSION, "key", unchanged=False)
        store.fail("key", "timeout", "slow", None)
        store.fail("key", "memory", "large", '{"output":null}')
        failure = store.failure("key")
        assert failure and (failure.reason, failure.attempts) == ("memory", 2)
        assert store.result("key") == ({"output": None}, {})
        assert store.reasons() == {"memory": 1}
        finish(store, "key")
        assert store.failure("key") is None and store.counts() == {("ok", False): 1}


def test_a_failure_that_means_unsupported_is_counted_as_that(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin([entry("a")], {})
        store.identify(b"a", VERSION, "key", unchanged=False)
        store.fail("key", "unsupported", "not a PDF")
        assert store.counts() == {("unsupported", False): 1}


def test_answers_last_until_their_document_is_finished(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.remember("key", "page 1", "text")
        store.remember("other", "page 1", "text")
    with Store.open(tmp_path) as store:
        assert store.recall("key", "page 1") == "text" and store.recall("key", "page 2") is None
        finish(store, "key")
        assert store.recall("key", "page 1") is None and store.recall("other", "page 1")
        store.fail("other", "loop", "")
        assert store.recall("other", "page 1") is None


def test_notes_are_about_the_run(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.begin([], {"subtask": "tag"})
        store.note(seconds_per_token="0.5")
        assert store.about() == {"subtask": "tag", "seconds_per_token": "0.5"}


def test_a_second_run_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from flows.store import Store\n"
        "store = Store.open(Path(sys.argv[1])); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    ) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        with pytest.raises(OutputError, match=f"in use .*process {process.pid}"):
            Store.open(tmp_path)
        process.kill()
        process.wait()
    Store.open(tmp_path).close()  # a killed run leaves no lock behind


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nothing")):
        with pytest.raises(OutputError, match="say --output"):
            Store.open(place)


def test_a_damaged_or_newer_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(OutputError, match=r"run\.sqlite"):
        Store.open(tmp_path)
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutputError, match="layout 99, expected"):
        Store.open(tmp_path)


LAYOUT_1 = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE inputs (
  raw BLOB PRIMARY KEY, path TEXT NOT NULL, bytes INTEGER, sha256 TEXT, key TEXT,
  state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
  unchanged INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE answers (
  key TEXT NOT NULL, request TEXT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (key, request)
) WITHOUT ROWID;
CREATE TABLE records (
  key TEXT PRIMARY KEY, status TEXT NOT NULL, reason TEXT NOT NULL, record TEXT NOT NULL,
  timing TEXT NOT NULL
);
CREATE TABLE failures (
  key TEXT PRIMARY KEY, reason TEXT NOT NULL, message TEXT NOT NULL, attempts INTEGER NOT NULL,
  record TEXT
);
CREATE VIEW manifest AS SELECT raw FROM inputs;
INSERT INTO inputs VALUES (x'61', 'a', 3, 'sum', 'key', 'pending', '', '', 1);
INSERT INTO records VALUES ('key', 'ok', '', '{"output":1}', '{}');
PRAGMA user_version = 1;
"""


def test_a_database_of_the_first_release_is_read_and_written(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "run.sqlite")
    connection.executescript(LAYOUT_1)
    connection.close()
    with Store.read(tmp_path) as store:
        ((row, record),) = store.records()
        assert (row.raw, row.unchanged, row.status, record) == (b"a", True, "ok", {"output": 1})
    with Store.open(tmp_path) as store:
        store.begin([entry("a")], {})
        store.identify(b"a", VERSION, "key", unchanged=True)
        assert store.counts() == {("ok", True): 1}


def test_rows_come_in_the_order_of_their_bytes_whatever_their_number(tmp_path: Path) -> None:
    names = [bytes([first, second]) for first in range(1, 200, 40) for second in range(256)]
    with Store.open(tmp_path) as store:
        store.begin([Entry(Path("x"), raw, "document") for raw in reversed(names)], {})
        assert [row.raw for row in store.rows()] == names


def test_what_is_written_is_on_disk_and_others_may_add_tables(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        finish(store, "key")
        with store.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE mine (name TEXT)")
            connection.exec_driver_sql("INSERT INTO mine VALUES ('x')")
        other = sqlite3.connect(tmp_path / "run.sqlite")
        assert other.execute("SELECT key, name FROM records, mine").fetchall() == [("key", "x")]
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.close()


def test_an_error_half_way_takes_the_other_half_back(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.fail("key", "loop", "")
        with pytest.raises(OutputError) as caught:
            store.finish("key", status="ok", reason="", record=None, timing="secret")  # type: ignore[arg-type]
        assert store.failure("key") and "secret" not in str(caught.value)
        finish(store, "key")


def test_a_full_disk_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from flows.store import Store\n"
        "from model_onnx.errors import OutputError\n"
        "store = Store.open(Path(sys.argv[1]))\n"
        "store.finish('kept', status='ok', reason='', record='{}', timing='{}')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))\n"
        "try:\n"
        "    for number in range(9999):\n"
        "        store.remember('key', str(number), 'x' * 9999)\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert "free disk space" in done.stdout
    with Store.open(tmp_path) as store:
        assert store.status("kept") == "ok" and store.recall("key", "0")


def test_a_run_can_be_looked_at_while_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected the output"):
        Store.read(tmp_path)
    with Store.open(tmp_path) as store:
        store.begin([entry("a")], {})
        with Store.read(tmp_path) as reader:
            assert [row.path for row in reader.rows()] == ["a"]
            with pytest.raises(OutputError):
                finish(reader, "key")
    assert (tmp_path / LOCK).exists()


class StoreMachine(RuleBasedStateMachine):
    """The store against a dictionary; closing and opening changes nothing."""

    keys = st.sampled_from(["k1", "k2", "k3"])
    names = st.sampled_from(["a", "b", "c"])

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.store = Store.open(Path(self.directory.name))
        self.keys_of: dict[str, str | None] = {}
        self.records: dict[str, str] = {}
        self.failed: dict[str, int] = {}
        self.answers: set[tuple[str, str]] = set()

    @rule(inputs=st.sets(names))
    def begin(self, inputs: set[str]) -> None:
        self.store.begin([entry(name) for name in inputs], {})
        self.keys_of = dict.fromkeys(inputs)

    @precondition(lambda self: self.keys_of)
    @rule(key=keys, data=st.data())
    def identify(self, key: str, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.keys_of)))
        self.store.identify(name.encode(), VERSION, key, unchanged=False)
        self.keys_of[name] = key

    @rule(key=keys, request=names)
    def remember(self, key: str, request: str) -> None:
        self.store.remember(key, request, json.dumps(request))
        self.answers.add((key, request))

    @rule(key=keys, status=st.sampled_from(["ok", "review", "truncated"]))
    def finish(self, key: str, status: str) -> None:
        finish(self.store, key, status)
        self.records[key] = status
        self.failed.pop(key, None)
        self.answers = {answer for answer in self.answers if answer[0] != key}

    @rule(key=keys)
    def fail(self, key: str) -> None:
        if key not in self.records:  # a finished key is never computed again
            self.store.fail(key, "loop", "")
            self.failed[key] = self.failed.get(key, 0) + 1
            self.answers = {answer for answer in self.answers if answer[0] != key}

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(Path(self.directory.name))

    @invariant()
    def same(self) -> None:
        expected = {
            name: self.records.get(key or "", "failed" if key in self.failed else "pending")
            for name, key in self.keys_of.items()
        }
        assert {row.path: row.status for row in self.store.rows()} == expected
        for key in ("k1", "k2", "k3"):
            failure = self.store.failure(key)
            assert (failure.attempts if failure else 0) == self.failed.get(key, 0)
            for request in ("a", "b", "c"):
                known = self.store.recall(key, request) is not None
                assert known == ((key, request) in self.answers)

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
