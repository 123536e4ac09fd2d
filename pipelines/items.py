"""Item: one input after parsing, whatever it was: pages, clips or cues of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.cues import Cue
from pipelines.evidence import Line
from pipelines.records import Source, Word

if TYPE_CHECKING:
    from pipelines.clips import Clip
    from pipelines.pages import Page


@dataclass(frozen=True, eq=False)
class Item:
    """What a subtask works on. parse_seconds: what reading the file took."""

    source: Source
    pages: tuple[Page, ...] = ()
    clips: tuple[Clip, ...] = ()
    cues: tuple[Cue, ...] = ()
    parse_seconds: float = 0.0

    @property
    def text_lines(self) -> tuple[Line, ...]:
        """The lines of the cues. A cue with times is one line."""
        lines = [(line, cue.span) for cue in self.cues for line in cue.text.split("\n")]
        return tuple(
            Line(tuple(Word(text=word, span=span) for word in words))
            for line, span in lines
            if (words := line.split())
        )
