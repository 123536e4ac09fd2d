"""Whatever the library is given -> an Item: a path, the bytes of a file, a picture, a waveform."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from model_onnx.errors import InputError
from pipelines.clips import make_clips
from pipelines.items import Item
from pipelines.pages import Page
from pipelines.parsing import Parser
from pipelines.records import Source

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["document", "recording", "video", "text"]
_KINDS: dict[Kind, tuple[str, ...]] = {
    "document": (".pdf", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"),
    "recording": (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a"),
    "video": (".mp4", ".mov", ".webm"),
    "text": (".txt", ".srt", ".vtt"),
}
SUFFIXES: dict[str, Kind] = {s: kind for kind, suffixes in _KINDS.items() for s in suffixes}
# What the first bytes of a file say; text has no mark of its own.
_MARKS = (
    (b"%PDF-", ".pdf"), (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"), (b"fLaC", ".flac"), (b"OggS", ".ogg"), (b"ID3", ".mp3"),
    (b"\xff\xfb", ".mp3"), (b"\xff\xf3", ".mp3"), (b"WEBVTT", ".vtt"),
    (b"\x1a\x45\xdf\xa3", ".webm"),
)  # fmt: skip


class Opener:
    """Parses in child processes. Use as a context manager or call `close`; safe for threads."""

    def __init__(self, *, workers: int = 1, tesseract: bool = True) -> None:
        """tesseract: whether pages without words go through it where it is installed."""
        self._parser = Parser(workers=workers, tesseract=tesseract)

    def open(
        self, item: str | Path | bytes | Image | NDArray[Any], *, rate: int | None = None
    ) -> Item:
        """Parses an input. rate: Hz, of a waveform. Raises InputError, ValueError, TypeError."""
        started = time.monotonic()
        opened = self._open(item, rate)
        return Item(**vars(opened) | {"parse_seconds": time.monotonic() - started})

    def _open(self, item: str | Path | bytes | Image | NDArray[Any], rate: int | None) -> Item:
        source = source_of(item)
        match item:
            case str() | Path():
                return self._parser.read(Path(item), source)
            case bytes():
                return self._open_bytes(item, source)
            case np.ndarray() if item.ndim == 1:
                return _open_waveform(item, rate, source)
            case np.ndarray():
                return _open_picture(item, source)
        upright = ImageOps.exif_transpose(item)
        return _open_picture(np.asarray(upright.convert("RGB")), source)

    def _open_bytes(self, raw: bytes, source: Source) -> Item:
        with tempfile.TemporaryDirectory(prefix="scanscribe-") as directory:
            path = Path(directory) / f"input{suffix_of(raw)}"
            path.write_bytes(raw)
            return self._parser.read(path, source)

    def close(self) -> None:
        self._parser.close()

    def __enter__(self) -> Opener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def suffix_of(raw: bytes) -> str:
    """The file name's end that fits the content: `.pdf` ..., `.txt` when nothing is recognised."""
    if raw[:4] == b"RIFF":
        return {b"WAVE": ".wav", b"WEBP": ".webp"}.get(raw[8:12], ".wav")
    if raw[4:8] == b"ftyp":
        return {b"M4A ": ".m4a", b"qt  ": ".mov"}.get(raw[8:12], ".mp4")
    return next((suffix for mark, suffix in _MARKS if raw.startswith(mark)), ".txt")


def source_of(item: str | Path | bytes | Image | NDArray[Any]) -> Source:
    """What a record says of where it came from. Never raises for a file that cannot be read."""
    if isinstance(item, str | Path):
        kind = SUFFIXES.get(Path(item).suffix.lower(), "document")
        return Source(path=_shown(item), sha256=_sha256(Path(item)), kind=kind)
    if isinstance(item, bytes):
        kind = SUFFIXES[suffix_of(item)]
        return Source(path="<bytes>", sha256=hashlib.sha256(item).hexdigest(), kind=kind)
    array = np.ascontiguousarray(item)
    name: tuple[str, Kind] = (
        ("<waveform>", "recording") if array.ndim == 1 else ("<picture>", "document")
    )
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str};".encode())
    digest.update(array.tobytes())
    return Source(path=name[0], sha256=digest.hexdigest(), kind=name[1])


def _shown(path: str | Path) -> str:
    """A path as text that JSON can hold, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _open_waveform(samples: NDArray[Any], rate: int | None, source: Source) -> Item:
    if not rate:
        raise ValueError("got a waveform without its rate, expected rate=16000 or what it is")
    if samples.dtype.kind not in "fi":
        raise TypeError(f"got samples of {samples.dtype}, expected float32 in -1..1 or int16")
    scale = 32768.0 if samples.dtype.kind == "i" else 1.0
    mono = (samples / scale).astype(np.float32)
    if not np.isfinite(mono).all():
        raise InputError(
            "got samples that are not numbers, expected sound; check the decoder", reason="damaged"
        )
    return Item(source, clips=tuple(make_clips(mono, rate)))


def _open_picture(pixels: NDArray[Any], source: Source) -> Item:
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or not pixels.size:
        raise TypeError(
            f"got an array of {pixels.dtype} {pixels.shape}, expected uint8 pixels [H, W] or "
            "[H, W, 3], or a waveform [n]"
        )
    rgb = pixels[:, :, :3] if pixels.ndim == 3 else pixels
    page = Page(1, np.ascontiguousarray(rgb), (), "", "none")
    return Item(source, pages=(page,))
