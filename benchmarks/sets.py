"""Labelled sets (see `pipelines/labelled.py`) from the shared data and from the generators.

    python -m benchmarks.sets OUT [--data SHARED_DATA] [--limit N]

Held out: receipts whose number is divisible by 4; every fifth recording of a known speaker (index
divisible by 5), and all recordings of the unseen speaker. `unseen` marks the fields and lines whose
text occurs in no training receipt.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.labelled import Row, write_set
from pipelines.metrics import fold

FIELDS = ("company", "date", "address", "total")
UNSEEN_SPEAKER = "yweweler"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RECEIPT: dict[str, Any] = {
    "title": "receipt",
    "type": "object",
    "properties": {name: {"type": ["string", "null"]} for name in FIELDS},
}


def held_out(name: str) -> bool:
    """Whether a receipt (`004`) is kept from training."""
    return int(name) % 4 == 0


def receipt_names(data: Path) -> list[str]:
    return sorted(path.stem for path in (data / "receipts" / "fields").glob("*.json"))


def receipt_lines(data: Path, name: str) -> list[dict[str, Any]]:
    """[{bbox: [x0, y0, x1, y1], text}] in the annotators' order."""
    loaded: list[dict[str, Any]] = _json(data / "receipts" / "lines" / f"{name}.json")
    return loaded


def receipt_rows(data: Path, suffix: str, limit: int | None = None) -> list[Row]:
    """One extract row per held-out receipt. suffix: of the file that `write_set` will make."""
    names = receipt_names(data)
    seen = {
        (field, fold(str(value)))
        for name in names
        if not held_out(name)
        for field, value in _fields(data, name).items()
    }
    rows = []
    for name in [name for name in names if held_out(name)][:limit]:
        output = _fields(data, name)
        unseen = [f for f in FIELDS if output[f] and (f, fold(str(output[f]))) not in seen]
        row = Row(name + suffix, "extract", schema=RECEIPT, output=output, unseen=tuple(unseen))
        rows.append(row)
    return rows


def _fields(data: Path, name: str) -> dict[str, str | None]:
    stated = _json(data / "receipts" / "fields" / f"{name}.json")
    return {field: stated.get(field) or None for field in FIELDS}


def transcript_receipts(data: Path, out: Path, limit: int | None = None) -> Path:
    """The annotated lines as text files."""

    def write(path: Path, row: Row) -> None:
        lines = receipt_lines(data, Path(row.file).stem)
        path.write_text("\n".join(line["text"] for line in lines), encoding="utf-8")

    return write_set(out, receipt_rows(data, ".txt", limit), write)


def scanned_receipts(data: Path, out: Path, limit: int | None = None) -> Path:
    """The images."""

    def write(path: Path, row: Row) -> None:
        shutil.copyfile(data / "receipts" / "images" / row.file, path)

    return write_set(out, receipt_rows(data, ".jpg", limit), write)


def receipt_line_images(data: Path, out: Path, limit: int | None = None) -> Path:
    """Each annotated line cut out of its image; a sample spread over the held-out receipts."""
    names = receipt_names(data)
    known = {
        fold(line["text"])
        for name in names
        if not held_out(name)
        for line in receipt_lines(data, name)
    }
    cuts: dict[str, tuple[str, list[int]]] = {}
    rows = []
    for name in filter(held_out, names):
        for at, line in enumerate(receipt_lines(data, name)):
            if line["text"].strip():
                file = f"{name}-{at:03}.png"
                cuts[file] = name, line["bbox"]
                unseen = ("text",) if fold(line["text"]) not in known else ()
                rows.append(Row(file, "transcribe", text=line["text"], unseen=unseen))
    rows = list(_spread(rows, limit))

    def write(path: Path, row: Row) -> None:
        name, (x0, y0, x1, y1) = cuts[row.file]
        with Image.open(data / "receipts" / "images" / f"{name}.jpg") as image:
            image.convert("L").crop((x0 - 4, y0 - 2, x1 + 4, y1 + 2)).save(path)

    return write_set(out, rows, write)


def spoken_digits(data: Path, out: Path, *, known: bool, limit: int | None = None) -> Path:
    """Recordings `DIGIT_SPEAKER_INDEX.wav` of the known speakers, or of the unseen one."""
    rows = []
    for path in sorted((data / "digits").glob("*.wav")):
        digit, speaker, index = path.stem.split("_")
        chosen = speaker != UNSEEN_SPEAKER and int(index) % 5 == 0
        if chosen if known else speaker == UNSEEN_SPEAKER:
            rows.append(Row(path.name, "transcribe", text=digit))
    return write_set(
        out,
        list(_spread(rows, limit)),
        lambda path, row: shutil.copyfile(data / "digits" / row.file, path),
    )


def _spread(rows: list[Row], limit: int | None) -> Iterator[Row]:
    """`limit` rows at even distances."""
    step = max(1.0, len(rows) / limit) if limit else 1.0
    count = len(rows) if limit is None else min(limit, len(rows))
    yield from (rows[int(at * step)] for at in range(count))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def shared_sets(data: Path, out: Path, limit: int | None = None) -> dict[str, Path]:
    """All sets from the shared data by name."""
    return {
        "receipts-transcript": transcript_receipts(data, out / "receipts-transcript", limit),
        "receipts-scanned": scanned_receipts(data, out / "receipts-scanned", limit),
        "receipt-lines": receipt_line_images(data, out / "receipt-lines", limit and 6 * limit),
        "digits-known": spoken_digits(data, out / "digits-known", known=True, limit=limit),
        "digits-unseen": spoken_digits(data, out / "digits-unseen", known=False, limit=limit),
    }
