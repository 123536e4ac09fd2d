"""Lines and documents as grey images, one text line per row of 48-pixel patches.

Knows nothing of tasks or answers. Every character's place is kept, so that a helper head can learn to
read patch by patch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.generators import effects, fonts
from training.generators.documents import Document, line_text
from training.generators.words import Source

PATCH = 48
MOST_COLUMNS, MOST_ROWS = 16, 20


@dataclass(frozen=True)
class Picture:
    """`image` uint8 [H, W] grey; `patch_text` the characters of each patch, row-major."""

    image: np.ndarray
    patch_text: tuple[str, ...]


@dataclass
class Sheet:
    """An ink mask and where its characters stand (centres, in pixels)."""

    width: int
    height: int
    characters: list[str] = field(default_factory=list)
    centres: list[np.ndarray] = field(default_factory=list)  # float32 [characters, 2] each

    def __post_init__(self) -> None:
        self.mask = Image.new("L", (self.width, self.height), 0)
        self.pen = ImageDraw.Draw(self.mask)

    def write(self, text: str, left: float, middle: float, path: Path, size: int) -> None:
        """Text whose capital letters are centred on height `middle`."""
        font = fonts.face(path, size)
        self.pen.text((left, middle + size * 0.36), text, fill=255, font=font, anchor="ls")
        self.note(text, left, middle, fonts.advances(path, size)[codes(text)])

    def note(self, text: str, left: float, middle: float, widths: np.ndarray) -> None:
        """Keep the places of characters that are already drawn."""
        ends = np.cumsum(widths) + left
        centres = np.empty((len(text), 2), np.float32)
        centres[:, 0] = ends - widths / 2
        centres[:, 1] = middle
        self.characters.append(text)
        self.centres.append(centres)

    def patch_text(self, mapping: np.ndarray | None) -> tuple[str, ...]:
        """Characters in each patch after the sheet was moved by `mapping`."""
        columns, rows = self.width // PATCH, self.height // PATCH
        out = [""] * (columns * rows)
        if not self.characters:
            return tuple(out)
        centres = np.concatenate(self.centres)
        if mapping is not None:
            centres = centres @ mapping[:, :2].T + mapping[:, 2]
        cells = (centres // PATCH).astype(int)
        inside = (cells >= 0).all(1) & (cells[:, 0] < columns) & (cells[:, 1] < rows)
        places = (cells[:, 1] * columns + cells[:, 0]).tolist()
        for character, place, good in zip("".join(self.characters), places, inside.tolist(), strict=True):
            if good:
                out[place] += character
        return tuple(out)


def codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("latin-1", "replace"), np.uint8)


def line_strip(source: Source, lines: list[str], *, most_columns: int = 24) -> Picture:
    """Lines cut out of a page, each in a row of its own; too long ones get a smaller size."""
    path = fonts.choose(source, 0.45)
    size = source.between(26, 42)
    room = most_columns * PATCH - 20
    longest = max(fonts.width(path, size, line) for line in lines)
    if longest > room:
        size = max(16, int(size * room / longest))
        longest = max(fonts.width(path, size, line) for line in lines)
    margin = source.between(2, source.pick((10, 60)))
    width = round_up(longest + margin + source.between(2, 30), most_columns * PATCH)
    sheet = Sheet(width, PATCH * len(lines))
    for row, line in enumerate(lines):
        middle = PATCH * (row + 0.5) + source.between(-4, 4)
        left = min(margin + source.between(0, 8), max(2, width - longest - 2))
        sheet.write(line, left, middle, path, size)
        if source.chance(0.15):
            draw_rule(source, sheet, row, left, width)
        if source.chance(0.3):
            cut_neighbour(source, sheet, row, path, size)
    degrees = (source.random.random() * 2 - 1) * min(1.5, 240 / width)
    return finish(source, sheet, degrees, stamps=0.0)


def draw_rule(source: Source, sheet: Sheet, row: int, left: float, right: float) -> None:
    """A line above or below the text, as in tables and totals."""
    height = PATCH * row + source.pick((1, 2, PATCH - 3, PATCH - 2))
    sheet.pen.line((left, height, right, height), fill=source.between(90, 255), width=source.between(1, 2))


def cut_neighbour(source: Source, sheet: Sheet, row: int, path: Path, size: int) -> None:
    """The edge of the line above or below, which a cut often takes along."""
    text = "".join(source.pick("HEOgpyqMAS0583jl ") for _ in range(source.between(4, 20)))
    middle = PATCH * row + (-size * 0.36 - 1 if source.chance(0.5) else PATCH + size * 0.36 + 1)
    font = fonts.face(path, size)
    sheet.pen.text((source.between(0, sheet.width // 2), middle + size * 0.36), text, 255, font, anchor="ls")


def round_up(pixels: float, most: int) -> int:
    return int(min(most, -(-pixels // PATCH) * PATCH))


def finish(source: Source, sheet: Sheet, degrees: float, *, stamps: float, rough: float = 1.0) -> Picture:
    """Slant, turn and develop the sheet."""
    shear = source.pick((0.0, 0.0, 0.0, 0.12, -0.2)) if sheet.height == PATCH else 0.0
    stretch = 1.0 - 0.15 * source.random.random() if source.chance(0.4) else 1.0
    mapping, mask = None, sheet.mask
    if abs(degrees) > 0.05 or stretch != 1.0:
        mapping = effects.affine(sheet.width, sheet.height, degrees, shear, stretch)
        mask = effects.warp(mask, mapping)
    return Picture(effects.develop(source, mask, stamps=stamps, rough=rough), sheet.patch_text(mapping))


def page(source: Source, document: Document) -> Picture | None:
    """The document on one page of at most 16 x 20 patches, or None where it does not fit."""
    if len(document.lines) > MOST_ROWS:
        return None
    path = fonts.choose(source)
    size = source.between(27, 40)
    most = MOST_COLUMNS * PATCH
    rows = [line_text(line).split("\t") for line in document.lines]
    longest = max(row_width(path, size, row) for row in rows)
    if longest > most - 40:
        size = int(size * (most - 40) / longest)
        longest = max(row_width(path, size, row) for row in rows)
    if size < 22 or longest > most - 30:
        return None
    margin = source.between(14, 40)
    width = max(round_up(longest + 2 * margin, most), 6 * PATCH)
    if source.chance(0.3):
        width = min(most, width + PATCH * source.between(1, 3))
    pitch = PATCH + source.pick((0, 0, 0, -1, 1, -2, 2))
    gaps = [spacing(source) for _ in rows]
    spare = MOST_ROWS * PATCH - int(pitch * len(rows)) - 2 * 12
    top = source.between(6, max(6, min(spare, 40)))
    sheet, height = lay_out(source, document, rows, gaps, top, pitch, width, path, size)
    degrees = (source.random.random() * 2 - 1) * 1.5 if source.chance(0.6) else 0.0
    return finish(source, sheet, degrees, stamps=0.15) if height else None


def spacing(source: Source) -> int:
    """Blank pixels below a line: mostly none, now and then a paragraph."""
    return source.between(10, 40) if source.chance(0.12) else 0


def row_width(path: Path, size: int, cells: list[str]) -> float:
    return sum(fonts.width(path, size, cell) for cell in cells) + (len(cells) - 1) * size


def lay_out(
    source: Source,
    document: Document,
    rows: list[list[str]],
    gaps: list[int],
    top: int,
    pitch: int,
    width: int,
    path: Path,
    size: int,
) -> tuple[Sheet, int]:
    """Write the rows; gaps are dropped where the page would get too high."""
    while top + pitch * len(rows) + sum(gaps) > MOST_ROWS * PATCH:
        if not any(gaps):
            top = max(0, MOST_ROWS * PATCH - pitch * len(rows))
            break
        gaps[max(range(len(gaps)), key=gaps.__getitem__)] = 0
    height = round_up(top + pitch * len(rows) + sum(gaps), MOST_ROWS * PATCH)
    sheet = Sheet(width, height)
    middle = top + pitch / 2
    margin = source.between(10, 24)
    for cells, align, gap in zip(rows, document.alignments, gaps, strict=True):
        for text, left in placed(cells, align, width, margin, path, size):
            sheet.write(text, left, middle, path, size)
        if source.chance(0.05):
            line = middle + pitch / 2
            sheet.pen.line((margin, line, width - margin, line), fill=200, width=source.between(1, 3))
        middle += pitch + gap
    return sheet, height


def placed(
    cells: list[str], align: str, width: int, margin: int, path: Path, size: int
) -> list[tuple[str, float]]:
    """Where the cells of a row begin: one cell by its alignment, several spread over the width."""
    widths = [fonts.width(path, size, cell) for cell in cells]
    if len(cells) == 1:
        free = width - widths[0]
        left = {"left": float(margin), "center": free / 2, "right": free - margin}[align]
        return [(cells[0], min(left, max(4.0, free - 4)))]
    free = (width - 2 * margin - sum(widths)) / (len(cells) - 1)
    lefts, left = [], float(margin)
    for cell_width in widths:
        lefts.append(left)
        left += cell_width + free
    return list(zip(cells, lefts, strict=True))
