"""A run -> searchable PDFs: each document's pages with what was recognised on them as text.

The text of a page is the lines of its record where the model read them from the pixels and they
have places (`transcribe`), else the words that character recognition finds when the page is read
once more: records keep no words, only the places of their values. The model does not run again.

Inputs are opened, and PDFs written, in sandbox children. An input must have the bytes that it had
in the run.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.discover import check_same, read_version
from flows.files import replacing
from flows.naming import file_name
from flows.store import Row, Store
from flows.views import dataset
from model_onnx.errors import InputError, OutputError, RuntimeUnavailableError, UsageError
from pipelines.ocr import find_tesseract
from pipelines.pages import PageOptions
from pipelines.sandbox import ParserPool

_SECONDS = 120.0  # to open a file or read a page; to write a PDF as much, and some for each page
_SECONDS_PER_PAGE = 2.0
_SHOWN = 5  # documents that a message names


def write_searchable(store: Store, directory: Path, source: Path | None = None) -> int:
    """One PDF per document with a record; returns their number.

    source: the input of the run (None: where it was). Raises UsageError when it is not there,
    OutputError when some documents got no PDF; the others have theirs then.
    """
    root = source or _input_of(store)
    options = asdict(PageOptions(tesseract=_recogniser(store)))
    workers = min(4, os.cpu_count() or 1)
    documents = [(r, d) for r, d in dataset(store) if d["source"]["kind"] == "document"]
    failures: list[str] = []

    def one(document: tuple[Row, dict[str, Any]]) -> int:
        row, record = document
        try:
            _write(pool, row, record, root, directory, options)
        except InputError as error:
            failures.append(f"{row.path}: {error}")
            return 0
        return 1

    with ParserPool(workers) as pool, ThreadPoolExecutor(workers) as threads:
        count = sum(threads.map(one, documents))
    if failures:
        raise OutputError(
            f"{len(failures)} of {len(documents)} documents have no searchable PDF: "
            + "; ".join(sorted(failures)[:_SHOWN])
            + f"; the others are in {directory}"
        )
    return count


def _input_of(store: Store) -> Path:
    noted = Path(store.about().get("input", ""))
    if not noted.is_absolute() or not noted.exists():
        raise UsageError(
            f"got a run whose input is not at {noted}, expected its files there to make PDFs of "
            "them; say --input with where they are"
        )
    return noted


def _recogniser(store: Store) -> Any:
    """As in the run: pages must be turned and read alike."""
    if store.about().get("tesseract") != "yes":
        return None
    found = find_tesseract()
    if not found:
        raise RuntimeUnavailableError(
            "got a run that read pages with Tesseract, which is not installed here; install it: "
            "apt-get install tesseract-ocr"
        )
    return found


def _write(
    pool: ParserPool,
    row: Row,
    record: Mapping[str, Any],
    root: Path,
    directory: Path,
    options: Mapping[str, Any],
) -> None:
    path = root if root.is_file() else root / os.fsdecode(row.raw)
    version = read_version(path)
    if version.sha256 != row.sha256:
        raise InputError(
            "got a file that has changed since the run, expected the same bytes; run again first",
            reason="changed",
        )
    absolute = os.path.abspath(path)
    opening = "pipelines.documents:open_document_plain"
    info = pool.run(opening, absolute, seconds=_SECONDS, options=options)
    if info["kind"] == "text":
        raise InputError("got plain text, expected pages; it needs no PDF", reason="unsupported")
    with tempfile.TemporaryDirectory(prefix="scanscribe-") as scratch:
        plan, out = Path(scratch, "plan.json"), Path(scratch, "out.pdf")
        pages = [
            _plan(pool, absolute, number, record, options) for number in range(1, info["pages"] + 1)
        ]
        plan.write_text(json.dumps(pages), encoding="utf-8")
        pool.run(
            "pipelines.textlayer:write_plain",
            absolute,
            seconds=_SECONDS + _SECONDS_PER_PAGE * len(pages),
            plan=str(plan),
            out=str(out),
            options=options,
        )
        check_same(path, version)
        with out.open("rb") as made, replacing(directory / file_name(row, "pdf")) as file:
            shutil.copyfileobj(made, file)


def _plan(
    pool: ParserPool,
    path: str,
    number: int,
    record: Mapping[str, Any],
    options: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Which words page `number` gets; None where it has text of its own."""
    reading = "pipelines.textlayer:read_words_plain"
    read = pool.run(reading, path, seconds=_SECONDS, number=number, options=options)
    if read["own"]:
        return None
    lines = lines_of(record, number)
    return {"turned": read["turned"], "words": lines or read["words"]}


def lines_of(record: Mapping[str, Any], number: int) -> list[tuple[str, list[float]]]:
    """(text, box) of the lines that the model read on a page."""
    if record["subtask"] != "transcribe":
        return []
    found = ((field["value"], field["grounding"]) for field in record["fields"].values())
    return [
        (value, place["box"])
        for value, place in found
        if isinstance(value, str) and place["page"] == number and place["box"]
    ]
