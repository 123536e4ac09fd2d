"""Item: one input after parsing, whatever it was: pages, clips or cues of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.cues import Cue
from pipelines.evidence import Line
from pipelines.records import Check, Source, Word

if TYPE_CHECKING:
    from pipelines.clips import Clip
    from pipelines.pages import Page

_FLAWS = {
    "repaired": "the file is damaged and was repaired: words or pages may be missing",
    "unread_page": "could not be read",
    "hidden_text": "words that cannot be seen on the page were left out",
    "ocr_failed": "character recognition failed",
    "sideways": "lies on its side, and there is no Tesseract to turn it by",
}


@dataclass(frozen=True, eq=False)
class Item:
    """What a subtask works on. parse_seconds: what reading the file took."""

    source: Source
    pages: tuple[Page, ...] = ()
    clips: tuple[Clip, ...] = ()
    cues: tuple[Cue, ...] = ()
    parse_seconds: float = 0.0

    @property
    def flaws(self) -> tuple[Check, ...]:
        """One failed check for each warning of its pages that a person should know of."""
        pages = {
            name: [page.number for page in self.pages if name in page.warnings] for name in _FLAWS
        }
        return tuple(
            Check(name=name, passed=False, reason=f"{_listed(pages[name])}: {text}")
            for name, text in _FLAWS.items()
            if pages[name]
        )

    @property
    def text_lines(self) -> tuple[Line, ...]:
        """The lines of the cues. A cue with times is one line."""
        lines = [(line, cue.span) for cue in self.cues for line in cue.text.split("\n")]
        return tuple(
            Line(tuple(Word(text=word, span=span) for word in words))
            for line, span in lines
            if (words := line.split())
        )


def _listed(numbers: list[int]) -> str:
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"page {', '.join(map(str, numbers[:10]))}{more}"
