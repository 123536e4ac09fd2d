"""An item -> windows, each what one request sees: lines of the evidence, or pages as pictures.

Knows no schema. A window is as long as the context allows: whole pages while they fit, else lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from pipelines.evidence import Index, Line, digest, joined, runs
from pipelines.films import Film, films
from pipelines.grounding import Aligner
from pipelines.items import Item
from pipelines.records import Grounding
from pipelines.subtask import Work
from pipelines.transcribe import Reading, image_cost, read_evidence

if TYPE_CHECKING:
    from pipelines.pages import Page


@dataclass(frozen=True)
class Window:
    """lines: may be empty where pages or a film are shown as pictures alone."""

    lines: tuple[Line, ...] = ()
    pages: tuple[Page, ...] = ()
    film: Film | None = None

    @cached_property
    def text(self) -> str:
        return joined(self.lines)

    @cached_property
    def index(self) -> Index:
        return Index(self.lines)

    @cached_property
    def aligner(self) -> Aligner:
        return Aligner([word for line in self.lines for word in line.words])

    def find(self, value: object) -> Grounding:
        """Where a value stands that is no run of the lines; of a film at least when."""
        found = self.aligner.find(value)
        if self.film is None or value is None:
            return found
        place = {"span": self.film.span, "page": self.film.frames[0].number}
        return found.model_copy(update=place)


Room = Callable[[Window], int]  # tokens that a request with this window leaves, pictures aside


def evidence(work: Work, item: Item) -> Reading | None:
    """The item's lines; None where the model is to look at whole pages or a video without words."""
    if work.reading == "page" and (is_shown(item) or _only_pixels(item)):
        return None
    return read_evidence(work, item, pixels=work.options.recognised == "read")


def windows(work: Work, item: Item, reading: Reading | None, room: Room) -> list[Window]:
    """As few as the context allows."""
    if reading is None and is_shown(item):
        return [Window(film=film) for film in films(work, item.pages, item.clips, room(Window()))]
    if reading is None:
        most = max(1, room(Window()) // image_cost(work))
        pages = [page for page in item.pages if page.image is not None]
        return [Window(pages=tuple(pages[at : at + most])) for at in range(0, len(pages), most)]
    lines = digest(reading.lines, work.habits.evidence_characters)
    return list(_text_windows(lines, _pictures(work, item), room, image_cost(work)))


def is_shown(item: Item) -> bool:
    """A video whose frames have no words yet."""
    frames = [page for page in item.pages if page.span is not None and page.image is not None]
    return bool(frames) and not any(page.words for page in item.pages)


def _only_pixels(item: Item) -> bool:
    has_words = item.cues or item.clips or any(page.words for page in item.pages)
    return any(page.image is not None for page in item.pages) and not has_words


def _pictures(work: Work, item: Item) -> dict[int, Page]:
    """Pages whose picture is shown beside their words: those that were recognised, not typeset."""
    if not work.habits.images_with_text or work.options.recognised == "read":
        return {}
    return {page.number: page for page in item.pages if page.text_source == "tesseract"}


def _text_windows(
    lines: Sequence[Line], pictures: Mapping[int, Page], room: Room, cost: int
) -> Iterator[Window]:
    """Whole pages while they fit; a page that does not fit alone is cut between lines."""

    def shown(part: Sequence[Line]) -> tuple[Page, ...]:
        numbers = dict.fromkeys(line.page for line in part if line.page in pictures)
        return tuple(pictures[number] for number in numbers if number is not None)

    def fits(part: Sequence[Line]) -> bool:
        return room(Window(tuple(part))) >= len(shown(part)) * cost

    def parts() -> Iterator[Sequence[Line]]:
        if fits(lines):
            yield lines
            return
        pages = [tuple(page) for _, page in groupby(lines, lambda line: line.page)]
        for run in runs(pages, fits):
            yield from [run] if fits(run) else runs([(line,) for line in run], fits)

    for part in parts():
        yield Window(tuple(part), shown(part))
