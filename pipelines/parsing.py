"""A file -> an Item: the parent's side of the parsers, which run in sandbox children.

Knows no file format itself. Safe for threads: parsing overlaps whatever the caller does meanwhile.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_onnx.errors import InputError
from pipelines.clips import Clip, ClipOptions
from pipelines.cues import Cue
from pipelines.items import Item
from pipelines.ocr import find_tesseract
from pipelines.pages import DocumentInfo, Page, PageOptions, page_from_plain
from pipelines.records import Source
from pipelines.sandbox import Limits, ParserPool

_KEPT_BYTES = 32 << 20  # of one item in memory; what is more lies in a temporary file


@dataclass(frozen=True)
class Seconds:
    """Wall-clock limits. opening: of a file; page: of one page, with Tesseract; clip: of one."""

    opening: float = 120.0
    page: float = 120.0
    clip: float = 120.0


class Parser:
    """Reads files in `workers` child processes. Use as a context manager or call `close`."""

    def __init__(
        self,
        *,
        workers: int = 1,
        tesseract: bool = True,
        pages: PageOptions | None = None,
        clips: ClipOptions | None = None,
        seconds: Seconds | None = None,
        limits: Limits | None = None,
        scratch: Path | None = None,
    ) -> None:
        """tesseract: whether pages without words go through it where it is installed;
        scratch: the directory for temporary files (None: the system's)."""
        pages = pages or PageOptions()
        if tesseract and pages.tesseract is None:
            pages = replace(pages, tesseract=find_tesseract())
        self._pages = asdict(pages)
        self._clips = asdict(clips or ClipOptions())
        self._seconds = seconds or Seconds()
        self._scratch = scratch
        self._pool = ParserPool(workers, limits=limits, scratch=scratch)

    def read(self, path: str | os.PathLike[str], source: Source) -> Item:
        """All of a file. source.kind says which parser. Raises InputError with its reason."""
        started = time.monotonic()
        match source.kind:
            case "document":
                info = self.open_document(path)
                pages = tuple(self.pages(path, info))
                item = Item(_with_pages(source, info.pages, pages), pages=pages)
            case "recording":
                item = Item(source, clips=tuple(self.clips(path)))
            case "text":
                item = Item(source, cues=self.cues(path))
        return replace(item, parse_seconds=time.monotonic() - started)

    def open_document(self, path: str | os.PathLike[str]) -> DocumentInfo:
        name = "pipelines.documents:open_document_plain"
        plain = self._run(name, path, self._seconds.opening, options=self._pages)
        return DocumentInfo(plain["kind"], plain["pages"], tuple(plain["warnings"]))

    def pages(self, path: str | os.PathLike[str], info: DocumentInfo) -> Iterator[Page]:
        """The pages in order. One that cannot be read is empty, with the warning `unread_page`, and
        does not lose the others; a document of which none can be read fails."""
        kept = _Kept(self._scratch)
        failed = 0
        for number in range(1, info.pages + 1):
            try:
                page = self.read_page(path, number)
            except InputError as error:
                failed += 1
                if failed == info.pages or error.reason == "cancelled":
                    raise InputError(f"page {number}: {error}", reason=error.reason) from None
                page = Page(number, None, (), "", "none", warnings=("unread_page",))
            notes = info.warnings + page.warnings
            yield replace(page, image=kept.keep(page.image), warnings=notes)

    def read_page(self, path: str | os.PathLike[str], number: int) -> Page:
        name = "pipelines.documents:read_page_plain"
        plain = self._run(name, path, self._seconds.page, number=number, options=self._pages)
        return page_from_plain(plain)

    def clips(self, path: str | os.PathLike[str]) -> Iterator[Clip]:
        """The clips in order; silence between them is left out."""
        name = "pipelines.clips:open_recording_plain"
        info = self._run(name, path, self._seconds.opening, options=self._clips)
        kept = _Kept(self._scratch)
        for start, end in info["spans"]:
            samples = self._run(
                "pipelines.clips:read_clip_plain",
                path,
                self._seconds.clip,
                span=[start, end],
                options=self._clips,
            )
            yield Clip(kept.keep(samples), (start, end))

    def cues(self, path: str | os.PathLike[str]) -> tuple[Cue, ...]:
        plain = self._run("pipelines.cues:read_cues_plain", path, self._seconds.opening)
        return tuple(Cue(text, (span[0], span[1]) if span else None) for text, span in plain)

    def close(self) -> None:
        """Ends the children; reading in other threads ends with InputError `cancelled`."""
        self._pool.close()

    def __enter__(self) -> Parser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, name: str, path: str | os.PathLike[str], seconds: float, **options: Any) -> Any:
        return self._pool.run(name, os.path.abspath(path), seconds=seconds, **options)


def _with_pages(source: Source, count: int, pages: tuple[Page, ...]) -> Source:
    turns = {page.number: page.turned for page in pages}
    turned = tuple(turns.get(number, 0) for number in range(1, count + 1))
    return source.model_copy(update={"pages": count, "turned": turned if any(turned) else None})


class _Kept:
    """Arrays of one item: the first stay in memory, the rest in a file that has no name and goes
    with the last array that lies in it."""

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._bytes = 0

    def keep(self, array: NDArray[Any] | None) -> Any:
        if array is None or self._bytes + array.nbytes <= _KEPT_BYTES or not array.nbytes:
            self._bytes += 0 if array is None else array.nbytes
            return array
        try:
            with tempfile.TemporaryFile(dir=self._scratch) as file:
                array.tofile(file)
                file.flush()
                return np.asarray(np.memmap(file, array.dtype, "r", shape=array.shape))
        except OSError as error:
            raise InputError(
                f"cannot keep the pages of a long document ({error.strerror}); make room in the "
                "temporary directory",
                reason="memory",
            ) from None
