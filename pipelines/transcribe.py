"""transcribe: a page image becomes lines of text; a recording becomes text with segment times.

Worked example, page:

    system  Write the text of this page, line by line.
    user    <image>
    model   ACME TRADING
            TOTAL 12.50

Worked example, recording:

    system  Transcribe the following speech segment. Only output the transcription, ...
    user    <audio>
    model   7 3 9

A page is read as strips of one line each, or whole, as `Options.reading` says. A recording is read
clip by clip; a segment is a clip. The frames of a video are read as pages, or shown as a video with
its sound; a segment is what was read of a frame, or a clip.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from model_onnx.errors import InputError
from model_onnx.prompt import Audio, Image
from pipelines.evidence import Line, Place, lines_of
from pipelines.films import films
from pipelines.items import Item
from pipelines.lines import line_strips, page_for_model
from pipelines.options import Habits
from pipelines.records import Box, Check, FieldValue, Span, Word
from pipelines.strips import padded, pieces
from pipelines.subtask import Answer, Ask, Reply, Subtask, Work

if TYPE_CHECKING:
    from pipelines.pages import Page

PROMPT_VERSION = "transcribe-1"

_INSTRUCTIONS = {
    "page": "Write the text of this page, line by line.",
    "video": "Write the text that this video shows and what is said in it, line by line.",
    "speech": "Transcribe the following speech segment. Only output the transcription, "
    "with no newlines. Write digits for numbers.",
}
PAGE_BREAK = "\n\n"
_INSTRUCTION_TOKENS = 64
_STRIP_TOKENS = 160  # a line; a strip of 24 patches holds about 70 characters


def instruction(kind: Literal["page", "speech", "video"]) -> str:
    """The system turn. A line strip is a page with one line."""
    return _INSTRUCTIONS[kind]


class Segment(BaseModel):
    """One stretch of speech. start, end: seconds from the start of the recording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: float
    end: float
    text: str


class Transcript(BaseModel):
    """text: pages are parted by an empty line; segments: of a recording, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What was read from pixels or sound. unread: strips or clips whose answer was thrown away."""

    lines: tuple[Line, ...]
    unread: int = 0
    truncated: bool = False

    @property
    def check(self) -> Check:
        return Check(
            name="unread",
            passed=not self.unread,
            reason=f"{self.unread} lines or clips gave no usable text",
        )


@dataclass(frozen=True)
class _Place:
    """Where a request's text will stand. whole: a page, whose lines it holds; goes_on: a piece of
    the line before it."""

    page: int | None = None
    box: Box | None = None
    span: Span | None = None
    whole: bool = False
    goes_on: bool = False


def read_evidence(
    work: Work, item: Item, *, pixels: bool = False, thinking: bool = False
) -> Reading:
    """The item's lines: its own words, or what the model reads where a page has none.

    thinking: whether it may think about each line, page or clip that it reads;
    pixels: read the pages even where they have words from character recognition (never where they
    have a text layer). Raises InputError with reason `empty` when there is nothing.
    """
    parts: list[_Place | tuple[Line, ...]] = [item.text_lines]
    asks = (replace(ask, thinking=thinking) for ask in _asks(work, item, pixels, parts))
    replies = iter(work.ask(asks))
    read = [
        _read(part, next(replies), work.habits) if isinstance(part, _Place) else Reading(part)
        for part in parts
    ]
    pieces_of_lines = (
        (isinstance(part, _Place) and part.goes_on, line)
        for part, reading in zip(parts, read, strict=True)
        for line in reading.lines
    )
    lines = _join(pieces_of_lines)
    whole = Reading(
        tuple(sorted(lines, key=_begin) if item.source.kind == "video" else lines),
        sum(reading.unread for reading in read),
        any(reading.truncated for reading in read),
    )
    if not whole.lines:
        raise InputError(
            "got no words from this item, expected some; it is blank, silent or not readable: "
            "look at it, and scan or record it again",
            reason="empty",
        )
    return whole


def _begin(line: Line) -> float:
    return line.words[0].span[0] if line.words[0].span else 0.0


def _asks(
    work: Work, item: Item, pixels: bool, parts: list[_Place | tuple[Line, ...]]
) -> Iterator[Ask]:
    """What has to be read. Notes in `parts` where each answer belongs among the known lines."""
    patch = work.model.bundle.config.patch_size
    shown: list[Page] = []
    for page in item.pages:
        if page.words and not (pixels and page.text_source == "tesseract"):
            parts.append(lines_of(page.words, page.text))
        elif page.image is None:
            continue
        elif work.reading == "strips":
            for place, pixels_of_line in _strips(page, patch, work.habits.strip_patches):
                parts.append(place)
                picture = Image(_rgb(pixels_of_line), None)
                yield Ask(instruction("page"), (picture,), new_tokens=_STRIP_TOKENS)
        elif page.span is not None:
            shown.append(page)
        else:
            parts.append(_Place(page.number, whole=True))
            yield Ask(instruction("page"), (page_image(work, page),))
    room = work.context_tokens - work.options.new_tokens - _INSTRUCTION_TOKENS
    for film in films(work, shown, item.clips, room):
        parts.append(_Place(film.frames[0].number, span=film.span, whole=True))
        yield Ask(instruction("video"), film.parts(work.options.frame_tokens))
    for clip in () if shown else item.clips:
        parts.append(_Place(span=clip.span))
        yield Ask(
            instruction("speech"), (Audio(clip.samples),), new_tokens=_clip_tokens(clip.seconds)
        )


def _strips(page: Page, patch: int, most: int) -> Iterator[tuple[_Place, NDArray[np.uint8]]]:
    """Lines, long ones in pieces. Boxes are fractions of the page."""
    assert page.image is not None
    height, width = page.image.shape[:2]
    for strip in line_strips(page.image, patch):
        x0, y0, x1, y1 = strip.box
        scale = (x1 - x0) / strip.image.shape[1]
        for start, end in pieces(strip.image, patch, most):
            left, right = x0 + start * scale, x0 + end * scale
            box = (left / width, y0 / height, right / width, y1 / height)
            yield (
                _Place(page.number, box, page.span, goes_on=start > 0),
                padded(strip.image[:, start:end], patch),
            )


def _join(parts: Iterable[tuple[bool, Line]]) -> Iterator[Line]:
    """Lines whose pieces (goes_on, line) are put together again."""
    last: Line | None = None
    for goes_on, line in parts:
        if goes_on and last:
            words = last.words + line.words
            sure = (last.confidence * len(last.words) + line.confidence * len(line.words)) / len(
                words
            )
            last = Line(words, sure, last.certain + line.certain)
            continue
        if last:
            yield last
        last = line
    if last:
        yield last


def page_image(work: Work, page: Page) -> Image:
    """A page as one image: its lines one patch row apart where the budget allows."""
    assert page.image is not None
    work.showed_pages = True
    patch = work.model.bundle.config.patch_size
    pixels = _rgb(page_for_model(page.image, patch, work.options.soft_tokens))
    height, width = (-pixels.shape[0] % patch, -pixels.shape[1] % patch)
    return Image(np.pad(pixels, ((0, height), (0, width), (0, 0)), constant_values=255), None)


def image_cost(work: Work) -> int:
    """Tokens of one page's picture in a prompt."""
    return work.options.soft_tokens + 4  # and the marks around it


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def _read(place: _Place, reply: Reply, habits: Habits) -> Reading:
    """An empty strip is a rule or a speck; an empty page or clip is reported."""
    if reply.looped or (reply.truncated and not place.whole):
        return Reading((), 1)
    if not reply.text:
        return Reading((), int(place.box is None))
    said = reply.tokens.text if place.whole else reply.tokens.text.replace("\n", " ")
    lines = []
    for line in re.finditer(r"[^\n]*\S[^\n]*", said):
        found = [m.span() for m in re.compile(r"\S+").finditer(said, *line.span())]
        words = (
            Word(text=said[a:b], page=place.page, box=place.box, span=place.span) for a, b in found
        )
        trust = habits.heard if place.page is None else 1.0
        certain = tuple(trust * reply.tokens.probability(a, b) for a, b in found)
        lines.append(Line(tuple(words), trust * reply.tokens.mean(*line.span()), certain))
    return Reading(tuple(lines), truncated=reply.truncated)


def _clip_tokens(seconds: float) -> int:
    """Fast speech has 25 characters a second, and a token may be one character."""
    return 32 + round(32 * seconds)


def answer(work: Work, item: Item) -> Answer:
    """Text layers are copied, everything else is read; of a video frames and speech, by time."""
    reading = read_evidence(work, item, pixels=True, thinking=True)
    return Answer(
        Transcript(text=_text(reading.lines), segments=_segments(reading.lines)),
        {f"lines[{at}]": _field(line) for at, line in enumerate(reading.lines)},
        (reading.check,),
        reading.truncated,
    )


def _text(lines: Sequence[Line]) -> str:
    """Lines, with an empty line where a new page begins; clips are joined by spaces."""
    parts: list[str] = []
    for before, line in zip([None, *lines], lines, strict=False):
        if before is not None:
            clip = line.words[0].span is not None and line.page is None
            parts.append(" " if clip else "\n" if before.page == line.page else PAGE_BREAK)
        parts.append(line.text)
    return "".join(parts)


def _segments(lines: Sequence[Line]) -> tuple[Segment, ...]:
    """Lines of one frame are one segment."""
    grouped = groupby(lines, key=lambda line: (line.words[0].span, line.page))
    return tuple(
        Segment(start=span[0], end=span[1], text="\n".join(line.text for line in same))
        for (span, _), same in grouped
        if span
    )


def _field(line: Line) -> FieldValue:
    place = Place(line.words, 1.0).grounding
    return FieldValue(value=line.text, confidence=line.confidence, grounding=place)


SUBTASK = Subtask("transcribe", PROMPT_VERSION, Transcript, answer)
