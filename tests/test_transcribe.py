from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from model_onnx.prompt import Audio, Image
from pipelines.clean import SUBTASK as CLEAN
from pipelines.clips import Clip
from pipelines.cues import Cue
from pipelines.extract import subtask as extract_subtask
from pipelines.items import Item
from pipelines.options import Options
from pipelines.pages import Page, TextSource
from pipelines.records import Source, Word
from pipelines.subtask import run
from pipelines.transcribe import SUBTASK as TRANSCRIBE
from pipelines.transcribe import instruction as transcribe_instruction
from tests.fakes import Answered, Asked, FakeEngine

SOURCE = Source(path="a.png", sha256="0" * 64, kind="document")


def picture(lines: int = 3) -> np.ndarray:
    sheet = Picture.new("L", (600, 60 + 70 * lines), 255)
    font = ImageFont.load_default(36)
    for row in range(lines):
        ImageDraw.Draw(sheet).text((20, 30 + 70 * row), f"Line number {row}", fill=0, font=font)
    return np.asarray(sheet)


def page(number: int = 1, words: str = "", source: TextSource = "none", **rest: Any) -> Page:
    made = tuple(Word(text=w, page=number, box=(0, 0, 1, 1)) for w in words.split())
    return Page(number, rest.get("image", picture()), made, words, source)


def item(*pages: Page) -> Item:
    return Item(SOURCE, pages=pages)


def test_the_instructions() -> None:
    assert transcribe_instruction("page").startswith("Write the text of this page")
    assert "digits" in transcribe_instruction("speech")


def test_a_page_is_read_line_by_line() -> None:
    engine = FakeEngine(lambda asked: f"text {len(engine.asked)} ")
    record = run(engine, TRANSCRIBE, item(page()))
    assert record.output.text == "text 1\ntext 2\ntext 3"
    assert all(asked.instruction == transcribe_instruction("page") for asked in engine.asked)
    for asked in engine.asked:
        [strip] = asked.media
        assert isinstance(strip, Image)
        assert strip.pixels.shape[0] == 48 and strip.pixels.shape[1] % 48 == 0
        assert strip.pixels.shape[2] == 3
    boxes = [field.grounding.box for field in record.fields.values()]
    tops = [box[1] for box in boxes if box]
    assert len(tops) == 3 and tops == sorted(tops)
    assert all(0 <= edge <= 1 for box in boxes if box for edge in box)


def test_a_page_is_read_as_one_image() -> None:
    engine = FakeEngine(lambda asked: "one\ntwo")
    record = run(engine, TRANSCRIBE, item(page()), options=Options(reading="page"))
    [[whole]] = [asked.media for asked in engine.asked]
    assert whole.pixels.shape[0] % 48 == whole.pixels.shape[1] % 48 == 0
    assert record.output.text == "one\ntwo"


def test_text_layers_are_copied_and_recognised_words_are_read_again() -> None:
    engine = FakeEngine(lambda asked: "read")
    layer = page(1, "of the layer", "layer")
    guessed = page(2, "of tesseract", "tesseract")
    record = run(engine, TRANSCRIBE, item(layer, guessed))
    assert record.output.text == "of the layer\n\nread\nread\nread"
    extracted = run(
        engine,
        extract_subtask({"type": "object", "properties": {"a": {"type": "string"}}}),
        item(guessed),
    )
    assert engine.asked[-1].text == "of tesseract"
    assert extracted is not None


def test_unusable_strips_are_counted_and_never_passed_on() -> None:
    said = [
        Answered("good"),
        Answered("bad " * 20, finish="loop"),
        Answered("cut", finish="truncated"),
    ]
    engine = FakeEngine(lambda asked: said[len(engine.asked) - 1])
    record = run(engine, TRANSCRIBE, item(page()))
    assert (record.output.text, record.status, record.reason) == ("good", "review", "unread")
    assert record.checks[0].reason.startswith("2 ")


def test_empty_output_is_a_failure() -> None:
    record = run(FakeEngine(lambda asked: ""), TRANSCRIBE, item(page()))
    assert (record.status, record.reason) == ("failed", "empty")
    blank = page(image=np.full((200, 200), 255, np.uint8))
    assert run(FakeEngine(lambda asked: "x"), TRANSCRIBE, item(blank)).status == "failed"


def test_a_recording_becomes_segments_with_times() -> None:
    clips = tuple(Clip(np.zeros(16000, np.float32), (start, start + 1.5)) for start in (0.5, 3.0))
    engine = FakeEngine(
        lambda asked: Answered(("seven three", "nine")[len(engine.asked) - 1], -0.1)
    )
    record = run(engine, TRANSCRIBE, Item(SOURCE, clips=clips))
    assert record.output.text == "seven three nine"
    assert [tuple(vars(s).values()) for s in record.output.segments] == [
        (0.5, 2.0, "seven three"),
        (3.0, 4.5, "nine"),
    ]
    assert all(isinstance(asked.media[0], Audio) for asked in engine.asked)
    assert record.fields["lines[1]"].grounding.span == (3.0, 4.5)
    assert record.fields["lines[1]"].confidence == pytest.approx(2.718281828**-0.1)


def test_a_silent_clip_is_reported() -> None:
    clips = tuple(Clip(np.zeros(160, np.float32), (n, n + 1.0)) for n in (0.0, 1.0))
    engine = FakeEngine(lambda asked: "one" if len(engine.asked) == 1 else "")
    record = run(engine, TRANSCRIBE, Item(SOURCE, clips=clips))
    assert (record.output.text, record.reason) == ("one", "unread")


def test_values_from_pixels_have_boxes_and_the_readings_confidence() -> None:
    def respond(asked: Asked) -> Answered:
        if asked.media:
            return Answered(f"TOTAL {len(engine.asked)}", -0.05)
        return Answered('{"total":"2"}', 0.0)

    schema = {"type": "object", "properties": {"total": {"type": ["string", "null"]}}}
    engine = FakeEngine(respond)
    record = run(engine, extract_subtask(schema), item(page()))
    field = record.fields["total"]
    assert engine.asked[-1].text == "TOTAL 1\nTOTAL 2\nTOTAL 3"
    assert field.grounding.box is not None
    assert 0.3 < field.grounding.box[1] < 0.6
    assert field.confidence == pytest.approx(2.718281828**-0.05)


def test_values_can_be_read_from_the_page_directly() -> None:
    schema = {"type": "object", "properties": {"total": {"type": ["string", "null"]}}}
    engine = FakeEngine(lambda asked: '{"total":"2"}')
    record = run(
        engine, extract_subtask(schema), item(page(), page(2)), options=Options(reading="page")
    )
    [asked] = engine.asked
    assert len(asked.media) == 2 and asked.text == ""
    assert asked.request is not None and asked.request.constraint.evidence is None  # type: ignore[union-attr]
    assert record.fields["total"].grounding.status == "none"
    assert (record.status, record.reason) == ("review", "ungrounded")  # no words to compare with


def test_text_files_are_their_own_transcript() -> None:
    engine = FakeEngine(lambda asked: "never asked")
    record = run(engine, TRANSCRIBE, Item(SOURCE, cues=(Cue("a b\nc"), Cue("d", (1.0, 2.0)))))
    assert engine.asked == []
    assert record.output.text == "a b\nc d"


def test_recognised_words_come_with_their_page_where_the_model_takes_both() -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}
    guessed = item(page(1, "of tesseract", "tesseract"))
    cases: list[tuple[dict[str, Any], Options, int]] = [
        ({}, Options(), 1),
        ({"images_with_text": False}, Options(), 0),
        ({}, Options(recognised="read"), 0),
    ]
    for habits, options, media in cases:
        engine = FakeEngine(lambda asked: '{"a":null}' if asked.text else "read", habits=habits)
        run(engine, extract_subtask(schema), guessed, options=options)
        assert len(engine.asked[-1].media) == media
        again = options.recognised == "read"
        assert engine.asked[-1].text == ("read\nread\nread" if again else "of tesseract")


def test_a_page_is_cleaned_beside_its_picture() -> None:
    engine = FakeEngine(lambda asked: asked.text.replace("tbe", "the"))
    scanned = item(page(1, "tbe cat", "tesseract"), page(2, "tbe dog", "layer", image=None))
    record = run(engine, CLEAN, scanned)
    assert record.output.text == "the cat\n\nthe dog"
    assert [len(asked.media) for asked in engine.asked] == [1, 0]
    assert [edit.line for edit in record.output.edits] == [0, 2]
    engine = FakeEngine(lambda asked: asked.text, habits={"images_with_text": False})
    run(engine, CLEAN, scanned)
    assert [len(asked.media) for asked in engine.asked] == [0, 0]


def test_a_long_line_is_read_in_pieces_and_joined() -> None:
    sheet = Picture.new("L", (1400, 100), 255)
    font = ImageFont.load_default(32)
    ImageDraw.Draw(sheet).text((20, 30), "A long line of many words " * 3, fill=0, font=font)
    engine = FakeEngine(lambda asked: f"part{len(engine.asked)}", habits={"strip_patches": 12})
    record = run(engine, TRANSCRIBE, item(page(image=np.asarray(sheet))))
    count = len(engine.asked)
    assert count >= 3
    assert record.output.text == " ".join(f"part{number}" for number in range(1, count + 1))
    assert all(asked.media[0].pixels.shape[1] <= 12 * 48 for asked in engine.asked)
    [box] = [field.grounding.box for field in record.fields.values()]
    assert box is not None and box[2] - box[0] > 0.7


def test_confidences_are_calibrated_as_the_bundle_says() -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}
    habits = {"calibration": [[0.0, 0.0], [0.5, 0.2], [1.0, 0.9]]}
    engine = FakeEngine(lambda asked: Answered('{"a":"c"}', -0.2310490602), habits=habits)
    record = run(engine, extract_subtask(schema), Item(SOURCE, cues=(Cue("c"),)))
    assert record.fields["a"].confidence == pytest.approx(0.2, abs=1e-6)


def test_heard_words_are_worth_what_the_bundle_says() -> None:
    habits = {"heard": 0.4}
    engine = FakeEngine(lambda asked: "seven", habits=habits)
    clip = Clip(np.zeros(16000, np.float32), (0.0, 1.0))
    record = run(engine, TRANSCRIBE, Item(SOURCE, clips=(clip,)))
    assert record.fields["lines[0]"].confidence <= 0.4
    assert (record.status, record.reason) == ("review", "low_confidence")
    read = run(engine, TRANSCRIBE, item(page()))
    assert min(field.confidence for field in read.fields.values()) > 0.4
