"""flows/searchable.py: a run's documents as PDFs, through the sandbox."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pypdf import PdfReader

from flows.formats import write_format
from flows.searchable import lines_of
from flows.store import Store
from model_onnx.errors import OutputError, UsageError
from pipelines.ocr import find_tesseract
from tests.papers import LETTER, pdf, scan
from tests.stored import filled

HALF = [0.05, 0.1, 0.6, 0.2]


def line(text: str, page: int = 1, box: list[float] | None = HALF) -> dict[str, Any]:
    place = {"status": "exact", "page": page, "box": box, "span": None, "evidence": None}
    return {"value": text, "confidence": 0.9, "parsed": None, "grounding": place}


def run_of(tmp_path: Path, about: dict[str, str], fields: dict[bytes, Any]) -> Store:
    files = {raw: tmp_path / "in" / raw.decode() for raw in fields}
    digests = {r: hashlib.sha256(p.read_bytes()).hexdigest() for r, p in files.items()}
    return filled(
        tmp_path / "out",
        {raw: {"text": "x"} for raw in fields},
        about,
        subtask="transcribe",
        sha256=digests,
        fields=fields,
    )


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    directory = tmp_path / "in"
    (directory / "sub").mkdir(parents=True)
    pdf(directory / "typed.pdf", "words of its own")
    Image.fromarray(scan(*LETTER)).save(directory / "sub" / "scan.png")
    return directory


def test_lines_of_the_record_become_text_and_own_text_stays(inputs: Path, tmp_path: Path) -> None:
    about = {"input": str(inputs), "tesseract": "no"}
    fields = {
        b"sub/scan.png": {"lines[0]": line("Sehr geehrte Größe"), "lines[1]": line("x", 1, None)},
        b"typed.pdf": {"lines[0]": line("not to be written")},
    }
    with run_of(tmp_path, about, fields) as store:
        assert write_format("pdf", store, tmp_path / "out") == 2
    made = tmp_path / "out" / "pdf"
    text = PdfReader(made / "sub" / "scan.png.pdf").pages[0].extract_text()
    assert text.split() == ["Sehr", "geehrte", "Größe"]
    assert (made / "typed.pdf.pdf").read_bytes() == (inputs / "typed.pdf").read_bytes()


@pytest.mark.skipif(not find_tesseract(), reason="tesseract is not installed")
def test_where_the_record_has_no_lines_recognised_words_become_text(
    inputs: Path, tmp_path: Path
) -> None:
    about = {"input": "/nowhere", "tesseract": "yes"}
    with run_of(tmp_path, about, {b"sub/scan.png": {"total": line("120.50")}}) as store:
        record = {"subtask": "extract", "fields": {}}
        assert lines_of(record, 1) == []
        assert write_format("pdf", store, tmp_path / "other", inputs) == 1
    made = PdfReader(tmp_path / "other" / "pdf" / "sub" / "scan.png.pdf").pages[0].extract_text()
    assert made.split() == ["120.50"]


def test_a_file_that_changed_or_went_is_named_and_the_others_are_made(
    inputs: Path, tmp_path: Path
) -> None:
    about = {"input": str(inputs), "tesseract": "no"}
    fields: dict[bytes, Any] = {b"sub/scan.png": {"lines[0]": line("x")}, b"typed.pdf": {}}
    with run_of(tmp_path, about, fields) as store:
        pdf(inputs / "typed.pdf", "other words")
        with pytest.raises(OutputError, match=r"1 of 2 .*typed.pdf: got a file that has changed"):
            write_format("pdf", store, tmp_path / "out")
        assert (tmp_path / "out" / "pdf" / "sub" / "scan.png.pdf").exists()
        (inputs / "typed.pdf").unlink()
        with pytest.raises(OutputError, match=r"typed.pdf: the file went away"):
            write_format("pdf", store, tmp_path / "out")


def test_a_run_whose_input_is_not_there_says_so(tmp_path: Path) -> None:
    with (
        filled(tmp_path, {b"a.pdf": {"text": "x"}}) as store,
        pytest.raises(UsageError, match="say --input"),
    ):
        write_format("pdf", store, tmp_path)
