"""Real receipts and recordings beside the repository, where they are present.

Every fourth receipt, one speaker and every fifth recording of the others are kept back from training.
Company, date, address and total of a training receipt are replaced by random ones in most samples:
only copying can then find them.
"""

from __future__ import annotations

import json
import random
import re
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soxr
from PIL import Image

from training.generators import audio, fonts, words
from training.generators.documents import Document
from training.generators.receipts import FIELDS
from training.generators.words import Source, Split

DATA = Path(__file__).parents[2].parent / "shared" / "data"
HELD_OUT_SPEAKER = "yweweler"


def receipts_available() -> bool:
    return (DATA / "receipts" / "lines").is_dir()


def digits_available() -> bool:
    return (DATA / "digits").is_dir()


@dataclass(frozen=True)
class Row:
    """Boxes that stand side by side: `box` (x0, y0, x1, y1) around all, and each one's box and text."""

    box: tuple[int, int, int, int]
    cells: tuple[tuple[tuple[int, int, int, int], str], ...]

    @property
    def text(self) -> str:
        return " ".join(text for _, text in self.cells)


@dataclass(frozen=True)
class Receipt:
    """`lines` in the annotators' order; `spans` say where each field stands in them."""

    name: str
    lines: tuple[str, ...]
    rows: tuple[Row, ...]
    fields: dict[str, str | None]
    spans: dict[str, tuple[tuple[int, int, int], ...]]  # field -> (line, start, end) ...


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
    boxes = [(tuple(entry["bbox"]), line) for entry, line in zip(entries, lines, strict=True)]
    return Receipt(path.stem, lines, tuple(group_rows(boxes)), fields, spans)


def group_rows(boxes: list[tuple[tuple[int, int, int, int], str]]) -> list[Row]:
    """Boxes that overlap in height by more than half become one row, left to right."""
    rows: list[list[tuple[tuple[int, int, int, int], str]]] = []
    for box, text in sorted(boxes, key=lambda item: (item[0][1] + item[0][3], item[0][0])):
        if rows:
            other = rows[-1][-1][0]
            shared = min(box[3], other[3]) - max(box[1], other[1])
            apart = all(box[0] >= old[2] - 6 or box[2] <= old[0] + 6 for old, _ in rows[-1])
            if apart and shared > 0.5 * min(box[3] - box[1], other[3] - other[1]):
                rows[-1].append((box, text))
                continue
        rows.append([(box, text)])
    out = []
    for cells in rows:
        cells.sort(key=lambda cell: cell[0][0])
        edges = np.array([box for box, _ in cells])
        around = (*edges[:, :2].min(0).tolist(), *edges[:, 2:].max(0).tolist())
        out.append(Row(around, tuple(cells)))  # type: ignore[arg-type]
    return out


def squeeze(text: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def find_field(
    name: str, value: str | None, lines: tuple[str, ...]
) -> tuple[tuple[int, int, int], ...]:
    """Where a value stands: parts of following lines whose letters and digits are those of the value."""
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
                return cut_block(block, start, place, len(wanted))
    return find_loosely(wanted, lines) if name in ("address", "company") else ()


def cut_block(
    block: tuple[str, ...], start: int, place: int, length: int
) -> tuple[tuple[int, int, int], ...]:
    """Spans of `length` squeezed characters from the `place`-th on, punctuation at the end included."""
    spans, seen = [], 0
    for offset, line in enumerate(block):
        at = [index for index, character in enumerate(line) if character.upper().isalnum()]
        mine = [index for number, index in enumerate(at, seen) if place <= number < place + length]
        seen += len(at)
        if mine:
            left, right = mine[0], mine[-1] + 1
            left = left - 1 if left and line[left - 1] == "(" else left
            while right < len(line) and line[right] in ".,)":
                right += 1
            spans.append((start + offset, left, right))
    return tuple(spans)


def find_loosely(wanted: str, lines: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """Whole lines that together are nearly the value: shares of common three-letter runs above 0.8."""
    grams = {wanted[place : place + 3] for place in range(len(wanted) - 2)}
    best, found = 0.8, ()
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


def find_total(value: str, lines: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """The total where it stands on, or just after, a line that speaks of a total; else its last place."""
    pattern = re.compile(rf"(?<![\d.,]){re.escape(value)}(?![\d]|[.,]\d)")
    hits = [(at, match.start(), match.end()) for at, line in enumerate(lines) for match in pattern.finditer(line)]
    if not hits:
        bare = re.sub(r"^[^\d-]+", "", value)
        return find_total(bare, lines) if bare and bare != value else ()
    near = [hit for hit in hits if any(TOTAL_WORDS.search(line) for line in lines[max(0, hit[0] - 2) : hit[0] + 1])]
    return ((near or hits)[-1],)


def document(source: Source) -> Document:
    """A receipt as a document; its values replaced by random ones in nine of ten training samples."""
    receipt = source.pick(receipts(source.split))
    lines, spans = list(receipt.lines), dict(receipt.spans)
    found = Document("receipt", FIELDS)
    new: dict[tuple[int, int, int], str] = {}
    if source.split == "train" and source.chance(0.9):
        new = replacements(source, lines, spans)
    at: dict[int, list[tuple[int, int, str, str]]] = {}
    for name, parts in spans.items():
        for line, start, end in parts:
            text = new.get((line, start, end), lines[line][start:end])
            at.setdefault(line, []).append((start, end, name, text))
    for number, line in enumerate(lines):
        pieces: list[str | tuple[str, str]] = []
        place = 0
        for start, end, name, text in sorted(at.get(number, [])):
            if start < place:
                continue
            pieces += [line[place:start], (name, text)]
            place = end
        found.add(*pieces, line[place:])
    return found


def missing(receipt_fields: dict[str, str | None], spans: dict[str, object]) -> list[str]:
    """Fields that the annotators give but that nobody can find in the lines: not to be asked for."""
    return [name for name in FIELDS if receipt_fields.get(name) and name not in spans]
