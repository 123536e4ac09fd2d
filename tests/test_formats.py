"""flows/formats.py: the dataset as Parquet, TXT, SRT and VTT."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.discover import Entry, Version
from flows.formats import check_format, write_format
from flows.store import Store
from model_onnx.errors import UsageError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as store:
        yield store


def fill(store: Store, outputs: dict[bytes, Any]) -> None:
    store.begin([Entry(Path(os.fsdecode(raw)), raw) for raw in outputs], {})
    for raw, output in outputs.items():
        key = raw.hex()
        store.identify(raw, Version("5" * 64, 1, ()), key, unchanged=False)
        record = {
            "source": {"sha256": "5" * 64, "kind": "recording"},
            "subtask": "transcribe",
            "schema_name": None,
            "output": output,
            "status": "ok",
            "reason": "",
        }
        store.finish(key, status="ok", reason="", record=json.dumps(record), timing="{}")


SPEECH = {
    "text": "one & two",
    "segments": [
        {"start": 0.0, "end": 1.2345, "text": "one &"},
        {"start": 3661.5, "end": 3662.9999, "text": "two -->\n\nthree <b>"},
    ],
}


def test_text_formats_stand_beside_the_inputs_names(store: Store, tmp_path: Path) -> None:
    fill(store, {b"sub/a.wav": SPEECH, b"\xff.wav": SPEECH, b"page.png": {"text": "words"}})
    assert [write_format(name, store, tmp_path) for name in ("txt", "srt", "vtt")] == [3, 2, 2]
    assert (tmp_path / "txt" / "page.png.txt").read_text() == "words\n"
    assert Path(os.fsdecode(bytes(tmp_path) + b"/srt/\xff.wav.srt")).exists()
    assert (tmp_path / "srt" / "sub" / "a.wav.srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:01,234\none &\n\n"
        "2\n01:01:01,500 --> 01:01:03,000\ntwo ->\nthree <b>\n"
    )
    assert (tmp_path / "vtt" / "sub" / "a.wav.vtt").read_text() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.234\none &amp;\n\n"
        "01:01:01.500 --> 01:01:03.000\ntwo -&gt;\nthree &lt;b&gt;\n"
    )


def test_a_name_that_gets_too_long_becomes_an_id(store: Store, tmp_path: Path) -> None:
    fill(store, {b"x" * 251 + b".wav": SPEECH})
    assert write_format("txt", store, tmp_path) == 1
    (name,) = os.listdir(tmp_path / "txt")
    assert len(name) == len("0123456789abcdef.txt")


def test_parquet_has_a_column_for_each_plain_value(store: Store, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    fill(
        store,
        {
            b"a": {"company": "ACME", "total": 12, "paid": True, "mixed": 1, "items": [{"n": 1}]},
            b"b": {"company": None, "total": 1.5, "paid": None, "mixed": "x", "extra": "y"},
            b"c": {"company": "é"},
        },
    )
    assert write_format("parquet", store, tmp_path) == 3
    table = parquet.read_table(tmp_path / "records.parquet").to_pydict()
    assert table["path"] == ["a", "b", "c"] and table["status"] == ["ok"] * 3
    assert table["output.company"] == ["ACME", None, "é"]
    assert table["output.total"] == [12.0, 1.5, None]
    assert table["output.paid"] == [True, None, None]
    assert table["output.mixed"] == ["1", "x", None]
    assert table["output.extra"] == [None, "y", None]
    assert "output.items" not in table
    assert json.loads(table["output"][0])["items"] == [{"n": 1}]


def test_an_empty_dataset_is_a_table_too(store: Store, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert write_format("parquet", store, tmp_path) == 0
    assert parquet.read_table(tmp_path / "records.parquet").num_rows == 0


def test_formats_are_checked_before_the_run() -> None:
    check_format("jsonl", "extract")
    check_format("srt", "transcribe")
    with pytest.raises(UsageError, match="expected jsonl, parquet"):
        check_format("xml", "extract")
    with pytest.raises(UsageError, match="no running text"):
        check_format("srt", "extract")
