"""DIR/run.sqlite, the truth of a run; records.jsonl and manifest.jsonl are views of it.

Knows no parser, no model and no subtask: keys, states and JSON texts. One process writes (the lock
on run.lock), any number may read. Tables:

    inputs    one row per input of the last run, in the order of `raw`: path (bytes and text), size,
              sha256, key, and the state of an input that has no key (pending, failed, unsupported)
    answers   finished requests of documents that are not finished: what a killed run resumes from
    records   one row per finished key: status, the record's JSON without timing, timing
    failures  one row per failed key: reason, message, attempts, the record if there is one

WAL with synchronous=NORMAL: a killed process loses nothing that was committed; a power cut may cost
the last seconds, which are then computed again.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from flows.discover import RUN_DATABASE, Entry, Version
from model_onnx.errors import OutputError, UsageError

LOCK, RECORDS, MANIFEST = "run.lock", "records.jsonl", "manifest.jsonl"
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS inputs (
  raw BLOB PRIMARY KEY, path TEXT NOT NULL, bytes INTEGER, sha256 TEXT, key TEXT,
  state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
  unchanged INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
  key TEXT NOT NULL, request TEXT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (key, request)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
  key TEXT PRIMARY KEY, status TEXT NOT NULL, reason TEXT NOT NULL, record TEXT NOT NULL,
  timing TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS failures (
  key TEXT PRIMARY KEY, reason TEXT NOT NULL, message TEXT NOT NULL, attempts INTEGER NOT NULL,
  record TEXT
);
CREATE VIEW IF NOT EXISTS manifest AS
  SELECT i.raw, i.path, i.bytes, i.sha256, i.key, i.unchanged,
    CASE WHEN r.key IS NOT NULL THEN r.status
         WHEN f.reason = 'unsupported' THEN 'unsupported'
         WHEN f.key IS NOT NULL THEN 'failed' ELSE i.state END AS status,
    coalesce(r.reason, f.reason, i.reason) AS reason,
    CASE WHEN r.key IS NOT NULL THEN '' ELSE coalesce(f.message, i.message) END AS message
  FROM inputs i LEFT JOIN records r ON r.key = i.key LEFT JOIN failures f ON f.key = i.key;
"""


@dataclass(frozen=True)
class Failure:
    reason: str
    message: str
    attempts: int


@dataclass(frozen=True)
class Row:
    """One input with what became of it. status: of its record, or failed, unsupported, pending."""

    raw: bytes
    path: str
    bytes: int | None
    sha256: str | None
    key: str | None
    unchanged: bool
    status: str
    reason: str
    message: str


class Store:
    """One output directory, opened for writing by one process. Safe to use from many threads."""

    def __init__(self, directory: Path, connection: sqlite3.Connection, lock: int | None) -> None:
        self.directory = directory
        self._connection = connection
        self._lock = lock
        self._mutex = threading.RLock()

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Makes the directory, locks it and opens its database. Raises OutputError."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = _lock(directory)
        except OSError as error:
            raise OutputError(
                f"cannot write to {directory}: {error.strerror}; say --output DIRECTORY with a "
                "directory that can be written"
            ) from None
        try:
            return cls(directory, _connect(directory / RUN_DATABASE), lock)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Opens a run to look at, also while it is written. Raises UsageError if there is none"""
        path = directory / RUN_DATABASE
        if not path.is_file():
            raise UsageError(
                f"got {directory}, expected the output of `flows run` ({RUN_DATABASE})"
            )
        with _sqlite_errors(directory):
            return cls(directory, _reader(path), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)  # gives the lock back
            self._lock = None

    # inputs

    def begin(self, entries: Iterable[Entry], about: dict[str, str]) -> None:
        """Starts a run over these inputs: all pending, earlier results kept by their keys."""
        with self._write() as connection:
            connection.execute("DELETE FROM inputs")
            connection.executemany(
                "INSERT INTO inputs (raw, path, state) VALUES (?, ?, 'pending')",
                ((entry.raw, entry.shown) for entry in entries),
            )
            connection.executemany("REPLACE INTO about VALUES (?, ?)", about.items())

    def settle(self, raw: bytes, *, state: str, reason: str, message: str) -> None:
        """The state of an input that has no key: it was never read as a whole."""
        with self._write() as connection:
            connection.execute(
                "UPDATE inputs SET key = NULL, state = ?, reason = ?, message = ? WHERE raw = ?",
                (state, reason, message, raw),
            )

    def identify(self, raw: bytes, version: Version, key: str, *, unchanged: bool) -> None:
        """The content of an input is known, and so is its key."""
        with self._write() as connection:
            connection.execute(
                "UPDATE inputs SET bytes = ?, sha256 = ?, key = ?, unchanged = ? WHERE raw = ?",
                (version.bytes, version.sha256, key, unchanged, raw),
            )

    def note(self, **about: str) -> None:
        """Facts about the run as a whole."""
        with self._write() as connection:
            connection.executemany("REPLACE INTO about VALUES (?, ?)", about.items())

    # results

    def finish(self, key: str, *, status: str, reason: str, record: str, timing: str) -> None:
        """A record is there. The answers it was made of are no longer needed."""
        with self._write() as connection:
            connection.execute("DELETE FROM failures WHERE key = ?", (key,))
            connection.execute("DELETE FROM answers WHERE key = ?", (key,))
            connection.execute(
                "REPLACE INTO records VALUES (?, ?, ?, ?, ?)", (key, status, reason, record, timing)
            )

    def fail(self, key: str, reason: str, message: str, record: str | None = None) -> None:
        """A key failed once more. Its answers go: the next attempt is a fresh one."""
        with self._write() as connection:
            connection.execute("DELETE FROM answers WHERE key = ?", (key,))
            connection.execute(
                "INSERT INTO failures VALUES (?, ?, ?, 1, ?) ON CONFLICT (key) DO UPDATE SET "
                "reason = excluded.reason, message = excluded.message, attempts = attempts + 1, "
                "record = excluded.record",
                (key, reason, message, record),
            )

    def status(self, key: str) -> str | None:
        """The status of a finished key's record."""
        rows = self._all("SELECT status FROM records WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def failure(self, key: str) -> Failure | None:
        rows = self._all("SELECT reason, message, attempts FROM failures WHERE key = ?", key)
        return Failure(*rows[0]) if rows else None

    def remember(self, key: str, request: str, result: str) -> None:
        with self._write() as connection:
            connection.execute("REPLACE INTO answers VALUES (?, ?, ?)", (key, request, result))

    def recall(self, key: str, request: str) -> str | None:
        sql = "SELECT result FROM answers WHERE key = ? AND request = ?"
        rows = self._all(sql, key, request)
        return str(rows[0][0]) if rows else None

    # views

    def about(self) -> dict[str, str]:
        return dict(self._all("SELECT name, value FROM about"))

    def counts(self) -> dict[tuple[str, bool], int]:
        """(status, unchanged) -> number of inputs of the last run."""
        sql = "SELECT status, unchanged, count(*) FROM manifest GROUP BY 1, 2"
        return {(status, bool(unchanged)): n for status, unchanged, n in self._all(sql)}

    def reasons(self) -> dict[str, int]:
        """reason -> number of failed inputs of the last run."""
        sql = "SELECT reason, count(*) FROM manifest WHERE status = 'failed' GROUP BY 1 ORDER BY 1"
        return dict(self._all(sql))

    def rows(self) -> Iterator[Row]:
        """One per input, in order."""
        sql = (
            "SELECT raw, path, bytes, sha256, key, unchanged, status, reason, message "
            "FROM manifest ORDER BY raw"
        )
        for raw, path, size, sha256, key, unchanged, *rest in self._each(sql):
            yield Row(raw, path, size, sha256, key, bool(unchanged), *rest)

    def records(self) -> Iterator[tuple[Row, dict[str, Any]]]:
        """(input, record) of every input that has a record, in the order of the inputs."""
        for row in self.rows():
            if row.key and row.status in ("ok", "review", "truncated"):
                record, _ = self.result(row.key)
                assert record is not None
                yield row, record

    def result(self, key: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """(record, timing) of a key; what a failed one left behind, if anything."""
        rows = self._all(
            "SELECT record, timing FROM records WHERE key = ? UNION ALL "
            "SELECT record, '{}' FROM failures WHERE key = ? AND record NOT NULL",
            key,
            key,
        )
        return (json.loads(rows[0][0]), json.loads(rows[0][1])) if rows else (None, {})

    # the connection

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._mutex, _sqlite_errors(self.directory), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    def _all(self, sql: str, *values: object) -> list[Any]:
        with self._mutex, _sqlite_errors(self.directory):
            return self._connection.execute(sql, values).fetchall()

    def _each(self, sql: str, *values: object) -> Iterator[Any]:
        """Rows in blocks: a dataset is larger than memory."""
        with self._mutex, _sqlite_errors(self.directory):
            cursor = self._connection.execute(sql, values)
        while True:
            with self._mutex, _sqlite_errors(self.directory):
                block = cursor.fetchmany(256)
            if not block:
                return
            yield from block


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 100, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise OutputError(
            f"{directory} is in use by another run ({holder or 'starting'}); wait for it to end, "
            "or say another --output"
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _connect(path: Path) -> sqlite3.Connection:
    with _sqlite_errors(path.parent):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            connection.close()
            raise OutputError(
                f"{path}: got layout {version}, expected {SCHEMA_VERSION}; it was written by "
                "another version of this program, say another --output"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
    return connection


def _reader(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri() + "?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


@contextmanager
def _sqlite_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(
            f"cannot write or read {directory / RUN_DATABASE}: {error}; free disk space or check "
            "the directory's permissions, then run again: what was finished is kept"
        ) from error
