"""The dataset as tables: CSV for spreadsheets, Parquet with types.

Both have one row per record and the columns of COLUMNS: who and what it is, the lowest confidence
of its values, and what a person corrected, as JSON. Then comes what was found, `output.NAME` for
each field of the schema:

    Parquet  typed: dates, decimals (38 digits, 10 after the point), lists and structs. A value that
             its column cannot hold is null there; `output` has the whole output as JSON.
    CSV      objects become columns of their own, `output.seller.name`; a list is one cell of JSON.
             UTF-8 with a byte order mark, lines end with CR LF (RFC 4180). A spreadsheet would run
             a cell that begins with = + - @, a tab or a line end: such a cell gets an apostrophe in
             front, unless it is a plain number.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flows.files import replacing
from flows.shapes import DIGITS, PLACES, Shape, fit, shapes_of
from flows.store import Store
from flows.views import dataset
from model_onnx.errors import RuntimeUnavailableError

COLUMNS = (
    "id",
    "path",
    "sha256",
    "subtask",
    "schema",
    "status",
    "reason",
    "confidence",
    "corrections",
)
OUTPUT_SCHEMA = "output_schema"  # in the facts about a run: the JSON Schema of its outputs
_BATCH = 1000  # rows held in memory while Parquet is written
_RUN_BY_SPREADSHEETS = tuple("=+-@\t\r\n\0＝＋－＠")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


def column_shapes(store: Store) -> dict[str, Shape]:
    """Name -> shape of the outputs of a run."""
    schema = json.loads(store.about().get(OUTPUT_SCHEMA, "{}"))
    return shapes_of(schema, (record["output"] for _, record in dataset(store)))


def identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of COLUMNS."""
    sure = [field["confidence"] for field in record.get("fields", {}).values()]
    made = record.get("corrections")
    return {
        "id": record["id"],
        "path": record["source"]["path"],
        "sha256": record["source"]["sha256"],
        "subtask": record["subtask"],
        "schema": record["schema_name"],
        "status": record["status"],
        "reason": record["reason"],
        "confidence": min(sure, default=None),
        "corrections": json.dumps(made, ensure_ascii=False) if made else None,
    }


def write_csv(store: Store, path: Path) -> int:
    """Returns the number of records."""
    shapes = column_shapes(store)
    names = [name for top, shape in shapes.items() for name in _names(f"output.{top}", shape)]
    count = 0
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        writer = csv.writer(text)
        writer.writerow([*COLUMNS, *map(cell, names)])
        for _, record in dataset(store):
            values = record["output"] if isinstance(record["output"], dict) else {}
            found = [c for name, shape in shapes.items() for c in _cells(values.get(name), shape)]
            writer.writerow([cell(value) for value in (*identity(record).values(), *found)])
            count += 1
        text.flush()
        text.detach()
    return count


def cell(value: object) -> str:
    """One value as a cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False)
    text = str(value)
    runs = text.startswith(_RUN_BY_SPREADSHEETS) and not _NUMBER.fullmatch(text)
    return f"'{text}" if runs else text


def _names(prefix: str, shape: Shape) -> Iterator[str]:
    if shape.kind != "struct":
        yield prefix
    for name, inner in shape.inner if shape.kind == "struct" else ():
        yield from _names(f"{prefix}.{name}", inner)


def _cells(value: Any, shape: Shape) -> Iterator[Any]:
    """As `_names`: one for each leaf."""
    if shape.kind != "struct":
        yield value
    for name, inner in shape.inner if shape.kind == "struct" else ():
        yield from _cells(value.get(name) if isinstance(value, dict) else None, inner)


def write_parquet(store: Store, path: Path) -> int:
    """Returns the number of records."""
    arrow, parquet = load_pyarrow()
    shapes = column_shapes(store)
    plain = [(name, arrow.string()) for name in COLUMNS if name != "confidence"]
    schema = arrow.schema(
        [*plain, ("confidence", arrow.float64()), ("output", arrow.string())]
        + [(f"output.{name}", _arrow_type(arrow, shape)) for name, shape in shapes.items()]
    )
    count = 0
    rows = (_row(record, shapes) for _, record in dataset(store))
    with replacing(path) as file, parquet.ParquetWriter(file, schema) as writer:
        while batch := list(itertools.islice(rows, _BATCH)):
            writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _row(record: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, Any]:
    output = record["output"]
    values = output if isinstance(output, dict) else {}
    return {
        **identity(record),
        "output": json.dumps(output, ensure_ascii=False),
        **{f"output.{name}": fit(values.get(name), shape) for name, shape in shapes.items()},
    }


def _arrow_type(arrow: Any, shape: Shape) -> Any:
    match shape.kind:
        case "list":
            return arrow.list_(_arrow_type(arrow, shape.inner[0][1]))
        case "struct":
            return arrow.struct([(name, _arrow_type(arrow, inner)) for name, inner in shape.inner])
        case "decimal":
            return arrow.decimal128(DIGITS, PLACES)
    types = {
        "number": arrow.float64(),
        "integer": arrow.int64(),
        "truth": arrow.bool_(),
        "date": arrow.date32(),
        "moment": arrow.timestamp("us"),
    }
    return types.get(shape.kind, arrow.string())


def load_pyarrow() -> tuple[Any, Any]:
    """Raises RuntimeUnavailableError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RuntimeUnavailableError(
            "got --format parquet without pyarrow; install it: pip install 'scanscribe[parquet]'"
        ) from None
    return pyarrow, pyarrow.parquet
