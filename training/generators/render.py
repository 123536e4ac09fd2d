"""Lines and documents as grey images, one text line per row of 48-pixel patches.

Knows nothing of tasks or answers. Every character's place is kept, so that a helper head can learn
to read patch by patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from training.generators import effects, fonts
from training.generators.documents import Document, line_text
from training.generators.words import Source

PATCH = 48
MOST_COLUMNS, MOST_ROWS = 16, 20
CAPITAL = 0.36  # half the height of a capital letter, as a share of the font size


@dataclass(frozen=True)
class Picture:
    """`image` uint8 [H, W] grey; `patch_text` the characters of each patch, row-major."""

    image: np.ndarray
    patch_text: tuple[str, ...]


@dataclass(frozen=True)
class Pen:
    """A font at a size, `stretch` times as wide; `slope` is pixels down per pixel right."""

    path: Path
    size: int
    slope: float = 0.0
    stretch: float = 1.0

    def widths(self, text: str) -> np.ndarray:
        """Width of every character, float32 [n]."""
        plain = fonts.advances(self.path, self.size)[fonts.codes(text)]
        return np.asarray(plain * np.float32(self.stretch))

    def width(self, text: str) -> float:
        return float(self.widths(text).sum())

    def ink(self, text: str) -> tuple[int, int]:
        """Where its ink begins and ends, in pixels below the base line."""
        glyphs = [fonts.glyph(self.path, self.size, self.stretch, character) for character in text]
        edges = [(down, down + ink.shape[0]) for ink, _, down in glyphs if ink.size]
        return min(edge[0] for edge in edges), max(edge[1] for edge in edges)

    def fitted(self, longest: float, room: float) -> Pen:
        """The pen made smaller where the longest line, so many pixels wide, has less room."""
        if longest <= room:
            return self
        return replace(self, size=even(self.size * room / longest))


@dataclass
class Sheet:
    """Ink (uint8 [H, W]) and where its characters stand (centres in pixels)."""

    width: int
    height: int
    characters: list[str] = field(default_factory=list)
    centres: list[np.ndarray] = field(default_factory=list)  # float32 [characters, 2] each

    def __post_init__(self) -> None:
        self.ink = np.zeros((self.height, self.width), np.uint8)

    def write(self, text: str, left: float, middle: float, pen: Pen) -> None:
        """Text whose capital letters are centred on height `middle` where x is 0."""
        widths = pen.widths(text)
        ends = np.cumsum(widths) + left
        starts = ends - widths
        put_glyphs(self.ink, text, starts, middle, pen)
        centres = np.empty((len(text), 2), np.float32)
        centres[:, 0] = ends - widths / 2
        centres[:, 1] = middle + pen.slope * centres[:, 0]
        self.characters.append(text)
        self.centres.append(centres)

    def rule(
        self, left: float, right: float, height: float, thick: int, slope: float, ink: int
    ) -> None:
        """A line from left to right; with a slope it goes in steps, as on a turned page."""
        for start in range(int(left), int(right), PATCH):
            top = max(0, int(height + slope * start))
            self.ink[top : top + thick, start : min(int(right), start + PATCH)] = ink

    def patch_text(self, mapping: np.ndarray | None) -> tuple[str, ...]:
        """Characters in each patch after the sheet was moved by `mapping`."""
        columns, rows = self.width // PATCH, self.height // PATCH
        if not self.characters:
            return ("",) * (columns * rows)
        centres = np.concatenate(self.centres)
        if mapping is not None:
            centres = centres @ mapping[:, :2].T + mapping[:, 2]
        return by_patch("".join(self.characters), centres, columns, rows)


def by_patch(text: str, centres: np.ndarray, columns: int, rows: int) -> tuple[str, ...]:
    """The characters whose centres (float [n, 2]) lie in each patch, row-major."""
    out = [""] * (columns * rows)
    cells = (centres // PATCH).astype(int)
    inside = (cells >= 0).all(1) & (cells[:, 0] < columns) & (cells[:, 1] < rows)
    places = np.where(inside, cells[:, 1] * columns + cells[:, 0], -1).tolist()
    for character, place in zip(text, places, strict=True):
        if place >= 0:
            out[place] += character
    return tuple(out)


def put_glyphs(ink: np.ndarray, text: str, starts: np.ndarray, middle: float, pen: Pen) -> None:
    """Put the characters of a line on the ink; what lies outside is cut off."""
    base = middle + pen.size * CAPITAL
    for character, start in zip(text, starts.tolist(), strict=True):
        shape, right, down = fonts.glyph(pen.path, pen.size, pen.stretch, character)
        left, top = int(start + 0.5) + right, int(base + pen.slope * start + 0.5) + down
        if not shape.size or left + shape.shape[1] <= 0 or top + shape.shape[0] <= 0:
            continue
        skip_x, skip_y = max(0, -left), max(0, -top)
        spot = ink[top + skip_y : top + shape.shape[0], left + skip_x : left + shape.shape[1]]
        if spot.size:
            shape = shape[skip_y : skip_y + spot.shape[0], skip_x : skip_x + spot.shape[1]]
            np.maximum(spot, shape, out=spot)


def round_up(pixels: float, most: int) -> int:
    """Whole patches that hold so many pixels, at most `most` pixels."""
    return int(min(most, -(-pixels // PATCH) * PATCH))


def even(size: float) -> int:
    """Font sizes go in steps of two, so that the cache of glyphs stays small."""
    return int(size) // 2 * 2


def choose_pen(source: Source, smallest: int, largest: int, typewriter: float) -> Pen:
    """A font and size; a quarter of them narrow, as receipt printers have them, or wide."""
    stretch = source.pick((0.7, 0.8, 0.9, 1.15)) if source.chance(0.25) else 1.0
    size = even(source.between(smallest, largest))
    return Pen(fonts.choose(source, typewriter), size, stretch=stretch)


def line_strip(
    source: Source, lines: list[str], *, most_columns: int = 24
) -> tuple[list[str], Picture]:
    """Lines cut out of a page, each in a row of its own, and what of them is in the picture.

    Most are scaled as the pipeline does it: the ink of every line 36 pixels high, and a line that
    is too long for the picture cut off between two words. The others keep one size for all lines.
    """
    room = most_columns * PATCH - 20
    pen = choose_pen(source, 26, 43, 0.45)
    if source.chance(0.7):
        pens = [scaled_to_ink(source, pen, line) for line in lines]
        lines = [cut_off(line, own, room) for line, own in zip(lines, pens, strict=True)]
        jitter, margin = 2, source.between(3, 8)
    else:
        pens = [pen.fitted(max(pen.width(line) for line in lines), room)] * len(lines)
        jitter, margin = 4, source.between(2, source.pick((10, 60)))
    widths = [own.width(line) for line, own in zip(lines, pens, strict=True)]
    wanted = max(widths) + margin + source.between(2, 30)
    sheet = Sheet(round_up(wanted, most_columns * PATCH), PATCH * len(lines))
    slope = (source.random.random() * 2 - 1) * min(0.026, 5 / sheet.width)
    for row, (line, own) in enumerate(zip(lines, pens, strict=True)):
        middle = PATCH * (row + 0.5) + source.between(-jitter, jitter) - slope * sheet.width / 2
        if jitter == 2:
            top, bottom = own.ink(line)
            middle -= (top + bottom) / 2 + own.size * CAPITAL
        left = max(2.0, min(margin + source.between(0, 6), sheet.width - widths[row] - 2))
        sheet.write(line, left, middle, replace(own, slope=slope))
        if source.chance(0.1):
            edge = PATCH * row + source.pick((0, 1, PATCH - 3, PATCH - 2))
            thick, ink = source.between(1, 2), source.between(90, 255)
            sheet.rule(left, sheet.width, edge, thick, 0.0, ink)
        if source.chance(0.25):
            cut_neighbour(source, sheet, row, own)
    return lines, finish(source, sheet, strip=True)


def scaled_to_ink(source: Source, pen: Pen, line: str) -> Pen:
    """The pen at the size that makes the line's ink 3/4 of a patch high, more or less."""
    known = replace(pen, size=40)
    top, bottom = known.ink(line)
    height = max(bottom - top, 20)  # dashes and points are not blown up
    wanted = 0.75 * PATCH * (0.86 + 0.2 * source.random.random())
    return replace(pen, size=max(20, even(40 * wanted / height + 1)))


def cut_off(line: str, pen: Pen, room: float) -> str:
    """The words of the line that have room; at least one, cut if need be."""
    while pen.width(line) > room:
        line = line.rpartition(" ")[0] or line[:-1]
    return line.rstrip()


def cut_neighbour(source: Source, sheet: Sheet, row: int, pen: Pen) -> None:
    """The edge of the line above or below, which a cut often takes along."""
    text = "".join(source.pick("HEOgpyqMAS0583jl ") for _ in range(source.between(4, 20)))
    height = pen.size * CAPITAL
    middle = -height + 2 if source.chance(0.5) else PATCH + height - 2
    widths = pen.widths(text)
    starts = np.cumsum(widths) - widths + source.between(0, sheet.width // 2)
    put_glyphs(sheet.ink[row * PATCH : (row + 1) * PATCH], text, starts, middle, pen)


def finish(source: Source, sheet: Sheet, *, strip: bool = False, stamps: float = 0.0) -> Picture:
    """Warp some sheets for real (others only have sloping lines) and develop."""
    mapping, ink = None, sheet.ink
    if source.chance(0.22):
        degrees = (source.random.random() * 2 - 1) * min(1.5, 240 / sheet.width)
        slant = source.pick((0.0, 0.1, -0.15, -0.25)) if strip and sheet.height == PATCH else 0.0
        ink, mapping = effects.warp(ink, degrees, slant, 1.0 - 0.15 * source.random.random())
    return Picture(
        effects.develop(source, ink, stamps=stamps, coarsest=2.8 if strip else 1.9),
        sheet.patch_text(mapping),
    )


def page(source: Source, document: Document) -> Picture | None:
    """The document on one page of at most 16 x 20 patches, or None where it does not fit."""
    if not 0 < len(document.lines) <= MOST_ROWS:
        return None
    most = MOST_COLUMNS * PATCH
    rows = [line_text(line).split("\t") for line in document.lines]
    pen = choose_pen(source, 26, 40, 0.35)
    pen = pen.fitted(max(row_width(pen, row) for row in rows), most - 40)
    longest = max(row_width(pen, row) for row in rows)
    if pen.size < 22 or longest > most - 30:
        return None
    width = max(round_up(longest + 2 * source.between(14, 40), most), 6 * PATCH)
    if source.chance(0.3):
        width = min(most, width + PATCH * source.between(1, 3))
    degrees = (source.random.random() * 2 - 1) * 1.5 if source.chance(0.6) else 0.0
    pen = replace(pen, slope=math.tan(math.radians(degrees)))
    return finish(source, lay_out(source, document, rows, width, pen), stamps=0.15)


def row_width(pen: Pen, cells: list[str]) -> float:
    return sum(pen.width(cell) for cell in cells) + (len(cells) - 1) * pen.size


def heading_pen(source: Source, pen: Pen, rows: list[list[str]], width: int) -> Pen:
    """Another font, bigger where there is room, for the first line of some pages."""
    if not source.chance(0.35):
        return pen
    wanted = replace(pen, path=fonts.choose(source, 0.1), size=even(source.between(30, 43)))
    fitted = wanted.fitted(row_width(wanted, rows[0]), width - 40)
    return fitted if row_width(fitted, rows[0]) < width - 36 and fitted.size >= 22 else pen


def lay_out(
    source: Source, document: Document, rows: list[list[str]], width: int, pen: Pen
) -> Sheet:
    """Write the rows with some blank space between them, as far as the highest page has room."""
    most = MOST_ROWS * PATCH
    pitch = PATCH + source.pick((0, 0, 0, -1, 1, -2, 2)) if len(rows) < MOST_ROWS - 1 else PATCH
    rise = abs(pen.slope) * width / 2
    spare = most - pitch * len(rows) - 2 * rise
    top = max(0.0, min(source.between(4, 40), spare)) + rise
    spare -= top - rise
    gaps = []
    for _ in rows:
        gap = source.between(10, 40) if source.chance(0.12) else 0
        gaps.append(gap if gap <= spare else 0)
        spare -= gaps[-1]
    sheet = Sheet(width, round_up(top + pitch * len(rows) + sum(gaps) + rise, most))
    head = heading_pen(source, pen, rows, width)
    middle, margin = top + pitch / 2 - pen.slope * width / 2, source.between(10, 24)
    for cells, align, gap in zip(rows, document.alignments, gaps, strict=True):
        used = head if cells is rows[0] else pen
        for text, left in placed(cells, align, width, margin, used):
            sheet.write(text, left, middle, used)
        if source.chance(0.05):
            thick, ink = source.between(1, 3), source.between(120, 255)
            sheet.rule(margin, width - margin, middle + pitch / 2, thick, pen.slope, ink)
        middle += pitch + gap
    return sheet


def placed(
    cells: list[str], align: str, width: int, margin: int, pen: Pen
) -> list[tuple[str, float]]:
    """Where the cells of a row begin: one cell by its alignment, several spread over the width."""
    widths = [pen.width(cell) for cell in cells]
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
