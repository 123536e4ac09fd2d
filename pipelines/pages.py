"""What a document becomes: pages with a picture and words. Types only; `documents.py` reads files.

Knows no file format and no model. Everything is in the upright frame: EXIF and /Rotate applied,
sideways scans turned. Boxes are fractions of the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.ocr import Tesseract
from pipelines.records import Box, Span, Word

Kind = Literal["pdf", "image", "text"]
TextSource = Literal["layer", "tesseract", "file", "none"]


@dataclass(frozen=True)
class PageOptions:
    """What is read, and what is too much.

    dpi: of rendered PDF pages; pixels: larger pages are scaled down to it; the others are limits
    of a file (`bytes`, `text_bytes`, `pages`) and of one page (`source_pixels` before scaling,
    `images` in a PDF page), which raise InputError(reason="too_large").
    """

    dpi: int = 200
    pixels: int = 8_000_000
    bytes: int = 512 << 20
    text_bytes: int = 4 << 20
    pages: int = 2_000
    source_pixels: int = 80_000_000
    images: int = 1_000
    tesseract: Tesseract | None = None


@dataclass(frozen=True)
class DocumentInfo:
    """warnings: `repaired` (a damaged PDF that could be read)."""

    kind: Kind
    pages: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """One upright page.

    image: uint8 [H, W] or [H, W, 3], None for plain text; words: in reading order, `page` is
    `number`; text: the same words as lines; turned: clockwise degrees that the pixels were turned
    beyond what the file asks for; span: the seconds that a frame of a video stands for, whose
    number counts frames; hidden: words of the text layer that cannot be seen; warnings:
    `hidden_text`, `broken_text_layer`, `ocr_failed`, `sideways` (and no Tesseract to turn it by),
    `unread_page` (nothing else is known of it), and those of the document.
    """

    number: int
    image: NDArray[np.uint8] | None
    words: tuple[Word, ...]
    text: str
    text_source: TextSource
    turned: int = 0
    span: Span | None = None
    hidden: tuple[Word, ...] = ()
    warnings: tuple[str, ...] = ()

    def rgb(self) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]. Raises ValueError for plain text, which has no picture."""
        if self.image is None:
            raise ValueError("got a page of plain text, expected one with a picture")
        if self.image.ndim == 3:
            return self.image
        return np.repeat(self.image[:, :, None], 3, axis=2)


def page_to_plain(page: Page) -> dict[str, Any]:
    """Plain data and arrays, for the sandbox."""
    plain = dict(vars(page))
    plain["words"] = [(word.text, word.box) for word in page.words]
    plain["hidden"] = [(word.text, word.box) for word in page.hidden]
    return plain


def page_from_plain(plain: dict[str, Any]) -> Page:
    """A Page from what `page_to_plain` made."""
    number = plain["number"]
    span = (plain["span"][0], plain["span"][1]) if plain["span"] else None
    lists = {
        "span": span,
        "words": make_words(number, plain["words"], span),
        "hidden": make_words(number, plain["hidden"]),
        "warnings": tuple(plain["warnings"]),
    }
    return Page(**plain | lists)


def options_from_plain(plain: dict[str, Any] | None) -> PageOptions:
    plain = dict(plain or {})
    if plain.get("tesseract"):
        plain["tesseract"] = Tesseract(**plain["tesseract"])
    return PageOptions(**plain)


def make_words(
    number: int, words: Iterable[tuple[str, Sequence[float] | None]], span: Span | None = None
) -> tuple[Word, ...]:
    return tuple(
        Word(text=text, page=number, box=_clip(box) if box else None, span=span)
        for text, box in words
    )


def _clip(box: Sequence[float]) -> Box:
    x0, y0, x1, y1 = (round(min(max(value, 0.0), 1.0), 5) for value in box)
    return x0, y0, x1, y1
