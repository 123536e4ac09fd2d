"""The truth of a run; records.jsonl and manifest.jsonl are views of it.

Knows no parser, no model and no subtask: keys, states and JSON texts (tables.py). They lie in
DIR/run.sqlite, which one process writes (embedded.py), or in PostgreSQL, where several processes
compute one run together (shared.py). Safe to use from many threads.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    BindParameter,
    Boolean,
    Connection,
    Engine,
    Executable,
    Select,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    insert,
    not_,
    select,
    update,
)

from flows import run_tables as tables
from flows.discover import Entry, Version
from flows.embedded import LOCK as LOCK
from flows.embedded import Embedded
from flows.run_tables import ABOUT, ANSWERS, FAILURES, INPUTS, database_errors
from flows.run_tables import Claim as Claim
from flows.shared import Shared, parse_store, pointer
from model_onnx.errors import OutputError

RECORDS, MANIFEST = "records.jsonl", "manifest.jsonl"
_BLOCK = 256  # rows held in memory: a dataset is larger


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


# Statements are made once: making one takes longer than running it.
_OF: BindParameter[Any] = bindparam("of")
_TO = ANSWERS.c.request == bindparam("to")
_INPUT = update(INPUTS).where(INPUTS.c.raw == _OF)
# What was computed in this run stays so, whoever looks at it again.
_old: BindParameter[bool] = bindparam("old", type_=Boolean)
_computed_now = and_(INPUTS.c.key == bindparam("now"), not_(INPUTS.c.unchanged))
_IDENTIFY = _INPUT.values(unchanged=case((_computed_now, false()), else_=_old))
_RECORD = select(tables.RECORDS).where(tables.RECORDS.c.key == _OF)
_FAILURE = select(FAILURES).where(FAILURES.c.key == _OF)
_ANSWER = select(ANSWERS).where(ANSWERS.c.key == _OF, _TO)
_NO_RECORD = delete(tables.RECORDS).where(tables.RECORDS.c.key == _OF)
_NO_FAILURE = delete(FAILURES).where(FAILURES.c.key == _OF)
_NO_ANSWERS = delete(ANSWERS).where(ANSWERS.c.key == _OF)
_NO_ANSWER = _NO_ANSWERS.where(_TO)
_NO_FACT = delete(ABOUT).where(ABOUT.c.name == _OF)
_NEW_RECORD, _NEW_FAILURE = insert(tables.RECORDS), insert(FAILURES)
_NEW_ANSWER, _NEW_FACT = insert(ANSWERS), insert(ABOUT)


class Store:
    """One run, open. engine: its database, for tables of others beside these."""

    def __init__(self, directory: Path, database: Embedded | Shared) -> None:
        self.directory = directory
        self._database = database
        self._mutex = threading.RLock()

    @classmethod
    def open(cls, directory: Path, store: str | None = None) -> Self:
        """Makes the directory and opens its run for writing. Raises OutputError.

        store: postgresql://..., else where the directory's run was before, else the directory.
        """
        if store := store or pointer(directory):
            return cls(directory, Shared.open(store, directory))
        return cls(directory, Embedded.open(directory))

    @classmethod
    def join(cls, directory: Path, store: str) -> Self:
        """Opens a run in PostgreSQL without an output directory on this machine."""
        return cls(directory, Shared(parse_store(store, directory)))

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Opens a run to look at, also while it is written. Raises UsageError if there is none"""
        if store := pointer(directory):
            return cls(directory, Shared.read(store, directory))
        return cls(directory, Embedded.read(directory))

    @property
    def lost(self) -> bool:
        """Whether its connection broke: it stays so, as its claims went with it."""
        return self._database.connection.invalidated

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    @property
    def engine(self) -> Engine:
        return self._database.engine

    @property
    def shared(self) -> bool:
        """Whether other processes may write the same run."""
        return self._database.shared

    # inputs

    def begin(self, entries: Iterable[Entry], about: Mapping[str, str]) -> None:
        """Starts a run over these inputs: all pending, earlier results kept by their keys.

        While others compute the same run it is joined: inputs are only added.
        """
        rows = [{"raw": entry.raw, "path": entry.shown, "state": "pending"} for entry in entries]
        with self._transaction() as connection:
            if self._database.begin(connection):
                connection.execute(delete(INPUTS))
            else:
                known = set(connection.scalars(select(INPUTS.c.raw)))
                rows = [row for row in rows if row["raw"] not in known]
            if rows:
                connection.execute(insert(INPUTS), rows)
            _note(connection, about)

    def settle(self, raw: bytes, *, state: str, reason: str, message: str) -> None:
        """The state of an input that has no key: it was never read as a whole."""
        values = {"key": None, "state": state, "reason": reason, "message": message}
        self._run(_INPUT, of=raw, **values)

    def identify(self, raw: bytes, version: Version, key: str, *, unchanged: bool) -> None:
        """The content of an input is known, and so is its key."""
        values = {"bytes": version.bytes, "sha256": version.sha256, "key": key}
        self._run(_IDENTIFY, of=raw, **values, now=key, old=unchanged)

    def note(self, **about: str) -> None:
        """Facts about the run as a whole."""
        with self._transaction() as connection:
            _note(connection, about)

    # results

    def claim(self, key: str) -> Claim:
        """Whether this process computes a key. One that is `mine` has to be released."""
        with self._transaction() as connection:
            return self._database.claim(connection, key)

    def release(self, key: str) -> None:
        with suppress(OutputError), self._transaction() as connection:  # if not, it went with it
            self._database.release(connection, key)

    def finish(self, key: str, *, status: str, reason: str, record: str, timing: str) -> None:
        """A record is there. The answers it was made of are no longer needed."""
        values = {"status": status, "reason": reason, "record": record, "timing": timing}
        with self._transaction() as connection:
            connection.execute(_NO_FAILURE, {"of": key})
            connection.execute(_NO_ANSWERS, {"of": key})
            connection.execute(_NO_RECORD, {"of": key})
            connection.execute(_NEW_RECORD, {"key": key, **values})
            self._database.done(connection, key)

    def fail(self, key: str, reason: str, message: str, record: str | None = None) -> None:
        """A key failed once more. Its answers go: the next attempt is a fresh one."""
        values = {"reason": reason, "message": message, "record": record}
        with self._transaction() as connection:
            before = connection.execute(_FAILURE, {"of": key}).first()
            attempts = before.attempts + 1 if before else 1
            connection.execute(_NO_ANSWERS, {"of": key})
            connection.execute(_NO_FAILURE, {"of": key})
            connection.execute(_NEW_FAILURE, {"key": key, **values, "attempts": attempts})
            self._database.done(connection, key)

    def status(self, key: str) -> str | None:
        """The status of a finished key's record."""
        found = self._all(_RECORD, of=key)
        return str(found[0].status) if found else None

    def failure(self, key: str) -> Failure | None:
        found = self._all(_FAILURE, of=key)
        return Failure(found[0].reason, found[0].message, found[0].attempts) if found else None

    def remember(self, key: str, request: str, result: str) -> None:
        with self._transaction() as connection:
            connection.execute(_NO_ANSWER, {"of": key, "to": request})
            connection.execute(_NEW_ANSWER, {"key": key, "request": request, "result": result})

    def recall(self, key: str, request: str) -> str | None:
        found = self._all(_ANSWER, of=key, to=request)
        return str(found[0].result) if found else None

    # views

    def about(self) -> dict[str, str]:
        return {row.name: row.value for row in self._all(select(ABOUT))}

    def counts(self) -> dict[tuple[str, bool], int]:
        """(status, unchanged) -> number of inputs of the last run."""
        rows = tables.MANIFEST.subquery().c
        by = (rows.status, rows.unchanged)
        found = self._all(select(*by, func.count()).group_by(*by))
        return {(status, unchanged): number for status, unchanged, number in found}

    def reasons(self) -> dict[str, int]:
        """reason -> number of failed inputs of the last run."""
        rows = tables.MANIFEST.subquery().c
        failed = select(rows.reason, func.count()).where(rows.status == "failed")
        return dict(sorted(tuple(row) for row in self._all(failed.group_by(rows.reason))))

    def rows(self) -> Iterator[Row]:
        """One per input, in order."""
        for found in self._each(tables.MANIFEST):
            yield Row(*found)

    def records(self) -> Iterator[tuple[Row, dict[str, Any]]]:
        """(input, record) of every input that has a record, in the order of the inputs."""
        record = tables.RECORDS.c.record
        finished = tables.MANIFEST.add_columns(record).where(record.is_not(None))
        for *row, text in self._each(finished):
            yield Row(*row), json.loads(text)

    def result(self, key: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """(record, timing) of a key; what a failed one left behind, if anything."""
        for row in self._all(_RECORD, of=key):
            return json.loads(row.record), json.loads(row.timing)
        for row in self._all(_FAILURE, of=key):
            return (json.loads(row.record) if row.record else None), {}
        return None, {}

    # the database

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no other process is inside."""
        with self._transaction() as connection:
            self._database.enter(connection)
        try:
            yield
        finally:
            with self._transaction() as connection:
                self._database.leave(connection)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        database = self._database
        with self._mutex, database_errors(database):
            if self.lost:
                raise OutputError(f"the connection to {database.place} was lost; run again")
            with database.connection.begin():
                yield database.connection

    def _run(self, statement: Executable, **values: object) -> None:
        with self._transaction() as connection:
            connection.execute(statement, values)

    def _all(self, statement: Executable, **values: object) -> list[Any]:
        with self._transaction() as connection:
            return list(connection.execute(statement, values))

    def _each(self, statement: Select[Any]) -> Iterator[Any]:
        """Inputs in order, block by block: a dataset is larger than memory."""
        after = b""
        block = statement.where(INPUTS.c.raw > bindparam("after")).order_by(INPUTS.c.raw)
        while found := self._all(block.limit(_BLOCK), after=after):
            yield from found
            after = found[-1].raw


def _note(connection: Connection, about: Mapping[str, str]) -> None:
    for name, value in about.items():
        connection.execute(_NO_FACT, {"of": name})
        connection.execute(_NEW_FACT, {"name": name, "value": value})
