"""DIR/run.sqlite: the database of a run that one process writes and any number may read.

Knows no run. The lock on run.lock makes sure of the one writer, so every claim is granted. WAL with
synchronous=NORMAL: a killed process loses nothing that was committed; a power cut may cost the last
seconds, which are then computed again.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event

from flows.discover import RUN_DATABASE
from flows.run_tables import METADATA, Claim, database_errors
from model_onnx.errors import OutputError, UsageError

LOCK = "run.lock"
SCHEMA_VERSION = 1


class Embedded:
    """An open database. connection: the one that the run reads and writes with."""

    shared = False
    advice = "free disk space or check the directory's permissions"

    def __init__(self, path: Path, lock: int | None) -> None:
        self.place = str(path)
        self._lock = lock
        self.engine = _engine(path, read_only=lock is None)
        with database_errors(self):
            self.connection = self.engine.connect()
            try:
                if lock is not None:
                    _prepare(self.connection, path)
            except BaseException:
                self.connection.close()
                self.engine.dispose()
                raise

    @classmethod
    def open(cls, directory: Path) -> Embedded:
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
            return cls(directory / RUN_DATABASE, lock)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def read(cls, directory: Path) -> Embedded:
        """To look at, also while it is written. Raises UsageError if there is none."""
        path = directory / RUN_DATABASE
        if not path.is_file():
            raise UsageError(
                f"got {directory}, expected the output of `flows run` ({RUN_DATABASE})"
            )
        return cls(path, None)

    def close(self) -> None:
        self.connection.close()
        self.engine.dispose()
        if self._lock is not None:
            os.close(self._lock)  # gives the lock back
            self._lock = None

    # what several processes agree on: here there is one

    def begin(self, connection: Connection) -> bool:
        return True

    def claim(self, connection: Connection, key: str) -> Claim:
        return "mine"

    def done(self, connection: Connection, key: str) -> None: ...
    def release(self, connection: Connection, key: str) -> None: ...
    def enter(self, connection: Connection) -> None: ...
    def leave(self, connection: Connection) -> None: ...


def _engine(path: Path, *, read_only: bool) -> Engine:
    uri = path.resolve().as_uri() + ("?mode=ro" if read_only else "")

    def connect() -> sqlite3.Connection:
        # Without an isolation level the driver leaves transactions to the statements below.
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        if not read_only:
            connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        creator=connect,
        poolclass=QueuePool,
        hide_parameters=True,  # they quote documents
    )
    # A transaction that reads first and writes later would fail beside another one.
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
    event.listen(engine, "begin", lambda connection: _driver(connection).execute(begin))
    return engine


def _prepare(connection: Connection, path: Path) -> None:
    version = _driver(connection).execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, SCHEMA_VERSION):
        raise OutputError(
            f"{path}: got layout {version}, expected {SCHEMA_VERSION}; it was written by "
            "another version of this program, say another --output"
        )
    _driver(connection).execute("PRAGMA journal_mode = WAL")
    with connection.begin():
        METADATA.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _driver(connection: Connection) -> Any:
    """The driver's own connection: for statements outside a transaction, or of every one."""
    return connection.connection.driver_connection


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
