"""A file -> an Item: the parent's side of the parsers, which run in sandbox children.

Knows no file format itself. Safe for threads: parsing overlaps whatever the caller does meanwhile.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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
from pipelines.records import Source, Span
from pipelines.sandbox import Limits, ParserPool
from pipelines.video import VideoOptions

_MAY_PASS = ("timeout", "memory", "parser_crashed")  # on a machine that was busy for a moment
_RETRIES = 2  # of a file's pages, each once: one that hangs on every page must come to its end
_KEPT_BYTES = 32 << 20  # of one item in memory; what is more lies in a temporary file


@dataclass(frozen=True)
class Seconds:
    """Wall-clock limits. opening: of a file; page: of one page or frame, with Tesseract;
    clip: of one; film: of opening a video, which is decoded as a whole."""

    opening: float = 120.0
    page: float = 120.0
    clip: float = 120.0
    film: float = 600.0


class Parser:
    """Reads files in `workers` child processes. Use as a context manager or call `close`."""

    def __init__(
        self,
        *,
        workers: int = 1,
        tesseract: bool = True,
        pages: PageOptions | None = None,
        clips: ClipOptions | None = None,
        videos: VideoOptions | None = None,
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
        self._videos = asdict(videos or VideoOptions())
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
            case "video":
                item = self._video(path, source)
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
        numbers = range(1, info.pages + 1)
        for page in self._each(numbers, lambda number: self.read_page(path, number)):
            yield replace(page, warnings=info.warnings + page.warnings)

    def _each(self, numbers: Sequence[int], read: Callable[[int], Page]) -> Iterator[Page]:
        kept = _Kept(self._scratch)
        failed, retries = 0, _RETRIES
        for number in numbers:
            try:
                try:
                    page = read(number)
                except InputError as error:
                    if error.reason not in _MAY_PASS or not retries:
                        raise
                    retries -= 1
                    page = read(number)
            except InputError as error:
                failed += 1
                if failed == len(numbers) or error.reason == "cancelled":
                    raise InputError(f"page {number}: {error}", reason=error.reason) from None
                page = Page(number, None, (), "", "none", warnings=("unread_page",))
            yield replace(page, image=kept.keep(page.image))

    def read_page(self, path: str | os.PathLike[str], number: int) -> Page:
        name = "pipelines.documents:read_page_plain"
        plain = self._run(name, path, self._seconds.page, number=number, options=self._pages)
        return page_from_plain(plain)

    def _video(self, path: str | os.PathLike[str], source: Source) -> Item:
        """Its frames and, where wanted and there, its speech. One without frames is a recording."""
        name = "pipelines.video:open_video_plain"
        info = self._run(name, path, self._seconds.film, options=self._videos)
        spans: list[Span] = [(start, end) for start, end in info["spans"]]
        clips: tuple[Clip, ...] = ()
        if self._videos["sound"] or not spans:
            try:
                clips = tuple(self.clips(path))
            except InputError as error:
                if not spans or error.reason not in ("silent", "empty"):
                    raise
        pages = tuple(self._frames(path, spans))
        if pages:
            whole = (0.0, float(info["seconds"]))
            source = source.model_copy(update={"pages": len(pages), "span": whole})
        return Item(source, pages=pages, clips=clips)

    def _frames(self, path: str | os.PathLike[str], spans: Sequence[Span]) -> Iterator[Page]:
        def read(number: int) -> Page:
            options = {"options": self._videos, "pages": self._pages, "span": spans[number - 1]}
            name, seconds = "pipelines.video:read_frame_plain", self._seconds.page
            return page_from_plain(self._run(name, path, seconds, number=number, **options))

        for page in self._each(range(1, len(spans) + 1), read):
            yield replace(page, span=spans[page.number - 1])

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
