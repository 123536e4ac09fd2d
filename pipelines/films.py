"""A video as the model is shown it: frames with their times, and the sound of that time.

Knows no file. A video that does not fit one context is cut into parts between frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_onnx.prompt import Audio, Part, Video
from pipelines.records import Span
from pipelines.subtask import Work

if TYPE_CHECKING:
    from pipelines.clips import Clip
    from pipelines.pages import Page

_MARKS = 10  # tokens around a frame: its time and the image's ends
_SOUND = 25  # tokens a second


@dataclass(frozen=True)
class Film:
    """Neighbouring frames, each a page with a span, and the clips that begin while they last."""

    frames: tuple[Page, ...]
    clips: tuple[Clip, ...] = ()

    @property
    def span(self) -> Span:
        first, last = self.frames[0].span, self.frames[-1].span
        assert first and last
        return first[0], last[1]

    def parts(self, budget: int) -> tuple[Part, ...]:
        """budget: soft tokens of a frame."""
        shown = tuple((frame.span[0], frame.rgb()) for frame in self.frames if frame.span)
        return (Video(shown, budget), *(Audio(clip.samples) for clip in self.clips))


def films(work: Work, pages: Sequence[Page], clips: Sequence[Clip], room: int) -> list[Film]:
    """room: tokens for the frames and the sound of one part; at least one frame is in each."""
    made: list[Film] = []
    left = 0.0
    frames = [page for page in pages if page.image is not None and page.span is not None]
    for at, frame in enumerate(frames):
        heard = _beginning(clips, frame, is_last=at == len(frames) - 1)
        cost = work.options.frame_tokens + _MARKS + _SOUND * sum(clip.seconds for clip in heard)
        if not made or cost > left:
            made.append(Film((), ()))
            left = room
        made[-1] = Film((*made[-1].frames, frame), (*made[-1].clips, *heard))
        left -= cost
    return made


def _beginning(clips: Sequence[Clip], frame: Page, *, is_last: bool) -> tuple[Clip, ...]:
    assert frame.span
    start, end = frame.span
    return tuple(c for c in clips if start <= c.span[0] and (c.span[0] < end or is_last))
