"""What a person is shown of a file: small pictures of its pages, its sound, its text.

Knows no model and no record. Runs in a sandbox child, as every parser does; `Previews` is the
parent's side. Pages are in the same upright frame as the boxes of records.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_onnx.errors import InputError
from pipelines.ocr import find_tesseract
from pipelines.orientation import turn_image
from pipelines.pages import Page, PageOptions, options_from_plain
from pipelines.records import Span
from pipelines.sandbox import ParserPool
from pipelines.video import VideoOptions

LONG_SIDE = 1400  # pixels: small print of a letter can be read
WORKERS = 2  # child processes
_QUALITY = 50  # of WebP, 0 to 100
_SOUND_BLOCK = 60.0  # seconds
_BARS = 600
_SECONDS = 120.0


@dataclass(frozen=True)
class PagePreview:
    """image: WebP, None for plain text; width, height: its pixels; text: the page's own words."""

    image: bytes | None
    width: int
    height: int
    text: str


@dataclass(frozen=True)
class SoundPreview:
    """sound: MP3, mono, 16 kHz; bars: loudness over time, 0 to 100."""

    sound: bytes
    seconds: float
    bars: tuple[int, ...]


class Previews:
    """Makes previews in `workers` child processes. Safe for threads; raises InputError."""

    def __init__(self, workers: int = WORKERS) -> None:
        self._pool = ParserPool(workers)

    def page(
        self,
        path: str | os.PathLike[str],
        number: int,
        *,
        turn: int = 0,
        recognise: bool = False,
        videos: VideoOptions | None = None,
    ) -> PagePreview:
        """Page `number` (1-based). turn: clockwise degrees that the run turned a scan by;
        recognise: also the words of a scan, with Tesseract; videos: how the run read them, which
        says what frame has this number."""
        options = PageOptions(dpi=120, pixels=LONG_SIDE * LONG_SIDE)
        if recognise:
            options = replace(PageOptions(), tesseract=find_tesseract())
        given = {"options": asdict(options), "videos": asdict(videos or VideoOptions())}
        plain = self._run("page_plain", path, number=number, turn=turn, **given)
        image = plain["image"]
        size = plain["width"], plain["height"]
        return PagePreview(None if image is None else image.tobytes(), *size, plain["text"])

    def sound(self, path: str | os.PathLike[str]) -> SoundPreview:
        plain = self._run("sound_plain", path)
        return SoundPreview(plain["sound"].tobytes(), plain["seconds"], tuple(plain["bars"]))

    def text(self, path: str | os.PathLike[str]) -> str:
        """A text file's lines as the subtasks see them."""
        cues = self._pool.run(
            "pipelines.cues:read_cues_plain", os.path.abspath(path), seconds=_SECONDS
        )
        lines = [" ".join(line.split()) for text, _ in cues for line in text.split("\n")]
        return "\n".join(line for line in lines if line)

    def close(self) -> None:
        self._pool.close()

    def _run(self, name: str, path: str | os.PathLike[str], **options: Any) -> Any:
        function = f"pipelines.previews:{name}"
        return self._pool.run(function, os.path.abspath(path), seconds=_SECONDS, **options)


def page_plain(
    path: str,
    number: int,
    turn: int = 0,
    options: Mapping[str, Any] | None = None,
    videos: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """In the child: one page as WebP and its words."""
    how = options_from_plain(dict(options or {}))
    page = _page(path, number, how, VideoOptions(**videos or {}))
    plain: dict[str, Any] = {"image": None, "width": 0, "height": 0, "text": page.text}
    if page.image is None:
        return plain
    read_without_words = page.text_source == "none"  # nothing has turned it yet
    pixels = turn_image(page.image, turn) if read_without_words else page.image
    return plain | _webp(pixels)


def _page(path: str, number: int, options: PageOptions, videos: VideoOptions) -> Page:
    """A page, or a frame of a video."""
    from pipelines.documents import read_page
    from pipelines.video import is_video, open_video, read_frame

    if not is_video(path):
        return read_page(path, number, options)
    spans = _opened.get((path, videos))
    if spans is None:
        _opened.clear()
        spans = _opened[path, videos] = open_video(path, videos).spans
    if not 1 <= number <= len(spans):
        raise InputError("got a video without this frame; run again", reason="changed")
    return read_frame(path, number, spans[number - 1], videos, options)


# The last video: the next frame is likely of it.
_opened: dict[tuple[str, VideoOptions], tuple[Span, ...]] = {}


def _webp(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4)
    data = np.frombuffer(buffer.getvalue(), np.uint8)
    return {"image": data, "width": image.width, "height": image.height}


def sound_plain(path: str) -> dict[str, Any]:
    """In the child: a recording as MP3, block by block, and its loudness."""
    import soundfile

    from pipelines.clips import open_recording, read_clip

    seconds = open_recording(path).seconds
    size = max(1, int(seconds * 16_000 / _BARS))
    buffer, loudness = io.BytesIO(), []
    with soundfile.SoundFile(buffer, "w", 16_000, 1, format="MP3") as mp3:
        at = 0.0
        while at < seconds:
            block = read_clip(path, (at, min(seconds, at + _SOUND_BLOCK)))
            mp3.write(block)
            whole = np.pad(np.abs(block), (0, -len(block) % size)).reshape(-1, size)
            loudness += list(whole.max(axis=1))
            at += _SOUND_BLOCK
    top = max(loudness, default=0.0) or 1.0
    bars = [round(float(100 * value / top)) for value in loudness]
    sound = np.frombuffer(buffer.getvalue(), np.uint8)
    return {"sound": sound, "seconds": seconds, "bars": bars}
