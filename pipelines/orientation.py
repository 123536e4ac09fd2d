"""Turning pages by quarters, and telling how a scan lies.

Knows no file format. A turn is in clockwise degrees: 0, 90, 180 or 270.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipelines.components import Boxes
from pipelines.lines import glyph_boxes, grey_of
from pipelines.ocr import OcrWord, Tesseract, read_words
from pipelines.records import Box

# Right on 100 of 100 scanned receipts, both ways; the smallest ratio was 1.24.
_CLEAR = 1.2
_FEW = 30  # glyphs: fewer say nothing about rows
_SURE = 0.5  # mean confidence; upright scans are above it, upside down ones below


def turn_image(image: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """[H, W] or [H, W, 3] turned clockwise."""
    return np.ascontiguousarray(np.rot90(image, -(turn // 90)))


def turn_box(box: Box, turn: int) -> Box:
    """A box in fractions of the page, after the page is turned clockwise."""
    for _ in range(turn // 90):
        x0, y0, x1, y1 = box
        box = (1 - y1, x0, 1 - y0, x1)
    return box


def dominant_turn(words: Iterable[tuple[int, str]]) -> int:
    """The turn of more than half of the characters, else 0. words: (turn, text)."""
    characters: Counter[int] = Counter()
    for turn, text in words:
        characters[turn] += len(text)
    turn, count = characters.most_common(1)[0] if characters else (0, 0)
    return turn if 2 * count > characters.total() else 0


def lies_sideways(image: NDArray[np.uint8]) -> bool | None:
    """Whether text runs up or down the page; None where it cannot be told.

    The tops and bottoms of glyphs in a line align; their left and right edges do not.
    """
    glyphs = glyph_boxes(grey_of(image))
    if len(glyphs) < _FEW:
        return None
    across, down = _sharpness(glyphs), _sharpness(glyphs[:, [1, 0, 3, 2]])
    if max(across, down) < _CLEAR * min(across, down):
        return None
    return down > across


def _sharpness(glyphs: Boxes) -> float:
    """How much the upper and lower edges fall into rows, at the best slope within 5 degrees."""
    step = max(1.5, float(np.median(glyphs[:, 3] - glyphs[:, 1])) / 6)
    middle = (glyphs[:, 0] + glyphs[:, 2]) / 2

    def at(slope: float) -> float:
        total = 0.0
        for edge in (1, 3):
            y = glyphs[:, edge] - slope * middle
            rows = np.bincount(((y - y.min()) / step).astype(np.int64))
            total += float((rows**2.0).sum()) * len(rows)
        return total

    return max(at(float(slope)) for slope in np.linspace(-0.0875, 0.0875, 36))


def read_upright(
    image: NDArray[np.uint8], tesseract: Tesseract
) -> tuple[int, list[OcrWord] | None]:
    """(turn, words of the turned page). Reads a second way only when the first gives little.

    words: None when Tesseract failed; the turn is 0 where nothing could be read.
    """
    turns = (90, 270) if lies_sideways(image) else (0, 180)
    first = read_words(turn_image(image, turns[0]), tesseract)
    if first is None:
        return 0, None
    letters = [word.confidence for word in first if len(word.text) > 1]
    if len(letters) >= 5 and sum(letters) / len(letters) > _SURE:
        return turns[0], first
    second = read_words(turn_image(image, turns[1]), tesseract)
    if second is not None and _score(second) > 1.2 * _score(first):
        return turns[1], second
    return (turns[0] if first else 0), first


def _score(words: list[OcrWord]) -> float:
    return sum(
        word.confidence**2 * sum(map(str.isalnum, word.text))
        for word in words
        if word.confidence > 0.3
    )
