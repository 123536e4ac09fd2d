"""docs/how-to/query-a-run.md: its SQL runs as written."""

from __future__ import annotations

import json
import re
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flows.columns import OUTPUT_SCHEMA
from flows.formats import write_format
from pipelines.schemas import Invoice
from tests.stored import filled

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "query-a-run.md"
OUTPUTS: dict[bytes, Any] = {
    name: {"seller": seller, "total": total}
    for name, seller, total in ((b"a", "ACME", "12.50"), (b"b", "ACME", "7.50"), (b"c", "B", "1"))
}


def statements(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return [part.strip() for block in found for part in block.split(";") if part.strip()]


def test_the_views_of_sqlite(tmp_path: Path) -> None:
    with filled(tmp_path, OUTPUTS) as store:
        store.note(known="yes")
    connection = sqlite3.connect(f"{(tmp_path / 'run.sqlite').as_uri()}?mode=ro", uri=True)
    results = [connection.execute(statement).fetchall() for statement in statements("sql")]
    connection.close()
    assert results == [[], [("ACME", 2, 20.0), ("B", 1, 1.0)], [], []]


def test_fields_with_low_confidence_are_found(tmp_path: Path) -> None:
    place = {"status": "exact", "page": 2, "box": None, "span": None, "evidence": "x"}
    low = {"value": "x", "confidence": 0.25, "parsed": None, "grounding": place}
    filled(tmp_path, {b"a": {}}, fields={b"a": {"total": low}}).close()
    connection = sqlite3.connect(tmp_path / "run.sqlite")
    *_, found = [connection.execute(statement).fetchall() for statement in statements("sql")]
    connection.close()
    assert found == [("a", "total", "x", 2)]


def test_the_query_of_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    about = {OUTPUT_SCHEMA: json.dumps(Invoice.model_json_schema())}
    with filled(tmp_path, OUTPUTS, about) as store:
        write_format("parquet", store, tmp_path)
    monkeypatch.chdir(tmp_path)
    [query] = statements("sql duckdb")
    assert duckdb.sql(query).fetchall() == [("ACME", Decimal(20)), ("B", Decimal(1))]
