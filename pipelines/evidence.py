"""Evidence: the words of an item as lines in reading order, cut to what a model can take.

Knows no model and no file format. A line is one string in the prompt, so the model sees lines and
every word keeps its place. Words that a model has read carry its confidence.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipelines.records import Box, Grounding, Word

# What the digest keeps besides the top: lines with a date, and lines about totals.
_DATE = re.compile(r"\d{1,4}[/.-]\d{1,2}[/.-]\d{2,4}|\d{1,2}[ /-]?[A-Za-z]{3,9}[ /-]?\d{2,4}|\d{8}")
_TOTAL = re.compile(r"total|amount|due|rounding|nett?|payable|\bRM\b", re.IGNORECASE)
_HEAD = 9


@dataclass(frozen=True)
class Line:
    """Words that stand on one line.

    confidence: of the reading, per token; certain: for each word the probability that it was read
    right. Both are 1 where nothing was read.
    """

    words: tuple[Word, ...]
    confidence: float = 1.0
    certain: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def page(self) -> int | None:
        return self.words[0].page


def joined(lines: Iterable[Line]) -> str:
    """The text that the model is given and that its values must be runs of."""
    return "\n".join(line.text for line in lines)


def lines_of(words: Sequence[Word], text: str) -> tuple[Line, ...]:
    """Words as the lines of `text`, which holds the same words in the same order."""
    lines, at = [], 0
    for line in text.split("\n"):
        count = len(line.split())
        if part := tuple(words[at : at + count]):
            lines.append(Line(part))
        at += count
    return (*lines, Line(tuple(words[at:]))) if words[at:] else tuple(lines)


@dataclass(frozen=True)
class Place:
    """Where a value was found: its words, and the probability that they were read right."""

    words: tuple[Word, ...]
    certain: float

    @property
    def grounding(self) -> Grounding:
        """The box around the words on the first one's page, and their time span."""
        first = self.words[0]
        boxes = [word.box for word in self.words if word.box and word.page == first.page]
        spans = [word.span for word in self.words if word.span]
        return Grounding(
            status="exact",
            page=first.page,
            box=around(boxes) if boxes else None,
            span=(min(s[0] for s in spans), max(s[1] for s in spans)) if spans else None,
            evidence=" ".join(word.text for word in self.words),
        )


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


class Index:
    """Finds values that are runs of the lines, white space aside."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._words: list[tuple[int, Word, float]] = []  # where each starts in the text
        self.text = ""
        for line in lines:
            for at, word in enumerate(line.words):
                self.text += " " if self.text else ""
                certain = line.certain[at] if line.certain else 1.0
                self._words.append((len(self.text), word, certain))
                self.text += word.text
        self._starts = [start for start, _, _ in self._words]

    def find(self, value: str) -> Place | None:
        """The first occurrence, the one at word borders before others."""
        value = " ".join(value.split())
        at = self._search(value)
        if not value or at < 0:
            return None
        first = bisect_right(self._starts, at) - 1
        last = bisect_right(self._starts, at + len(value) - 1) - 1
        part = self._words[first : last + 1]
        return Place(tuple(word for _, word, _ in part), math.prod(c for _, _, c in part))

    def _search(self, value: str) -> int:
        at = f" {self.text} ".find(f" {value} ")
        return at if at >= 0 else self.text.find(value)


def digest(lines: Sequence[Line], characters: int | None) -> tuple[Line, ...]:
    """The lines themselves while they fit; else the first nine, those with a date, those about
    totals and the line behind each of these, in order. None: they always fit."""
    if characters is None or len(joined(lines)) <= characters:
        return tuple(lines)
    keep = [at < _HEAD or bool(_DATE.search(line.text)) for at, line in enumerate(lines)]
    for at, line in enumerate(lines):
        if _TOTAL.search(line.text):
            keep[at : at + 2] = [True] * len(keep[at : at + 2])
    return tuple(line for line, kept in zip(lines, keep, strict=True) if kept)


def blocks(text: str, fits: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Cuts a text at line ends, a line that is too long at spaces: (block, what followed it).

    Joined they are the text. A block is as long as `fits` allows, at least one word.
    """
    units: list[str] = []
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        units += [line] if fits(line.rstrip()) else re.findall(r"\s*\S+\s*", line) or [line]
    start = 0
    while start < len(units):
        rest = units[start:]
        count = _longest(len(rest), lambda n, rest=rest: fits("".join(rest[:n]).rstrip()))  # type: ignore[misc]
        block = "".join(rest[:count])
        yield block.rstrip(), block[len(block.rstrip()) :]
        start += count


def runs(
    units: Sequence[Sequence[Line]], fits: Callable[[Sequence[Line]], bool]
) -> Iterator[list[Line]]:
    """Neighbouring units joined while they fit, at least one unit each."""
    start = 0
    while start < len(units):
        rest = units[start:]
        count = _longest(len(rest), lambda n, rest=rest: fits(_flat(rest[:n])))  # type: ignore[misc]
        yield _flat(rest[:count])
        start += count


def _flat(units: Sequence[Sequence[Line]]) -> list[Line]:
    return [line for unit in units for line in unit]


def _longest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest n in 1..most that fits, by doubling and halving; 1 when none does."""
    n = 1
    while n < most and fits(min(2 * n, most)):
        n = min(2 * n, most)
    low, high = n, min(2 * n, most)  # low fits (or is 1), high may not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
