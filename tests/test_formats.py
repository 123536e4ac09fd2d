"""flows/formats.py: which files a format gives, and where."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.formats import check_format, write_format, write_formats
from flows.store import Store
from model_onnx.errors import UsageError
from tests.stored import filled

SPEECH: dict[str, Any] = {
    "text": "one two",
    "segments": [{"start": 0.0, "end": 1.5, "text": "one two"}],
}
OUTPUTS: dict[bytes, Any] = {b"sub/a.wav": SPEECH, b"\xff.wav": SPEECH, b"p.png": {"text": "words"}}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with filled(tmp_path, OUTPUTS, subtask="transcribe") as store:
        yield store


def test_one_file_per_record_stands_at_the_inputs_path(store: Store, tmp_path: Path) -> None:
    written = write_formats(("txt", "srt", "vtt", "markdown"), store)
    assert written == {"txt": 3, "srt": 2, "vtt": 2, "markdown": 3}
    assert (tmp_path / "txt" / "p.png.txt").read_text() == "words\n"
    assert Path(os.fsdecode(bytes(tmp_path) + b"/srt/\xff.wav.srt")).exists()
    assert "00:00:01,500\none two\n" in (tmp_path / "srt" / "sub" / "a.wav.srt").read_text()
    assert (tmp_path / "vtt" / "sub" / "a.wav.vtt").read_text().startswith("WEBVTT\n")
    assert "- 0:00:00 one two" in (tmp_path / "markdown" / "sub" / "a.wav.md").read_text()


def test_tables_are_one_file(store: Store, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    for name in ("jsonl", "csv", "parquet"):
        assert write_format(name, store, other) == 3
        assert (other / f"records.{name}").stat().st_size > 0
    lines = (other / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["output"]["text"] for line in lines] == ["words", "one two", "one two"]


def test_a_name_that_gets_too_long_becomes_an_id(tmp_path: Path) -> None:
    with filled(tmp_path, {b"x" * 251 + b".wav": SPEECH}) as store:
        assert write_format("txt", store, tmp_path) == 1
    (name,) = os.listdir(tmp_path / "txt")
    assert len(name) == len("0123456789abcdef.txt")


def test_formats_are_checked_before_the_run() -> None:
    for name in ("jsonl", "csv", "parquet", "markdown", "pdf"):
        check_format(name, "extract")
    check_format("srt", "transcribe")
    with pytest.raises(UsageError, match="expected jsonl, csv, parquet, markdown, pdf"):
        check_format("xml", "extract")
    with pytest.raises(UsageError, match="no running text"):
        check_format("srt", "extract")
