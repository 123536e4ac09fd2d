"""training/lessons.py: what is learnt is what the pipelines ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import export_bundle
from flows.review_labelled import write_labelled
from model_onnx.engine import Engine
from model_onnx.errors import ConfigError
from model_onnx.prompt import Prompt
from model_onnx.sequence import Request, Result
from pipelines.evaluate import subtask_for
from pipelines.labelled import Row, read_set
from pipelines.opening import Opener
from pipelines.subtask import run
from tests import lessons as made
from tests.review_run import cleaned, make_run, receipt
from tests.test_review_labelled import decide
from training.lessons import Lesson, Lessons, lessons_of


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    directory = tmp_path_factory.mktemp("lessons")
    export_bundle(made.checkpoint(directory / "checkpoint"), directory / "bundle", recipe="fp32")
    with Engine.open(directory / "bundle", slots=2, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def opener() -> Iterator[Opener]:
    with Opener(tesseract=False) as opener:
        yield opener


def taught(engine: Engine, opener: Opener, folder: Path, longest: int = 2048) -> Lessons:
    pairs = [(folder, row) for row in read_set(folder)]
    return lessons_of(engine, pairs, opener.open, longest=longest)


def answer_of(engine: Engine, lesson: Lesson) -> str:
    """Without the end of the turn, which must be the last token."""
    ids = lesson.ids[lesson.answer :].tolist()
    tokenizer = engine.renderer._tokenizer
    assert ids[-1] == tokenizer.token_to_id("<turn|>")
    return str(tokenizer.decode(ids[:-1], skip_special_tokens=False))


class Listener:
    """The engine, keeping the prompts that it is sent."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.prompts = engine, list[Prompt]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def submit(self, request: Request) -> Future[Result]:
        self.prompts.append(request.prompt)
        return self.engine.submit(request)


def test_prompts_are_those_of_the_pipelines_and_answers_the_labels(
    engine: Engine, opener: Opener, tmp_path: Path
) -> None:
    folder = made.write(tmp_path / "set", [*made.rows()[:1], *made.rows()[8:]])
    whole = taught(engine, opener, folder)
    assert whole.left_out == {}
    lessons = {lesson.file: lesson for lesson in whole.taught}
    for row in read_set(folder):
        listener, lesson = Listener(engine), lessons[row.file]
        run(listener, subtask_for(row), opener.open(folder / row.file))
        [prompt] = listener.prompts
        assert prompt.ids.tolist() == lesson.ids[: lesson.answer].tolist(), row.file
        pictures = [span.features for span in prompt.media if span.kind == "image"]
        for picture, (patches, places) in zip(pictures, lesson.images, strict=True):
            assert np.array_equal(patches * np.float32(1 / 255), picture)
            assert len(places) == len(patches)
        clips = [span.features for span in prompt.media if span.kind == "audio"]
        assert all(map(np.array_equal, clips, lesson.clips)) and len(clips) == len(lesson.clips)
    order = json.loads(answer_of(engine, lessons["1.txt"]))
    assert list(order) == list(made.SCHEMA["properties"])  # type: ignore[call-overload]
    assert order["code"] == "AB-1" and order["due"] == "01.03.2024"
    assert order["rows"] == [{"name": "bolt"}, {"name": "nut"}]  # gold stands nowhere
    assert answer_of(engine, lessons["page.png"]) == made.PAGE
    assert lessons["page.png"].images and lessons["voice.wav"].clips
    assert answer_of(engine, lessons["voice.wav"]) == "seven three"
    assert answer_of(engine, lessons["letter.txt"]) == "memo"
    assert answer_of(engine, lessons["noisy.txt"]) == "The sum is 12.50"
    assert answer_of(engine, lessons["said.txt"]) == "The sum is due."


def test_values_are_written_in_the_words_of_the_evidence(
    engine: Engine, opener: Opener, tmp_path: Path
) -> None:
    output = {"code": "ab-1", "due": "2024-03-01", "sum": 11.5, "rows": []}
    folder = made.write(tmp_path / "set", [Row("1.txt", "extract", made.SCHEMA, output)])
    [lesson] = taught(engine, opener, folder).taught
    written = json.loads(answer_of(engine, lesson))
    assert written == {"code": "AB-1", "due": "01.03.2024", "sum": "11.50", "rows": []}


def test_what_cannot_be_taught_is_left_out_and_said(
    engine: Engine, opener: Opener, tmp_path: Path
) -> None:
    nowhere = Row("2.txt", "extract", made.SCHEMA, {"code": "ZZ-99", "rows": []})
    copied = Row("3.txt", "transcribe", text="as it is")
    broken = Row("broken.png", "transcribe", text="lost")
    folder = made.write(tmp_path / "set", [made.rows()[0], nowhere, copied])
    with (folder / "expected.jsonl").open("a") as lines:
        lines.write(json.dumps({"file": broken.file, "subtask": "transcribe", "text": "x"}) + "\n")
    (folder / broken.file).write_bytes(b"no picture")
    made_lessons = taught(engine, opener, folder)
    assert [lesson.file for lesson in made_lessons.taught] == ["1.txt"]
    assert "none of its values" in made_lessons.left_out["2.txt"]
    assert "copied" in made_lessons.left_out["3.txt"]
    assert "damaged" in made_lessons.left_out["broken.png"]
    with pytest.raises(ConfigError, match="longer than 50 tokens"):
        taught(engine, opener, folder, longest=50)


def test_the_labelled_set_of_a_review_can_be_learnt_from(
    engine: Engine, opener: Opener, tmp_path: Path
) -> None:
    documents = [receipt("a.png"), cleaned("c.txt")]
    reviewed = make_run(tmp_path, documents)
    decide(
        reviewed,
        ("a.png", "", "accepted", None),
        ("c.txt", "text", "corrected", "The sum is 12.50"),
    )
    write_labelled(reviewed.directory, tmp_path / "set")
    lessons = {lesson.file: lesson for lesson in taught(engine, opener, tmp_path / "set").taught}
    assert answer_of(engine, lessons["c.txt"]) == "The sum is 12.50"
    assert json.loads(answer_of(engine, lessons["a.png"]))["company"] == "ACME"
