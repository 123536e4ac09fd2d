"""flows/columns.py: tables that other programs read, and that no spreadsheet runs."""

from __future__ import annotations

import csv
import datetime
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flows.columns import OUTPUT_SCHEMA, cell, identity, write_csv, write_parquet
from flows.store import Store
from tests.stored import filled


class Seller(BaseModel):
    name: str | None
    city: str | None


class Row(BaseModel):
    text: str
    price: Decimal | None


class Bill(BaseModel):
    company: str | None
    day: datetime.date | None
    total: Decimal | None
    seller: Seller | None
    rows: list[Row]


OUTPUTS: dict[bytes, Any] = {
    b"=cmd.pdf": {
        "company": "=1+1",
        "day": "2024-05-12",
        "total": "-12.50",
        "seller": {"name": "@ACME", "city": None},
        "rows": [{"text": "tea", "price": "1.20"}, {"text": "pot", "price": None}],
    },
    b"b.pdf": {"company": 'é "x"\n;', "day": None, "total": None, "seller": None, "rows": []},
}


def bills(directory: Path) -> Store:
    about = {OUTPUT_SCHEMA: json.dumps(Bill.model_json_schema())}
    return filled(directory, OUTPUTS, about)


def test_csv_is_flat_and_runs_nothing(tmp_path: Path) -> None:
    with bills(tmp_path) as store:
        assert write_csv(store, tmp_path / "records.csv") == 2
    raw = (tmp_path / "records.csv").read_bytes()
    assert raw.startswith("\ufeffid,path".encode()) and b"\r\n" in raw
    with (tmp_path / "records.csv").open(encoding="utf-8-sig", newline="") as file:
        one, two = csv.DictReader(file)
    assert one["path"] == "'=cmd.pdf" and one["output.company"] == "'=1+1"
    assert one["output.total"] == "-12.50" and one["confidence"] == "0.75"
    assert one["output.seller.name"] == "'@ACME" and one["output.seller.city"] == ""
    assert json.loads(one["output.rows"]) == OUTPUTS[b"=cmd.pdf"]["rows"]
    assert two["output.company"] == 'é "x"\n;' and two["output.rows"] == "[]"


def test_parquet_has_the_types_of_the_schema(tmp_path: Path) -> None:
    with bills(tmp_path) as store:
        assert write_parquet(store, tmp_path / "records.parquet") == 2
    table = pyarrow.parquet.read_table(tmp_path / "records.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types["output.day"] == "date32[day]" and types["output.total"] == "decimal128(38, 10)"
    assert types["output.seller"] == "struct<name: string, city: string>"
    assert types["confidence"] == "double" and types["output.rows"].startswith("list<")
    one, two = table.sort_by("path").to_pylist()
    assert one["output.total"] == Decimal("-12.50") and one["output.company"] == "=1+1"
    assert one["output.day"] == datetime.date(2024, 5, 12)
    assert one["output.rows"][0] == {"text": "tea", "price": Decimal("1.20")}
    assert two["output.seller"] is None and json.loads(two["output"]) == OUTPUTS[b"b.pdf"]


def test_duckdb_reads_it_with_its_types(tmp_path: Path) -> None:
    with bills(tmp_path) as store:
        write_parquet(store, tmp_path / "records.parquet")
    query = (
        'SELECT path, "output.seller".name, row.text, row.price FROM read_parquet(?), '
        'unnest("output.rows") AS each(row) WHERE row.price > 1'
    )
    found = duckdb.execute(query, [str(tmp_path / "records.parquet")]).fetchall()
    assert found == [("=cmd.pdf", "@ACME", "tea", Decimal("1.20"))]


def test_a_run_that_noted_no_schema_has_the_columns_of_its_values(tmp_path: Path) -> None:
    outputs: dict[bytes, Any] = {
        b"a": {"company": "ACME", "total": 12, "paid": True, "mixed": 1, "items": [{"n": 1}]},
        b"b": {"company": None, "total": 1.5, "paid": None, "mixed": "x"},
    }
    with filled(tmp_path, outputs) as store:
        write_parquet(store, tmp_path / "records.parquet")
        write_csv(store, tmp_path / "records.csv")
    table = pyarrow.parquet.read_table(tmp_path / "records.parquet").to_pydict()
    assert table["output.total"] == [12.0, 1.5] and table["output.paid"] == [True, None]
    assert table["output.mixed"] == ["1", '"x"']
    assert table["output.items"] == ['[{"n": 1}]', None]


def test_an_empty_dataset_is_a_table_too(tmp_path: Path) -> None:
    with filled(tmp_path, {}) as store:
        assert write_parquet(store, tmp_path / "records.parquet") == 0
        assert write_csv(store, tmp_path / "records.csv") == 0
    assert pyarrow.parquet.read_table(tmp_path / "records.parquet").num_rows == 0


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
starts = st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "\n", "＝", "\0", '"', "'", ","])


@given(st.lists(st.builds(str.__add__, starts, texts), min_size=1, max_size=4))
def test_every_text_comes_back_and_none_is_a_formula(values: list[str]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerow([cell(value) for value in values])
    [read] = csv.reader(io.StringIO(file.getvalue(), newline=""))
    for value, found in zip(values, read, strict=True):
        assert found in (value, f"'{value}")
        if found[:1] in tuple("=+-@\t\r\n\0＝＋－＠"):
            float(found)


def test_what_a_person_corrected_is_a_column() -> None:
    record = {
        "id": "1", "source": {"path": "a", "sha256": "5"}, "subtask": "extract",
        "schema_name": None, "status": "ok", "reason": "", "corrections": {"total": {"to": "é"}},
    }  # fmt: skip
    assert identity(record)["corrections"] == '{"total": {"to": "é"}}'
    assert identity({**record, "corrections": None})["corrections"] is None
