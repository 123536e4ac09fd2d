"""Document files -> pages: PDF, PNG, JPEG, WebP, TIFF and plain text.

    info = open_document("scan.pdf")          # DocumentInfo(kind="pdf", pages=2, warnings=())
    page = read_page("scan.pdf", 2)           # Page(number=2, image=..., words=(...), ...)

Knows no model. Runs in a sandbox child (`parsing.py` is the parent's side); one page is in memory
at a time. Words come from the text layer of a PDF, or from Tesseract where it is installed. Words
that a person would not see on the page (white, tiny, off the page, not rendered) are set apart.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_onnx.errors import InputError
from pipelines.cues import decode
from pipelines.lines import grey_of
from pipelines.orientation import (
    dominant_turn,
    lies_sideways,
    read_upright,
    turn_box,
    turn_image,
)
from pipelines.pages import (
    DocumentInfo,
    Kind,
    Page,
    PageOptions,
    make_words,
    options_from_plain,
    page_to_plain,
)
from pipelines.pictures import Picture, grey_if_grey
from pipelines.records import Box

_SUFFIXES = (".pdf", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
_INK = 24  # grey levels between a glyph and its ground; scans of faint print have 40 and more
_TINY = 1.5  # points


def open_document(path: str, options: PageOptions | None = None) -> DocumentInfo:
    """Raises InputError: `empty`, `unsupported`, `damaged`, `encrypted`, `too_large`."""
    options = options or PageOptions()
    document = _open(path, options)
    if document.pages > options.pages:
        raise InputError(
            f"got {document.pages} pages, expected at most {options.pages}; split the document "
            "or raise PageOptions.pages",
            reason="too_large",
        )
    return DocumentInfo(document.kind, document.pages, document.warnings)


def read_page(path: str, number: int, options: PageOptions | None = None) -> Page:
    """Page `number` (1-based) of a document. Raises InputError as `open_document` does."""
    options = options or PageOptions()
    document = _open(path, options)
    if not 1 <= number <= document.pages:
        raise ValueError(f"got page {number}, expected 1 to {document.pages}")
    return document.read(number, options)


def open_document_plain(path: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """`open_document` for the sandbox: plain data in and out."""
    return asdict(open_document(path, options_from_plain(options)))


def read_page_plain(path: str, number: int, options: dict[str, Any] | None = None) -> Any:
    """`read_page` for the sandbox; `pages.page_from_plain` is the way back."""
    return page_to_plain(read_page(path, number, options_from_plain(options)))


def document_kind(path: str) -> Kind:
    """By content, not by name. Raises InputError: `empty`, `unsupported`, `damaged`."""
    with open(path, "rb") as file:
        head = file.read(1024)
    if not head:
        raise InputError(
            "got a file of 0 bytes, expected a document; copy it again", reason="empty"
        )
    if b"%PDF-" in head:
        return "pdf"
    if head.startswith((b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "image"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image"
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _SUFFIXES:
        raise InputError(
            f"got a {suffix} file with other content, expected a document; save it again",
            reason="damaged",
        )
    if suffix in (".txt", ".text", ".md", ""):
        return "text"
    raise InputError(
        "got an unknown kind of file, expected PDF, PNG, JPEG, WebP, TIFF or text; convert it",
        reason="unsupported",
    )


class _TextFile:
    """Plain text; a form feed starts a new page."""

    kind: Kind = "text"
    warnings: tuple[str, ...] = ()

    def __init__(self, path: str, options: PageOptions) -> None:
        _check_bytes(path, options.text_bytes)
        with open(path, "rb") as file:
            self._pages = decode(file.read()).replace("\r\n", "\n").split("\f")
        if not "".join(self._pages).strip():
            raise InputError(
                "got a text without a word, expected some; leave it out", reason="empty"
            )
        self.pages = len(self._pages)

    def read(self, number: int, options: PageOptions) -> Page:
        text = self._pages[number - 1].strip("\n")
        return Page(
            number, None, make_words(number, [(w, None) for w in text.split()]), text, "file"
        )

    def close(self) -> None:
        pass


class _PictureFile:
    kind: Kind = "image"
    warnings: tuple[str, ...] = ()

    def __init__(self, path: str, options: PageOptions) -> None:
        self._picture = Picture(path, options.pages)
        self.pages = self._picture.pages

    def read(self, number: int, options: PageOptions) -> Page:
        image = self._picture.read(
            number, pixels=options.pixels, source_pixels=options.source_pixels
        )
        return page_of_pixels(number, image, options)

    def close(self) -> None:
        self._picture.close()


class _PdfFile:
    kind: Kind = "pdf"

    def __init__(self, path: str, options: PageOptions) -> None:
        from pipelines.pdf import Pdf  # 0.2 s that pictures and text do not need

        self._pdf = Pdf(path)
        self.pages, self.warnings = self._pdf.pages, self._pdf.warnings
        if not self.pages:
            raise InputError(
                "got a PDF without pages, expected one or more; save it again", reason="empty"
            )

    def read(self, number: int, options: PageOptions) -> Page:
        if (images := self._pdf.images(number)) > options.images:
            raise InputError(
                f"got {images} images on page {number}, expected at most {options.images}; print "
                "the document to a new PDF",
                reason="too_large",
            )
        image = grey_if_grey(self._pdf.render(number, dpi=options.dpi, pixels=options.pixels))
        layer = self._pdf.words(number)
        if _is_broken([word.text for word in layer]):
            return page_of_pixels(number, image, options, "broken_text_layer")
        turn = dominant_turn([(word.turn, word.text) for word in layer])
        boxes = [turn_box(word.box, turn) for word in layer]
        turned = turn_image(image, turn)
        seen = [
            word.points > _TINY and inked
            for word, inked in zip(layer, _are_inked(grey_of(turned), boxes), strict=True)
        ]
        hidden = make_words(
            number, [(w.text, b) for w, b, s in zip(layer, boxes, seen, strict=True) if not s]
        )
        shown = [(w, b) for w, b, s in zip(layer, boxes, seen, strict=True) if s]
        warnings = ("hidden_text",) if hidden else ()
        if not shown:  # nothing of the layer can be seen: the page is read like a scan
            return replace(page_of_pixels(number, image, options, *warnings), hidden=hidden)
        return Page(
            number=number,
            image=turned,
            words=make_words(number, [(word.text, box) for word, box in shown]),
            text=_lines_of_text([(word.text, word.line) for word, _ in shown]),
            text_source="layer",
            turned=turn,
            hidden=hidden,
            warnings=warnings,
        )

    def close(self) -> None:
        self._pdf.close()


_Document = _TextFile | _PictureFile | _PdfFile
_FILES: dict[Kind, type[_TextFile] | type[_PictureFile] | type[_PdfFile]] = {
    "text": _TextFile,
    "image": _PictureFile,
    "pdf": _PdfFile,
}
_opened: tuple[object, _Document] | None = None  # the last file: the next page is likely its next


def _open(path: str, options: PageOptions) -> _Document:
    global _opened
    status = os.stat(path)
    identity = (path, status.st_ino, status.st_size, status.st_mtime_ns, options)
    if _opened and _opened[0] == identity:
        return _opened[1]
    if _opened:
        _opened[1].close()
        _opened = None
    _check_bytes(path, options.bytes)
    document = _FILES[document_kind(path)](path, options)
    _opened = (identity, document)
    return document


def _check_bytes(path: str, limit: int) -> None:
    if (size := os.stat(path).st_size) > limit:
        raise InputError(
            f"got {size} bytes, expected at most {limit}; split the file, or raise it in "
            "PageOptions",
            reason="too_large",
        )


def page_of_pixels(
    number: int, image: NDArray[np.uint8], options: PageOptions, *warnings: str
) -> Page:
    """A page or frame without a text layer: words from Tesseract, where there is one."""
    if options.tesseract is None:
        sideways = ("sideways",) if lies_sideways(image) else ()
        return Page(number, image, (), "", "none", warnings=(*warnings, *sideways))
    turn, read = read_upright(image, options.tesseract)
    if not read:
        failed = ("ocr_failed",) if read is None else ()
        return Page(number, image, (), "", "none", warnings=(*warnings, *failed))
    return Page(
        number=number,
        image=turn_image(image, turn),
        words=make_words(number, [(word.text, word.box) for word in read]),
        text=_lines_of_text([(word.text, word.line) for word in read]),
        text_source="tesseract",
        turned=turn,
        warnings=warnings,
    )


def _lines_of_text(words: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """(word, its line) in reading order -> the lines."""
    lines = groupby(words, key=lambda word: word[1])
    return "\n".join(" ".join(text for text, _ in line) for _, line in lines)


def _is_broken(words: Sequence[str]) -> bool:
    """Fonts without a map to letters give replacement and private characters, or controls."""
    text = "".join(words)
    strange = sum(unicodedata.category(letter) in ("Co", "Cn", "Cc") for letter in text)
    return strange + text.count("\ufffd") > 0.2 * max(1, len(text))


def _are_inked(grey: NDArray[np.uint8], boxes: Sequence[Box]) -> list[bool]:
    """Whether something is printed in each word's box; not for a box off the page."""
    height, width = grey.shape
    inked = []
    for x0, y0, x1, y1 in boxes:
        inner = (y1 - y0) * 0.15  # the box's edges reach into neighbours and rules
        rows = slice(max(0, int((y0 + inner) * height)), max(0, round((y1 - inner) * height) + 1))
        columns = slice(max(0, int(x0 * width)), max(0, round(x1 * width) + 1))
        part = grey[rows, columns]
        inked.append(bool(part.size) and int(part.max()) - int(part.min()) > _INK)
    return inked
