"""Searchable PDF: the pages as they are, with invisible text where words were recognised.

Runs in a sandbox child, as every parser does; `flows/searchable.py` is the parent's side. A PDF is
copied and the text appended to the copy as an incremental update, so its own bytes stay as they
are; one that was damaged has to be written anew. A picture becomes a page of a new PDF; a JPEG
keeps its bytes. A page that has text of its own gets none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pymupdf
from numpy.typing import NDArray
from PIL import Image

from model_onnx.errors import InputError
from pipelines.documents import document_kind, read_page
from pipelines.glyphless import ADVANCE, DESCENT, FONT_NAME, Codes, Piece, content, font_file
from pipelines.pages import options_from_plain
from pipelines.pictures import Picture

_LONG_SIDE = 842.0  # points of A4: the size of a picture that does not say its own
_RESOLUTIONS = (50.0, 2400.0)  # dots per inch that are believed
_LARGEST = 14_400.0  # points; PDF allows no more
_TURNS = {1: 0, 3: 180, 6: 90, 8: 270}  # EXIF: clockwise degrees to make it upright
_PARENTS = 64  # a tree of pages is not deeper; a hostile one may be a circle

Words = list[tuple[str, Sequence[float]]]  # (text, box), fractions of the upright page


def read_words_plain(path: str, number: int, options: dict[str, Any] | None = None) -> Any:
    """What of page `number` can be made text, for the sandbox.

    own: the page has text; turned: as in `Page`; words: (text, box).
    """
    page = read_page(path, number, options_from_plain(options))
    own = page.text_source == "layer" or page.hidden or "broken_text_layer" in page.warnings
    words = [(word.text, word.box) for word in page.words if word.box]
    return {"own": bool(own), "turned": page.turned, "words": words}


def write_plain(path: str, plan: str, out: str, options: dict[str, Any] | None = None) -> int:
    """Writes the searchable PDF `out`; returns the number of pages that got text.

    plan: a file of JSON, one `{"turned", "words"}` or null for each page. Raises InputError.
    """
    with open(plan, encoding="utf-8") as file:
        pages = json.load(file)
    layer = _Layer()
    if document_kind(path) == "pdf":
        shutil.copyfile(path, out)
        if any(page and page["words"] for page in pages):
            _extend(out, pages, layer)
    else:
        _bind(path, out, pages, layer, options_from_plain(options).source_pixels)
    return layer.written


class _Layer:
    """The invisible text of one document."""

    def __init__(self) -> None:
        self.written = 0
        self._codes = Codes()

    def write(self, document: Any, pages: Sequence[Mapping[str, Any] | None]) -> None:
        font = 0
        for page, planned in zip(document, pages, strict=True):
            pieces = list(_pieces(page, planned)) if planned else []
            if not pieces:
                continue
            font = font or document.get_new_xref()
            name = f"{FONT_NAME}{font}"  # no other font on the page has it
            _append(document, page, content(pieces, name, self._codes))
            _give_font(document, page.xref, name, font)
            self.written += 1
        if font:
            _define_font(document, font, self._codes)


def _extend(out: str, pages: Sequence[Mapping[str, Any] | None], layer: _Layer) -> None:
    with pymupdf.open(out) as document:
        document.authenticate("")
        layer.write(document, pages)
        if document.can_save_incrementally():
            document.save(
                out, incremental=True, encryption=pymupdf.PDF_ENCRYPT_KEEP, no_new_id=True
            )
            return
        document.save(f"{out}.new", encryption=pymupdf.PDF_ENCRYPT_KEEP)
    os.replace(f"{out}.new", out)


def _bind(
    path: str, out: str, pages: Sequence[Mapping[str, Any] | None], layer: _Layer, most: int
) -> None:
    """The pictures of a file as pages of a new PDF."""
    jpeg, turn, dots = _jpeg(path)
    with pymupdf.open() as document:
        if jpeg:
            width, height = _size(jpeg[0], jpeg[1], dots)
            page = document.new_page(width=width, height=height)
            with open(path, "rb") as file:
                page.insert_image(page.rect, stream=file.read())
            page.set_rotation(turn)
        else:
            picture = Picture(path, len(pages))
            for number in range(1, len(pages) + 1):
                pixels = picture.read(number, pixels=most, source_pixels=most)
                width, height = _size(pixels.shape[1], pixels.shape[0], dots)
                page = document.new_page(width=width, height=height)
                page.insert_image(page.rect, pixmap=_pixmap(pixels))
            picture.close()
        layer.write(document, pages)
        document.save(out, deflate=True, no_new_id=True)


def _jpeg(path: str) -> tuple[tuple[int, int] | None, int, float | None]:
    """(width and height of a JPEG that PDF can hold as it is, its turn, dots per inch)."""
    with Image.open(path) as image:
        turn = _TURNS.get(image.getexif().get(0x0112, 1))
        plain = image.format == "JPEG" and image.mode in ("L", "RGB") and turn is not None
        across, _ = image.info.get("dpi") or (0.0, 0.0)
        low, high = _RESOLUTIONS
        return (image.size if plain else None), turn or 0, across if low <= across <= high else None


def _size(width: int, height: int, dots: float | None) -> tuple[float, float]:
    """Points of a picture's page."""
    scale = 72 / float(dots) if dots else _LONG_SIDE / max(width, height)
    scale = min(scale, _LARGEST / max(width, height))
    return max(width * scale, 3.0), max(height * scale, 3.0)


def _pixmap(pixels: NDArray[np.uint8]) -> Any:
    space = pymupdf.csGRAY if pixels.ndim == 2 else pymupdf.csRGB
    return pymupdf.Pixmap(space, pixels.shape[1], pixels.shape[0], pixels.tobytes(), False)


def _pieces(page: Any, planned: Mapping[str, Any]) -> Iterator[Piece]:
    """Boxes of the upright page -> places in the page's own space, which knows no /Rotate."""
    box, top = page.cropbox, page.mediabox.y1
    turns = (planned["turned"] + page.rotation) // 90 % 4

    def place(x: float, y: float) -> tuple[float, float]:
        for _ in range(turns):
            x, y = y, 1 - x
        return box.x0 + x * box.width, top - box.y0 - y * box.height

    for text, (x0, y0, x1, y1) in planned["words"]:
        if x1 > x0 and y1 > y0:
            foot, right, head = place(x0, y1), place(x1, y1), place(x0, y0)
            yield Piece(text, foot, _way(foot, right), _way(foot, head))


def _way(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    return end[0] - start[0], end[1] - start[1]


def _append(document: Any, page: Any, text: bytes) -> None:
    """Behind what the page shows, in the page's first state of graphics."""
    if page.get_contents():
        page.wrap_contents()
    stream = document.get_new_xref()
    document.update_object(stream, "<<>>")
    document.update_stream(stream, text)
    streams = " ".join(f"{xref} 0 R" for xref in [*page.get_contents(), stream])
    document.xref_set_key(page.xref, "Contents", f"[{streams}]")


def _give_font(document: Any, page: int, name: str, font: int) -> None:
    """Names the font in the page's resources, which may be another object's or a parent's."""
    holder = page
    for _ in range(_PARENTS):
        kind, value = document.xref_get_key(holder, "Resources")
        if kind == "xref":
            _add_font(document, int(value.split()[0]), "Font", name, font)
            return
        above, parent = document.xref_get_key(holder, "Parent")
        if kind == "dict" or above != "xref":
            break
        holder = int(parent.split()[0])
    else:
        raise InputError(
            "got a circle of pages, expected a tree; print it to a new PDF", reason="damaged"
        )
    if kind != "dict":
        holder = page
    _add_font(document, holder, "Resources/Font", name, font)


def _add_font(document: Any, holder: int, fonts: str, name: str, font: int) -> None:
    """fonts: where the holder has its fonts, which may be an object of their own."""
    kind, value = document.xref_get_key(holder, fonts)
    if kind == "xref":
        document.xref_set_key(int(value.split()[0]), name, f"{font} 0 R")
    else:
        document.xref_set_key(holder, f"{fonts}/{name}", f"{font} 0 R")


def _define_font(document: Any, font: int, codes: Codes) -> None:
    program = font_file()
    file = _stream(document, program, f"<</Length1 {len(program)}>>")
    meaning = _stream(document, codes.to_unicode(), "<<>>")
    glyphs = _stream(document, codes.to_glyphs(), "<<>>")
    top, bottom, wide = (round(1000 * x) for x in (1 - DESCENT, -DESCENT, ADVANCE))
    descriptor = _object(
        document,
        f"<</Type/FontDescriptor/FontName/{FONT_NAME}/Flags 4/FontBBox[0 {bottom} {wide} {top}]"
        f"/ItalicAngle 0/Ascent {top}/Descent {bottom}/CapHeight {top}/StemV 80"
        f"/FontFile2 {file} 0 R>>",
    )
    descendant = _object(
        document,
        f"<</Type/Font/Subtype/CIDFontType2/BaseFont/{FONT_NAME}/DW {wide}"
        "/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>"
        f"/CIDToGIDMap {glyphs} 0 R/FontDescriptor {descriptor} 0 R>>",
    )
    document.update_object(
        font,
        f"<</Type/Font/Subtype/Type0/BaseFont/{FONT_NAME}/Encoding/Identity-H"
        f"/DescendantFonts[{descendant} 0 R]/ToUnicode {meaning} 0 R>>",
    )


def _object(document: Any, text: str) -> int:
    xref: int = document.get_new_xref()
    document.update_object(xref, text)
    return xref


def _stream(document: Any, data: bytes, head: str) -> int:
    xref = _object(document, head)
    document.update_stream(xref, data)
    return xref
