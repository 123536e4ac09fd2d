"""Evidence: the words of an item as lines in reading order, cut to what a model can take.

Knows no model and no file format. A line is one string in the prompt, so the model sees lines and
every word keeps its place. Words that a model has read carry its confidence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipelines.records import Word

# What the digest keeps besides the top: lines with a date, and lines about totals.
_DATE = re.compile(
    r"\d{1,4}[/.-]\d{1,2}[/.-]\d{2,4}|\d{1,2}[ /-]?[A-Za-z]{3,9}[ /-]?\d{2,4}|\d{8}"
)
_TOTAL = re.compile(r"total|amount|due|rounding|nett?|payable|\bRM\b", re.IGNORECASE)
_HEAD = 9


@dataclass(frozen=True)
class Line:
    """Words that stand on one line. confidence: of a reading, 1.0 where nothing was read."""

    words: tuple[Word, ...]
    confidence: float = 1.0

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def page(self) -> int | None:
        return self.words[0].page


def joined(lines: Iterable[Line]) -> str:
    """The text that the model is given and that its values must be runs of."""
    return "\n".join(line.text for line in lines)


def lines_of(words: Iterable[Word]) -> tuple[Line, ...]:
    """Groups words in reading order into lines: a word starts a new line when it is on another
    page, or when less than half of its height overlaps the line's last word, or when it stands
    before that word. Words without a box are one line for each page and time span."""
    lines: list[list[Word]] = []
    for word in words:
        if not word.text.strip():
            continue
        if lines and _continues(lines[-1][-1], word):
            lines[-1].append(word)
        else:
            lines.append([word])
    return tuple(Line(tuple(line)) for line in lines)


def _continues(last: Word, word: Word) -> bool:
    if (last.page, last.span) != (word.page, word.span):
        return False
    if last.box is None or word.box is None:
        return last.box == word.box
    top, bottom = max(last.box[1], word.box[1]), min(last.box[3], word.box[3])
    height = min(last.box[3] - last.box[1], word.box[3] - word.box[1])
    return bottom - top >= 0.5 * height and word.box[0] >= last.box[0]


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
