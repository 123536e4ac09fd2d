"""pipelines/films.py and the subtasks on videos: read frame by frame, or shown with their sound."""

from __future__ import annotations

import numpy as np
import pytest

from model_onnx.prompt import Audio, Image, Part, Video
from pipelines.clips import Clip
from pipelines.extract import subtask as extract_subtask
from pipelines.films import films
from pipelines.items import Item
from pipelines.options import Options
from pipelines.pages import Page
from pipelines.records import Source
from pipelines.subtask import Work, run
from pipelines.tag import subtask as tag_subtask
from pipelines.transcribe import SUBTASK as TRANSCRIBE
from pipelines.transcribe import instruction
from tests.fakes import Asked, FakeEngine
from tests.test_transcribe import picture

SOURCE = Source(path="a.mp4", sha256="0" * 64, kind="video", pages=3, span=(0.0, 6.0))
SCHEMA = {"type": "object", "properties": {"total": {"type": ["string", "null"]}}}
SHOWN = Options(reading="page")


def frame(number: int, start: float, end: float, lines: int = 1) -> Page:
    return Page(number, picture(lines), (), "", "none", span=(start, end))


def clip(start: float, end: float) -> Clip:
    return Clip(np.full(round((end - start) * 16_000), 0.1, np.float32), (start, end))


def item() -> Item:
    frames = (frame(1, 0, 2), frame(2, 2, 4, lines=2), frame(3, 4, 6))
    return Item(SOURCE, pages=frames, clips=(clip(0.5, 1.5), clip(4.5, 7.0)))


def kinds(parts: tuple[Part, ...]) -> list[type]:
    return [type(part) for part in parts]


def say(asked: Asked) -> str:
    return "said" if isinstance(asked.media[0], Audio) else "shown"


def test_frames_are_read_line_by_line_and_stand_in_time_with_the_speech() -> None:
    record = run(FakeEngine(say), TRANSCRIBE, item())
    assert record.output.text.split() == ["shown", "said", "shown", "shown", "shown", "said"]
    times = [(segment.start, segment.end, segment.text) for segment in record.output.segments]
    assert times == [
        (0, 2, "shown"),
        (0.5, 1.5, "said"),
        (2, 4, "shown\nshown"),
        (4, 6, "shown"),
        (4.5, 7, "said"),
    ]
    place = record.fields["lines[2]"].grounding
    assert (place.page, place.span) == (2, (2, 4)) and place.box is not None


def test_a_value_is_grounded_in_a_frame_and_its_time() -> None:
    def respond(asked: Asked) -> str:
        if asked.text:
            return '{"total":"12.50"}'
        return "TOTAL 12.50" if len(engine.asked) == 3 else say(asked)

    engine = FakeEngine(respond)
    record = run(engine, extract_subtask(SCHEMA), item())
    place = record.fields["total"].grounding
    assert (place.status, place.page, place.span) == ("exact", 2, (2, 4))
    assert place.box is not None and place.evidence == "12.50"


def test_a_video_is_shown_with_its_sound_in_one_context() -> None:
    engine = FakeEngine(lambda asked: "a slide\nhello")
    record = run(engine, TRANSCRIBE, item(), options=SHOWN)
    [asked] = engine.asked
    assert asked.instruction == instruction("video")
    assert kinds(asked.media) == [Video, Audio, Audio]
    video = asked.media[0]
    assert isinstance(video, Video) and [time for time, _ in video.frames] == [0, 2, 4]
    assert video.soft_tokens == 70
    [segment] = record.output.segments
    assert (segment.start, segment.end) == (0, 6)
    assert segment.text == "a slide\nhello"


def test_values_of_a_shown_video_have_a_time_and_a_frame_and_are_looked_at() -> None:
    engine = FakeEngine(lambda asked: '{"total":"12.50"}')
    record = run(engine, extract_subtask(SCHEMA), item(), options=SHOWN)
    assert kinds(engine.asked[-1].media) == [Video, Audio, Audio]
    place = record.fields["total"].grounding
    assert (place.status, place.page, place.span) == ("none", 1, (0, 6))
    assert record.status == "review"


@pytest.mark.parametrize("options", [Options(), SHOWN], ids=["read", "shown"])
def test_a_video_gets_a_label(options: Options) -> None:
    engine = FakeEngine(lambda asked: "tour" if asked.instruction.startswith("Choose") else "hi")
    record = run(engine, tag_subtask(("talk", "tour")), item(), options=options)
    assert record.output.label == "tour"
    media = engine.asked[-1].media
    assert (kinds(media)[:1] == [Video]) == (options is SHOWN)


def test_a_long_video_is_cut_between_frames_and_loses_nothing() -> None:
    frames = [frame(number, number, number + 1) for number in range(40)]
    clips = [clip(number + 0.25, number + 0.75) for number in range(0, 45, 3)]
    work = Work(FakeEngine(say), SHOWN)
    made = films(work, frames, clips, room=500)
    assert len(made) > 3
    assert [page for film in made for page in film.frames] == frames
    assert [sound for film in made for sound in film.clips] == clips
    for film in made:
        sound = sum(25 * clip.seconds for clip in film.clips)
        assert 80 * len(film.frames) + sound <= 500 or len(film.frames) == 1
        assert film.span == (film.frames[0].number, film.frames[-1].number + 1)


def test_pictures_beside_videos_stay_pictures() -> None:
    engine = FakeEngine(lambda asked: "text")
    page = Page(1, picture(), (), "", "none")
    run(engine, TRANSCRIBE, Item(SOURCE, pages=(page,)), options=SHOWN)
    assert kinds(engine.asked[0].media) == [Image]
