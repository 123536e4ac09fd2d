"""Timed segments of speech -> subtitles that can be read: SubRip and WebVTT.

Limits as in Netflix' Timed Text Style Guide (general requirements, English templates): two lines of
42 characters, 17 characters a second, at least 5/6 of a second and at most 7 seconds a cue. A wide
character (Chinese, Japanese, Korean) counts as two.

A segment has a start and an end but no times of its words: its cues share its time by their length.
Where speech is faster than it can be read, its cues go on into the silence behind it, at most
LINGER seconds; they never overlap, and no word is left out. SubRip has no escapes, so words in
angle brackets may be taken for markup by a player; in WebVTT they are escaped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

LINE = 42  # columns
SPEED = 17.0  # columns a second
SHORTEST, LONGEST = 5 / 6, 7.0  # seconds
LINGER = 2.0  # seconds; more would be too late for the words that come after
_ARROW = re.compile("-{2,}>")  # it would make a time of a line
_CLAUSE = (".", "!", "?", "…", ",", ";", ":", "。", "！", "？", "、", "؟", "،")


@dataclass(frozen=True)
class Cue:
    """start, end: milliseconds; lines: one or two."""

    start: int
    end: int
    lines: tuple[str, ...]


def srt(output: Mapping[str, Any]) -> str | None:
    """The SubRip file of a record's output; None where nothing has times."""
    cues = [
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n"
        + "".join(f"{line}\n" for line in cue.lines)
        for number, cue in enumerate(cues_of(segments_of(output)), 1)
    ]
    return "\n".join(cues) if cues else None


def vtt(output: Mapping[str, Any]) -> str | None:
    """The WebVTT file of a record's output; None where nothing has times."""
    cues = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n"
        + "".join(f"{_escape(line)}\n" for line in cue.lines)
        for cue in cues_of(segments_of(output))
    ]
    return "\n".join(["WEBVTT\n", *cues]) if cues else None


def segments_of(output: Mapping[str, Any]) -> list[tuple[float, float, str]]:
    """(start, end, words) of `output.segments`, in the order of their starts."""
    segments = [
        (segment["start"], segment["end"], " ".join(str(segment["text"]).split()))
        for segment in output.get("segments") or ()
        if segment.get("start") is not None and segment.get("end") is not None
    ]
    return sorted((s for s in segments if s[2]), key=lambda segment: segment[0])


def cues_of(segments: Sequence[tuple[float, float, str]]) -> Iterator[Cue]:
    """segments: (start, end, words), seconds, sorted by start."""
    last = 0
    starts = [start for start, _, _ in segments[1:]]
    for (start, end, text), following in zip_longest(segments, starts):
        needed = max(_width(text) / SPEED, SHORTEST)
        longer = min(max(end, start + needed), max(end, start) + LINGER)
        if following is not None:
            longer = min(longer, max(following, start))
        first = max(round(start * 1000), last)
        texts = list(_split(text, (longer - start) or 1.0))
        final = max(round(longer * 1000), first + len(texts))  # a millisecond each at least
        for cue in _share(first, final, texts):
            yield cue
            last = cue.end


def _share(first: int, final: int, texts: Sequence[str]) -> Iterator[Cue]:
    """Cues side by side, each as long as its share of the columns."""
    total = sum(map(_width, texts))
    done, start = 0, first
    for place, text in enumerate(texts):
        done += _width(text)
        rest = len(texts) - place - 1
        end = first + round((final - first) * done / total) if total else final
        end = min(max(end, start + 1), final - rest)
        yield Cue(start, end, tuple(_lines(text)))
        start = end


def _split(text: str, seconds: float) -> Iterator[str]:
    """Parts that fit two lines and LONGEST seconds, ending with a clause where one ends late."""
    most = max(min(2 * LINE, _width(text) * LONGEST / seconds), LINE / 2)
    words: list[str] = []
    for word in _words(text):
        whole = [*words, word]
        if words and (_width(" ".join(whole)) > most or len(_wrap(whole)) > 2):
            yield " ".join(words)
            whole = [word]
        words = whole
        so_far = " ".join(words)
        if so_far.endswith(_CLAUSE) and _width(so_far) > most / 2:
            yield so_far
            words = []
    if words:
        yield " ".join(words)


def _words(text: str) -> Iterator[str]:
    """Words, those that are longer than a line in pieces."""
    for word in _ARROW.sub("->", text).split():
        piece = ""
        for character in word:
            if piece and not unicodedata.combining(character) and _width(piece + character) > LINE:
                yield piece
                piece = ""
            piece += character
        yield piece


def _lines(text: str) -> list[str]:
    """One line where it fits, else two of the most even widths."""
    words = text.split(" ")
    if _width(text) <= LINE:
        return [text]
    cuts = ((" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words)))
    fitting = [cut for cut in cuts if max(map(_width, cut)) <= LINE]
    upper, lower = min(fitting, key=lambda cut: abs(_width(cut[0]) - _width(cut[1])))
    return [upper, lower]


def _wrap(words: Iterable[str]) -> list[str]:
    """Words in as few lines as they take."""
    lines: list[str] = []
    for word in words:
        if lines and _width(f"{lines[-1]} {word}") <= LINE:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    return lines


def _width(text: str) -> int:
    """Columns: wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _clock(milliseconds: int, mark: str) -> str:
    """`01:02:03,450`"""
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
