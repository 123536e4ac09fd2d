"""PDF files through PyMuPDF: the only file that imports it (it is AGPL; see the README).

Knows no OCR and no model. Boxes are fractions of the page as a viewer shows it, /Rotate applied.
Not safe for two threads: it runs in a sandbox child, which has one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
from numpy.typing import NDArray

from model_onnx.errors import InputError
from pipelines.records import Box

_FLAGS = pymupdf.TEXT_PRESERVE_WHITESPACE  # ligatures come apart
_TURNS = {(1, 0): 0, (0, -1): 90, (-1, 0): 180, (0, 1): 270}  # clockwise, to make it upright


@dataclass(frozen=True)
class PdfWord:
    """line: words with the same number stand on one line; turn: clockwise degrees to upright;
    points: height of the letters, 1/72 inch."""

    text: str
    box: Box
    line: tuple[int, int]
    turn: int
    points: float


class Pdf:
    """An open PDF. warnings: `repaired`.

    Raises InputError: `encrypted`, `damaged`, `memory`.
    """

    def __init__(self, path: str) -> None:
        pymupdf.TOOLS.mupdf_display_errors(False)
        pymupdf.TOOLS.mupdf_display_warnings(False)
        try:
            self._document = pymupdf.open(_plain_name(path))
            self.encrypted = bool(self._document.needs_pass)
            self.pages = 0 if self.encrypted else len(self._document)
        except Exception as error:
            raise _problem(error) from None
        if self.encrypted:
            raise InputError(
                "got a PDF that needs a password, expected one that opens without; save a copy "
                "without the password",
                reason="encrypted",
            )
        self.warnings = ("repaired",) if self._document.is_repaired else ()

    def close(self) -> None:
        self._document.close()

    def render(self, number: int, *, dpi: int, pixels: int) -> NDArray[np.uint8]:
        """Page (1-based) as uint8 [H, W, 3], at most `dpi` and about `pixels` pixels."""
        try:
            page = self._document[number - 1]
            width, height = page.rect.width, page.rect.height
            if not (0 < width < 1e6 and 0 < height < 1e6):
                raise InputError(
                    "got a page without an area, expected one that can be shown; print the "
                    "document to a new PDF",
                    reason="damaged",
                )
            scale = min(dpi / 72, (pixels / (width * height)) ** 0.5)
            scale = max(scale, 1.01 / min(width, height))  # at least one pixel each way
            if width * height * scale**2 > 2 * pixels:
                raise InputError(
                    "got a page too long and narrow to render, expected the shape of paper; cut it "
                    "into pages",
                    reason="too_large",
                )
            picture = page.get_pixmap(matrix=pymupdf.Matrix(scale, scale), alpha=False)
            shape = (picture.height, picture.width, 3)
            return np.frombuffer(picture.samples, np.uint8).reshape(shape)
        except Exception as error:
            raise _problem(error) from None

    def images(self, number: int) -> int:
        """How many images the page's resources name."""
        try:
            return len(self._document.get_page_images(number - 1))
        except Exception as error:
            raise _problem(error) from None

    def words(self, number: int) -> list[PdfWord]:
        """The text layer in the file's own order; also what stands off the page."""
        try:
            page = self._document[number - 1]
            text = page.get_textpage(clip=pymupdf.INFINITE_RECT(), flags=_FLAGS)
            turns = _turns(page, text)
            found = text.extractWORDS()
            matrix, width, height = page.rotation_matrix, page.rect.width, page.rect.height
        except Exception as error:
            raise _problem(error) from None
        words = []
        for x0, y0, x1, y1, word, block, line, _ in found:
            corner, other = pymupdf.Point(x0, y0) * matrix, pymupdf.Point(x1, y1) * matrix
            box = (
                min(corner.x, other.x) / width,
                min(corner.y, other.y) / height,
                max(corner.x, other.x) / width,
                max(corner.y, other.y) / height,
            )
            turn = turns.get((block, line), 0)
            points = y1 - y0 if (turn + page.rotation) % 180 == 0 else x1 - x0
            words.append(PdfWord(word, box, (block, line), turn, points))
        return words


def _turns(page: Any, text: Any) -> dict[tuple[int, int], int]:
    """(block, line) -> clockwise degrees that make the line upright in the viewer's frame."""
    matrix = page.rotation_matrix
    turns = {}
    for block in text.extractDICT()["blocks"]:
        for index, line in enumerate(block.get("lines", [])):
            x, y = line["dir"]
            x, y = x * matrix.a + y * matrix.c, x * matrix.b + y * matrix.d
            nearest = (round(x), 0) if abs(x) >= abs(y) else (0, round(y))
            turns[block["number"], index] = _TURNS.get(nearest, 0)
    return turns


def _plain_name(path: str) -> str:
    """MuPDF takes UTF-8 names only; others get a link in the scratch directory."""
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        link = Path("input.pdf").absolute()
        link.unlink(missing_ok=True)
        os.symlink(os.path.abspath(path), link)
        return str(link)


def _problem(error: Exception) -> Exception:
    """The error to raise. MuPDF says in words when it ran out of memory."""
    if isinstance(error, (InputError, OSError)):
        return error
    text = str(error).lower()
    if isinstance(error, MemoryError) or "malloc" in text or "out of memory" in text:
        return MemoryError()
    return InputError(
        f"got a PDF that cannot be read ({type(error).__name__}), expected an intact one; "
        "open it in a viewer and print it to a new PDF",
        reason="damaged",
    )
