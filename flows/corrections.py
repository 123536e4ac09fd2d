"""What a person decided about a run's records: a layer beside the output, never over it.

    corrections   one row per record and field, the newest decision: verdict, value, time

A decision about a whole record has the field "". Knows no page and no server; works on any
database that SQLAlchemy opens, in a table of its own.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from sqlalchemy import (
    URL,
    Column,
    Engine,
    MetaData,
    Table,
    Text,
    create_engine,
    delete,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from flows.discover import RUN_DATABASE
from flows.shared import engine_of
from model_onnx.errors import OutputError, UsageError

Verdict = Literal["accepted", "rejected", "corrected", "open"]  # open: a decision taken back
Value = str | float | bool | None

MOST_FIELD, MOST_VALUE = 500, 1 << 20  # characters
_RECORD = re.compile(r"[0-9a-f]{16}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_WHOLE = ""  # the field of a decision about a whole record

TABLE = Table(
    "corrections",
    MetaData(),
    Column("record", Text, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("verdict", Text, nullable=False),
    Column("value", Text, nullable=False),  # JSON
    Column("at", Text, nullable=False),
)


@dataclass(frozen=True)
class Correction:
    """record: its id; field: a path as in `fields`, `text`, or "" for the whole record; value: of
    a corrected field, None for absent; at: UTC, as `2026-01-31T12:00:00.000Z`.

    An item of a list, such as `items[2]`, that is rejected is not in the document; one behind the
    list's end whose values are corrected was missing.
    """

    record: str
    field: str
    verdict: Verdict
    value: Value
    at: str

    @classmethod
    def of(cls, raw: object) -> Self:
        """From JSON, which anybody may have written. Raises UsageError."""
        if not isinstance(raw, dict) or set(raw) != {"record", "field", "verdict", "value", "at"}:
            raise _bad("an object with other keys")
        texts = [raw[name] for name in ("record", "field", "verdict", "at")]
        if not all(isinstance(text, str) for text in texts):
            raise _bad("a record, field, verdict or time that is no text")
        if not (_RECORD.fullmatch(raw["record"]) and _TIME.fullmatch(raw["at"])):
            raise _bad("a record or time of another form")
        if raw["verdict"] not in get_args(Verdict) or len(raw["field"]) > MOST_FIELD:
            raise _bad("an unknown verdict or a field too long")
        value = raw["value"]
        if not all(_storable(text) for text in (raw["field"], str(value))) or not _finite(value):
            raise _bad("half a character, a zero byte or no number")
        if not isinstance(value, str | int | float | bool | None) or len(str(value)) > MOST_VALUE:
            raise _bad("a value that is too long, or neither text, number, true, false nor null")
        if raw["field"] == _WHOLE and raw["verdict"] == "corrected":
            raise _bad("a correction without its field")
        return cls(**raw)


def _storable(text: str) -> bool:
    """JSON can hold halves of characters and zero bytes, which databases and files do not take."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _bad(got: str) -> UsageError:
    return UsageError(
        f"got {got}, expected a line such as "
        '{"record": "16 hex digits", "field": "total", "verdict": "corrected", "value": "12.50", '
        '"at": "2026-01-31T12:00:00Z"}; export the corrections from the review page'
    )


def decision(corrections: Iterable[Correction]) -> Verdict:
    """What one record's corrections come to: a rejected record stays rejected until that is taken
    back; one with a corrected field counts as looked at as a whole."""
    standing = {c.field: c.verdict for c in corrections if c.verdict != "open"}
    whole: Verdict = standing.pop(_WHOLE, "open")
    if whole == "rejected":
        return whole
    return "corrected" if {"corrected", "rejected"} & set(standing.values()) else whole


def values(corrections: Iterable[Correction]) -> dict[str, Value]:
    """Field -> the value that a person gave it."""
    return {c.field: c.value for c in corrections if c.verdict == "corrected"}


def removed(corrections: Iterable[Correction]) -> list[str]:
    """The items of lists that are not in the document."""
    return [c.field for c in corrections if c.verdict == "rejected" and c.field != _WHOLE]


class Corrections:
    """The layer of one run. Safe for threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def of_run(cls, directory: Path) -> Self:
        """Of the run with this output directory, wherever its database is. Ends with `close`."""
        here = URL.create("sqlite", database=str(directory / RUN_DATABASE))
        return cls(engine_of(directory) or create_engine(here))

    def close(self) -> None:
        self._engine.dispose()

    def all(self) -> dict[str, list[Correction]]:
        """Record -> its decisions, those taken back included. Raises OutputError."""
        found: dict[str, list[Correction]] = defaultdict(list)
        with self._errors():
            if not inspect(self._engine).has_table(TABLE.name):
                return {}
            with self._engine.connect() as connection:
                for row in connection.execute(select(TABLE).order_by(*TABLE.primary_key)):
                    made = row._asdict() | {"value": json.loads(row.value)}
                    found[row.record].append(Correction(**made))
        return dict(found)

    def save(self, corrections: Iterable[Correction]) -> int:
        """Keeps, for each record and field, the newest decision; returns how many were taken.

        Raises OutputError.
        """
        taken = 0
        with self._errors():
            TABLE.create(self._engine, checkfirst=True)
            with self._engine.begin() as connection:
                for made in corrections:
                    here = (TABLE.c.record == made.record) & (TABLE.c.field == made.field)
                    newer = select(TABLE.c.at).where(here & (TABLE.c.at > made.at))
                    if connection.execute(newer).first():
                        continue
                    plain = asdict(made) | {"value": json.dumps(made.value)}
                    connection.execute(delete(TABLE).where(here))
                    connection.execute(insert(TABLE).values(plain))
                    taken += 1
        return taken

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise OutputError(
                f"cannot read or write the corrections ({type(error).__name__}); free disk space "
                "or check the permissions of the run's directory, then save again"
            ) from error


def standing(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Record -> its decisions as the exports show them, without those taken back."""
    shown = {
        record: [_export(made) for made in rows if made.verdict != "open"]
        for record, rows in Corrections(engine).all().items()
    }
    return {record: rows for record, rows in shown.items() if rows}


def _export(made: Correction) -> dict[str, Any]:
    plain: Mapping[str, Any] = asdict(made)
    return {name: plain[name] for name in ("field", "verdict", "value", "at")}


def read_corrections(path: Path) -> list[Correction]:
    """A corrections.jsonl as the review page exports it. Raises UsageError with the line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # JSON may hold other separators
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read {path} ({type(error).__name__}); expected the corrections.jsonl that the "
            "review page exports"
        ) from None
    return [_line(line, f"{path}:{at}") for at, line in enumerate(lines, 1) if line.strip()]


def _line(line: str, where: str) -> Correction:
    try:
        return Correction.of(json.loads(line))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{where}: {_bad('text that is not JSON')}") from None
