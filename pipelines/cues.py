"""Text files as cues: plain text line by line, SRT and WebVTT with their times."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from model_onnx.errors import InputError
from pipelines.records import Span

MOST_BYTES = 16 << 20

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{3})"
_TIMING = re.compile(rf"\s*{_TIME}\s+-->\s+{_TIME}(?:\s.*)?")
_MARKUP = re.compile(r"</?[a-zA-Z][^<>\n]*>|<\d[\d:.]*>")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_BLOCKS_WITHOUT_TEXT = ("NOTE", "STYLE", "REGION")


@dataclass(frozen=True)
class Cue:
    """Some lines of text; span in seconds where the file has times."""

    text: str
    span: Span | None = None


def read_cues(path: Path) -> tuple[Cue, ...]:
    """The text of a TXT, SRT or VTT file. InputError: `too_large`, `unreadable`, `damaged`."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(
                f"got {path.stat().st_size} bytes, expected at most {MOST_BYTES}; split the text",
                reason="too_large",
            )
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror}); check its permissions and the disk",
            reason="unreadable",
        ) from None
    return parse_cues(raw, path.suffix.lower())


def parse_cues(raw: bytes, suffix: str = ".txt") -> tuple[Cue, ...]:
    """suffix: `.srt` and `.vtt` are parsed for their times, everything else is one cue."""
    text = "\n".join(decode(raw).splitlines())
    if suffix in (".srt", ".vtt"):
        return _timed(text)
    return (Cue(text),) if text.strip() else ()


def decode(raw: bytes) -> str:
    """UTF-8, UTF-16 with a byte order mark, else Windows-1252 (which old scanners write).

    Control characters but tabs and line ends become spaces. Raises InputError for binary files.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = raw.decode("utf-16", "replace")
    else:
        if b"\0" in raw:
            raise InputError(
                "got binary data, expected text; name the file by its kind", reason="damaged"
            )
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("cp1252", "replace")
    return _CONTROL.sub(" ", text)


def _timed(text: str) -> tuple[Cue, ...]:
    cues = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.strip("\n").split("\n")
        at = next((at for at, line in enumerate(lines[:2]) if _TIMING.fullmatch(line)), None)
        if at is None or lines[0].startswith(_BLOCKS_WITHOUT_TEXT):
            continue
        timing = _TIMING.fullmatch(lines[at])
        assert timing
        start, end = _seconds(*timing.groups()[:4]), _seconds(*timing.groups()[4:])
        spoken = " ".join(_MARKUP.sub("", " ".join(lines[at + 1 :])).split())
        if spoken and end >= start:
            cues.append(Cue(spoken, (start, end)))
    if not cues and text.strip():
        raise InputError(
            "got no cue with times, expected SRT or WebVTT; correct the times or name it .txt",
            reason="damaged",
        )
    return tuple(cues)


def _seconds(hours: str | None, minutes: str, seconds: str, thousandths: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(thousandths) / 1000


def read_cues_plain(path: str) -> list[tuple[str, Span | None]]:
    """`read_cues` for the sandbox: (text, span) of each cue."""
    return [(cue.text, cue.span) for cue in read_cues(Path(path))]
