"""The tables of a run, the same in every database.

about     facts about the run as a whole
inputs    one row per input of the last run, in the order of `raw`: path (bytes and text), size,
          sha256, key, and the state of an input that has no key (pending, failed, unsupported)
answers   finished requests of documents that are not finished: what a killed run resumes from
records   one row per finished key: status, the record's JSON without timing, timing
failures  one row per failed key: reason, message, attempts, the record if there is one
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    case,
    false,
    func,
    select,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from model_onnx.errors import OutputError

# Who computes a key: this process, another one, or nobody, as it is finished or failed already.
Claim = Literal["mine", "theirs", "done"]

METADATA = MetaData()


def _key(name: str, kind: Any = Text) -> Column[Any]:
    return Column(name, kind, primary_key=True)


def _needed(name: str, kind: Any = Text) -> Column[Any]:
    return Column(name, kind, nullable=False)


ABOUT = Table("about", METADATA, _key("name"), _needed("value"))
INPUTS = Table(
    "inputs",
    METADATA,
    _key("raw", LargeBinary),
    _needed("path"),
    Column("bytes", BigInteger),
    Column("sha256", Text),
    Column("key", Text),
    _needed("state"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("message", Text, nullable=False, server_default=""),
    Column("unchanged", Boolean, nullable=False, server_default=false()),
    sqlite_with_rowid=False,
)
ANSWERS = Table(
    "answers", METADATA, _key("key"), _key("request"), _needed("result"), sqlite_with_rowid=False
)
RECORDS = Table(
    "records",
    METADATA,
    _key("key"),
    _needed("status"),
    _needed("reason"),
    _needed("record"),
    _needed("timing"),
)
FAILURES = Table(
    "failures",
    METADATA,
    _key("key"),
    _needed("reason"),
    _needed("message"),
    _needed("attempts", Integer),
    Column("record", Text),
)


def _manifest() -> Select[Any]:
    found, failed = RECORDS.c.key.is_not(None), FAILURES.c.key.is_not(None)
    columns = (INPUTS.c[name] for name in ("raw", "path", "bytes", "sha256", "key", "unchanged"))
    unsupported = and_(failed, FAILURES.c.reason == "unsupported")
    message = func.coalesce(FAILURES.c.message, INPUTS.c.message)
    return (
        select(
            *columns,
            case(
                (found, RECORDS.c.status),
                (unsupported, "unsupported"),
                (failed, "failed"),
                else_=INPUTS.c.state,
            ).label("status"),
            func.coalesce(RECORDS.c.reason, FAILURES.c.reason, INPUTS.c.reason).label("reason"),
            case((found, ""), else_=message).label("message"),
        )
        .outerjoin_from(INPUTS, RECORDS, RECORDS.c.key == INPUTS.c.key)
        .outerjoin(FAILURES, FAILURES.c.key == INPUTS.c.key)
    )


MANIFEST = _manifest()  # one row per input with what became of it


class Named(Protocol):
    """A database in messages. advice: what to do when it cannot be read or written."""

    place: str
    advice: str


@contextmanager
def database_errors(database: Named) -> Iterator[None]:
    """The driver's errors as OutputError, without the statement, which may quote a document."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        said = error.orig if isinstance(error, DBAPIError) else error
        what = " ".join(str(said).split())
        raise OutputError(
            f"cannot write or read {database.place}: {what}; {database.advice}, then run again: "
            "what was finished is kept"
        ) from None
