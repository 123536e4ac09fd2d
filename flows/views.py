"""records.jsonl and manifest.jsonl, written from the store: the dataset and its account.

records.jsonl has one line per input with a record (ok, review, truncated); manifest.jsonl has one
line per input, whatever happened to it. Both are in the order of the inputs' names and hold no
times, so the same inputs and options give the same bytes, however often a run was killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.corrections import standing
from flows.files import write_lines
from flows.store import MANIFEST, RECORDS, Row, Store


def write_views(store: Store, directory: Path) -> None:
    """Replaces both files. Raises OutputError; each old file then still stands as a whole."""
    with store.alone():
        write_lines(directory / RECORDS, (to_line(record) for _, record in dataset(store)))
        write_lines(directory / MANIFEST, (to_line(manifest_row(row)) for row in store.rows()))


def dataset(store: Store) -> Iterator[tuple[Row, dict[str, Any]]]:
    """(input, record) with the id and the path of this input: two files may share a record.

    What a person decided stands beside the output, in `corrections`.
    """
    decided = standing(store.engine)
    for row, record in store.records():
        whole = as_record_of(row, record)
        if made := decided.get(whole["id"]):
            whole["corrections"] = made
        yield row, whole


def as_record_of(row: Row, record: dict[str, Any]) -> dict[str, Any]:
    return {"id": record_id(row), **record, "source": {"path": row.path, **record["source"]}}


def manifest_row(row: Row) -> dict[str, Any]:
    return {
        "path": row.path,
        "status": row.status,
        "reason": row.reason,
        "message": row.message,
        "id": record_id(row) if row.key else None,
        "sha256": row.sha256,
        "bytes": row.bytes,
    }


def record_id(row: Row) -> str:
    """16 hex digits that name this input's result under these options."""
    assert row.key is not None
    return hashlib.sha256(row.key.encode() + b"\0" + row.raw).hexdigest()[:16]


def to_line(value: Any) -> str:
    """One line of JSON. Unicode's line separators are escaped: readers split at them."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "\u0085\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
