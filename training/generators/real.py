"""Real receipts beside the repository, where they are present: texts and where the fields stand.

Every fourth receipt is kept back from training. Company, date, address and total of a training
receipt are replaced by random ones in most samples: only copying can then find them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from training.generators import replacement
from training.generators.documents import Document, Piece
from training.generators.receipts import FIELDS
from training.generators.replacement import Span
from training.generators.words import Source, Split

DATA = Path(__file__).parents[2].parent / "shared" / "data"
OCR_FOLDER = Path.home() / ".cache" / "scanscribe" / "tesseract"


def available() -> bool:
    return (DATA / "receipts" / "lines").is_dir()


def tesseract_available() -> bool:
    return available() and shutil.which("tesseract") is not None


@dataclass(frozen=True)
class Row:
    """Lines that stand side by side, left to right: their numbers and boxes (x0, y0, x1, y1)."""

    lines: tuple[int, ...]
    boxes: np.ndarray  # int64 [lines, 4]


@dataclass(frozen=True)
class Receipt:
    """`lines` in the annotators' order; `spans` say where each field stands in them."""

    name: str
    lines: tuple[str, ...]
    rows: tuple[Row, ...]
    fields: dict[str, str | None]
    spans: dict[str, tuple[Span, ...]]  # field -> (line, start, end) ...


@cache
def receipts(split: Split) -> tuple[Receipt, ...]:
    """All receipts of the split; the held-out ones are every fourth by file name."""
    files = sorted((DATA / "receipts" / "lines").glob("*.json"))
    mine = [path for place, path in enumerate(files) if (place % 4 == 0) == (split == "heldout")]
    return tuple(read_receipt(path) for path in mine)


def read_receipt(path: Path) -> Receipt:
    entries = json.loads(path.read_text("utf-8"))
    entries = [entry for entry in entries if entry["text"].strip() and entry["text"].isascii()]
    fields = json.loads((DATA / "receipts" / "fields" / path.name).read_text("utf-8"))
    lines = tuple(" ".join(entry["text"].split()) for entry in entries)
    spans = {name: span for name in FIELDS if (span := find_field(name, fields.get(name), lines))}
    boxes = np.array([entry["bbox"] for entry in entries], np.int64).reshape(-1, 4)
    return Receipt(path.stem, lines, tuple(group_rows(boxes)), fields, spans)


def group_rows(boxes: np.ndarray) -> list[Row]:
    """Boxes [n, 4] that overlap in height by more than half become one row, left to right."""
    rows: list[list[int]] = []
    for number in np.argsort(boxes[:, 1] + boxes[:, 3], kind="stable").tolist():
        if rows and beside(boxes[number], boxes[rows[-1]]):
            rows[-1].append(number)
        else:
            rows.append([number])
    ordered = [sorted(row, key=lambda number: int(boxes[number, 0])) for row in rows]
    return [Row(tuple(row), boxes[row]) for row in ordered]


def beside(box: np.ndarray, others: np.ndarray) -> bool:
    """Whether a box continues a row: none covers its columns, the last one shares its height."""
    last = others[-1]
    shared = min(box[3], last[3]) - max(box[1], last[1])
    apart = bool(((box[0] >= others[:, 2] - 6) | (box[2] <= others[:, 0] + 6)).all())
    return apart and bool(shared > 0.5 * min(box[3] - box[1], last[3] - last[1]))


def squeeze(text: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def find_field(name: str, value: str | None, lines: tuple[str, ...]) -> tuple[Span, ...]:
    """Where a value stands: parts of following lines with just its letters and digits."""
    if not value or not squeeze(value):
        return ()
    if name == "total":
        return find_total(value, lines)
    wanted = squeeze(value)
    for start in range(len(lines)):
        for count in range(1, 7):
            block = lines[start : start + count]
            joined = "".join(squeeze(line) for line in block)
            if len(joined) > len(wanted) + 40 or start + count > len(lines):
                break
            place = joined.find(wanted)
            first = len(squeeze(block[0]))
            last_start = len(joined) - len(squeeze(block[-1]))
            if place >= 0 and place < first and place + len(wanted) > last_start:
                return cut_block(lines, start, count, place, len(wanted))
    return find_loosely(wanted, lines) if name in ("address", "company") else ()


def cut_block(
    lines: tuple[str, ...], start: int, count: int, place: int, length: int
) -> tuple[Span, ...]:
    """Spans of `length` squeezed characters from the `place`-th on, with the last punctuation."""
    spans, seen = [], 0
    for offset, line in enumerate(lines[start : start + count]):
        at = [index for index, character in enumerate(line) if character.upper().isalnum()]
        mine = [index for number, index in enumerate(at, seen) if place <= number < place + length]
        seen += len(at)
        if mine:
            left, right = mine[0], mine[-1] + 1
            if line[left - 1 : left] == "(" and ")" in line[left:right]:
                left -= 1
            while right < len(line) and line[right] in (".,)" if "(" in line[left:right] else ".,"):
                right += 1
            spans.append((start + offset, left, right))
    # A value that goes on in the next line takes the punctuation in between: it is one run.
    ends = [(at, left, len(lines[at])) for at, left, _ in spans[:-1]] + spans[-1:]
    return (*ends[:1], *((at, 0, right) for at, _, right in ends[1:]))


def find_loosely(wanted: str, lines: tuple[str, ...]) -> tuple[Span, ...]:
    """Whole lines that together are nearly the value: 0.8 of the three-letter runs in common."""
    grams = {wanted[place : place + 3] for place in range(len(wanted) - 2)}
    best = 0.8
    found: tuple[Span, ...] = ()
    for start in range(min(14, len(lines))):
        joined = ""
        for end in range(start, min(start + 6, len(lines))):
            joined += squeeze(lines[end])
            mine = {joined[place : place + 3] for place in range(len(joined) - 2)}
            score = 2 * len(grams & mine) / max(1, len(grams) + len(mine))
            if score > best:
                best = score
                found = tuple((at, 0, len(lines[at])) for at in range(start, end + 1))
    return found


TOTAL_WORDS = re.compile(r"TOTAL|AMOUNT|AMT|DUE|PAY|NET", re.IGNORECASE)


def find_total(value: str, lines: tuple[str, ...]) -> tuple[Span, ...]:
    """The total on, or just after, a line that speaks of a total; else its last place."""
    pattern = re.compile(rf"(?<![\d.,]){re.escape(value)}(?![\d]|[.,]\d)")
    hits = [
        (at, match.start(), match.end())
        for at, line in enumerate(lines)
        for match in pattern.finditer(line)
    ]
    if not hits:
        bare = re.sub(r"^[^\d-]+", "", value)
        return find_total(bare, lines) if bare and bare != value else ()
    near = [
        hit
        for hit in hits
        if any(TOTAL_WORDS.search(line) for line in lines[max(0, hit[0] - 2) : hit[0] + 1])
    ]
    return ((near or hits)[-1],)


@cache
def ocr_receipt(name: str, split: Split) -> Receipt:
    """A receipt as Tesseract reads it; fields that it garbled have no span."""
    receipt = next(receipt for receipt in receipts(split) if receipt.name == name)
    lines = tesseract_lines(receipt.name)
    fields = dict(receipt.fields)
    spans = {name: span for name in FIELDS if (span := find_field(name, fields.get(name), lines))}
    if not any(re.search(r"\d[./-]\d|\d{6}", line) for line in lines):
        fields["date"] = None  # nothing like a date was read, so that null is right
    if not any(re.search(r"\d[.,]\d\d", line) for line in lines):
        fields["total"] = None
    return Receipt(receipt.name, lines, (), fields, spans)


def tesseract_lines(name: str, folder: Path = OCR_FOLDER) -> tuple[str, ...]:
    """What Tesseract reads on a receipt; read once (0.8 s), then kept in the folder."""
    path = folder / f"{name}.txt"
    if not path.is_file():
        scan = DATA / "receipts" / "images" / f"{name}.jpg"
        command = ["tesseract", str(scan), "stdout", "--psm", "4"]
        environment = {"OMP_THREAD_LIMIT": "1", **os.environ}
        text = subprocess.run(command, check=True, capture_output=True, env=environment).stdout
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(text)
        os.replace(part, path)
    text_read = path.read_text("utf-8").encode("ascii", "replace").decode("ascii")
    return tuple(" ".join(line.split()) for line in text_read.split("\n") if line.strip())


def document(source: Source) -> Document:
    """A receipt as a document; its values replaced by random ones in nine of ten training samples.

    Lines are those of the annotators, whole rows joined, or what Tesseract reads. Fields that the
    annotators give but that do not stand in the lines are left out of the document's schema.
    """
    receipt = source.pick(receipts(source.split))
    if tesseract_available() and source.chance(0.3):
        read = ocr_receipt(receipt.name, source.split)
        receipt = read if len(read.lines) > 5 else receipt  # on some scans nothing is read
    asked = [name for name in FIELDS if name in receipt.spans or not receipt.fields.get(name)]
    found = Document("receipt", tuple(asked))
    new: dict[Span, str] = {}
    everywhere: list[tuple[re.Pattern[str], str]] = []
    if source.split == "train" and source.chance(0.9):
        new, everywhere = replacement.plan(source, receipt.lines, receipt.spans)
    lines = [pieces_of(receipt, number, new, everywhere) for number in range(len(receipt.lines))]
    if source.chance(0.35) and (joined := in_rows(receipt, lines)):
        lines = joined
    for line in lines:
        found.add(*line)
    return found


def in_rows(receipt: Receipt, lines: list[list[Piece]]) -> list[list[Piece]]:
    """Lines that stand side by side joined by a space; none where that would tear a value apart."""
    if not receipt.rows:
        return []
    out: list[list[Piece]] = []
    for row in receipt.rows:
        joined = list(lines[row.lines[0]])
        for number in row.lines[1:]:
            joined += [" ", *lines[number]]
        out.append(joined)
    order = [number for row in receipt.rows for number in row.lines]
    lone = {row.lines[0] for row in receipt.rows if len(row.lines) == 1}
    for spans in receipt.spans.values():
        at = [order.index(line) for line, _, _ in spans]
        whole = len(spans) == 1 or all(line in lone for line, _, _ in spans)
        if not whole or at != list(range(at[0], at[0] + len(at))):
            return []
    return out


def pieces_of(
    receipt: Receipt,
    number: int,
    new: dict[Span, str],
    everywhere: list[tuple[re.Pattern[str], str]],
) -> list[Piece]:
    """A line as pieces, values replaced; `everywhere` are values that other lines repeat."""
    line, place = receipt.lines[number], 0
    pieces: list[Piece] = []

    def plain(text: str) -> str:
        for pattern, value in everywhere:
            text = pattern.sub(lambda _, value=value: value, text)  # type: ignore[misc]
        return text

    mine = [
        (span, name) for name, spans in receipt.spans.items() for span in spans if span[0] == number
    ]
    for span, name in sorted(mine):
        if span[1] >= place:
            pieces += [plain(line[place : span[1]]), (name, new.get(span, line[span[1] : span[2]]))]
            place = span[2]
    return [*pieces, plain(line[place:])]
