"""Videos -> frames with their times: MP4, MOV and WebM, with the `av` extra.

    info = open_video("tour.mp4")              # VideoInfo(seconds=12.0, spans=((0.0, 3.0), ...))
    page = read_frame("tour.mp4", 1, info.spans[0])   # a Page: its picture, its words, its span

Knows no model. A frame is taken every 1/rate seconds; one that looks like the frame before it is
not kept, and that one's span goes on. Runs in a sandbox child; the file is decoded front to back
and one frame is in memory at a time. The sound is `clips.py`'s.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_onnx.errors import ConfigError, InputError
from pipelines.pages import Page, PageOptions, options_from_plain, page_to_plain
from pipelines.pictures import grey_if_grey
from pipelines.records import Span

MARKS = (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip")  # the last five: old MOV
_WIDEST = 640  # pixels of what is compared
_BLOCK = 8  # pixels: about a letter
_SAME = 32.0  # grey levels, the mean over a block; a codec settling is below 25


@dataclass(frozen=True)
class VideoOptions:
    """rate: frames a second that are looked at; sound: whether its speech is read, too. The rest
    are limits: seconds, frames (kept ones) and bytes of a file raise InputError `too_large`;
    frames of more than `pixels` are scaled down."""

    rate: float = 1.0
    sound: bool = True
    seconds: float = 900.0
    frames: int = 300
    bytes: int = 2 << 30
    pixels: int = 2_000_000

    def __post_init__(self) -> None:
        numbers = (self.rate, self.seconds, self.frames, self.bytes, self.pixels)
        if not all(0 < number < math.inf for number in numbers):
            raise ConfigError(f"got {self}, expected numbers above 0")


@dataclass(frozen=True)
class VideoInfo:
    """spans: of the frames that are kept, in seconds: a frame stands for the time until the next.
    Without one the file has sound alone."""

    seconds: float
    spans: tuple[Span, ...]


def open_video(path: str, options: VideoOptions | None = None) -> VideoInfo:
    """Raises InputError: `empty`, `damaged`, `unsupported`, `too_large`."""
    options = options or VideoOptions()
    if (size := os.stat(path).st_size) > options.bytes:
        raise InputError(
            f"got {size} bytes, expected at most {options.bytes}; split the video or raise "
            "VideoOptions.bytes (--video bytes=...)",
            reason="too_large",
        )
    starts: list[float] = []
    last: NDArray[np.float32] | None = None
    end = 0.0
    with _Film(path, options) as film:
        if not film.has_pictures:
            return VideoInfo(0.0, ())
        for time, frame in film.samples():
            small = _small(frame)
            end = max(time, film.seconds)
            if last is None or _differs(last, small):
                starts.append(time)
                last = small
            if len(starts) > options.frames:
                raise InputError(
                    f"got more than {options.frames} different frames, expected at most that; "
                    "lower VideoOptions.rate, or raise VideoOptions.frames (--video frames=...)",
                    reason="too_large",
                )
    if not starts:
        raise InputError(
            "got a video without a frame, expected some; export it again", reason="empty"
        )
    spans = zip(starts, [*starts[1:], max(end, starts[-1] + 1 / options.rate)], strict=True)
    rounded = tuple((round(a, 3), round(b, 3)) for a, b in spans)
    return VideoInfo(rounded[-1][1], rounded)


def read_frame(
    path: str,
    number: int,
    span: Span,
    options: VideoOptions | None = None,
    pages: PageOptions | None = None,
) -> Page:
    """Frame `number` (1-based), the one that `span` begins with; its words where Tesseract is
    asked for. Raises InputError."""
    from pipelines.documents import page_of_pixels

    pixels = _at(path, span[0], options or VideoOptions())
    page = page_of_pixels(number, grey_if_grey(pixels), pages or PageOptions())
    words = tuple(word.model_copy(update={"span": span}) for word in page.words)
    return replace(page, words=words, span=span)


def is_video(path: str) -> bool:
    """By its first bytes: one of the containers, which may hold sound alone."""
    with open(path, "rb") as file:
        head = file.read(12)
    return head[4:8] in MARKS or head.startswith(b"\x1a\x45\xdf\xa3")


def open_video_plain(path: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """`open_video` for the sandbox: plain data in and out."""
    return asdict(open_video(path, VideoOptions(**options or {})))


def read_frame_plain(
    path: str,
    number: int,
    span: list[float],
    options: dict[str, Any] | None = None,
    pages: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`read_frame` for the sandbox; `pages.page_from_plain` is the way back."""
    place = (span[0], span[1])
    page = read_frame(path, number, place, VideoOptions(**options or {}), options_from_plain(pages))
    return page_to_plain(page)


class _Film:
    """An open video."""

    def __init__(self, path: str, options: VideoOptions) -> None:
        self._options = options
        av = _load_av()
        self._errors = (av.FFmpegError, ValueError)
        if not os.stat(path).st_size:
            raise InputError(
                "got a file of 0 bytes, expected a video; copy it again", reason="empty"
            )
        try:
            self._container = av.open(path, metadata_errors="ignore")
        except self._errors as error:
            raise _damaged(error) from None
        films = [s for s in self._container.streams.video if not _is_cover(s)]
        if not films and not self._container.streams.audio:
            self._container.close()
            raise InputError(
                "got a video without a picture or a sound, expected frames; export it again",
                reason="empty",
            )
        self.has_pictures = bool(films)
        self._stream = films[0] if films else None
        if self._stream:
            self._stream.thread_count = 1  # a child has one core and little memory
        self.seconds = float(self._container.duration or 0) / av.time_base
        if self.seconds > options.seconds:
            self._container.close()
            raise _too_long(options)

    def samples(self) -> Iterator[tuple[float, Any]]:
        """(seconds, frame) for every 1/rate seconds, the first frame at or after each."""
        try:
            for at, frame in enumerate(self._container.decode(self._stream)):
                time = frame.time if frame.time is not None else at / 24
                if at == 0:
                    begin, due = time, 0.0
                time -= begin
                if time > self._options.seconds:
                    raise _too_long(self._options)
                if time + 1e-3 < due:
                    continue
                due = (math.floor(time * self._options.rate + 1e-3) + 1) / self._options.rate
                yield time, frame
        except self._errors as error:
            raise _damaged(error) from None

    def pixels(self, frame: Any) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], upright, scaled down to the limit."""
        scale = min(1.0, math.sqrt(self._options.pixels / (frame.width * frame.height)))
        width, height = (max(16, int(scale * side)) for side in (frame.width, frame.height))
        try:
            rgb = frame.to_ndarray(format="rgb24", width=width, height=height)
        except self._errors as error:
            raise _damaged(error) from None
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(rgb, turns))

    def close(self) -> None:
        with suppress(*self._errors):
            self._container.close()

    def __enter__(self) -> _Film:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# The last film, its frames, and the frame that was asked for: the next one comes behind it.
_last: tuple[object, _Film, Iterator[tuple[float, Any]], float] | None = None


def _at(path: str, time: float, options: VideoOptions) -> NDArray[np.uint8]:
    global _last
    status = os.stat(path)
    identity = (path, status.st_ino, status.st_size, status.st_mtime_ns, options)
    if _last and (_last[0] != identity or _last[3] >= time):
        _last[1].close()
        _last = None
    if _last is None:
        film = _Film(path, options)
        _last = (identity, film, film.samples(), -1.0)
    _, film, samples, _ = _last
    for found, frame in samples:
        if found + 1e-3 >= time:
            _last = (identity, film, samples, found)
            return film.pixels(frame)
    raise InputError(
        f"got no frame at {time:.1f} s any more, expected the one that was there; the file has "
        "changed, run again",
        reason="damaged",
    )


def _small(frame: Any) -> NDArray[np.float32]:
    """Grey, its sides multiples of the block, as wide as what is compared."""
    scale = min(1.0, _WIDEST / frame.width)
    width, height = (max(1, int(scale * n / _BLOCK)) * _BLOCK for n in (frame.width, frame.height))
    return np.asarray(frame.to_ndarray(format="gray", width=width, height=height), np.float32)


def _differs(one: NDArray[np.float32], two: NDArray[np.float32]) -> bool:
    """Whether as much as one letter is another."""
    if one.shape != two.shape:
        return True
    rows, columns = (side // _BLOCK for side in one.shape)
    blocks = np.abs(one - two).reshape(rows, _BLOCK, columns, _BLOCK).mean(axis=(1, 3))
    return bool(blocks.max() > _SAME)


def _is_cover(stream: Any) -> bool:
    """The picture of an album is a stream of one frame."""
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _load_av() -> Any:
    try:
        import av
    except ImportError:
        raise InputError(
            "got a video, which needs PyAV; pip install 'scanscribe[av]', or give its frames as "
            "pictures and its sound as WAV",
            reason="unsupported",
        ) from None
    return av


def _too_long(options: VideoOptions) -> InputError:
    return InputError(
        f"got a video of more than {options.seconds:.0f} s, expected at most that; split it or "
        "raise VideoOptions.seconds (--video seconds=...)",
        reason="too_large",
    )


def _damaged(error: Exception) -> InputError:
    return InputError(
        f"got a video that cannot be read ({type(error).__name__}), expected MP4, MOV or WebM; "
        "export it again",
        reason="damaged",
    )
